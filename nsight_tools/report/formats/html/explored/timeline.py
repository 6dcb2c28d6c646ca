"""The timeline of a trace that a page can be explored by: the windows worth a look, packed for the page's script."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools import units
from nsight_tools.report.figures.data import Shown, places
from nsight_tools.report.formats.html.explored.events import NOT_KNOWN, Events, Lane

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nsight_tools.columns import Ints
    from nsight_tools.findings import Evidence, Finding
    from nsight_tools.report.content import TraceReport
    from nsight_tools.trace import Trace

WINDOWS = 8
"""Windows that a page holds: the median, the slowest, and the worst of findings as they come."""
PIECES = 20_000
"""Pieces of one lane that are told one by one; of more, the share of time that is busy."""
OF_ALL = 4_000
"""The same of a lane of the whole run, of which nobody reads one piece."""
ALL_PIECES = 60_000
"""Pieces of a page's timeline, of about 22 bytes each. What comes after these are shares."""
MARGIN = 0.15
"""What is shown on either side of an inference, of its time."""
ROWS = 10
"""Rows that nested calls or ranges of a lane take; deeper ones lie in the last."""


@dataclass
class Window:
    """A part of the run: what it is, where it lies, and what is looked at of it."""

    title: str
    lo: int
    hi: int
    look: tuple[int, int]
    lanes: Sequence[Lane] = ()
    whole: bool = False
    """Whether it is all of the run."""

    def holds(self, lo: int, hi: int) -> bool:
        return self.lo <= lo and hi <= self.hi


@dataclass(frozen=True)
class Look:
    """A place that a finding points to: in which window it lies, and where."""

    window: int
    lo: int
    hi: int
    said: str


@dataclass(frozen=True)
class Timeline:
    """The windows with their lanes, and where each piece of evidence that lies in one is found."""

    windows: Sequence[Window]
    looks: Sequence[Look]
    texts: Sequence[str]
    by_place: dict[tuple[int, int], int]

    def look(self, evidence: Evidence) -> int | None:
        """The number of the look that shows where this was measured; None where it lies in no window."""
        return self.by_place.get((evidence.start_ns, evidence.end_ns)) if evidence.start_ns is not None else None  # type: ignore[arg-type]

    def packed(self) -> dict[str, Any]:
        """All of it as JSON: starts as differences, and a column with one value as that value."""
        return {
            "texts": self.texts,
            "windows": [
                {
                    "title": window.title,
                    "zero": str(window.lo),  # as text: beyond 2**53 a script's numbers are not exact
                    "span": window.hi - window.lo,
                    "look": [time - window.lo for time in window.look],
                    "lanes": [_packed(lane, window.lo) for lane in window.lanes],
                }
                for window in self.windows
            ],
            "looks": [
                [look.window, look.lo - lo, look.hi - lo, look.said]
                for look in self.looks
                for lo in (self.windows[look.window].lo,)
            ],
        }


def timeline(trace: Trace, report: TraceReport) -> Timeline | None:
    """The timeline of a trace; None where nothing of it lies in time."""
    shown, events = Shown.of(trace), Events(trace)
    chosen = _Chosen(shown)
    if not chosen.windows:
        return None
    findings = [finding for cause, following in report.grouped for finding in (cause, *following)]
    for finding in findings:
        chosen.worst(finding)
    for finding in findings:
        chosen.others(finding)
    left = ALL_PIECES
    for window in chosen.windows:
        most = min(OF_ALL if window.whole else PIECES, max(left, 0))
        window.lanes = list(events.lanes(window.lo, window.hi, most))
        left -= sum(len(lane.start) for lane in window.lanes)
    return Timeline(chosen.windows, chosen.looks, events.texts.all, chosen.by_place)


class _Chosen:
    """The windows that are worth a look, in the order in which they were asked for."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self.windows: list[Window] = []
        self.looks: list[Look] = []
        self.by_place: dict[tuple[int, int], int] = {}
        typical = shown.typical
        if typical is not None:
            self._inference(typical, "near the median")
            if (slowest := int(shown.by_wall[-1])) != typical:
                self._inference(slowest, "the slowest that is judged")
        if typical is not None or len(shown.work) or len(shown.wall):
            self._whole()

    def _whole(self) -> None:
        lo, hi = self._shown.span
        self.windows.append(Window(f"The whole run, {units.duration(hi - lo)}", lo, hi, (lo, hi), whole=True))

    def _inference(self, row: int, said: str) -> int:
        start, end = (int(ends[row]) for ends in self._shown.windows)
        title = f"Inference {row}, {said} ({units.duration(end - start)})"
        return self._add(title, start, end, round(MARGIN * (end - start)))

    def _add(self, title: str, lo: int, hi: int, room: int) -> int:
        """A window with as much room on either side; the number of one that holds it already."""
        for at, window in enumerate(self.windows):
            if window.holds(lo, hi) and window.hi - window.lo <= 4 * (hi - lo + 2 * room):
                return at
        self.windows.append(Window(title, lo - room, hi + room, (lo, hi)))
        return len(self.windows) - 1

    def worst(self, finding: Finding) -> None:
        """A window with the worst place of a finding, while there is room for one."""
        place = self._shown.worst_window(finding)
        if place is not None:
            self._look(finding, *place, more=True)

    def others(self, finding: Finding) -> None:
        """Each place of a finding that a window shows."""
        for _, lo, hi in places(finding):
            self._look(finding, lo, hi, more=False)

    def _look(self, finding: Finding, lo: int, hi: int, *, more: bool) -> None:
        if (lo, hi) in self.by_place:
            return
        holding = [at for at, window in enumerate(self.windows) if window.holds(lo, hi)]
        at = min(holding, key=lambda number: self.windows[number].hi - self.windows[number].lo, default=-1)
        if more and len(self.windows) < WINDOWS and (at < 0 or self._is_far(at, lo, hi)):
            at = self._for(finding, lo, hi)
        if at < 0:
            return
        self.by_place[lo, hi] = len(self.looks)
        self.looks.append(Look(at, lo, hi, finding.code))

    def _is_far(self, at: int, lo: int, hi: int) -> bool:
        """Whether a window shows the place only as a speck."""
        window = self.windows[at]
        return window.whole and hi - lo < 0.5 * (window.hi - window.lo)

    def _for(self, finding: Finding, lo: int, hi: int) -> int:
        """A new window for the place: its inference, else what is around it."""
        row = self._shown.inference_of(lo, hi)
        if row is not None:
            start, end = (int(ends[row]) for ends in self._shown.windows)
            if start <= lo and hi <= end:
                return self._inference(row, f"with the worst of {finding.code}")
        return self._add(f"The worst of {finding.code} ({units.duration(hi - lo)})", lo, hi, max(hi - lo, 10_000) // 2)


def _packed(lane: Lane, zero: int) -> dict[str, Any]:
    starts = np.diff(lane.start - zero, prepend=0)
    packed: dict[str, Any] = {
        "label": lane.label,
        "kind": lane.kind,
        "s": starts.tolist(),
        "d": _column((lane.end - lane.start).tolist()),
        "c": _column(lane.role),
        "n": _column(lane.name),
    }
    row = rows(lane.start, lane.end) if not lane.share else [0]
    optional = {"m": (lane.more, -1), "q": (lane.queued, NOT_KNOWN), "p": (lane.share, None), "r": (row, 0)}
    for key, (values, default) in optional.items():
        if any(value != default for value in values):
            packed[key] = _column([None if value == default else value for value in values] if default != 0 else values)
    return packed


def _column(values: Sequence[Any]) -> Any:
    """The values, or the one that they all are."""
    return values[0] if values and all(value == values[0] for value in values) else values


def rows(start: Ints, end: Ints) -> list[int]:
    """The row of each piece, from 0: under those that are still open when it starts."""
    free: list[int] = []
    placed = []
    for lo, hi in zip(start.tolist(), end.tolist(), strict=True):
        at = next((at for at, until in enumerate(free) if until <= lo), len(free))
        if at == len(free) and at < ROWS:
            free.append(hi)
        at = min(at, ROWS - 1)
        free[at] = max(hi, free[at]) if at == ROWS - 1 else hi
        placed.append(at)
    return placed


@dataclass(frozen=True)
class Row:
    """A lane of a window as a row of a table."""

    lane: str
    pieces: str
    busy_ns: int
    share: float
    longest: str
    longest_ns: int
    at_ns: int


def table(timeline: Timeline, window: Window) -> Iterable[Row]:
    """What a window shows, for who cannot see it: each lane's time, and its longest piece."""
    from nsight_tools.timeline.intervals import covered

    for lane in window.lanes:
        if lane.share:
            continue
        start, end = np.maximum(lane.start, window.lo), np.minimum(lane.end, window.hi)
        at = int(np.argmax(end - start))
        busy = covered(start, end)
        name = timeline.texts[lane.name[at]] if lane.name[at] >= 0 else ""
        yield Row(
            lane.label,
            units.number(len(lane.start)),
            busy,
            busy / max(window.hi - window.lo, 1),
            name,
            int(lane.end[at] - lane.start[at]),
            int(lane.start[at]),
        )
