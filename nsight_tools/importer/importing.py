"""From a report or an export to a dataset: once, and again only when the report or the options have changed."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsight_tools.errors import ArgumentError, InputError, NsightToolsError, NsysError, OutputError, meant
from nsight_tools.files import remove_left
from nsight_tools.importer import cache, connections
from nsight_tools.importer.dataset import write_dataset
from nsight_tools.importer.exports import open_export
from nsight_tools.importer.exports.sqlite import check_sqlite_file
from nsight_tools.importer.inferences import RangeNotFoundError
from nsight_tools.importer.inputs import EXPORT_SUFFIX, Inputs, Options, beside
from nsight_tools.importer.manifest import MANIFEST, read_manifest
from nsight_tools.importer.trtexec_run import write_dataset as write_trtexec_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsight_tools.importer.streaming import Progress


def import_report(
    source: Path | str,
    output: Path | str | None = None,
    *,
    force: bool = False,
    keep_environment: bool = False,
    layers: Path | str | None = None,
    layer_pass: Path | str | None = None,
    inference_range: str | None = None,
    group_by: str | None = None,
    nsys: Path | str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Import a report or export, and return the path of its dataset.

    `source` is a `.nsys-rep` or `.qdrep` (exported through `nsys`), an SQLite export, the folder that `nsys export
    --type=parquetdir` writes, or a run directory of `nsight-tools capture`, which stands for the report in it; given
    that report, what stands beside it is imported all the same. It may be what trtexec wrote of a run as JSON, too, or
    the engine that this stands beside: a dataset without a trace. The dataset is `<report>.trace/` beside the report,
    or in `output` (there `<run directory>.trace/`); where that folder cannot be written, in the user's cache. One that
    is there already is used as it is, if the source (with all that stands beside it) and the options are the same,
    unless `force`. Environment variables, command lines and process output are left out unless `keep_environment`.
    `layers` is the engine inspector's JSON, by default `<stem>.layers.json` beside the source, or a run directory's
    `layers.json`. `inference_range` names the NVTX ranges that are inferences, as NAME or NAME@DOMAIN, `*` for anything
    in the name; by default nsight-tools' own ranges, else what the trace itself shows (`timeline.requests`). `group_by`
    is a text in those names: the number beside it tells kinds of inferences apart. `layer_pass` is another run of the
    same engine, with layer ranges (a report, an export or a dataset; by default the layer pass of a run directory):
    where no layer range stands around the kernels of an inference, as in a CUDA graph, their layers are told by their
    order, as they were there.

    Raises InputError where the source cannot be read, NsysError where Nsight Systems is missing or fails, OutputError
    where the dataset cannot be written, ArgumentError where something is of another type. Nothing is left behind then.

    Example:
        >>> from nsight_tools import import_report
        >>> import_report("sample_traces/detector_pageable.sqlite", "datasets").name
        'detector_pageable.sqlite.trace'
    """
    if not isinstance(source, (str, PathLike)):
        raise ArgumentError("import_report takes the path of a report", source)
    for name, path in {"output": output, "layers": layers, "layer_pass": layer_pass, "nsys": nsys}.items():
        if path is not None and not isinstance(path, (str, PathLike)):
            raise ArgumentError(f"{name} is a path", path)
    for name, text in {"inference_range": inference_range, "group_by": group_by}.items():
        if text is not None and not isinstance(text, str):
            raise ArgumentError(f"{name} is a text", text)
    if progress is not None and not callable(progress):
        raise ArgumentError("progress is a function of what is done and its share", progress)
    options = Options(layers, layer_pass, inference_range, group_by, keep_environment)
    return Import(options, nsys, progress or (lambda _stage, _share: None)).of(Path(source), output, force=force)


@dataclass(frozen=True)
class Import:
    """How reports are imported: the options, the nsys that exports them, and who is told of the progress."""

    options: Options
    nsys: Path | str | None
    progress: Progress

    def of(self, source: Path, output: Path | str | None, *, force: bool) -> Path:
        """The dataset of `source`, which is made where it is not there, or is to be made anew."""
        if not source.exists():
            raise InputError(source, "does not exist", hint=_instead(source))
        if not source.name:  # as of "."
            source = source.absolute()
        if not source.name:
            raise InputError(source, "is no report", hint="give a report, an export or a dataset")
        inputs = Inputs.of(source, self.options)
        target = cache.place_of(inputs, Path(output) if output is not None else None)
        if not force and cache.is_current(target, inputs, inputs.described()):
            remove_left(target)
            return target
        # Before the lock: two reports that are each other's layer pass would wait for each other.
        layer_pass, problem = self._layer_pass(inputs)
        with cache.locked(target):
            described = inputs.described()
            if not force and cache.is_current(target, inputs, described):
                return target
            with cache.partial(target) as partial:
                about = lambda: {  # noqa: E731
                    **described,
                    "sha256": inputs.content_hash(),
                    "captured_by": inputs.captured_by(),
                    "layer_pass_problem": problem,
                }
                self._write(inputs, partial, about, layer_pass)
                if inputs.described() != described:
                    hint = "import it again when it is complete"
                    raise InputError(inputs.source, "changed while it was read", hint=hint)
                cache.put(target, partial)
        return target

    def _write(self, inputs: Inputs, to: Path, about: Callable[[], dict[str, Any]], layer_pass: Path | None) -> None:
        """Write the dataset into `to`; an error is about what the caller gave, and not about what was made of it."""
        if inputs.trtexec is not None:
            write_trtexec_run(inputs.trtexec, to, source=about)
            return
        source = inputs.source
        with contextlib.ExitStack() as stack:
            export = source
            try:
                export = self._export(inputs, to, stack)
                write_dataset(
                    open_export(export), to, source=about, inputs=inputs, progress=self.progress, layer_pass=layer_pass
                )
            except RangeNotFoundError as error:
                name, frequent = error.args
                hint = f"its most frequent ones are {', '.join(frequent)}" if frequent else "it has none at all"
                raise InputError(source, f"has no NVTX range named '{name}'", hint=hint) from error
            except InputError as error:
                if export == source or not error.path.is_relative_to(export):
                    raise
                if not inputs.is_report:
                    raise InputError(source, error.problem, hint=error.hint) from error
                hint = "capture or copy the report again"
                raise InputError(source, f"its export {error.problem}", hint=hint) from error
            except OSError as error:
                raise OutputError(
                    to.parent, f"cannot be written: {error.strerror or error}", hint="make room, or use -o"
                ) from error

    def _export(self, inputs: Inputs, to: Path, stack: contextlib.ExitStack) -> Path:
        """What is to be read: the source, or in a folder that is gone with `stack`, what was made of it."""
        source = inputs.source
        if inputs.is_report:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="export-", dir=to))
            return self._exported(source, Path(folder) / source.stem)
        if source.is_file() and connections.journals(source):
            check_sqlite_file(source)
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="whole-", dir=to))
            return connections.finished(source, Path(folder) / source.name)
        return source

    def _exported(self, report: Path, to: Path) -> Path:
        """The export of a report; where nsys cannot make one and somebody else has, the error says so."""
        from nsight_tools.nsys import check_report, find

        check_report(report)
        try:
            return find(self.nsys).export(report, to, progress=self.progress)
        except (NsysError, InputError) as error:
            if (export := beside(report, EXPORT_SUFFIX)) is not None:
                error.hint = f"give {export.name}, which stands beside it and is read without nsys"
            raise

    def _layer_pass(self, inputs: Inputs) -> tuple[Path | None, str | None]:
        """The dataset of the layer pass, imported where it is none yet; or why one that nobody asked for is no use."""
        layer_pass = inputs.layer_pass
        if layer_pass is None:
            return None, None
        try:
            if not (layer_pass / MANIFEST).is_file():
                return replace(self, options=Options()).of(layer_pass, None, force=False), None
            read_manifest(layer_pass)
        except NsightToolsError as error:
            if self.options.layer_pass is not None:
                raise
            return None, f"{layer_pass.name} {getattr(error, 'problem', 'cannot be read')}"
        return layer_pass, None


def _instead(missing: Path) -> str:
    """What to give where a path leads to nothing: what stands there under a name that is nearly the same."""
    folder = missing.parent
    if not folder.is_dir():
        return f"there is no folder {folder}"
    with contextlib.suppress(OSError):
        return meant(missing.name, [each.name for each in folder.iterdir()])
    return ""
