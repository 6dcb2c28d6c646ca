"""The measured loop. What can be done beforehand is; what can be done afterwards is too.

A thread serves its slots in turn. With one slot an inference is waited for at once, within its range; with several, a
slot's earlier inference is waited for just before the slot is used again, so that others run meanwhile: that wait lies
between two `inference` ranges, since it belongs to an earlier one than the next.

Waiting is for the inference's last event, as trtexec does it: a blocking event (the thread sleeps), or with
--use-spin-wait one that CUDA polls. PyCUDA lets go of the interpreter's lock in both and in copies, TensorRT in the
enqueue.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from .outcome import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .interruption import Interruption
    from .lanes import Slot
    from .ranges import Ranges
    from .samples import Samples


class EnqueueError(Failure):
    """An enqueue or graph launch that returned an error; `log` is filled in by who knows TensorRT's log."""


class Turns:
    """Numbers inferences over all threads, until there were enough of them for long enough, or a stop is asked for."""

    def __init__(self, interruption: Interruption, iterations: int, duration_s: float) -> None:
        self._interruption, self._iterations, self._duration_s = interruption, iterations, duration_s
        self._numbers = itertools.count()
        self._deadline_ns = 0
        self.failed = False

    def begin(self) -> None:
        self._deadline_ns = time.perf_counter_ns() + int(self._duration_s * 1e9)

    def __call__(self) -> int:
        """The next inference's number, or -1 for no more."""
        number = next(self._numbers)
        if self.failed or self._interruption.requested:
            return -1
        if number >= self._iterations and time.perf_counter_ns() >= self._deadline_ns:
            return -1
        return number


def serve(  # noqa: C901 (one inference in one piece: every call more is time more)
    slots: Sequence[Slot],
    samples: Samples,
    turn: Callable[[], int],
    *,
    ranges: Ranges | None = None,
    sleep_s: float = 0,
) -> None:
    """Run inferences on a thread's slots until there are no more turns, and wait for the last ones.

    What is measured stays in `samples`, whose events are read when it is asked for its columns.
    """
    clock, depth, last_row = time.perf_counter_ns, len(slots), samples.rows
    number, started, stream = samples.number, samples.started, samples.stream
    enqueued_from, enqueued_to, ended, all_events = (
        samples.enqueued_from, samples.enqueued_to, samples.ended, samples.events,
    )  # fmt: skip

    def wait(row: int) -> None:
        if ranges:
            ranges.push(ranges.synchronize)
        all_events[row][-1].synchronize()
        if ranges:
            ranges.pop()
        ended[row] = clock()

    row = 0
    while (turned := turn()) >= 0:
        if row == last_row:
            _pause(samples, row, depth, wait)
            row = 0
        if row >= depth > 1:
            wait(row - depth)
        slot, events = slots[row % depth], all_events[row]
        number[row], stream[row] = turned, slot.lane
        started[row] = clock()
        if ranges:
            ranges.inference.payload = turned
            ranges.push(ranges.inference)
        slot.before(events, ranges)
        if ranges:
            ranges.push(ranges.enqueue)
        enqueued_from[row] = clock()
        worked = slot.enqueue()
        enqueued_to[row] = clock()
        if ranges:
            ranges.pop()
        if not worked:
            raise EnqueueError(
                f"inference {turned} could not be enqueued", hint="run with --verbose for TensorRT's log"
            )
        slot.after(events, ranges)
        if depth == 1:
            wait(row)
        if ranges:
            ranges.pop()
        row += 1
        if sleep_s:
            time.sleep(sleep_s)
    _finish(row, depth, wait)
    samples.filled = row


def _finish(rows: int, depth: int, wait: Callable[[int], None]) -> None:
    if depth > 1:
        for row in range(max(rows - depth, 0), rows):
            wait(row)


def _pause(samples: Samples, rows: int, depth: int, wait: Callable[[int], None]) -> None:
    """Read out full samples in mid-run; the time it takes is not the run's."""
    began = time.perf_counter_ns()
    _finish(rows, depth, wait)
    samples.filled = rows
    samples.collect()
    samples.paused_ns += time.perf_counter_ns() - began
