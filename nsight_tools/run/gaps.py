"""Idle stretches of a GPU between the kernels of an inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools.cuda_names import STALLS, WAITS, CallKind
from nsight_tools.timeline.accelerator import HOLE_NS
from nsight_tools.timeline.intervals import Growing, IntArray, Intervals, only_distinct, pieces, reaches

if TYPE_CHECKING:
    import numpy.typing as npt

    from nsight_tools.columns import Bools, Ints
    from nsight_tools.run.recorded import Recorded
    from nsight_tools.run.work import Work

DEPENDENCY_NS = 1_000
"""Between dependent kernels of a stream, launched one by one: 1.0 to 1.1 µs on an H200."""
PAUSE_NS = 50_000
"""From one launch to the next TensorRT takes the host 5 to 15 µs (NVIDIA), an eager framework 15 to 50 µs: who takes
longer did something else."""
PAUSE_TIMES = 10
"""And longer than so many times what the thread usually takes: a slow thread, as Python's, launches slowly."""
ENOUGH = 20
"""Gaps of which a median says something."""


@dataclass(frozen=True)
class Gaps:
    """Idle stretches of a GPU between the kernels of an inference, shape (n,), by GPU in order of time.

    `host` where the launch call of the work that ends it had not returned when it began; `paused` where its thread did
    something else before that call than launch, as to wait or allocate. `graph` where a CUDA graph launched that work.
    """

    start: Ints
    end: Ints
    host: Bools
    paused: Bools
    graph: Bools
    inference: IntArray

    @property
    def length(self) -> Ints:
        return self.end - self.start

    @property
    def hole(self) -> Bools:
        """Long gaps before work that had been launched: it waits for something, and not for its turn."""
        is_hole: Bools = ~self.host & (self.length > HOLE_NS)
        return is_hole

    @property
    def least(self) -> int:
        """How long a gap between dependent kernels is in this trace: none gets shorter but in a CUDA graph."""
        dependent = self.length[~self.host & ~self.graph]
        if dependent.size < ENOUGH:
            return DEPENDENCY_NS
        return min(int(np.median(dependent, overwrite_input=True)), 2 * DEPENDENCY_NS)


def gaps(run: Recorded) -> Gaps:
    """The gaps of all GPUs; see `Gaps`."""
    parts = [gaps_of(run.work, run.judged_work, rows) for rows in by_device(run.work)]
    if not parts:
        none = np.zeros(0, np.int64)
        return Gaps(none, none, none > 0, none > 0, none > 0, none)
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts[1:] else parts[0]
    host, call = columns["host"], columns["call"]
    graph, paused = np.zeros(len(host), np.bool_), np.zeros(len(host), np.bool_)
    graphs = run.calls.kind == CallKind.GRAPH_LAUNCH
    if graphs.any():
        graph = graphs[call] & (call >= 0)
    rows = np.flatnonzero(host)
    paused[rows] = _paused(run, call[rows])
    return Gaps(columns["start"], columns["end"], host, paused, graph, columns["inference"])


def _paused(run: Recorded, call: IntArray) -> Bools:
    """Whether each call's thread did something else before it than launch and copy, shape (n,).

    It waited, allocated, loaded or built something; or it had launched nothing for `PAUSE_NS`, and for `PAUSE_TIMES`
    what it usually takes from one launch to the next; or the call itself takes as much longer than usual, as one that
    waits for the driver, which another thread holds.
    """
    calls = run.calls
    works = np.isin(calls.kind, (CallKind.LAUNCH, CallKind.GRAPH_LAUNCH, CallKind.COPY))
    others = calls.does.among(*STALLS, *WAITS)
    paused = np.zeros(len(call), np.bool_)
    for pid, tid in run.threads:
        rows = np.flatnonzero(works & (calls.pid == pid) & (calls.tid == tid))
        if not rows.size:  # its work was launched by calls of no known kind
            continue
        so_far = np.cumsum(others & (calls.pid == pid) & (calls.tid == tid))
        length = float(np.median(calls.end[rows] - calls.start[rows]))
        usual = float(np.median(calls.start[rows[1:]] - calls.end[rows[:-1]])) if rows.size > 1 else 0.0
        for piece in pieces(len(call)):
            mine = np.flatnonzero((calls.pid[call[piece]] == pid) & (calls.tid[call[piece]] == tid))
            calls_of_pieces = call[piece][mine]
            before = np.searchsorted(rows, calls_of_pieces) - 1
            last = rows[np.maximum(before, 0)]
            since = calls.start[calls_of_pieces] - calls.end[last]
            did = (since > max(PAUSE_NS, PAUSE_TIMES * usual)) | (so_far[calls_of_pieces] > so_far[last])
            did |= calls.end[calls_of_pieces] - calls.start[calls_of_pieces] > max(PAUSE_NS, PAUSE_TIMES * length)
            paused[piece][mine] = (before >= 0) & did
    return paused


def by_device(work: Work) -> list[Ints | slice]:
    """The rows of each GPU's work."""
    devices = only_distinct(work.device)
    return [slice(None)] if len(devices) == 1 else [np.flatnonzero(work.device == device) for device in devices]


def gaps_of(work: Work, judged: Bools, rows: Ints | slice) -> dict[str, npt.NDArray[Any]]:
    """Gaps of one GPU between the kernels of `judged` inferences, in order of time; `rows` are all its work."""
    start, end, inference = work.start[rows], work.end[rows], np.where(judged[rows], work.inference[rows], -1)
    call, call_end, computes = work.api_call[rows], work.call_end[rows], work.computes[rows]
    spans = _spans(inference, start, end, computes)
    types = {"start": np.int64, "end": np.int64, "host": np.bool_, "call": np.int32, "inference": np.int32}
    gaps = {name: Growing(len(start), dtype) for name, dtype in types.items()}
    latest = -1  # inference of the kernel that started last
    for piece, before in reaches(end):
        # The first work of all has nothing before it.
        after = np.flatnonzero(start[piece] > before)[int(piece.start == 0) :]
        # An inference's span begins and ends with a kernel: a gap lies in it as a whole or not at all.
        after = after[spans.contains(before[after])]
        mine = np.flatnonzero((inference[piece] >= 0) & computes[piece])
        owners = np.append(latest, inference[piece][mine])
        whose = inference[piece][after]
        # Where somebody else's work ends the gap, it is the inference's that ran last.
        whose = np.where(whose < 0, owners[np.searchsorted(mine, after)], whose)
        latest = int(owners[-1])
        called = call[piece][after]
        host = (called >= 0) & (call_end[piece][after] > before[after])
        columns = (before[after], start[piece][after], host, called, whose)
        for column, values in zip(gaps.values(), columns, strict=True):
            column.append(values)
    return {name: column.values for name, column in gaps.items()}


def _spans(inference: IntArray, start: Ints, end: Ints, computes: Bools) -> Intervals:
    """Time from the first start to the last end of any inference's kernels."""
    first = np.full(int(inference.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    last = np.full(len(first), np.iinfo(np.int64).min)
    for piece in pieces(len(inference)):
        mine = np.flatnonzero((inference[piece] >= 0) & computes[piece])
        np.minimum.at(first, inference[piece][mine], start[piece][mine])
        np.maximum.at(last, inference[piece][mine], end[piece][mine])
    there = first <= last
    return Intervals.union(first[there], last[there])
