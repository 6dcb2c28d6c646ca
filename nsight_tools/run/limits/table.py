"""`layer_limits`: the shares of each kernel and layer as a table, made when asked for and kept with the dataset."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nsight_tools.errors import CouldNotRun
from nsight_tools.files import partial_folder
from nsight_tools.run import Run
from nsight_tools.trace import as_trace

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path

    import numpy.typing as npt

    from nsight_tools.run.limits.measured import Measured
    from nsight_tools.trace import Trace

    Floats = npt.NDArray[np.float64]

FILE = "layer_limits.parquet"
METHOD = 10
"""Goes up with each change of how the shares are found: what was kept by another method is made again."""
_ABOUT = b"nsight_tools.layer_limits"

WORD = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        pa.field("of", WORD, nullable=False),  # kernel, copy or layer
        pa.field("device", pa.int32(), nullable=False),
        pa.field("position", pa.int32()),  # of a kernel in its request, by order of start
        pa.field("layer", WORD),
        pa.field("kernel", WORD),
        pa.field("kernels", pa.int32(), nullable=False),  # of a request
        pa.field("time_ns", pa.int64(), nullable=False),  # of a request
        pa.field("metric", WORD, nullable=False),
        pa.field("share", pa.float64(), nullable=False),  # of the hardware's peak, over that time
        pa.field("low", pa.float64(), nullable=False),
        pa.field("high", pa.float64(), nullable=False),
        pa.field("together", pa.int32()),  # the same number: told as one
    ]
)


def layer_limits(trace: Trace | PathLike[str] | str) -> pa.Table:
    """What each kernel and each layer of the judged inferences takes of the hardware, one row for each metric.

    `of` says whether a row is of a `kernel`, a `copy` (with its `position` in the inference) or of a `layer` (all that
    runs for it); `time_ns` and `kernels` are an inference's. `share` is the metric's share of the hardware's peak over
    that time, from 0 to 1; it lies between `low` and `high` nine times in ten. `metric` is sms_active, sm_issue,
    tensor_active, warps (compute warps in flight), dram_read, dram_write, or another percentage by its own name. Rows
    with the same number in `together` could not be told apart and share their values; so do repeats of the same kernel.

    Made when first asked for, and kept in the dataset's folder. No rows where nothing can be told: `why_no_limits`.
    `trace` may be the path of a report. Raises ArgumentError where it is neither, and what `open_trace` raises.

    Example:
        >>> from nsight_tools import layer_limits
        >>> table = layer_limits("sample_traces/limits/detector_metrics.sqlite")
        >>> sorted(set(table["of"].to_pylist()))
        ['kernel', 'layer']
    """
    return as_trace(trace, "layer_limits").once(_kept)


def of_positions(trace: Trace, device: int, metric: str) -> Floats:
    """A metric's share by position of a kernel in its request, shape (positions,); empty where it is not told."""
    table = layer_limits(trace)
    chosen = pc.and_(pc.not_equal(table["of"], "layer"), pc.equal(table["device"], device))
    rows = table.filter(pc.and_(chosen, pc.equal(table["metric"], metric)))
    shares: Floats = rows["share"].to_numpy()
    return shares  # in order of position, as they were written


def no_limits(trace: Trace) -> CouldNotRun | None:
    """Why `layer_limits` has no rows; None where it has."""
    about = _about(layer_limits(trace))
    if layer_limits(trace).num_rows:
        return None
    return CouldNotRun(str(about["why"]), hint=str(about.get("remedy", "")))


def why_no_limits(trace: Trace) -> str | None:
    """The same in words."""
    return None if (error := no_limits(trace)) is None else str(error)


def notes(trace: Trace) -> list[str]:
    """What has to be known beside `layer_limits`: a sentence for each."""
    return [str(note) for note in _about(layer_limits(trace))["notes"]]


def _about(table: pa.Table) -> dict[str, Any]:
    about: dict[str, Any] = json.loads(table.schema.metadata[_ABOUT])
    return about


def _kept(trace: Trace) -> pa.Table:
    """The table as it was kept, or made now and kept where that is possible."""
    file = trace.path / FILE
    if trace.path.is_dir() and (kept := _read(file)) is not None:
        return kept
    made = _made(trace)
    if trace.path.is_dir() and trace.missing("gpu_metrics") is None:
        _write(file, made)
    return made


def _read(file: Path) -> pa.Table | None:
    try:
        table = pq.read_table(file)
        about = _about(table)
        fits = about["method"] == METHOD and table.schema.names == SCHEMA.names
        return table.cast(SCHEMA.with_metadata(table.schema.metadata)) if fits else None
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        return None


def _write(file: Path, table: pa.Table) -> None:
    """Put the table in its place, whole; a dataset that cannot be written to stays as it is."""
    try:
        with partial_folder(file) as folder:
            pq.write_table(table, folder / FILE, compression="zstd")
            (folder / FILE).replace(file)
    except OSError:
        return


def _made(trace: Trace) -> pa.Table:
    from nsight_tools.run.limits.measured import Measured

    run = Run.of(trace)
    rows: list[dict[str, Any]] = []
    noted: list[str] = []
    why: list[CouldNotRun] = []
    for device in run.gpus.devices:
        try:
            measured = Measured.of(run, device)
        except CouldNotRun as error:
            why.append(error)
            continue
        rows += _rows(measured)
        noted += measured.notes
    if not run.gpus.devices:
        why.append(trace.lacking("kernels") or CouldNotRun("no kernel was recorded"))
    about = {
        "method": METHOD,
        "notes": noted,
        "why": "; ".join(dict.fromkeys(error.message for error in why if error.message)),
        "remedy": "; ".join(dict.fromkeys(error.hint for error in why if error.hint)),
    }
    table = pa.Table.from_pylist(rows, SCHEMA)
    return table.replace_schema_metadata({_ABOUT: json.dumps(about).encode()})


def _rows(measured: Measured) -> list[dict[str, Any]]:
    of_kernels, of_layers = _kernels(measured), _layers(measured)
    rows = [*of_kernels, *of_layers]
    value, low, high = measured.shares(np.stack([weight for _, weight in rows]))
    return [
        {
            **row,
            "device": measured.device,
            "metric": word,
            "share": float(value[at, column]),
            "low": float(low[at, column]),
            "high": float(high[at, column]),
        }
        for at, (row, _) in enumerate(rows)
        for column, word in enumerate(measured.words)
    ]


def _kernels(measured: Measured) -> list[tuple[dict[str, Any], Floats]]:
    """A row for each position, and the weight of each group in it, shape (groups,)."""
    positions, group, kinds = measured.positions, measured.fit.group, measured.fit.kinds
    only = np.eye(kinds.size)
    return [
        (
            {
                "of": "copy" if positions.copies[at] else "kernel",
                "position": at,
                "layer": positions.layer.at(at) or None,
                "kernel": positions.name.at(at),
                "kernels": 1,
                "time_ns": int(positions.time[at]),
                "together": int(group[at]) if kinds[group[at]] > 1 else None,
            },
            only[group[at]],
        )
        for at in range(len(positions))
    ]


def _layers(measured: Measured) -> list[tuple[dict[str, Any], Floats]]:
    """The same for each layer, whose kernels count by their time."""
    positions, group, kinds = measured.positions, measured.fit.group, measured.fit.kinds
    size = np.bincount(group)
    of_layers = []
    codes = positions.layer.codes
    for code in dict.fromkeys(codes[codes >= 0].tolist()):
        mine = np.flatnonzero(codes == code)
        weight = np.bincount(group[mine], np.maximum(positions.time[mine], 1), size.size)
        kind = int(group[mine[0]])
        row = {
            "of": "layer",
            "position": None,
            "layer": positions.layer.dictionary[code],
            "kernel": None,
            "kernels": int(mine.size),
            "time_ns": int(positions.time[mine].sum()),
            "together": kind if (group[mine] == kind).all() and kinds[kind] > 1 and size[kind] > mine.size else None,
        }
        of_layers.append((row, weight / weight.sum()))
    return of_layers
