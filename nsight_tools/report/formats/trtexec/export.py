"""What a trace holds as trtexec's own files, for tools that read those: times of inferences, layer times, layers.

They are named as TensorRT's engine explorer names them, so that `nsight-tools analyze` takes them together, too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools.columns import ints
from nsight_tools.errors import InputError
from nsight_tools.importer.trtexec import EngineLayers, InferenceTimes, LayerTimes, Profile, Times, as_json
from nsight_tools.run import Run
from nsight_tools.run.engine import Tensor, tensors
from nsight_tools.run.layer_times import traced_layers
from nsight_tools.worth.untraced import Known

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nsight_tools.columns import Bools, Ints
    from nsight_tools.report.context import Exported
    from nsight_tools.trace import Trace

FOLDER = True
TAKES_ONNX = False
SUFFIXES = {Times: "timing", Profile: "profile", EngineLayers: "graph"}
"""What stands between an engine's name and `.json`, as TensorRT's engine explorer calls its files."""
_NS = 1_000_000
"""Of a millisecond."""


@dataclass(frozen=True)
class Written:
    """One file: its name, its text, and what it holds and where that is from, in words."""

    name: str
    text: str
    said: str


def write(exported: Exported, to: Callable[[str, str], None]) -> list[tuple[str, str]]:
    """Write trtexec's files of a trace; what each of them holds. Raises what `files` raises."""
    written = files(exported.trace)
    for file in written:
        to(file.name, file.text)
    return [(file.name, file.said) for file in written]


def files(trace: Trace) -> list[Written]:
    """The files of a trace. Raises InputError where it holds nothing that trtexec would write."""
    engine = _engine(trace)
    written = [
        Written(f"{engine}.{SUFFIXES[type(value)]}.json", json.dumps(as_json(value), indent=1) + "\n", source)
        for value, source in _values(trace)
    ]
    if not written:
        problem = "holds no times of inferences, and no layers"
        raise InputError(trace.manifest["source"]["name"], problem, hint="give a capture of an engine")
    return written


def _engine(trace: Trace) -> str:
    """The engine's name, where a capture says it, else the report's."""
    model = (trace.manifest.get("run") or {}).get("model")
    named = model.get("name") if isinstance(model, dict) else None
    return Path(str(named or trace.manifest["source"]["name"])).name


def _values(trace: Trace) -> Iterator[tuple[Times | Profile | EngineLayers, str]]:
    untraced = _untraced(trace)
    times = untraced or _traced(trace)
    if times:
        yield Times(times), f"{len(times):,} inferences, {'without the profiler' if untraced else 'as traced'}"
    measured = _measured(trace)
    profile = measured or _by_trace(trace)
    if profile is not None:
        how = "by TensorRT's own profiler" if measured else "by the kernels of each in the trace"
        yield profile, f"{len(profile.layers):,} layer times, {how}"
    layers = [_layer(row) for row in trace.table("layers").to_pylist()]
    if layers:
        yield EngineLayers(layers), f"{len(layers):,} layers"


def _untraced(trace: Trace) -> list[InferenceTimes]:
    """The run without the profiler; its stages are known by how long they take, and stand behind each other."""
    known = Known.of(trace)
    if known.untraced is None:
        return []
    table = trace.table("benchmark", ["start_ns", "wall_ns", "enqueue_ns", "gpu_ns", "h2d_ns", "compute_ns", "d2h_ns"])
    columns = {name.removesuffix("_ns"): ints(table[name])[known.rows] for name in table.column_names}
    compute = np.where(columns["compute"] >= 0, columns["compute"], columns["gpu"])
    compute = np.where(compute >= 0, compute, columns["wall"])
    h2d, d2h = (np.maximum(columns[name], 0) for name in ("h2d", "d2h"))
    start = columns["start"]
    moments = np.cumsum(np.stack([start, h2d, compute, d2h]), axis=0)
    enqueued = np.where(columns["enqueue"] >= 0, start + columns["enqueue"], -1)
    ends = {"start_enqueue": np.where(enqueued >= 0, start, -1), "end_enqueue": enqueued}
    for at, name in enumerate(("h2d", "compute", "d2h")):
        ends |= {f"start_{name}": moments[at], f"end_{name}": moments[at + 1]}
    return _rows(ends)


def _traced(trace: Trace) -> list[InferenceTimes]:
    """The judged inferences of the trace: from the first to the last of their copies and kernels."""
    run = Run.of(trace)
    requests, work = run.requests, run.work
    chosen = requests.judged & requests.worked
    if not chosen.any():
        return []
    ends: dict[str, Ints] = {}
    for name, kinds in (("h2d", ("h2d",)), ("compute", ("kernel", "graph")), ("d2h", ("d2h",))):
        mine = work.kind.among(*kinds) & (work.inference >= 0)
        ends[f"start_{name}"], ends[f"end_{name}"] = _ends(work.inference, work.start, work.end, mine, len(requests))
    calls = trace.table("enqueues", ["inference", "start_ns", "end_ns"])
    of = ints(calls["inference"])
    first, last = _ends(of, ints(calls["start_ns"]), ints(calls["end_ns"]), of >= 0, len(requests))
    ends |= {"start_enqueue": first, "end_enqueue": last}
    begin = int(requests.start[chosen].min())
    return _rows({name: np.where(times >= 0, times - begin, -1)[chosen] for name, times in ends.items()})


def _ends(of: Any, start: Ints, end: Ints, mine: Bools, count: int) -> tuple[Ints, Ints]:
    """First start and last end of what belongs to each of `count` inferences; -1 where nothing does."""
    far = np.iinfo(np.int64).max
    first, last = np.full(count, far), np.full(count, -1)
    np.minimum.at(first, of[mine], start[mine])
    np.maximum.at(last, of[mine], end[mine])
    return np.where(first == far, -1, first), last


def _rows(ends: dict[str, Ints]) -> list[InferenceTimes]:
    """Moments in ns, shape (n,), -1 for none, as rows; how long a stage took is the difference of its two."""
    names = list(ends)
    rows = []
    for values in zip(*(times.tolist() for times in ends.values()), strict=True):
        at = dict(zip(names, values, strict=True))
        took = {
            f"{name}_ms": (at[f"end_{name}"] - at[f"start_{name}"]) / _NS if at[f"start_{name}"] >= 0 else 0.0
            for name in ("h2d", "compute", "d2h")
        }
        moments = {f"{name}_ms": value / _NS for name, value in at.items() if value >= 0}
        rows.append(InferenceTimes(**moments, **took, latency_ms=sum(took.values())))
    return rows


def _measured(trace: Trace) -> Profile | None:
    """What TensorRT's own profiler measured."""
    rows = trace.table("layer_times").to_pylist()
    if not rows:
        return None
    whole = max(sum(row["total_ns"] or 0 for row in rows), 1)

    def ms(value: int | None) -> float | None:
        return None if value is None else value / _NS

    layers = [
        LayerTimes(
            row["name"], ms(row["total_ns"]), ms(row["average_ns"]), ms(row["median_ns"]),
            100 * (row["total_ns"] or 0) / whole,
        )
        for row in rows
    ]  # fmt: skip
    return Profile(rows[0]["inferences"], layers)


def _by_trace(trace: Trace) -> Profile | None:
    """What the layers took in the judged inferences, in the engine's order where that is known."""
    taken = traced_layers(trace)
    if not taken:
        return None
    listed = [name for name in trace.table("layers", ["name"])["name"].to_pylist() if name in taken]
    names = [*dict.fromkeys(listed), *(name for name in taken if name not in set(listed))]
    whole = max(sum(int(times.sum()) for times in taken.values()), 1)
    count = max(len(times) for times in taken.values())
    return Profile(
        count,
        [
            LayerTimes(
                name,
                int(taken[name].sum()) / _NS,
                float(taken[name].mean()) / _NS,
                float(np.median(taken[name])) / _NS,
                100 * int(taken[name].sum()) / whole,
            )
            for name in names
        ],
    )


def _layer(row: dict[str, Any]) -> dict[str, Any]:
    """A row of `layers` as the engine inspector writes it."""
    known = {"LayerType": row["type"], "TacticName": row["tactic"], "Metadata": row["metadata"]}
    ends = {
        name: [_tensor(tensor) for tensor in tensors(row[name.lower()])]
        for name in ("Inputs", "Outputs")
        if row[name.lower()] is not None
    }
    rest = json.loads(row["attributes"]) if row["attributes"] else {}
    return {
        "Name": row["name"],
        **{name: value for name, value in known.items() if value is not None},
        **ends,
        **rest,
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    both = " ".join(filter(None, (tensor.format, tensor.dtype)))
    shape = {} if tensor.shape is None else {"Dimensions": list(tensor.shape)}
    return {"Name": tensor.name, **shape, **({"Format/Datatype": both} if both else {})}
