"""Evaluates a program once, in the order of its calls, for P sets of assumptions at once.

A thread is a list of calls, a stream and a copy engine a queue each: what starts next starts at the latest of its
bounds (max-plus). Calls between two waits take no notice of the GPU, so that their times are sums; of the work that
they launch on one queue only the last end matters, and that is a maximum over sums. So a request takes a handful of
array operations, however many kernels it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nsight_tools.cuda_names import CallKind
from nsight_tools.worth.assumptions import Assumptions
from nsight_tools.worth.program import KERNEL, NEVER, Program

if TYPE_CHECKING:
    from nsight_tools.worth.ranges import Floats

WARM = 2
"""Requests at the start of a replay that are not counted: those before them are not known, and theirs fill a pipeline
of two, which is what overlapping makes."""
OFF = 0.03
"""A replay whose pace with medians in the place of residuals is farther from the trace's is none of this program."""


@dataclass(frozen=True)
class Replayed:
    """Medians of R requests for each of P sets of assumptions, ns, shape (P,)."""

    wall: Floats
    """From a request's start to its end: on the GPU, or the return of the wait for it, whichever is later."""
    period: Floats
    """From one's end to the next's, on average."""
    compute: Floats
    """To the end of its last kernel, from when the GPU and the host were done with what is before its first: what CUDA
    events around an enqueue measure."""
    kernels: Floats
    """To the end of its last kernel from the start of its first."""
    enqueue: Floats
    """From the return of the call before its first launch to the return of its last, waits in between left out."""
    waited: Floats
    """How long what its last wait is for still ran when that began."""


class _Block(NamedTuple):
    """Steps `[first, last]` that wait for nothing, and their work `[low, high)` on one queue; or one that waits."""

    first: int
    last: int
    low: int
    high: int
    waits: bool


def replay(program: Program, assumed: Assumptions) -> Replayed:
    """How the requests go if the assumptions hold; see `Replayed`."""
    return _Replay(program, assumed).run()


def follows_its_pace(program: Program) -> bool:
    """Whether a replay with what is usual in the place of all residuals goes at the trace's own pace."""
    traced = Assumptions.as_traced()
    real, usual = (replay(variant, traced).period[0] for variant in (program, program.typical()))
    return bool(abs(usual / max(real, 1.0) - 1) <= OFF)


def _blocks(program: Program) -> list[_Block]:
    """The program's steps in blocks, in order."""
    blocks: list[_Block] = []
    bounds = np.searchsorted(program.step, np.arange(len(program.kind) + 1))
    fresh = True
    for step, kind in enumerate(program.kind):
        low, high = int(bounds[step]), int(bounds[step + 1])
        waits = kind == CallKind.SYNC or bool(program.blocking[step])
        if waits:
            blocks.append(_Block(step, step, low, high, waits=True))
            fresh = True
            continue
        last = blocks[-1] if blocks else None
        joins = last is not None and not fresh and (low == high or last.low == last.high)
        if last is not None and not fresh and not joins:
            same = (
                program.queue[low] == program.queue[last.high - 1]
                and program.engine[low] == program.engine[last.high - 1]
            )
            joins = bool(same) and program.after[low] < 0
        if joins and last is not None:
            blocks[-1] = last._replace(last=step, low=low if last.low == last.high else last.low, high=high)
        else:
            blocks.append(_Block(step, step, low, high, waits=False))
        fresh = False
    return blocks


class _Replay:
    """The state of one evaluation: the host's time, and when each queue and engine is free; shape (P,)."""

    def __init__(self, program: Program, assumed: Assumptions) -> None:
        self.program = program
        self.blocks = _blocks(program)
        self.pause, self.length = assumed.host(program)
        self.duration, self.gap = assumed.gpu(program)
        self.deepest = int(program.lag.max(initial=0))
        self.assumed = assumed
        count = assumed.samples
        self.now = np.zeros(count)
        self.free: dict[tuple[str, int, int], Floats] = {}
        self.never = np.full(count, NEVER)
        self.ends: list[Floats] = []
        self.starts: list[Floats] = []
        self.finished: list[Floats] = []
        grows = np.maximum(self.gap + self.duration, 0.0)
        self.so_far = np.cumsum(grows, axis=2)
        self.host = np.cumsum(self.pause + self.length, axis=2)

    def run(self) -> Replayed:
        """Evaluate all requests in order."""
        replayed = [self._request(row) for row in range(self.program.requests)]
        compute, kernels, enqueue, waited = (np.array(column) for column in zip(*replayed, strict=True))
        warm = min(WARM, len(replayed) - 2)
        wall = np.array(self.finished) - np.array(self.starts)
        wall = wall[: max(len(wall) - self.deepest, warm + 1)]
        ends = np.array(self.ends)
        period = (ends[-1] - ends[warm]) / (len(ends) - 1 - warm)
        return Replayed(
            np.median(wall[warm:], axis=0),
            period,
            np.median(compute[warm:], axis=0),
            np.median(kernels[warm:], axis=0),
            np.median(enqueue[warm:], axis=0),
            np.median(waited[warm:], axis=0),
        )

    def _request(self, row: int) -> tuple[Floats, Floats, Floats, Floats]:
        program = self.program
        done, started = self.never, None
        enqueue, waited = np.zeros_like(self.now), np.zeros_like(self.now)
        first, start, last = self.never, self.never, self.never
        for block in self.blocks:
            came = self.now
            if block.first <= program.own <= block.last:
                offset = self.host[:, row, program.own] - self.length[:, row, program.own]
                offset = offset - (self.host[:, row, block.first - 1] if block.first else 0.0)
                started = came + offset - program.begin[row]
            if block.waits:
                done, waited = self._wait(block, row, done)
                continue
            before = np.maximum(done, np.maximum(self.now, self._free(block, row)))
            begun, ended = self._launch(block, row, done)
            if block.high == block.low:
                continue
            done = np.maximum(done, ended)
            if program.engine[block.low] == KERNEL:
                if first is self.never:
                    first, start = np.minimum(begun, before), begun
                last = ended
                enqueue = enqueue + self.now - came
        self.finished.append(np.maximum(self.now + program.rest[row], done))
        self.ends.append(done)
        self.starts.append(came if started is None else started)
        return last - first, last - start, enqueue, waited

    def _stream(self, row: int, work: int) -> tuple[str, int, int]:
        """The stream of a piece of a request's work; requests take turns where there are several of each."""
        return "stream", int(self.program.queue[work]), row % max(self.program.lanes, 1)

    def _free(self, block: _Block, row: int) -> Floats:
        """When the stream of a block's work was free."""
        return self.free.get(self._stream(row, block.low), self.never) if block.high > block.low else self.never

    def _elapsed(self, block: _Block, row: int) -> Floats:
        """From the block's begin to the return of each of its calls, shape (P, steps)."""
        since = self.host[:, row, block.first - 1 : block.first] if block.first else 0.0
        elapsed: Floats = self.host[:, row, block.first : block.last + 1] - since
        return elapsed

    def _launch(self, block: _Block, row: int, done: Floats) -> tuple[Floats, Floats]:
        """Launch a block's work; when its first piece starts and its last one ends."""
        program, elapsed = self.program, self._elapsed(block, row)
        came, self.now = self.now, self.now + elapsed[:, -1]
        low, high = block.low, block.high
        if low == high:
            return self.never, self.never
        called = elapsed[:, program.step[low:high] - block.first]
        reached = came[:, None] + called + self.assumed.latency(program, row, low, high)
        return self._queued(reached, row, low, high, done)

    def _queued(self, reached: Floats, row: int, low: int, high: int, done: Floats) -> tuple[Floats, Floats]:
        """Run work `[low, high)` of one queue that its launches let start at `reached`, shape (P, high - low)."""
        program = self.program
        stream, engine = self._stream(row, low), ("engine", int(program.engine[low]), 0)
        before = self.free.get(stream, self.never)
        if engine[1] != KERNEL:
            before = np.maximum(before, self.free.get(engine, self.never))
        if program.after[low] >= 0:
            before = np.maximum(before, done)
        since = self.so_far[:, row, low - 1 : low] if low else 0.0
        so_far = self.so_far[:, row, low:high] - since
        ends = reached + self.duration[:, row, low:high] - so_far
        ended = so_far[:, -1] + np.maximum(before, ends.max(axis=1))
        begun = np.maximum(reached[:, 0], before + self.gap[:, row, low])
        self.free[stream] = ended
        self.free[engine] = ended
        return begun, ended

    def _wait(self, block: _Block, row: int, done: Floats) -> tuple[Floats, Floats]:
        """Wait for the GPU, or copy and wait; what the request has got done so far, and how long the wait was."""
        program, step = self.program, block.first
        called = self.now + self.pause[:, row, step]
        if program.blocking[step]:
            reached = called[:, None] + self.assumed.latency(program, row, block.low, block.high)
            _, ended = self._queued(reached, row, block.low, block.high, done)
            self.now = np.maximum(ended + program.wake[row, step], called)
            return np.maximum(done, ended), np.zeros_like(called)
        back, earlier, target = int(program.lag[step]), -1, done
        if back or done is self.never:
            back = max(back, 1)
            target = self.ends[-back] if len(self.ends) >= back else self.never
            earlier = len(self.ends) - back
        still = target - called
        wake = self.assumed.wake(program, row, step, still)
        self.now = called + np.where(
            still > 0, np.maximum(still + wake, self.length[:, row, step]), self.length[:, row, step]
        )
        if earlier >= 0:
            self.finished[earlier] = np.maximum(self.finished[earlier], self.now)
        return done, np.maximum(still, 0.0)
