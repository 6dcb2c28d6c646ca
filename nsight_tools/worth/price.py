"""What a change is worth: how much less a request would take, by the method that holds for it.

A point, an interval that is meant to hold nine times in ten, and the method in words. A change, or several at once, is
made in a program (`changes`) and replayed beside the unchanged one under the same assumptions, so that nothing is
counted twice. Where kernels would share the GPU or threads the driver, nothing is promised: the answer is a bound that
is certain, and "measure it".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.run import Run
from nsight_tools.worth.as_traced import BOUNDED, REPLAYED, lost_of_wall
from nsight_tools.worth.assumptions import Assumptions
from nsight_tools.worth.changes import CHANGES, NotReplayedError, overlaps
from nsight_tools.worth.gpu import peak_of
from nsight_tools.worth.host import HostCosts
from nsight_tools.worth.known import FLOOR_NS, HOLES, MODEL, NOTHING, REPEATS, SPARE, TWICE
from nsight_tools.worth.program import TO_GPU, TO_HOST
from nsight_tools.worth.ranges import Range
from nsight_tools.worth.reading import program_of
from nsight_tools.worth.replay import Replayed, follows_its_pace, replay
from nsight_tools.worth.runs import requests_of
from nsight_tools.worth.tracing import assumptions, cost_of_range, fitted
from nsight_tools.worth.untraced import Untraced, Wall

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nsight_tools.trace import Trace
    from nsight_tools.worth.program import Program
    from nsight_tools.worth.ranges import Floats
    from nsight_tools.worth.runs import Requests

    Known = Untraced | Mapping[str, object]

SHARED = ("streams", "threads")
"""Options after which kernels share the GPU, and threads its driver: no replay holds for those."""
MEASURE_IT = "kernels that share the GPU and threads that share its driver: measure it"


@dataclass(frozen=True)
class Worth:
    """What a request would gain, ns: a point, and an interval that holds it nine times in ten."""

    point_ns: float
    low_ns: float
    high_ns: float
    method: str
    """measured, replay, bound, or nothing to change; what follows a colon says it in words."""
    per: str
    """What becomes shorter: the wall of a request; the period from one to the next where several are under way, or may
    be, since nothing is waited for."""
    before_ns: float = 0.0
    """That wall or period without the profiler, as it is."""

    @property
    def promises(self) -> bool:
        """Whether the point is an estimate; a bound's is none."""
        return self.method.startswith(("measured", "replay"))


def price(trace: Trace, change: Iterable[tuple[str, object]], untraced: Known | None = None) -> Worth:
    """What `change`, one or several (option, value) pairs made together, is worth to a request of `trace`.

    Options: use_cuda_graph, pageable (False: pin), use_spin_wait, overlap_transfers, streams, threads. `untraced` is
    what a run without the profiler measured; else the dataset's own, else the trace has to do. Raises ValueError where
    an option is none of these.
    """
    return Pricing.of(trace, untraced).price(dict(change))


def untraced_wall(trace: Trace, untraced: Known | None = None) -> Wall | None:
    """A request's wall without the profiler; None where the trace has no requests."""
    return Pricing.of(trace, untraced).wall


class Pricing:
    """One trace's program, and its replay without the profiler; made once for all changes."""

    def __init__(self, trace: Trace, untraced: Untraced | None) -> None:
        self.untraced = untraced
        self._of_range = cost_of_range(trace)
        self.host = HostCosts(Run.of(trace), self._of_range, untraced.enqueue if untraced is not None else None)
        """What tracing cost the threads that launch, as far as it is known without a replay."""
        self._run = Run.of(trace)
        self._priced: dict[tuple[frozenset[tuple[str, object]], str | None], Worth] = {}
        self._link = peak_of(trace)
        replayed = program_of(trace)
        self.requests: Requests | None = replayed[0] if replayed else requests_of(trace)
        self._program: Program | None = replayed[1] if replayed else None

    @classmethod
    def of(cls, trace: Trace, untraced: Known | None = None) -> Pricing:
        """Of `trace`, with an untraced run: the same object whenever the same is asked for."""
        if untraced is None:
            known = Untraced.of(trace)
        else:
            known = untraced if isinstance(untraced, Untraced) else Untraced.from_medians(untraced)
        kept = trace.once(_kept)
        if known not in kept:
            kept[known] = cls(trace, known)
        return kept[known]

    @cached_property
    def replayable(self) -> Program | None:
        """The program, where a replay of it holds: on one thread, no kernels beside each other, and at its own pace."""
        program, requests = self._program, self.requests
        if program is None or requests is None or requests.threads > 1 or program.shares_gpu:
            return None
        return program if follows_its_pace(program) else None

    @property
    def program(self) -> Program | None:
        """The program, where its changes can be replayed, too: all kernels are on one stream."""
        program = self.replayable
        return program if program is not None and program.lanes == 1 else None

    @cached_property
    def assumed(self) -> Assumptions:
        """What is assumed of the run without the profiler."""
        program = self.replayable
        assert program is not None
        enqueue = float(replay(program, Assumptions.as_traced()).enqueue[0])
        assumed = assumptions(program, enqueue, self._link, self._of_range)
        return assumed if self.untraced is None or program.lanes > 1 else fitted(program, assumed, self.untraced)

    @cached_property
    def before(self) -> Replayed:
        """The run without the profiler."""
        assert self.replayable is not None
        return replay(self.replayable, self.assumed)

    @property
    def per(self) -> str:
        """What requests are judged by: the period where several are under way or nothing waits, else the wall."""
        program, requests = self._program, self.requests
        if program is None or requests is None:
            several = requests is not None and (requests.threads > 1 or self._run.flow.several)
            return "period" if several else "wall"
        several = requests.threads > 1 or program.lanes > 1 or overlaps(program) or not program.waits
        return "period" if several else "wall"

    @cached_property
    def period_ns(self) -> int | None:
        """From one request to the next without the profiler; None where the wall is what they are judged by."""
        if self.requests is None or self.per == "wall":
            return None
        if self.untraced is not None and self.untraced.period:
            return round(self.untraced.period)
        replayed = self.program is not None
        return round(float(self.before.period[0])) if replayed else self._run.flow.period_ns

    @cached_property
    def wall(self) -> Wall | None:
        """A request's wall without the profiler."""
        if self.requests is None:
            return None
        if self.untraced is not None:
            wall = self.untraced.wall
            count = f" of {self.untraced.requests:,} inferences" if self.untraced.requests else ""
            whole = Range(wall * (1 - REPEATS), wall, wall * (1 + REPEATS))
            return Wall(whole, f"measured by an untraced run{count}")
        if self.replayable is not None and self.replayable.waits:
            low, point, high = _interval(self.before.wall, MODEL * self.before.wall[0])
            return Wall(Range(low, point, high), REPLAYED)
        likely, most = lost_of_wall(self._run, self.host, self._run.requests.judged)
        wall, error = self.requests.wall, 2 * MODEL * self.requests.wall
        return Wall(Range(wall - most - error, wall - likely, wall + error), BOUNDED)

    @cached_property
    def stretch(self) -> float:
        """How many times as long tracing made a request, at least; 1 where no untraced run says so."""
        if self.untraced is None or self.requests is None or self.wall is None or self.per == "period":
            return 1.0
        return max(self.requests.wall / max(self.wall.wall.high, 1.0), 1.0)

    @cached_property
    def room(self) -> float | None:
        """How long the GPU can be idle for each request without the profiler, ns; None where no untraced run tells.

        The time that passes there for one, less what its work takes in the trace. None is left where the work of
        several streams ran side by side, as it did not in the trace.
        """
        run = self._run
        if self.untraced is None or not self.untraced.period or not run.count:
            return None
        works = run.work.busy().intersection(run.window).total / run.count
        return max(self.untraced.period - works, 0.0)

    @cached_property
    def enqueue(self) -> Range | None:
        """The host's time for the launches of a request without the profiler; None where nothing is launched."""
        launching = self.host.launching
        if not len(launching):
            return None
        if self.untraced is not None and self.untraced.enqueue is not None:
            return Range(*([self.untraced.enqueue] * 3))
        costs = self.host.cost(launching.thread, launching.first, launching.last + 1)
        least = np.minimum(launching.launches * FLOOR_NS, launching.enqueue)
        return Range(*(float(np.median(np.maximum(launching.enqueue - cost, least))) for cost in reversed(costs)))

    @cached_property
    def shorter(self) -> Range:
        """How much less time passes from a request's first kernel to its last without the profiler."""
        launching = self.host.launching
        if not len(launching):
            return Range(0.0, 0.0, 0.0)
        if self.replayable is not None:
            traced = float(replay(self.replayable, Assumptions.as_traced()).kernels[0])
            low, point, high = _interval(traced - self.before.kernels, 0.0)
            return Range(max(low, 0.0), max(point, 0.0), max(high, 0.0))
        # What the first launch costs moves the first kernel, too.
        costs = self.host.cost(launching.thread, launching.first + 1, launching.last + 1)
        return Range(*(float(np.median(np.minimum(cost, launching.compute))) for cost in costs))

    def price(self, change: Mapping[str, object], per: str | None = None) -> Worth:
        """What a change is worth; see `price` of the module. `per` says what it is judged by, where that is given."""
        key = frozenset(change.items()), per
        if key not in self._priced:
            self._priced[key] = self._price(change, per)
        return self._priced[key]

    def _price(self, change: Mapping[str, object], per: str | None) -> Worth:
        if unknown := set(change) - {*CHANGES, *SHARED}:
            raise ValueError(f"no such option: {', '.join(sorted(unknown))}")
        if self.requests is None:
            return Worth(0.0, 0.0, 0.0, "bound: there are no requests to measure it by", per or "wall")
        shared = [option for option in SHARED if option in change]
        rest = {option: value for option, value in change.items() if option not in shared}
        if self.program is None or (shared and not rest):
            why = MEASURE_IT if shared else self._why()
            return self._bound(why, per or ("period" if shared or "overlap_transfers" in rest else self.per))
        worth = self._measured(rest) or self._replayed(self.program, rest, per)
        return (
            replace(worth, method=f"{worth.method}; {' and '.join(shared)} left out: measure it") if shared else worth
        )

    def _replayed(self, program: Program, change: Mapping[str, object], per: str | None) -> Worth:
        made, why, holes = [], "the trace has it so already", program.holes
        for option, (value, make) in CHANGES.items():
            if option in change and change[option] == value:
                try:
                    program = make(program)
                    made.append(option)
                except NotReplayedError as error:
                    why = str(error)
        overlapped = "overlap_transfers" in made
        per = per or ("period" if overlapped else self.per)
        before = getattr(self.before, per)
        if not made:
            return Worth(0.0, 0.0, 0.0, f"nothing to change: {why}", per, float(before[0]))
        after = replay(program, self.assumed.drifted(polls=program.changed_wait))
        if overlapped and holes > HOLES * before[0]:
            return self._bound("the GPU waits for what the trace does not show, another process maybe: measure it", per)
        spare = self.spare if overlapped else np.zeros_like(before)
        share = TWICE if self.untraced is not None else MODEL
        low, point, high = _interval(before - getattr(after, per) + spare, share * before[0])
        real = self._untraced(per) or float(before[0] + spare[0])
        if overlapped and program.blocking.any():
            return self._held(program, Worth(0.0, min(low, 0.0), high, "", per, real))
        if point < NOTHING * before[0]:
            low, point, high = min(low, 0.0), 0.0, max(high, 0.0)
        known = "measured" if self.untraced is not None else "far as the trace tells"
        return Worth(point, low, high, f"replay of the run without the profiler, as {known}", per, real)

    def _untraced(self, per: str) -> float | None:
        """The wall or the period that an untraced run measured."""
        known = self.untraced
        return None if known is None else known.period if per == "period" else known.wall

    @property
    def spare(self) -> Floats:
        """What passes for each request beside its usual time, and requests under way hide, shape (P,)."""
        before = self.before.period
        share = (np.arange(len(before) - 1) + 0.5) / (len(before) - 1)
        if self.untraced is not None and self.untraced.period:
            spare = max(self.untraced.period - before[0], 0.0)
            return np.append(spare, spare * share)
        if self.program is None or self.program.polls is True:
            return np.zeros_like(before)
        spares: Floats = np.append(SPARE.point, np.maximum(SPARE.at(share), 0.0)) * before[0]
        return spares

    def _held(self, program: Program, worth: Worth) -> Worth:
        """Copies that hold the host: what their driver does beside other work nobody knows, so nothing is promised."""
        copies = [program.duration[:, program.engine == engine].sum(axis=1) for engine in (TO_GPU, TO_HOST)]
        most = max(worth.high_ns, *(float(np.median(copy)) for copy in copies))
        why = "copies of pageable memory hold the host up: pin them first, or measure it"
        return replace(worth, high_ns=most, method=f"bound: {why}")

    def _measured(self, change: Mapping[str, object]) -> Worth | None:
        """Overlapped transfers, where the untraced run was made with them, too."""
        known = self.untraced
        if known is None or not known.overlapped or not known.period or dict(change) != {"overlap_transfers": True}:
            return None
        if self._program is not None and overlaps(self._program):
            return None
        gain, error = known.period - known.overlapped, TWICE * known.period
        point = gain if gain > error else 0.0
        return Worth(point, gain - error, gain + error, "measured: by an untraced run of both", "period", known.period)

    def _why(self) -> str:
        program, requests = self._program, self.requests
        if program is None or requests is None:
            return "the trace does not show what was called for a request"
        if program.lanes > 1 or requests.threads > 1:
            return "several requests share the GPU: measure it"
        return "its requests differ too much to be replayed: measure it"

    def _bound(self, why: str, per: str) -> Worth:
        """What no change can exceed: all of the time but what the GPU and its copy engines need at the very least."""
        requests, program, known = self.requests, self._program, self.untraced
        assert requests is not None
        period = (requests.period or requests.wall) if per == "period" else requests.wall
        if known is not None:
            period = self._untraced(per) or known.wall
        least = 0.0
        if program is not None:
            engines = [program.duration[:, program.engine == engine].sum(axis=1) for engine in (TO_GPU, TO_HOST)]
            least = max(float(np.median(time)) for time in [*engines, (program.duration * program.filled).sum(axis=1)])
        return Worth(0.0, 0.0, max(period - least, 0.0), f"bound: {why}", per, period)


def _kept(_trace: Trace) -> dict[Untraced | None, Pricing]:
    """What `Pricing.of` made of a trace, by what an untraced run measured."""
    return {}


def _interval(drawn: Floats, error: float) -> tuple[float, float, float]:
    """Low, point and high of what was drawn, the likely one first, and an independent error of half-width `error`."""
    point = float(drawn[0])
    low, high = np.percentile(drawn, [5, 95]).tolist()
    below, above = np.hypot(max(point - low, 0.0), error), np.hypot(max(high - point, 0.0), error)
    return point - float(below), point, point + float(above)
