"""Inferences that are far slower than others of their population, and what happened in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.measure import nothing_repeats, of_tensorrt, weigh, worst
from nsight_tools.analysis import MEAN, analysis
from nsight_tools.calibration import Calibrated
from nsight_tools.columns import Bools, Ints, ints, words
from nsight_tools.cuda_names import MEMORY
from nsight_tools.errors import CouldNotRun
from nsight_tools.findings import NOISE_SHARE, Confidence, Evidence, Finding, Severity
from nsight_tools.run import Run
from nsight_tools.run.holes import Owner, holes, other_processes
from nsight_tools.timeline.attribution import joint_key
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.units import duration, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from nsight_tools.run.calls import HostCalls
    from nsight_tools.timeline.intervals import IntArray
    from nsight_tools.trace import Trace

    Floats = npt.NDArray[np.float64]

SLOWER = 1.2
"""Times the median: how `inferences.mark` tells an outlier."""
FEWEST = 5
"""Fewer inferences of a thread have nothing to stand out from."""
FEWEST_SLOW = 3
"""One or two may be chance; of three that were seen the true share is above a quarter of that (95 %, Poisson)."""
EXPLAINS = 0.5
"""What takes at least half of the time that an inference is too slow is its cause."""
ALL_KERNELS = 0.9
"""Share of an inference's kernels that have to be slower for its clock, and not its work, to be what differs."""

FEW = 0.1
"""Of the judged ones: what comes more often is work of its own, and not an inference in which something happened."""

_BUCKETS = {
    "compute_ns": "its own kernels take longer",
    "exposed_communication_ns": "its communication with other GPUs takes longer",
    "exposed_h2d_ns": "its host-to-device copies take longer",
    "exposed_d2h_ns": "its device-to-host copies take longer",
    "exposed_other_copy_ns": "its other copies take longer",
    "other_work_ns": "it waits behind other work of this report on the GPU, which loses no time: more is in flight",
    "launch_ns": "the GPU waits for the host's launch calls",
    "sync_ns": "its thread waits in a synchronization while the GPU runs nothing of it",
    "host_ns": "the GPU waits for the host between its calls",
    "unattributed_ns": "the report does not say",
}
_HOST = ("launch_ns", "sync_ns", "host_ns", "unattributed_ns")
"""Buckets that tracing itself inflates, and that scheduling by the operating system disturbs at random."""
_CLOCK = (
    (
        "each follows a pause of {pause} or more, and all its kernels take longer, {factor:.2g} times the usual "
        "(median): the GPU's clock fell while it was idle"
    ),
    "lock the clocks (nvidia-smi -lgc), or keep the GPU warm with an inference now and then",
)
_SHAPE = (
    (
        "each is the first on its thread with another shape (its kernels or their grids are others than in the "
        "inference before), which is prepared when it is first used"
    ),
    "run each shape once before serving, or pad inputs to a few shapes",
)


@dataclass(frozen=True)
class _Reason:
    """Something that happens in inferences: when, and what it means for the run without the profiler."""

    text: str
    remedy: str
    time: Intervals
    of_profiler: bool = False
    event: bool = False
    told: bool = True
    """Whether the report says what it is."""


@dataclass(frozen=True)
class _Slow:
    """Slow inferences (rows of the table), what they take beyond the usual, and what is said of them."""

    rows: IntArray
    excess: Ints
    text: str
    remedy: str
    harmless: bool = False
    real: bool = True
    event: bool = False
    """Something that the program does is the reason."""


@analysis("LCH004", topic="slow inferences", bucket=MEAN)
def slow_inferences(trace: Trace) -> Iterator[Finding]:
    """Some inferences are far slower than others that do the same.

    Measures: inferences that `inferences.mark` calls outliers or changes of shape: `wall_ns` above the median of their
    population on their thread by 5 scaled median absolute deviations and by 20 %. A slow one that follows another
    population of its engine is a change of shape. Of the outliers of the judged population, what each takes beyond the
    median is given to the first of these that explains at least half of it inside of the inference's window: the
    profiler's own overhead (`profiler_overhead`), a pause before it after which nine of ten kernels take longer (the
    clock fell), loading of modules, building of graphs, allocations (by `api_calls.does`), another process on the GPU
    (where GPU metrics prove it), launched work that waits for an idle GPU (an info: what for is not known). A slow one
    that launches as many kernels as the judged ones, and is of a population a tenth as large at most, is told of as
    well, where such loading, building or allocating explains it. Else the bucket of the accounting that grew most is
    named, which says where and not why. That, and the profiler's doing, are scatter below 2.5 % of the inference time.
    One finding for each reason. The bound is the time beyond the median; none for the profiler's doing and for work
    queued behind other work. A warning from 5 % of the inference time and 3 inferences on, if it is neither of those
    two, nor jitter of the host.
    Where a capture measured the same untraced, one inference at a time, what no event explains is held against that: it
    is a warning only if the share of inferences there that are 20 % above its median is at least half of the share
    here.

    Why it matters: the slowest inferences are what a service promises (p99).

    Remedy: by reason: enqueue each shape once before serving, lock the clocks (`nvidia-smi -lgc`), load modules at the
    start (CUDA_MODULE_LOADING=EAGER), build graphs and allocate buffers beforehand, give the process the GPU. NVIDIA's
    CUDA Programming Guide, "Lazy Loading"; TensorRT Best Practices, "Overhead of Shape Change and Optimization Profile
    Switching" and "GPU Clock Locking and Floating Clock".

    Blind spots: with fewer than 5 inferences of a kind on a thread nothing stands out. What the operating system did to
    the thread is not in the report. The warm-up is left out: the header says what it took.
    """
    run = Run.of(trace)
    requests = run.requests
    if not requests.worked.any():
        if not run.work.computes.any() and (missing := trace.missing("kernels")) is not None:
            raise CouldNotRun(missing)
        raise nothing_repeats(trace, "no inference that the GPU worked for: nothing repeats that could stand out")
    _, kind = np.unique(np.stack([requests.thread, requests.population]), axis=1, return_inverse=True)
    kind = kind.reshape(-1)
    if np.bincount(kind[requests.worked]).max() < FEWEST:
        raise CouldNotRun(f"fewer than {FEWEST} inferences of a kind on any thread: nothing to stand out from")
    usual = _Usual(trace, run, kind)
    changes = np.flatnonzero(requests.mark.among("shape_change") & requests.worked)
    if changes.size:
        kept = of_tensorrt(run, "; keep an execution context for each shape that comes often")
        whole = int(requests.wall[requests.counted].sum())
        yield _finding(
            run, _Slow(changes, usual.excess(changes), _SHAPE[0], _SHAPE[1] + kept), whole, int(requests.counted.sum())
        )
    outliers = np.flatnonzero(requests.mark.among("outlier") & requests.judged)
    aside = _aside(run)
    if outliers.size or aside.size:
        for slow in _told_apart(run, usual, outliers, aside):
            more = slow.rows[~requests.judged[slow.rows]]
            yield _finding(run, slow, run.window_ns + int(requests.wall[more].sum()), run.count + more.size)


def _aside(run: Run) -> IntArray:
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


class _Usual:
    """What inferences of a kind (a population on a thread) usually take: medians of those that are not marked."""

    def __init__(self, trace: Trace, run: Run, kind: Ints) -> None:
        table = trace.table("inferences", ["wall_ns", *_BUCKETS])
        self._columns = {name: ints(table[name]) for name in table.column_names}
        self._kind = kind
        plain = (run.requests.mark.codes < 0) & run.requests.worked
        self.plain = plain
        self._medians = {
            name: np.array(
                [np.median(column[mine]) if (mine := plain & (kind == at)).any() else 0 for at in range(kind.max() + 1)]
            )
            for name, column in self._columns.items()
        }

    def growth(self, name: str, rows: IntArray) -> Ints:
        """What these take more in a bucket."""
        more: Ints = self._columns[name][rows] - self._medians[name][self._kind[rows]].astype(np.int64)
        return more

    def excess(self, rows: IntArray) -> Ints:
        """What these take more in all."""
        return self.growth("wall_ns", rows)


def _told_apart(run: Run, usual: _Usual, outliers: IntArray, aside: IntArray) -> Iterator[_Slow]:
    """Outliers by what explains them; and those `aside` that an event explains."""
    rows = np.concatenate([outliers, aside])
    beyond = run.requests.wall[aside] - round(float(np.median(run.requests.wall[run.requests.judged])))
    excess = np.concatenate([usual.excess(outliers), beyond])
    start, end = run.requests.start[rows], run.requests.end[rows]
    reasons = _reasons(run)
    taken = [reason.time.coverage(start, end) for reason in reasons]
    clock, factor = _after_a_pause(run, usual, rows)
    named = np.stack([*(line >= EXPLAINS * excess for line in taken), np.ones(rows.size, np.bool_)]).argmax(axis=0)
    named[clock & (named > 0)] = -1  # the profiler's own doing comes first
    events = [at for at, reason in enumerate(reasons) if reason.event]
    other = (np.arange(rows.size) >= outliers.size) & ~np.isin(named, events)
    named[other] = len(reasons) + 1  # they do other work, and nothing is to be said of it
    noise = NOISE_SHARE * run.window_ns
    if (mine := np.flatnonzero(named == -1)).size:
        pause = int((start[mine] - _before(run, rows[mine])).min())
        text = _CLOCK[0].format(pause=duration(pause), factor=float(np.median(factor[mine])))
        yield _Slow(rows[mine], excess[mine], text, _CLOCK[1])
    for at, reason in enumerate(reasons):
        mine = np.flatnonzero(named == at)
        if mine.size and (not reason.of_profiler or excess[mine].sum() >= noise):
            text = f"{reason.text} ({duration(float(taken[at][mine].sum()))} of it)"
            of = reason.of_profiler
            harmless = of or not reason.told
            yield _Slow(rows[mine], excess[mine], text, reason.remedy, harmless, not of, reason.event)
    growth = np.stack([usual.growth(name, rows) for name in _BUCKETS])
    bucket = growth.argmax(axis=0)
    for at, name in enumerate(_BUCKETS):
        mine = np.flatnonzero((named == len(reasons)) & (bucket == at))
        if mine.size and excess[mine].sum() >= noise:
            queued = name == "other_work_ns"
            text = _bucket_text(name, growth[at][mine])
            yield _Slow(rows[mine], excess[mine], text, "", harmless=queued or name in _HOST, real=not queued)


def _before(run: Run, rows: IntArray) -> Ints:
    """The end of the inference before each of these on its thread; its own start where there is none."""
    found = run.requests.start.copy()
    for turns in run.flow.turns.values():
        found[turns.rows] = turns.before
    return found[rows]


def _after_a_pause(run: Run, usual: _Usual, rows: IntArray) -> tuple[Bools, Floats]:
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


def _bucket_text(name: str, growth: Ints) -> str:
    text = f"{_BUCKETS[name]} ({duration(float(np.median(growth)))} more, median)"
    if name in _HOST:
        text += ": no event of the report explains it; jitter of the host, to which tracing adds"
    return text


def _finding(run: Run, slow: _Slow, whole: int, inferences: int) -> Finding:
    cost = min(round(float(slow.excess.sum())), whole)  # inferences in flight at once share their time
    part = cost / max(whole, 1)
    requests, rows = run.requests, slow.rows
    took, usual = float(np.median(requests.wall[rows])), float(np.median(requests.wall[rows] - slow.excess))
    untraced = None if slow.remedy else _slow_untraced(run.trace)
    comes_back = untraced is not None and 2 * untraced >= rows.size / inferences
    harmless = slow.harmless or rows.size < FEWEST_SLOW or (untraced is not None and not comes_back)
    return Finding(
        "LCH004",
        Severity.INFO if harmless else weigh(part, 0.05),
        Confidence.MEDIUM if slow.remedy or comes_back else Confidence.LOW,
        f"{rows.size} of {inferences} inferences took {duration(took)} (median) rather than {duration(usual)}"
        + (f": {share(part)} of the {run.time}" if slow.real else ""),
        slow.text,
        slow.remedy
        or (
            "look at the windows below; they come back in a run without the profiler"
            if comes_back
            else "look at the windows below; if they come back in a run without the profiler, they are real"
            if untraced is None
            else "nothing yet: without the profiler they are far fewer"
        ),
        cost if slow.real else None,
        round(cost / inferences) if slow.real else None,
        "time of these inferences beyond the median of the thread's others that do the same" if slow.real else "",
        (
            Evidence("slow inferences", rows.size, "count"),
            Evidence("time beyond the median", cost, "ns"),
            *([Evidence("as much slower without the profiler", untraced, "ratio")] if untraced is not None else []),
            *worst("slow inference", requests.start[rows], requests.end[rows], lambda at: f"inference {int(rows[at])}"),
        ),
        # Most of what the GPU idles lies in these: the gaps there are the same time seen again.
        explains=("gaps",) if slow.event and 2 * cost >= sum(run.gpus.idle(d).total for d in run.gpus.devices) else (),
    )


def _slow_untraced(trace: Trace) -> float | None:
    """Share of an untraced run's inferences that are far slower than its median; None where it does not tell."""
    known = Calibrated.of(trace).untraced
    if known is None or not known.alone:
        return None
    table = trace.table("benchmark", ["run", "wall_ns"])
    wall = ints(table["wall_ns"])[words(table["run"]).among("benchmark")]
    return float((wall > SLOWER * np.median(wall)).mean())


def _reasons(run: Run) -> list[_Reason]:
    calls = run.calls
    events = (
        (
            "modules are loaded: code comes to the GPU when it is first used",
            "run each shape once before serving, or set CUDA_MODULE_LOADING=EAGER",
            ("load_module",),
        ),
        (
            "a CUDA graph is captured or instantiated",
            "build graphs before serving, once for each shape",
            ("build_graph",),
        ),
        ("memory is allocated or freed", "allocate buffers once, before serving", tuple(MEMORY)),
    )
    return [
        _Reason(
            "the profiler itself was at work, and not the program",
            "nothing: it does not happen without the profiler",
            run.profiler,
            of_profiler=True,
        ),
        *(
            _Reason(text + _whose(run, these := calls[calls.does.among(*does)]), remedy, these.time(), event=True)
            for text, remedy, does in events
        ),
        _Reason(
            "another process has the GPU",
            "give this process the GPU, or a partition of it",
            other_processes(run),
        ),
        _Reason(
            "launched work waits for an idle GPU, and this report does not say for what",
            "capture with --gpu-metrics-devices=all, which tells whether the GPU works for somebody else meanwhile",
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
