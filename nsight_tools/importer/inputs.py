"""What a dataset is made of: a report or an export, what stands beside it, and the options of its import."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsight_tools.errors import InputError
from nsight_tools.files import blocks
from nsight_tools.importer import connections
from nsight_tools.importer.captured import RunDirectory
from nsight_tools.importer.trtexec_run import TrtexecRun

if TYPE_CHECKING:
    import os

EXPORT_SUFFIX = ".sqlite"
REPORTS = (".nsys-rep", ".qdrep")
LAYERS_SUFFIX = ".layers.json"
PROFILE_SUFFIX = ".profile.json"


@dataclass(frozen=True)
class Options:
    """What the caller asks of an import (`import_report` says what each is); a dataset is used again for the same."""

    layers: Path | str | None = None
    layer_pass: Path | str | None = None
    inference_range: str | None = None
    group_by: str | None = None
    keep_environment: bool = False


@dataclass(frozen=True)
class Inputs:
    """The files that one dataset is made of, as they were found, and how; None for what is not there."""

    source: Path
    """A report, an export, or one of trtexec's files."""
    options: Options
    run: RunDirectory | None = None
    layers: Path | None = None
    layer_pass: Path | None = None
    profile: Path | None = None
    """Layer times by TensorRT's own profiler, as trtexec writes them, that stand beside a report."""
    trtexec: TrtexecRun | None = None
    """What trtexec wrote, where that is the source."""

    @classmethod
    def of(cls, path: Path, options: Options) -> Inputs:
        """What stands at and beside `path`. Raises InputError where something that was asked for is not there."""
        run = RunDirectory.of(path)
        source = run.report if run else path
        if (exports := _trtexec_run(source, options)) is not None:
            return cls(source, options, run, trtexec=exports)
        return cls(
            source,
            options,
            run,
            _layers_json(source, run, options.layers),
            _layer_pass(source, run, options.layer_pass),
            None if run else beside(source, PROFILE_SUFFIX),
        )

    @property
    def is_report(self) -> bool:
        """Whether it takes nsys to read it."""
        return self.source.suffix in REPORTS

    @property
    def files(self) -> list[Path]:
        """All that is read. Raises InputError where a file of layers that was asked for is not there."""
        if self.trtexec is not None:
            return self.trtexec.files
        if self.layers:
            _check_layers(self.layers)
        more = [*filter(None, (self.layers, self.profile)), *(self.run.files if self.run else [])]
        return [*_data_files(self.source), *more, *(_data_files(self.layer_pass) if self.layer_pass else [])]

    def described(self) -> dict[str, Any]:
        """What the manifest says of them beside their content hash: cheap to compare."""
        files = [state for file in self.files if (state := _state(file)) is not None]
        return {
            "name": self.source.name,
            "kind": self._kind,
            "layers": self.layers.name if self.layers else None,
            "layer_pass": self.layer_pass.name if self.layer_pass else None,
            "run": [file.name for file in self.run.files] if self.run else None,
            **({"trtexec": self.trtexec.named()} if self.trtexec else {}),
            **({"profile": self.profile.name} if self.profile else {}),
            "size_bytes": sum(state.st_size for state in files),
            "modified_ns": max((state.st_mtime_ns for state in files), default=0),
            "keep_environment": self.options.keep_environment,
            "inference_range": self.options.inference_range,
            "group_by": self.options.group_by,
        }

    @property
    def _kind(self) -> str:
        if self.trtexec is not None:
            return "trtexec"
        return "parquetdir" if self.source.is_dir() else "report" if self.is_report else "sqlite"

    def captured_by(self) -> str | None:
        """The version of Nsight Systems that wrote a report; an export does not name it."""
        if not self.is_report:
            return None
        from nsight_tools.nsys import report_version

        version = report_version(self.source)
        return str(version) if version else None

    def content_hash(self) -> str:
        """SHA-256 over all of the files. Raises InputError where one cannot be read."""
        digest = hashlib.sha256()
        for file in self.files:
            try:
                for block in blocks(file):
                    digest.update(block)
            except OSError as error:
                raise InputError(file, f"cannot be read: {error.strerror}") from error
        return digest.hexdigest()


def beside(source: Path, suffix: str) -> Path | None:
    """The file beside a report that has its name and this suffix."""
    file = source.with_name(f"{source.stem}{suffix}")
    return file if file.is_file() else None


def _trtexec_run(source: Path, options: Options) -> TrtexecRun | None:
    """What trtexec wrote, with the layers that somebody gives; None for a report or an export."""
    run = TrtexecRun.of(source)
    if run is None:
        return None
    if any(asked is not None for asked in (options.layer_pass, options.inference_range, options.group_by)):
        raise InputError(source, "is of trtexec, and has no ranges and no kernels", hint="give a report")
    if options.layers is None:
        return run
    _check_layers(Path(options.layers))
    return replace(run, layers=Path(options.layers))


def _check_layers(path: Path) -> None:
    if not path.is_file():
        raise InputError(path, "does not exist", hint="write it with trtexec --exportLayerInfo")


def _layers_json(source: Path, run: RunDirectory | None, given: Path | str | None) -> Path | None:
    if given is not None:
        return Path(given)
    if run and run.layers:
        return run.layers
    return beside(source, LAYERS_SUFFIX)


def _layer_pass(source: Path, run: RunDirectory | None, given: Path | str | None) -> Path | None:
    layer_pass = Path(given) if given is not None else run.layer_pass if run else None
    if layer_pass is not None and not layer_pass.exists():
        raise InputError(
            layer_pass, "does not exist", hint="a layer pass is a run of the same engine with layer ranges"
        )
    if layer_pass is not None and layer_pass.resolve() == source.resolve():
        raise InputError(
            layer_pass, "is the report itself", hint="give another run of the same engine as the layer pass"
        )
    return layer_pass


def _state(file: Path) -> os.stat_result | None:
    """None for a file that is gone since it was seen, as a journal may be: then the source has changed."""
    try:
        return file.stat()
    except FileNotFoundError:
        return None


def _data_files(source: Path) -> list[Path]:
    """The files of a report, an export or a dataset."""
    if source.is_dir():
        return sorted(source.glob("*.parquet"))
    return [source] if source.suffix in REPORTS else [source, *connections.journals(source)]
