"""Inferences that are far slower than others of their population, told apart by what explains them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import Bools, Ints, ints
from nsight_tools.cuda_names import MEMORY
from nsight_tools.findings import NOISE_SHARE
from nsight_tools.run import Run
from nsight_tools.run.holes import Owner, holes, other_processes
from nsight_tools.run.samples import clock_samples
from nsight_tools.tables import BUCKETS
from nsight_tools.timeline.attribution import joint_key
from nsight_tools.timeline.intervals import Intervals, distinct

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from nsight_tools.run.calls import HostCalls
    from nsight_tools.timeline.intervals import IntArray
    from nsight_tools.trace import Trace

    Floats = npt.NDArray[np.float64]

SLOWER = 1.2
"""Times the median: how `inferences.mark` tells an outlier."""
FEWEST_SLOW = 3
"""One or two may be chance; of three that were seen the true share is above a quarter of that (95 %, Poisson)."""
EXPLAINS = 0.5
"""What takes at least half of the time that an inference is too slow is its cause."""
ALL_KERNELS = 0.9
"""Share of an inference's kernels that have to be slower for its clock, and not its work, to be what differs."""
FEW = 0.1
"""Of the judged ones: what comes more often is work of its own, and not an inference in which something happened."""

CLOCK, PROFILER, ALLOCATIONS, GRAPHS = "clock", "profiler", "allocations", "graphs"
PARTS = tuple(f"{bucket}_ns" for bucket in BUCKETS)
"""Parts of an inference's accounting: the one that grew most says where the time went that nothing explains."""


@dataclass(frozen=True)
class Reason:
    """Something that happens in inferences: when, and what it means for the run without the profiler."""

    what: str
    text: str
    remedy: str
    time: Intervals
    event: bool = False
    told: bool = True
    """Whether the report says what it is."""


@dataclass(frozen=True)
class Group:
    """Slow inferences that one thing explains: the clock, a reason, or none, and then the bucket that grew most.

    Rows of the table, and nanoseconds beyond the usual; of those what the reason or the bucket takes, but for the clock
    how many times as long the kernels take; shape (n,) each.
    """

    what: str
    rows: IntArray
    excess: Ints
    taken: Ints | Floats
    reason: Reason | None = None
    clock: tuple[float, float] | None = None
    """MHz in these and in the usual ones, medians; None where it was not sampled in both."""


def slow_groups(trace: Trace) -> tuple[Group, ...]:
    """The slow ones among the judged inferences, and the few aside of them in which something happened.

    What is no event is scatter where it takes less than 2.5 % of the inference time, and left out.
    """
    run = Run.of(trace)
    requests = run.requests
    outliers, others = np.flatnonzero(requests.mark.among("outlier") & requests.judged), aside(run)
    return tuple(_told_apart(run, outliers, others)) if outliers.size or others.size else ()


def slow_by_these(run: Run, what: str, time: Intervals) -> bool:
    """Whether calls in this time are what all slow inferences are slow by; false where one has another reason."""
    groups, marks = run.trace.once(slow_groups), run.requests.mark
    if {group.what for group in groups} != {what} or (marks.among("shape_change") & run.requests.worked).any():
        return False
    rows, excess = (np.concatenate([getattr(group, name) for group in groups]) for name in ("rows", "excess"))
    taken = time.coverage(run.requests.start[rows], run.requests.end[rows])
    return bool(taken.sum() >= EXPLAINS * excess.sum())


def aside(run: Run) -> IntArray:
    """Slow ones that are no population worth the name, and launch as many kernels as those that are judged.

    An inference in which something happens once may well do a little other work, as a kernel's first launch does.
    """
    requests, judged = run.requests, run.requests.judged
    if not judged.any():
        return np.zeros(0, np.int64)
    count = np.bincount(requests.population[requests.counted], minlength=int(requests.population.max()) + 1)
    few = count[requests.population] <= FEW * judged.sum()
    alike = requests.kernels == np.median(requests.kernels[judged])
    slow = requests.wall > SLOWER * np.median(requests.wall[judged])
    return np.flatnonzero(requests.counted & ~judged & ~requests.warm_up & few & alike & slow)


class Usual:
    """What inferences of a kind (a population on a thread) usually take: medians of those that are not marked."""

    def __init__(self, run: Run) -> None:
        table = run.trace.table("inferences", ["wall_ns", *PARTS])
        self._columns = {name: ints(table[name]) for name in table.column_names}
        self.kind = _kinds(run)
        plain = (run.requests.mark.codes < 0) & run.requests.worked
        self.plain = plain
        self._medians = {
            name: np.array(
                [
                    np.median(column[mine]) if (mine := plain & (self.kind == at)).any() else 0
                    for at in range(self.kind.max() + 1)
                ]
            )
            for name, column in self._columns.items()
        }

    def growth(self, name: str, rows: IntArray) -> Ints:
        """What these take more in a bucket."""
        more: Ints = self._columns[name][rows] - self._medians[name][self.kind[rows]].astype(np.int64)
        return more

    def excess(self, rows: IntArray) -> Ints:
        """What these take more in all."""
        return self.growth("wall_ns", rows)


def _kinds(run: Run) -> Ints:
    """A number for each inference, the same for those of one population on one thread."""
    _, kind = np.unique(np.stack([run.requests.thread, run.requests.population]), axis=1, return_inverse=True)
    number: Ints = kind.reshape(-1).astype(np.int64)
    return number


def _told_apart(run: Run, outliers: IntArray, others: IntArray) -> Iterator[Group]:
    usual, rows = Usual(run), np.concatenate([outliers, others])
    beyond = run.requests.wall[others] - round(float(np.median(run.requests.wall[run.requests.judged])))
    excess = np.concatenate([usual.excess(outliers), beyond])
    start, end = run.requests.start[rows], run.requests.end[rows]
    reasons = _reasons(run)
    taken = [reason.time.coverage(start, end) for reason in reasons]
    named = np.stack([*(line >= EXPLAINS * excess for line in taken), np.ones(rows.size, np.bool_)]).argmax(axis=0)
    slower, factor = _after_a_pause(run, usual, rows)
    slower &= named > 0  # the profiler's own doing comes first
    seen = _clocks(run, rows[slower], usual)
    if seen is None or seen[1] / seen[0] - 1 >= EXPLAINS * (float(np.median(factor[slower])) - 1):
        named[slower] = -1
    events = [at for at, reason in enumerate(reasons) if reason.event]
    idle = (np.arange(rows.size) >= outliers.size) & ~np.isin(named, events)
    named[idle] = len(reasons) + 1  # they do other work, and nothing is to be said of it
    noise = NOISE_SHARE * run.window_ns
    if (mine := np.flatnonzero(named == -1)).size:
        yield Group(CLOCK, rows[mine], excess[mine], factor[mine], clock=seen)
    for at, reason in enumerate(reasons):
        mine = np.flatnonzero(named == at)
        if mine.size and (reason.what != PROFILER or excess[mine].sum() >= noise):
            yield Group(reason.what, rows[mine], excess[mine], taken[at][mine], reason)
    growth = np.stack([usual.growth(name, rows) for name in PARTS])
    bucket = growth.argmax(axis=0)
    for at, name in enumerate(PARTS):
        mine = np.flatnonzero((named == len(reasons)) & (bucket == at))
        if mine.size and excess[mine].sum() >= noise:
            yield Group(name, rows[mine], excess[mine], growth[at][mine])


def before(run: Run, rows: IntArray) -> Ints:
    """The end of the inference before each of these on its thread; its own start where there is none."""
    ended = run.requests.start.copy()
    for turns in run.flow.turns.values():
        ended[turns.rows] = turns.before
    return ended[rows]


def _clocks(run: Run, rows: IntArray, usual: Usual) -> tuple[float, float] | None:
    """The clock in these inferences and in the usual ones, MHz, medians; None where it was not sampled in both."""
    requests = run.requests
    plain = np.flatnonzero(usual.plain & requests.judged)
    slow, others = [np.zeros(0)], [np.zeros(0)]
    for device in distinct(requests.device[rows]).tolist():
        if (samples := clock_samples(run, device)) is None:
            continue
        time, value, _ = samples
        for clocks, inferences in ((slow, rows), (others, plain)):
            here = inferences[requests.device[inferences] == device]
            clocks.append(value[Intervals.union(requests.start[here], requests.end[here]).contains(time)])
    values = np.concatenate(slow), np.concatenate(others)
    if min(clocks.size for clocks in values) < FEWEST_SLOW:
        return None
    return float(np.median(values[0])), float(np.median(values[1]))


def _after_a_pause(run: Run, usual: Usual, rows: IntArray) -> tuple[Bools, Floats]:
    """Which of these follow a pause and have nearly all kernels slower, and how many times as long those take."""
    paused = np.zeros(len(run.requests), np.bool_)
    for turns in run.flow.turns.values():
        gap = run.requests.start[turns.rows] - turns.before
        # A pause is long beside the inference: in a shorter gap no clock falls.
        paused[turns.rows] = turns.paused | (gap > SLOWER * np.median(run.requests.wall[turns.rows]))
    work = run.work
    kernels = np.flatnonzero(work.kind.among("kernel") & run.judged_work)
    whose = work.inference[kernels]
    order = kernels[np.lexsort((work.start[kernels], whose))]
    count = np.bincount(work.inference[order], minlength=len(run.requests))
    alike = int(np.median(count[run.requests.judged]))
    factor = np.ones(rows.size)
    slower = np.zeros(rows.size, np.bool_)
    if not alike:
        return slower, factor
    first = np.cumsum(count) - count
    length = work.end[order] - work.start[order]
    plain = np.flatnonzero(usual.plain & run.requests.judged & (count == alike))
    if not plain.size:
        return slower, factor
    typical = np.median(length[first[plain][:, None] + np.arange(alike)], axis=0)
    for at, row in enumerate(rows.tolist()):
        if paused[row] and count[row] == alike:
            ratio = length[first[row] : first[row] + alike] / np.maximum(typical, 1)
            factor[at] = float(np.median(ratio))
            slower[at] = bool((ratio > SLOWER).mean() >= ALL_KERNELS)
    return slower, factor


def _reasons(run: Run) -> list[Reason]:
    calls = run.calls
    events = (
        (
            "modules",
            "modules are loaded: code comes to the GPU when it is first used",
            "run each shape once before serving, or set CUDA_MODULE_LOADING=EAGER",
            ("load_module",),
        ),
        (
            GRAPHS,
            "a CUDA graph is captured or instantiated",
            "build graphs before serving, once for each shape",
            ("build_graph",),
        ),
        (ALLOCATIONS, "memory is allocated or freed", "allocate buffers once, before serving", tuple(MEMORY)),
    )
    return [
        Reason(
            PROFILER,
            "the profiler itself was at work, and not the program",
            "do nothing: the profiler made these inferences slow, and without it they are not",
            run.profiler,
        ),
        *(
            Reason(what, text + _whose(run, these := calls[calls.does.among(*does)]), remedy, these.time(), event=True)
            for what, text, remedy, does in events
        ),
        Reason(
            "another process",
            "another process has the GPU",
            "give this process the GPU, or a partition of it",
            other_processes(run),
        ),
        Reason(
            "idle GPU",
            "launched work waits for an idle GPU, and this report does not say for what",
            "capture with --gpu-metrics-devices=all, which tells whether the GPU works for another program meanwhile",
            Intervals.any_of(holes(run, device).of(Owner.UNKNOWN) for device in run.gpus.devices),
            told=False,
        ),
    ]


def _whose(run: Run, calls: HostCalls) -> str:
    """That another thread makes these calls, where none of those that make inferences does."""
    if not len(calls) or np.isin(joint_key(calls.pid, calls.tid), run.requests.thread).any():
        return ""
    names = ", ".join(list(calls.name.counts())[:2])
    return f"; another thread does it ({names}), and holds the driver, which launches wait for"
