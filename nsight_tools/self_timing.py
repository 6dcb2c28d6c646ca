"""Times of a program's own inferences, taken by the program itself while no profiler runs.

Where the environment names a file in NSIGHT_TOOLS_TIMES, `inference()` and its phases note when they begin and end, by
the host's clock, and by CUDA events where the program hands its stream over. All of it is kept in memory, and written
at the process's end, or when there is no room for more: what comes after that is not timed. `%p` in the name stands for
the process's number, for a program of several.

    {"nsight_tools_times": 1, "pid": 12, "full": false, "events": null, "columns": {"number": [0, 1], …}}

`events` is true where CUDA events were recorded, and a text where a stream was handed over but none could be. Columns
are those of table `benchmark`; what was not measured is null.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
from functools import lru_cache
from pathlib import Path
from threading import get_ident
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from nsight_tools.cuda_events import Events, NoEventsError, handle_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from typing_extensions import Self

VARIABLE = "NSIGHT_TOOLS_TIMES"
FORMAT = "nsight_tools_times"
VERSION = 1
COLUMNS = ("number", "start_ns", "wall_ns", "enqueue_ns", "gpu_ns", "h2d_ns", "compute_ns", "d2h_ns", "thread")
ROOM = 50_000
"""Inferences that are kept, 20 MB of memory: a median of so many is known to a hundredth of their spread."""
ROOM_FOR_EVENTS = 20_000
"""CUDA events that are kept."""
ON_GPU = {"h2d": "h2d_ns", "enqueue": "compute_ns", "compute": "compute_ns", "d2h": "d2h_ns"}
"""Phases around which events are recorded, and what the time between them is."""

Phase = tuple[str, int, int, int, int]
"""Name, begin and end by the host's clock, and its two events, 0 for none."""
Row = tuple[int, int, int, int, tuple[Phase, ...], tuple[int, int]]
"""An inference's number, begin and end, its thread, its phases and events: nothing that Python's collector looks at."""
if TYPE_CHECKING:
    Marked = Callable[[str, int | None], AbstractContextManager[Any]]
    """What makes the range of a name, with a payload."""


class Recorder:
    """The times of one process, and the file that they go to."""

    def __init__(self, path: Path, room: int = ROOM) -> None:
        self._path, self._pid, self._room = path, os.getpid(), room
        self._rows: list[Row] = []
        self._lock = threading.Lock()
        self._events: Events | None = None
        self._said: str | bool | None = None
        self._recorded = 0
        self.full = False
        _at_the_end(self.write)

    def add(self, row: Row) -> None:
        """Keep an inference that has ended."""
        self._rows.append(row)
        if len(self._rows) >= self._room or self._recorded >= ROOM_FOR_EVENTS:
            self.write(full=True)

    def handle(self, stream: object) -> int | None:
        """The number of a stream on which events can be recorded; None where none can, which the file then says."""
        try:
            self._of_process().prepare()
            return handle_of(stream)
        except NoEventsError as error:
            self._said = str(error)
            return None

    def event(self, stream: int) -> int:
        """Record an event; 0 where the driver refuses."""
        try:
            event = self._of_process().record(stream)
        except NoEventsError as error:
            self._said = str(error)
            return 0
        self._recorded += 1
        return event

    def event_if_busy(self, stream: int) -> int:
        """The same where the stream still works: the inference did not wait for it."""
        return self.event(stream) if self._of_process().busy(stream) else 0

    def _of_process(self) -> Events:
        if self._events is None:
            self._events = Events.of_process()
        return self._events

    def write(self, *, full: bool = False) -> None:
        """Write the file, whole or not at all, once; a process that was forked off leaves it alone."""
        with self._lock:
            if self.full or self._pid != os.getpid() or not self._rows:
                return
            self.full = True
            text = json.dumps(
                {
                    FORMAT: VERSION,
                    "pid": self._pid,
                    "full": full,
                    "events": self._said or (True if self._recorded else None),
                    "columns": self._columns(),
                }
            )
            partial = self._path.with_name(f"{self._path.name}.partial")
            try:
                partial.write_text(text + "\n", encoding="ascii")
                partial.replace(self._path)
            except OSError as error:  # the program's own work is done all the same
                sys.stderr.write(f"nsight-tools: {self._path}: times cannot be written: {error.strerror}\n")
            if isinstance(self._said, str):
                sys.stderr.write(f"nsight-tools: no CUDA events, times by the host's clock alone: {self._said}\n")
            self._rows.clear()

    def _columns(self) -> dict[str, list[int | None]]:
        if self._events is not None:
            self._events.enter()
        rows = [_times(row, self._between) for row in list(self._rows)]
        return {name: [row.get(name) for row in rows] for name in COLUMNS}

    def _between(self, first: int, second: int) -> int | None:
        return self._events.between(first, second) if self._events is not None and first and second else None


def _times(row: Row, between: Callable[[int, int], int | None]) -> dict[str, int | None]:
    """What an inference took, by column; `between` gives the time between two events, or None."""
    number, start, end, thread, phases, events = row
    whole = between(*events)
    wall = end - start if whole is None else max(whole, end - start)
    found: dict[str, int | None] = {"number": number, "start_ns": start, "wall_ns": wall, "thread": thread}
    enqueues = [until - since for name, since, until, _, _ in phases if name == "enqueue"]
    found["enqueue_ns"] = sum(enqueues) if enqueues else None
    worked = [phase for phase in phases if phase[3] and phase[4]]
    for name in dict.fromkeys(ON_GPU.values()):
        took = [between(*phase[3:]) for phase in worked if ON_GPU[phase[0]] == name]
        known = [each for each in took if each is not None]
        found[name] = sum(known) if took and len(known) == len(took) else None
    found["gpu_ns"] = between(worked[0][3], worked[-1][4]) if worked else None
    return found


def _at_the_end(work: Any) -> None:
    """Do it when the process ends: those of `multiprocessing` end without what `atexit` was told."""
    util = sys.modules.get("multiprocessing.util")
    process = sys.modules.get("multiprocessing.process")
    if util is not None and process is not None and process.parent_process() is not None:
        util.Finalize(None, work, exitpriority=1)
    else:
        atexit.register(work)


@lru_cache(maxsize=1)
def recorder() -> Recorder | None:
    """That of this process; None where the environment asks for no times."""
    path = os.environ.get(VARIABLE)
    return Recorder(Path(path.replace("%p", str(os.getpid())))) if path else None


os.register_at_fork(after_in_child=recorder.cache_clear)


class _UnderWay(threading.local):
    one: Timed | None = None


_under_way = _UnderWay()


def under_way() -> Timed | None:
    """The inference that is timed on this thread now."""
    return _under_way.one


class Timed:
    """One inference that is timed: two reads of the clock, beside the range around it."""

    __slots__ = (
        "_around",
        "_end",
        "_events",
        "_marked",
        "_number",
        "_outer",
        "_phases",
        "_recorder",
        "_start",
        "_stream",
    )

    def __init__(self, marked: Marked, name: str, number: int, to: Recorder, stream: object | None = None) -> None:
        self._marked, self._around, self._recorder, self._number = marked, marked(name, number), to, number
        self._stream = None if stream is None else to.handle(stream)
        self._phases: list[Phase] = []
        self._events = (0, 0)

    def __enter__(self) -> Self:
        self._outer, _under_way.one = _under_way.one, self
        self._around.__enter__()
        if self._stream is not None:
            self._events = (self._recorder.event(self._stream), 0)
        self._start = perf_counter_ns()
        return self

    def __exit__(self, *error: object) -> None:
        self._end = perf_counter_ns()
        if self._stream is not None:
            self._events = (self._events[0], self._recorder.event_if_busy(self._stream))
        self._around.__exit__(None, None, None)
        _under_way.one = self._outer
        if error[0] is None and self._outer is None and not self._recorder.full:
            phases = tuple(self._phases)
            self._recorder.add((self._number, self._start, self._end, get_ident(), phases, self._events))

    def phase(self, name: str) -> TimedPhase:
        """A part of it by name."""
        return TimedPhase(self, name, self._marked(name, None))

    def event(self, phase: str) -> int:
        """An event on its stream at an end of this phase; 0 for none."""
        return self._recorder.event(self._stream) if self._stream is not None and phase in ON_GPU else 0

    def add(self, phase: Phase) -> None:
        """Keep a phase that has ended."""
        self._phases.append(phase)


class TimedPhase:
    """A phase of an inference that is timed."""

    __slots__ = ("_around", "_begin", "_first", "_name", "_of")

    def __init__(self, of: Timed, name: str, around: AbstractContextManager[Any]) -> None:
        self._of, self._name, self._around = of, name, around

    def __enter__(self) -> None:
        self._around.__enter__()
        self._first = self._of.event(self._name)
        self._begin = perf_counter_ns()

    def __exit__(self, *error: object) -> None:
        end = perf_counter_ns()
        self._of.add((self._name, self._begin, end, self._first, self._of.event(self._name)))
        self._around.__exit__(None, None, None)
