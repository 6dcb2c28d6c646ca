"""Idle stretches of a GPU between the kernels of an inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.timeline.intervals import Intervals, distinct

if TYPE_CHECKING:
    from nsight_tools.columns import Bools, Ints
    from nsight_tools.measured import Work


@dataclass(frozen=True)
class Gaps:
    """Idle stretches of a GPU between the kernels of an inference, shape (n,), ordered by GPU, inference and time.

    `host` where the launch call of the work that ends it had not returned when it began; `paused` where its thread had
    launched nothing for `PAUSE_NS` before that call: it did something else. `graph` where a CUDA graph
    launched that work; `call` its row in `api_calls`, -1 where unknown; `lane` numbers the inferences of a GPU.
    """

    start: Ints
    end: Ints
    lane: Ints
    host: Bools
    paused: Bools
    graph: Bools
    call: Ints
    inference: Ints

    @property
    def length(self) -> Ints:
        return self.end - self.start


def only_distinct(keys: Ints) -> Ints:
    """The distinct keys in order; fast where there is one."""
    return keys[:1] if keys.size and (keys == keys[0]).all() else distinct(keys)


def by_device(work: Work) -> list[Ints | slice]:
    """The rows of each GPU's work."""
    devices = only_distinct(work.device)
    return [slice(None)] if len(devices) == 1 else [np.flatnonzero(work.device == device) for device in devices]


def gaps_of(work: Work, rows: Ints | slice) -> dict[str, Ints]:
    """Gaps of one GPU, of which `rows` are all its work, in order of time."""
    start, end, inference = work.start[rows], work.end[rows], work.inference[rows]
    call, call_end = work.api_call[rows], work.call_end[rows]
    reach = np.maximum.accumulate(end)
    after = np.flatnonzero(start[1:] > reach[:-1]) + 1
    mine = (inference >= 0) & work.computes[rows]
    # An inference's span begins and ends with a kernel: a gap lies in it as a whole or not at all.
    spans = _spans(inference[mine], start[mine], end[mine])
    after = after[spans.contains(reach[after - 1])]
    whose = inference[after]
    if (whose < 0).any():  # somebody else's work ends the gap: it is the inference's that ran last
        last = np.maximum.accumulate(np.where(mine, np.arange(len(start)), -1))
        whose = inference[last[after]]
    host = (call[after] >= 0) & (call_end[after] > reach[after - 1])
    return {
        "start": reach[after - 1],
        "end": start[after],
        "host": host,
        "call": call[after],
        "inference": whose,
    }


def _spans(inference: Ints, start: Ints, end: Ints) -> Intervals:
    """Time from the first start to the last end of any inference's kernels."""
    if not inference.size:
        return Intervals.union([], [])
    first = np.full(int(inference.max()) + 1, np.iinfo(np.int64).max)
    last = np.full(len(first), np.iinfo(np.int64).min)
    np.minimum.at(first, inference, start)
    np.maximum.at(last, inference, end)
    there = first <= last
    return Intervals.union(first[there], last[there])
