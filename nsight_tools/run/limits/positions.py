"""The GPU work of a request by position: the same kernel or copy in every request of a population."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import Bools, Ints, ints, words
from nsight_tools.timeline.attribution import Words, joint_key

if TYPE_CHECKING:
    from nsight_tools.run import Run
    from nsight_tools.timeline.intervals import IntArray


@dataclass(frozen=True)
class Positions:
    """Kernels, copies and sets of the judged requests on one GPU, and which position each has; in order of start.

    `row` (rows of `Run.work`), `start`, `end`, `before`, `after`, `request` (counted from 0) and `of` have the shape
    (works,); all others the shape (positions,), in the order in which they usually start: `name` (a copy's is its kind,
    as d2d), `copies`, `layer`, and `time` in nanoseconds a request. `before` is when the work before it on its stream
    ended, and `after` when the next one starts: a kernel that is launched early (programmatic dependent launch) starts
    before the one before has ended, and waits for it.
    """

    row: IntArray
    start: Ints
    end: Ints
    before: Ints
    after: Ints
    request: IntArray
    of: IntArray
    requests: int
    name: Words
    copies: Bools
    layer: Words
    time: Ints
    alike: Ints
    """The same number: the same kernel with the same grid, blocks and shared memory."""

    def __len__(self) -> int:
        return len(self.time)

    @cached_property
    def overlap(self) -> Ints:
        """For how long of `time` others of the same stream run, too."""
        both = np.maximum(self.before - self.start, 0) + np.maximum(self.end - self.after, 0)
        both = np.minimum(both, self.end - self.start)
        return np.bincount(self.of, both, len(self)).astype(np.int64) // max(self.requests, 1)

    @classmethod
    def of_run(cls, run: Run, device: int) -> Positions:
        """Those of a GPU. A position is a layer and a kernel's name, and which of them it is in its request."""
        work = run.work
        row = np.flatnonzero(run.judged_work & (work.device == device) & ~work.kind.among("graph"))
        start, end = work.start[row], work.end[row]
        inference = work.inference[row]
        lowest = int(inference.min()) if row.size else 0
        seen = np.flatnonzero(np.bincount(inference - lowest)) + lowest if row.size else np.zeros(0, np.int64)
        request = np.searchsorted(seen, inference)
        name, copies = _names(run, row)
        layer = words(run.trace.table("launches", ["layer"])["layer"])[row]
        kinds, kind = np.unique(joint_key(layer.codes.astype(np.int64) + 1, name.codes), return_inverse=True)
        kind = kind.reshape(-1)
        # Which of its kind each is in its request: by order of start, as the rows are.
        lane = request.astype(np.int64) * max(kinds.size, 1) + kind
        order = np.argsort(lane, kind="stable")
        begins = np.flatnonzero(np.append(True, np.diff(lane[order]) != 0)) if row.size else np.zeros(0, np.int64)
        turn = np.empty(row.size, np.int64)
        turn[order] = np.arange(row.size) - np.repeat(begins, np.diff(np.append(begins, row.size)))
        _, first, of = np.unique(joint_key(kind, turn), return_index=True, return_inverse=True)
        of = of.reshape(-1)
        began = np.full(seen.size, np.iinfo(np.int64).max)
        np.minimum.at(began, request, start)
        usual = np.bincount(of, start - began[request]) / np.bincount(of) if row.size else np.zeros(0)
        rank = np.argsort(usual, kind="stable")
        place = np.empty(rank.size, np.int64)
        place[rank] = np.arange(rank.size)
        time = np.bincount(of, end - start)[rank] / max(seen.size, 1) if row.size else np.zeros(0)
        return cls(
            row,
            start,
            end,
            *_beside(joint_key(work.pid[row], work.stream[row]), start, end),
            request,
            place[of],
            int(seen.size),
            name[first[rank]],
            copies[first[rank]],
            layer[first[rank]],
            np.round(time).astype(np.int64),
            _alike(run, work.row[row[first[rank]]], copies[first[rank]]),
        )


def _beside(stream: Ints, start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """When the one before each work on its stream ended, and when the next one starts: (works,), in order of start.

    Its own start and end where there is none.
    """
    order = np.lexsort((start, stream))
    one, other = order[:-1], order[1:]
    same = stream[one] == stream[other]
    before, after = start.copy(), end.copy()
    before[other[same]], after[one[same]] = end[one[same]], start[other[same]]
    return before, after


def _names(run: Run, row: IntArray) -> tuple[Words, Bools]:
    """What each of these works is called, and which are copies or sets: both of shape (works,)."""
    work = run.work
    kernels = words(run.trace.table("kernels", ["name"])["name"])
    copies = work.moves[row]
    codes = work.kind.codes[row].astype(np.int64) + len(kernels.dictionary)
    codes[~copies] = kernels.codes[work.row[row[~copies]]]
    return Words(codes, [*kernels.dictionary, *work.kind.dictionary]), copies


def _alike(run: Run, own_row: IntArray, copies: Bools) -> Ints:
    """A number for each of these works, by its row in its table: the same for kernels launched in the same way."""
    sizes = [f"{what}_{axis}" for what in ("grid", "block") for axis in "xyz"]
    table = run.trace.table("kernels", ["name", *sizes, "dynamic_shared_memory_bytes"])
    kernel = own_row[~copies]
    columns = [words(table["name"]).codes[kernel].astype(np.int64)]
    columns += [ints(table[name])[kernel] for name in table.column_names[1:]]
    kinds = np.arange(own_row.size) + own_row.size  # each copy is alone
    kinds[~copies] = np.unique(np.stack(columns), axis=1, return_inverse=True)[1].reshape(-1)
    return np.unique(kinds, return_inverse=True)[1].reshape(-1)
