"""What waits for CUDA events are for, of streams and of the host: the latest record of the event before each wait.

A wait is for all that the record's stream was given before it, of which the last is named. What that stream was itself
told to wait for is not followed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import Bools, Ints, ints, words
from nsight_tools.timeline.attribution import joint_key, match_calls

if TYPE_CHECKING:
    from nsight_tools.run.recorded import Recorded
    from nsight_tools.timeline.intervals import IntArray

UNKNOWN = -1
"""What a wait is for, where the trace does not say it."""
NOTHING = -2
"""A wait for an event before whose record its stream had no work."""


@dataclass(frozen=True)
class Waits:
    """Waits for events as arrays of shape (n,), in order of start, and queries that found their event done."""

    start: Ints
    stream: Ints
    """The stream that waits, a key as `place` makes it; of a wait of the host, -1."""
    call: Ints
    """Row of its call in `api_calls`, -1 where it is not in the report."""
    record: Ints
    """Row of the record in `event_records`, UNKNOWN where none is known."""
    behind: Ints
    """Row of the last of all work that this stream was given before, or UNKNOWN, or NOTHING."""


class Events:
    """The events of a run; everything is worked out when first asked for."""

    def __init__(self, run: Recorded) -> None:
        self._run = run

    @cached_property
    def waits(self) -> Waits:
        """All waits for events, of streams and of the host."""
        trace, work = self._run.trace, self._run.work
        columns = ["start_ns", "pid", "device", "stream", "correlation_id", "kind", "event_id"]
        table = trace.table("synchronizations", columns)
        kind = words(table["kind"])
        table = table.filter(kind.among("event", "stream_wait"))
        start, pid, device, stream, correlation, event = (ints(table[name]) for name in columns if name != "kind")
        by_stream = words(table["kind"]).among("stream_wait")
        recorded = {
            name: trace.numbers("event_records", name) for name in ("time_ns", "pid", "device", "stream", "event_id")
        }
        on = place(recorded["pid"], recorded["device"], recorded["stream"])
        record = _latest(
            joint_key(pid, event), start, joint_key(recorded["pid"], recorded["event_id"]), recorded["time_ns"]
        )
        called = np.flatnonzero(work.call_start >= 0) if len(on) else np.zeros(0, np.int64)
        stream_of_call = place(work.pid[called], work.device[called], work.stream[called])
        last = _latest(on, recorded["time_ns"], stream_of_call, work.call_start[called])
        given = np.append(np.where(last >= 0, np.append(called, 0)[last], NOTHING), UNKNOWN)
        return Waits(
            start,
            np.where(by_stream, place(pid, device, stream), -1),
            self._calls(pid, correlation),
            record,
            given[record],
        )

    def _calls(self, pid: Ints, correlation: Ints) -> Ints:
        """Rows of these calls in `api_calls`, -1 where they are not there."""
        calls = self._run.calls
        rows = np.flatnonzero(calls.does.among("wait", "stream_wait", "query"))
        theirs = self._run.trace.numbers("api_calls", "correlation_id")[rows]
        return np.append(rows, -1)[match_calls(pid, correlation, calls.pid[rows], theirs)]

    @cached_property
    def recorded(self) -> bool:
        """Whether the trace says where any event was recorded."""
        return self._run.trace.rows("event_records") > 0

    @cached_property
    def told_streams(self) -> bool:
        """Whether the trace says of any stream that it was told to wait."""
        return bool((self.waits.stream >= 0).any())

    def of_call(self, call: IntArray) -> Ints:
        """The row of the work that each of these rows of `api_calls` waits for; UNKNOWN or NOTHING as in `Waits`."""
        host = np.flatnonzero((self.waits.stream < 0) & (self.waits.call >= 0))
        host = host[np.argsort(self.waits.call[host], kind="stable")]
        theirs = np.append(self.waits.call[host], -1)
        at = np.minimum(np.searchsorted(theirs[:-1], call), host.size)
        return np.where(theirs[at] == call, np.append(self.waits.behind[host], UNKNOWN)[at], UNKNOWN)

    def of_stream(self, stream: Ints, since: Ints, until: Ints) -> tuple[Bools, Ints]:
        """Whether each stream (as `place` makes it) was told in `[since, until)` to wait for work, and for which.

        The latter is the row of what ends last of it, or UNKNOWN. Both of shape (n,).
        """
        waits = self.waits
        (rows,) = np.nonzero((waits.stream >= 0) & (waits.behind != NOTHING))
        rows = rows[np.argsort(waits.stream[rows], kind="stable")]
        key, start, behind = (np.append(column[rows], -1) for column in (waits.stream, waits.start, waits.behind))
        ends = np.append(self._run.work.end, np.iinfo(np.int64).min)
        at = _latest(stream, until, key[:-1], start[:-1])
        told, source = np.zeros(len(at), np.bool_), np.full(len(at), UNKNOWN)
        while (mine := (at >= 0) & (key[at] == stream) & (start[at] >= since)).any():
            source = np.where(mine & (ends[behind[at]] > ends[source]), behind[at], source)
            told |= mine
            at = np.where(mine, at - 1, -1)
        return told, source


def place(pid: IntArray, device: IntArray, stream: IntArray) -> Ints:
    """A key for a stream of a process on a GPU, not below 0 where all are known; shape (n,)."""
    return joint_key(np.asarray(pid, np.int64) * 256 + device, stream)


def _latest(key: Ints, time: Ints, their_key: Ints, their_time: Ints) -> Ints:
    """The last of theirs with the same key and an earlier time, shape (n,); -1 where there is none."""
    keys, times = np.concatenate([key, their_key]), np.concatenate([time, their_time])
    order = np.lexsort((times, keys))  # stable: of the same time ours comes first, and theirs in their order
    theirs = order >= len(key)
    last = np.maximum.accumulate(np.where(theirs, np.arange(len(order)), -1))
    same = (last >= 0) & (keys[order] == keys[order[last]])
    latest = np.full(len(keys), -1)
    latest[order] = np.where(same, order[last] - len(key), -1)
    return latest[: len(key)]
