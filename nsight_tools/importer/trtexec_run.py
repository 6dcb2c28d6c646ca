"""What trtexec wrote of a run, as a dataset without a trace: the engine's layers, their times, and those of inferences.

The files of one engine are told by their names, as TensorRT's own tools write them: `model.engine.graph.json`,
`model.engine.profile.json` and `model.engine.timing.json` stand beside `model.engine`. Which is which is told by what
they hold, never by their names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from nsight_tools import run_files
from nsight_tools.errors import InputError
from nsight_tools.importer import layers, trtexec, untraced
from nsight_tools.importer.manifest import MANIFEST
from nsight_tools.importer.untrusted_json import parsed
from nsight_tools.importer.writer import write_table
from nsight_tools.tables import DATASET_VERSION, TABLES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SUFFIX = ".json"
_KINDS: tuple[Any, ...] = (trtexec.Times, trtexec.Profile, trtexec.EngineLayers)
_GIVE = "give what trtexec wrote with --exportTimes, --exportProfile or --exportLayerInfo"
_NO_TRACE = "these are trtexec's own files, and no trace; nsight-tools capture makes one of the engine"


@dataclass(frozen=True)
class TrtexecRun:
    """The files that trtexec wrote of one engine; None for what it did not write."""

    times: Path | None = None
    profile: Path | None = None
    layers: Path | None = None

    @classmethod
    def of(cls, source: Path) -> TrtexecRun | None:
        """The run that `source` is of: one of the files, or the engine that they stand beside; None for others.

        Raises InputError where it is such a file and holds none of the three, where nothing stands beside the engine,
        and where two files beside it hold the same.
        """
        if not source.is_file() or source.suffix not in (SUFFIX, *run_files.ENGINES):
            return None
        files: dict[Any, Path] = {}
        if source.suffix == SUFFIX:
            files[_kind(source, strict=True)] = source
        own = tuple(files)
        for file in _beside(source):
            kind = _kind(file, strict=False)
            if kind is None or kind in own:
                continue
            if kind in files:
                what = f"{files[kind].name} and {file.name} both hold {kind.holds}"
                raise InputError(source, f"cannot be told from its files: {what}", hint="move one of them away")
            files[kind] = file
        if not files:
            hint = f"{_GIVE} as {source.name}.profile.json beside it, or run it: nsight-tools capture {source.name}"
            raise InputError(source, "is an engine, beside which trtexec wrote nothing", hint=hint)
        return cls(*(files.get(kind) for kind in _KINDS))

    @property
    def files(self) -> list[Path]:
        return [file for file in (self.times, self.profile, self.layers) if file is not None]

    def named(self) -> dict[str, str]:
        """The name of each file by the option of trtexec that wrote it."""
        both = zip(_KINDS, (self.times, self.profile, self.layers), strict=True)
        return {kind.option: file.name for kind, file in both if file is not None}


def _kind(path: Path, *, strict: bool) -> Any:
    """Which of the three a file is; None where it is none of them and none is asked for."""
    try:
        value = trtexec.told(parsed(path.read_text(encoding="utf-8", errors="replace")))
    except (OSError, ValueError) as error:
        if strict:
            raise InputError(path, f"is no JSON: {error}", hint=_GIVE) from error
        return None
    if value is None and strict:
        raise InputError(path, "is none of trtexec's files", hint=_GIVE)
    return None if value is None else type(value)


def _beside(source: Path) -> list[Path]:
    """Other JSON files that are named after the same engine: `model.engine.…`, with one more word."""
    stems = {source.name, source.stem} if source.suffix != SUFFIX else {source.stem.rpartition(".")[0]}
    return [
        file
        for file in sorted(source.absolute().parent.glob(f"*{SUFFIX}"))
        if file.stem.rpartition(".")[0] in stems - {""} and file.name != source.name
    ]


def write_dataset(run: TrtexecRun, to: Path, *, source: Callable[[], dict[str, Any]]) -> None:
    """Write the dataset of these files into the existing folder `to`, the manifest last.

    Raises InputError where one of them holds nothing.
    """
    tables = {}
    if run.times is not None:
        tables["benchmark"] = untraced.of_json([run.times])
    if run.profile is not None:
        tables["layer_times"] = layers.times(trtexec.read(run.profile, trtexec.Profile), "trtexec")
        if not tables["layer_times"].num_rows:
            raise InputError(run.profile, "holds no layer", hint=trtexec.Profile.how)
    if run.layers is not None:
        tables["layers"] = layers.from_inspector(run.layers)
    rows = {name: write_table(to / f"{name}.parquet", TABLES[name], table) for name, table in tables.items()}
    reasons = {
        "benchmark": trtexec.Times.how,
        "layer_times": trtexec.Profile.how,
        "layers": trtexec.EngineLayers.how,
    }
    manifest = {
        "dataset_version": DATASET_VERSION,
        "tool_version": version("nsight-tools"),
        "source": source(),
        "clock": None,
        "run": None,
        "trtexec": run.named(),
        "tables": {
            name: {"rows": rows[name], "status": "present", "reason": None}
            if rows.get(name)
            else {"rows": 0, "status": "not_collected", "reason": reasons.get(name, _NO_TRACE)}
            for name in TABLES
        },
    }
    (to / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
