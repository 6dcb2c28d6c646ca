"""Layers that another engine of the chip runs, a DLA: the GPU idles with work submitted to it until one is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.timeline.attribution import joint_key
from nsight_tools.timeline.intervals import BoolArray, Int64Array, IntArray, Intervals

if TYPE_CHECKING:
    from collections.abc import Collection

    from nsight_tools.timeline.attribution import Calls, Ranges, ThreadSpans, Work

DLA = "DLA"
"""The type of such layers in the engine inspector's list and in the payloads of ranges, from TensorRT 8.4 on."""
HOLE_NS = 50_000
"""Submitted work starts within 5 to 20 us, as traces of three GPU generations show; what takes longer waits for
something. Twice as much would hide waits for a small accelerator, half as much call launch latency a wait."""


@dataclass(frozen=True)
class Spans:
    """Ranges of layers, or calls that launch, shape (n,): start, end and thread; ranges in order of start."""

    start: Int64Array
    end: Int64Array
    thread: Int64Array

    def __getitem__(self, rows: IntArray | BoolArray) -> Spans:
        return Spans(self.start[rows], self.end[rows], self.thread[rows])


def behind_a_layer(layers: Spans, launches: Spans, on_gpu: BoolArray, following: Spans) -> BoolArray:
    """Whether a layer that launches nothing stands before each of `following`, and behind the launch before it.

    `launches` are all, of which those `on_gpu` are of the same GPU as `following`; what another thread launches
    meanwhile says nothing of a layer. Shape (following,).
    """
    behind = np.zeros(len(following.start), np.bool_)
    for thread in np.unique(following.thread):
        here, own = following.thread == thread, launches.thread == thread
        ranges = layers[layers.thread == thread]
        every, gpu = np.sort(launches.start[own]), np.sort(launches.start[own & on_gpu])
        start = ranges.start[np.searchsorted(every, ranges.start) == np.searchsorted(every, ranges.end)]
        called = following.start[here]
        before = gpu[np.maximum(np.searchsorted(gpu, called) - 1, 0)]
        behind[here] = np.searchsorted(start, called) > np.searchsorted(start, before)
    return behind


@dataclass(frozen=True)
class Served:
    """Stretches in which a GPU idles while a DLA works, shape (n,), and the row of the work that waits for that."""

    row: IntArray
    start: Int64Array
    end: Int64Array


NOTHING = Served(*(np.zeros(0, np.int64) for _ in range(3)))


def served(names: Collection[str], calls: Calls, work: Work, ranges: Ranges, overhead: ThreadSpans) -> Served:
    """Time in which a GPU waits for layers of these names, those of the engine's list that a DLA runs.

    Work of it was launched `HOLE_NS` ago or more, the range of such a layer stands between that launch and its thread's
    launch before, and the GPU runs nothing at all.
    """
    if not names:
        return NOTHING
    rows = np.flatnonzero(ranges.domain.among("TensorRT") & ranges.name.among(*names))
    called = np.flatnonzero(work.call >= 0)
    if not rows.size or not called.size:
        return NOTHING
    layers = Spans(ranges.start[rows], ranges.end[rows], joint_key(ranges.pid[rows], ranges.tid[rows]))
    call = work.call[called]
    launches = Spans(calls.start[call], calls.end[call], joint_key(calls.pid[call], calls.tid[call]))
    late = work.start[called] - launches.end > HOLE_NS
    stretches = []
    for device in np.unique(work.device[called[late]]):
        on_gpu = work.device[called] == device
        mine = np.flatnonzero(late & on_gpu)
        mine = mine[behind_a_layer(layers, launches, on_gpu, launches[mine])]
        here = work.device == device
        busy = [Intervals.union(work.start[here], work.end[here]), Intervals.union(overhead.start, overhead.end)]
        idle = Intervals.any_of(busy).complement(int(launches.end.min()), int(work.start.max()))
        for at in mine.tolist():
            waits = idle.clip(int(launches.end[at]), int(work.start[called[at]]))
            stretches.append((np.full(len(waits), called[at]), waits.start, waits.end))
    if not stretches:
        return NOTHING
    return Served(*(np.concatenate(column) for column in zip(*stretches, strict=True)))
