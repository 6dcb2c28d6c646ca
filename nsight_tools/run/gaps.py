"""Idle stretches of a GPU between the kernels of an inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools.timeline.intervals import Growing, IntArray, Intervals, only_distinct, pieces, reaches

if TYPE_CHECKING:
    import numpy.typing as npt

    from nsight_tools.columns import Bools, Ints
    from nsight_tools.run.work import Work


HOLE_NS = 50_000
"""Submitted work starts within 5 to 20 us, as traces of three GPU generations show; what takes longer waits for
something. Twice as much would hide waits for a small accelerator, half as much call launch latency a wait."""


@dataclass(frozen=True)
class Gaps:
    """Idle stretches of a GPU between the kernels of an inference, shape (n,), ordered by GPU, inference and time.

    `host` where the launch call of the work that ends it had not returned when it began; `paused` where its thread did
    something else before that call than launch, as to wait or allocate. `graph` where a CUDA graph
    launched that work; `call` its row in `api_calls`, -1 where unknown; `lane` numbers the inferences of a GPU.
    """

    start: Ints
    end: Ints
    lane: IntArray
    host: Bools
    paused: Bools
    graph: Bools
    call: IntArray
    inference: IntArray

    @property
    def length(self) -> Ints:
        return self.end - self.start

    @property
    def hole(self) -> Bools:
        """Long gaps before work that had been launched: it waits for something, and not for its turn."""
        found: Bools = ~self.host & (self.length > HOLE_NS)
        return found


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
        found = (before[after], start[piece][after], host, called, whose)
        for column, values in zip(gaps.values(), found, strict=True):
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
