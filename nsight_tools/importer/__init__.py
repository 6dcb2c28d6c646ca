"""From a report or an export to a dataset: once, whole or not at all, and again only when the report has changed."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib
import os
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsight_tools import allocator as _allocator  # noqa: F401 (before anything that loads Arrow)
from nsight_tools.errors import DatasetError, InputError, NsightToolsError, NsysError, OutputError, meant
from nsight_tools.files import partial_folder, put_in_place, remove_left
from nsight_tools.importer import connections
from nsight_tools.importer.captured import RunDirectory
from nsight_tools.importer.dataset import Progress, Wanted, write_dataset
from nsight_tools.importer.derived import RangeNotFoundError
from nsight_tools.importer.manifest import MANIFEST, read_manifest
from nsight_tools.importer.sources import check_sqlite_file, open_export
from nsight_tools.importer.trtexec_run import TrtexecRun
from nsight_tools.importer.trtexec_run import write_dataset as write_trtexec_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXPORT_SUFFIX = ".sqlite"
REPORTS = (".nsys-rep", ".qdrep")
LAYERS_SUFFIX = ".layers.json"
PROFILE_SUFFIX = ".profile.json"


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
    where the dataset cannot be written. Nothing is left behind then.

    Example:
        >>> from nsight_tools import import_report
        >>> import_report("sample_traces/detector_pageable.sqlite", "datasets").name
        'detector_pageable.sqlite.trace'
    """
    source = Path(source)
    if not source.exists():
        raise InputError(source, "does not exist", hint=_instead(source))
    run = RunDirectory.of(source)
    source = run.report if run else source
    exports = _trtexec_run(source, layers, ranges=(layer_pass, inference_range, group_by))
    target = _target(source, run, Path(output) if output is not None else None)
    wanted = Wanted(
        None if exports else _layers_json(source, run, layers),
        keep_environment,
        inference_range,
        run,
        _layer_pass(source, run, layer_pass),
        group_by,
        exports,
        None if exports or run else _beside(source, PROFILE_SUFFIX),
    )
    report_progress = progress or (lambda _stage, _share: None)
    if not force and _is_current(target, describe(source, wanted), source, wanted):
        remove_left(target)
        return target
    # Before the lock: two reports that are each other's layer pass would wait for each other.
    layer_pass, problem = _layer_pass_dataset(wanted.layer_pass, layer_pass is not None, nsys, report_progress)
    with _locked(target):
        described = describe(source, wanted)
        if not force and _is_current(target, described, source, wanted):
            return target
        with _partial(target) as partial:
            about = lambda: {  # noqa: E731
                **described,
                "sha256": content_hash(source, wanted),
                "captured_by": _captured_by(source),
                "layer_pass_problem": problem,
            }
            _import(source, partial, about, wanted, layer_pass, nsys, report_progress)
            if describe(source, wanted) != described:
                raise InputError(source, "changed while it was read", hint="import it again when it is complete")
            try:
                _replace(target, partial)
            except OSError as error:
                raise OutputError(target, f"cannot be put in place: {error.strerror}", hint="use -o") from error
    return target


def _trtexec_run(source: Path, layers: Path | str | None, *, ranges: tuple[object, ...]) -> TrtexecRun | None:
    """What trtexec wrote, with the layers that somebody gives; None for a report or an export."""
    found = TrtexecRun.of(source)
    if found is None:
        return None
    if any(each is not None for each in ranges):
        raise InputError(source, "is of trtexec, and has no ranges and no kernels", hint="give a report")
    if layers is None:
        return found
    _check_layers(Path(layers))
    return replace(found, layers=Path(layers))


def _check_layers(path: Path) -> None:
    if not path.is_file():
        raise InputError(path, "does not exist", hint="write it with trtexec --exportLayerInfo")


def _import(
    source: Path,
    to: Path,
    about: Callable[[], dict[str, Any]],
    wanted: Wanted,
    layer_pass: Path | None,
    nsys: Path | str | None,
    progress: Progress,
) -> None:
    if wanted.trtexec is not None:
        write_trtexec_run(wanted.trtexec, to, source=about)
        return
    with contextlib.ExitStack() as stack:
        export = source
        if source.suffix in REPORTS:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="export-", dir=to))
            export = _exported(source, Path(scratch) / source.stem, nsys, progress)
        try:
            if source.suffix not in REPORTS and source.is_file() and connections.journals(source):
                check_sqlite_file(source)
                scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="whole-", dir=to))
                export = connections.finished(source, Path(scratch) / source.name)
            write_dataset(
                open_export(export), to, source=about, wanted=wanted, progress=progress, layer_pass=layer_pass
            )
        except RangeNotFoundError as error:
            name, frequent = error.args
            hint = f"its most frequent ones are {', '.join(frequent)}" if frequent else "it has none at all"
            raise InputError(source, f"has no NVTX range named '{name}'", hint=hint) from error
        except InputError as error:
            if export == source or not error.path.is_relative_to(export):
                raise
            if source.suffix not in REPORTS:
                raise InputError(source, error.problem, hint=error.hint) from error
            hint = "capture or copy the report again"
            raise InputError(source, f"its export {error.problem}", hint=hint) from error
        except OSError as error:
            raise OutputError(
                to.parent, f"cannot be written: {error.strerror or error}", hint="make room, or use -o"
            ) from error


def _exported(report: Path, to: Path, nsys: Path | str | None, progress: Progress) -> Path:
    """The export of a report; where nsys cannot make one and somebody else has, the error says so."""
    from nsight_tools.nsys import check_report, find

    check_report(report)
    try:
        with _pandas_loading():
            return find(nsys).export(report, to, progress=progress)
    except (NsysError, InputError) as error:
        if (export := _beside(report, EXPORT_SUFFIX)) is not None:
            error.hint = f"give {export.name}, which stands beside it and is read without nsys"
        raise


def _instead(missing: Path) -> str:
    """What to give where a path leads to nothing: what stands there under a name that is nearly the same."""
    folder = missing.parent
    if not folder.is_dir():
        return f"there is no folder {folder}"
    with contextlib.suppress(OSError):
        return meant(missing.name, [each.name for each in folder.iterdir()])
    return ""


@contextlib.contextmanager
def _pandas_loading() -> Iterator[None]:
    """Load what Arrow's conversions load at their first, while another program has the other core."""
    loading = threading.Thread(target=importlib.import_module, args=("pandas",))
    loading.start()
    try:
        yield
    finally:
        loading.join()


def describe(source: Path, wanted: Wanted) -> dict[str, Any]:
    """What the manifest says of a source beside its content hash: cheap to compare."""
    files = [state for file in _files(source, wanted) if (state := _state(file)) is not None]
    return {
        "name": source.name,
        "kind": _kind(source, wanted),
        "layers": wanted.layers.name if wanted.layers else None,
        "layer_pass": wanted.layer_pass.name if wanted.layer_pass else None,
        "run": [file.name for file in wanted.run.files] if wanted.run else None,
        **({"trtexec": wanted.trtexec.named()} if wanted.trtexec else {}),
        **({"profile": wanted.profile.name} if wanted.profile else {}),
        "size_bytes": sum(state.st_size for state in files),
        "modified_ns": max((state.st_mtime_ns for state in files), default=0),
        "keep_environment": wanted.keep_environment,
        "inference_range": wanted.inference_range,
        "group_by": wanted.group_by,
    }


def _kind(source: Path, wanted: Wanted) -> str:
    if wanted.trtexec is not None:
        return "trtexec"
    return "parquetdir" if source.is_dir() else "report" if source.suffix in REPORTS else "sqlite"


def _state(file: Path) -> os.stat_result | None:
    """None for a file that is gone since it was seen, as a journal may be: then the source has changed."""
    try:
        return file.stat()
    except FileNotFoundError:
        return None


def _captured_by(source: Path) -> str | None:
    """The version of Nsight Systems that wrote a report; an export does not name it."""
    if source.suffix not in REPORTS:
        return None
    from nsight_tools.nsys import report_version

    version = report_version(source)
    return str(version) if version else None


def content_hash(source: Path, wanted: Wanted) -> str:
    """SHA-256 over the source's files, its layers JSON and layer pass, and what a capture put beside it."""
    digest = hashlib.sha256()
    for file in _files(source, wanted):
        try:
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise InputError(file, f"cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _is_current(target: Path, described: dict[str, Any], source: Path, wanted: Wanted) -> bool:
    """Whether the dataset at `target` was made from this very source; what was only touched is told by its content."""
    try:
        made_from = read_manifest(target)["source"]
    except DatasetError:
        return False
    differs = {key for key, value in described.items() if made_from.get(key) != value}
    return not differs or (differs == {"modified_ns"} and made_from.get("sha256") == content_hash(source, wanted))


def _target(source: Path, run: RunDirectory | None, output: Path | None) -> Path:
    name = f"{source.name}.trace"
    if output is not None:
        name = f"{run.name}.trace" if run else name  # every run directory's report has the same name
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(output, f"cannot be made: {error.strerror}", hint="choose another folder") from error
        return output / name
    if os.access(source.absolute().parent, os.W_OK):
        return source.with_name(name)
    folder = cache_folder() / hashlib.sha256(os.fsencode(source.resolve())).hexdigest()[:12]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(folder, f"cannot be made: {error.strerror}", hint="use -o to write elsewhere") from error
    return folder / name


def cache_folder() -> Path:
    """Where datasets go whose report stands in a folder that cannot be written."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "nsight-tools"
    with contextlib.suppress(RuntimeError):
        home = Path.home()
        if os.access(home, os.W_OK):
            return home / ".cache" / "nsight-tools"
    return Path(tempfile.gettempdir()) / f"nsight-tools-{os.getuid()}"


def _layers_json(source: Path, run: RunDirectory | None, given: Path | str | None) -> Path | None:
    if given is not None:
        return Path(given)
    if run and run.layers:
        return run.layers
    return _beside(source, LAYERS_SUFFIX)


def _beside(source: Path, suffix: str) -> Path | None:
    """The file beside a report that has its name and this suffix."""
    beside = source.with_name(f"{source.stem}{suffix}")
    return beside if beside.is_file() else None


def _layer_pass(source: Path, run: RunDirectory | None, given: Path | str | None) -> Path | None:
    found = Path(given) if given is not None else run.layer_pass if run else None
    if found is not None and not found.exists():
        raise InputError(found, "does not exist", hint="a layer pass is a run of the same engine with layer ranges")
    if found is not None and found.resolve() == source.resolve():
        raise InputError(found, "is the report itself", hint="give another run of the same engine as the layer pass")
    return found


def _layer_pass_dataset(
    layer_pass: Path | None, asked_for: bool, nsys: Path | str | None, progress: Progress
) -> tuple[Path | None, str | None]:
    """The dataset of a layer pass, imported where it is none yet; or why one that nobody asked for cannot be read."""
    if layer_pass is None:
        return None, None
    try:
        if not (layer_pass / MANIFEST).is_file():
            return import_report(layer_pass, nsys=nsys, progress=progress), None
        read_manifest(layer_pass)
    except NsightToolsError as error:
        if asked_for:
            raise
        return None, f"{layer_pass.name} {getattr(error, 'problem', 'cannot be read')}"
    return layer_pass, None


def _files(source: Path, wanted: Wanted) -> list[Path]:
    if wanted.trtexec is not None:
        return wanted.trtexec.files
    data = _data_files(source)
    if wanted.layers:
        _check_layers(wanted.layers)
    beside = [*filter(None, (wanted.layers, wanted.profile)), *(wanted.run.files if wanted.run else [])]
    return [*data, *beside, *(_data_files(wanted.layer_pass) if wanted.layer_pass else [])]


def _data_files(source: Path) -> list[Path]:
    """The files of a report, an export or a dataset."""
    if source.is_dir():
        return sorted(source.glob("*.parquet"))
    return [source] if source.suffix in REPORTS else [source, *connections.journals(source)]


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    """One import of a target at a time; the second waits, and then finds the first one's dataset."""
    folder = Path(tempfile.gettempdir()) / f"nsight-tools-{os.getuid()}"
    name = hashlib.sha256(os.fsencode(target.absolute())).hexdigest()[:24]
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            if folder.lstat().st_uid != os.getuid():
                raise OutputError(folder, "belongs to another user", hint="set TMPDIR to a folder of your own")
            lock = stack.enter_context((folder / f"{name}.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise OutputError(
                folder, f"cannot be locked: {error.strerror}", hint="set TMPDIR to another one"
            ) from error
        yield


@contextlib.contextmanager
def _partial(target: Path) -> Iterator[Path]:
    with contextlib.ExitStack() as stack:
        try:
            partial = stack.enter_context(partial_folder(target))
        except OSError as error:
            raise OutputError(
                target.parent, f"cannot be written: {error.strerror}", hint="use -o to write elsewhere"
            ) from error
        yield partial


def _replace(target: Path, new: Path) -> None:
    new.chmod(0o755)
    put_in_place(new, target)
