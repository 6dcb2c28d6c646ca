"""What a change is worth: how much less a request would take, by the method that holds for it.

A point, an interval that is meant to hold nine times in ten, and the method in words. A change, or several at once, is
made in a program (`changes`) and replayed beside the unchanged one under the same assumptions, so that nothing is
counted twice. Where kernels would share the GPU or threads the driver, nothing is promised: the answer is a bound that
is certain, and "measure it".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakKeyDictionary

import numpy as np

from nsight_tools.worth.assumptions import SPARE, Assumptions, Range
from nsight_tools.worth.changes import CHANGES, NotReplayed, overlaps
from nsight_tools.worth.link import peak_of
from nsight_tools.worth.program import TO_GPU, TO_HOST
from nsight_tools.worth.replay import OFF, Replayed, replay
from nsight_tools.worth.runs import program_of
from nsight_tools.worth.tracing import MOST_NS, assumptions, fitted
from nsight_tools.worth.untraced import Untraced, Wall

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nsight_tools.trace import Trace
    from nsight_tools.worth.program import Floats, Program
    from nsight_tools.worth.runs import Requests

REPEATS = 0.015
"""How far the same run's next wall lies from this one's, nine times in ten, as a share: 1.5 % in 30 repeats of 15 runs of
three engines, one machine."""
TWICE = 0.025
"""The same of two runs, each with its own, and of a replay with an untraced run: its error is 1.6 % on average."""
MODEL = 0.05
"""How far a replay lies from the run without the profiler, beside what is assumed: runs drift by so much between the
traced and the untraced one (a detector's was 4 % slower without the profiler than with it). Off by two, one in three
walls of graphs is outside of its interval."""
NOTHING = 0.01
"""A change of less of a request than its repeats differ by is none."""


@dataclass(frozen=True)
class Worth:
    """What a request would gain, ns: a point, and an interval that holds it nine times in ten."""

    point_ns: float
    low_ns: float
    high_ns: float
    method: str
    """measured, replay, closed form, bound, or nothing to change; what follows a colon says it in words."""
    per: str
    """What becomes shorter: the wall of a request, or where several are under way the period between two."""
    before_ns: float = 0.0
    """That wall or period without the profiler, as it is."""

    @property
    def promises(self) -> bool:
        """Whether the point is an estimate; a bound's is none."""
        return self.method.partition(":")[0] not in {"bound", "nothing to change"}


def price(trace: Trace, change: Iterable[tuple[str, object]], untraced: Untraced | Mapping[str, object] | None = None) -> Worth:
    """What `change`, one or several (option, value) pairs made together, is worth to a request of `trace`.

    Options: use_cuda_graph, pageable (False: pin), use_spin_wait, overlap_transfers, streams, threads. `untraced` is
    what a run without the profiler measured; else the dataset's own, else the trace has to do. Raises ValueError where
    an option is none of these.
    """
    return Pricing.of(trace, untraced).price(dict(change))


def untraced_wall(trace: Trace, untraced: Untraced | Mapping[str, object] | None = None) -> Wall | None:
    """A request's wall without the profiler; None where the trace has no requests."""
    return Pricing.of(trace, untraced).wall


class Pricing:
    """One trace's program, and its replay without the profiler; made once for all changes."""

    _of: ClassVar[WeakKeyDictionary[Trace, dict[Untraced | None, Pricing]]] = WeakKeyDictionary()

    def __init__(self, trace: Trace, untraced: Untraced | None) -> None:
        self._link = peak_of(trace)
        self.untraced = untraced
        found = program_of(trace)
        self.requests: Requests | None = found[0] if found else None
        self._program: Program | None = found[1] if found else None

    @classmethod
    def of(cls, trace: Trace, untraced: Untraced | Mapping[str, object] | None = None) -> Pricing:
        """Of `trace`, with an untraced run: the same object whenever the same is asked for."""
        if untraced is None:
            known = Untraced.of(trace)
        else:
            known = untraced if isinstance(untraced, Untraced) else Untraced.from_medians(untraced)
        kept = cls._of.setdefault(trace, {})
        if known not in kept:
            kept[known] = cls(trace, known)
        return kept[known]

    @cached_property
    def replayable(self) -> Program | None:
        """The program, where a replay of it holds: its requests' kernels do not run beside each other, and its pace
        with what is usual in the place of all residuals is the trace's."""
        program, requests = self._program, self.requests
        if program is None or requests is None or requests.threads > 1 or program.shares_gpu:
            return None
        traced = Assumptions.as_traced()
        real, typical = replay(program, traced), replay(program.typical(), traced)
        pace = typical.period[0] / max(real.period[0], 1.0)
        return program if abs(pace - 1) <= OFF else None

    @property
    def program(self) -> Program | None:
        """The program, where its changes can be replayed, too: all kernels are on one stream."""
        program = self.replayable
        return program if program is not None and program.lanes == 1 else None

    @cached_property
    def assumed(self) -> Assumptions:
        """What is assumed of the run without the profiler; of the program."""
        program = self.replayable
        assert program is not None
        enqueue = float(replay(program, Assumptions.as_traced()).enqueue[0])
        assumed = assumptions(program, enqueue, self._link)
        return assumed if self.untraced is None or program.lanes > 1 else fitted(program, assumed, self.untraced)

    @cached_property
    def before(self) -> Replayed:
        """The run without the profiler."""
        assert self.replayable is not None
        return replay(self.replayable, self.assumed)

    @property
    def per(self) -> str:
        several = self.requests is not None and self.requests.threads > 1
        program = self._program
        several = several or (program is not None and (program.lanes > 1 or overlaps(program)))
        return "period" if several else "wall"

    @cached_property
    def wall(self) -> Wall | None:
        """A request's wall without the profiler."""
        if self.requests is None:
            return None
        if self.untraced is not None:
            wall = self.untraced.wall
            return Wall(Range(wall * (1 - REPEATS), wall, wall * (1 + REPEATS)), "measured without the profiler")
        if self.replayable is None:
            wall = self.requests.wall
            launches = self._program.launches if self._program else 0
            low = max(wall - 2 * MOST_NS * launches, wall / 3)
            error = 2 * MODEL * wall
            return Wall(Range(low - error, (low + wall) / 2, wall + error), "the traced run, less what tracing may cost")
        low, point, high = _interval(self.before.wall, MODEL * self.before.wall[0])
        return Wall(Range(low, point, high), "a replay of the trace without what tracing may have cost")

    def price(self, change: Mapping[str, object]) -> Worth:
        """What a change is worth; see `price`."""
        unknown = set(change) - {*CHANGES, "streams", "threads"}
        if unknown:
            raise ValueError(f"no such option: {', '.join(sorted(unknown))}")
        if self.requests is None:
            return Worth(0.0, 0.0, 0.0, "bound: there are no requests to measure it by", "wall")
        if not {"streams", "threads"}.isdisjoint(change):
            return self._bound("kernels that share the GPU and threads that share its driver: measure it")
        measured = self._measured(change)
        if measured is not None:
            return measured
        if self.program is None:
            return self._bound(self._why())
        return self._replayed(self.program, change)

    def _replayed(self, program: Program, change: Mapping[str, object]) -> Worth:
        made: list[str] = []
        for option, (value, make) in CHANGES.items():
            if option not in change or change[option] != value:
                continue
            try:
                program = make(program)
                made.append(option)
            except NotReplayed as error:
                why = str(error)
        per = "period" if "overlap_transfers" in made else self.per
        if not made:
            return Worth(0.0, 0.0, 0.0, f"nothing to change: {why}", self.per)
        after = replay(program, self.assumed.drifted())
        before = getattr(self.before, per)
        gain = before - getattr(after, per) + (self._spare if per == "period" else 0.0)
        known = TWICE if self.untraced is not None else MODEL
        low, point, high = _interval(gain, known * before[0])
        if point < NOTHING * before[0]:
            point, low = 0.0, min(low, 0.0)
        if per == "period" and program.blocking.any():
            return self._held(before[0], high, program)
        return Worth(point, min(low, point), max(high, point), "replay: " + self._known, per, float(before[0]))

    @property
    def _spare(self) -> Floats:
        """What passes for each request beside its usual time, and requests under way hide, shape (P,)."""
        before = self.before.period
        if self.untraced is not None and self.untraced.period:
            spare = max(self.untraced.period - before[0], 0.0)
            return np.append(spare, np.linspace(0.0, spare, len(before) - 1))
        if self.program is None or self.program.polls is True:
            return np.zeros_like(before)
        share = (np.arange(len(before) - 1) + 0.5) / (len(before) - 1)
        return np.append(SPARE.point, np.maximum(SPARE.at(share), 0.0)) * before[0]

    def _held(self, before: float, high: float, program: Program) -> Worth:
        """Copies that hold the host: what their driver does beside other work nobody knows, so nothing is promised."""
        copies = [program.duration[:, program.engine == engine].sum(axis=1) for engine in (TO_GPU, TO_HOST)]
        most = max(high, *(float(np.median(each)) for each in copies))
        why = "copies of pageable memory hold the host up: pin them first, or measure it"
        return Worth(0.0, 0.0, most, f"bound: {why}", "period", before)

    def _measured(self, change: Mapping[str, object]) -> Worth | None:
        """Overlapped transfers, where the untraced run was made with them, too."""
        known = self.untraced
        if known is None or not known.overlapped or not known.period or dict(change) != {"overlap_transfers": True}:
            return None
        if self._program is not None and overlaps(self._program):
            return None
        gain, error = known.period - known.overlapped, 2 * REPEATS * known.period
        point = gain if gain > error else 0.0
        return Worth(point, gain - error, gain + error, "measured: by an untraced run of both", "period", known.period)

    @property
    def _known(self) -> str:
        return "without the profiler, as " + ("measured" if self.untraced is not None else "far as the trace tells")

    def _why(self) -> str:
        program, requests = self._program, self.requests
        if program is None or requests is None:
            return "the trace does not show what was called for a request"
        if program.lanes > 1 or requests.threads > 1:
            return "several requests share the GPU: measure it"
        return "its requests differ too much to be replayed: measure it"

    def _bound(self, why: str) -> Worth:
        """What no change can exceed: all of the time but what the host and the GPU need at the very least."""
        requests, program = self.requests, self._program
        assert requests is not None
        period = requests.period or requests.wall
        if self.untraced is not None:
            period = self.untraced.period or self.untraced.wall
        least = 0.0
        if program is not None:
            copies = [program.duration[:, program.engine == engine].sum(axis=1) for engine in (TO_GPU, TO_HOST)]
            least = max(float(np.median(each)) for each in copies)
        return Worth(0.0, 0.0, max(period - least, 0.0), f"bound: {why}", self.per, period)


def _interval(drawn: Floats, error: float) -> tuple[float, float, float]:
    """Low, point and high of what was drawn, the likely one first, and an independent error of half-width `error`."""
    point = float(drawn[0])
    low, high = np.percentile(drawn, [5, 95]).tolist()
    return (
        point - float(np.hypot(max(point - low, 0.0), error)),
        point,
        point + float(np.hypot(max(high - point, 0.0), error)),
    )
