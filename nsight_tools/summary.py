"""What a trace holds at a glance: all that text, page, JSON and fleet show of it beside its findings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nsight_tools.columns import ints, pairs_in, words
from nsight_tools.measured import Measured, measured
from nsight_tools.run import Run
from nsight_tools.run.layer_times import LayerTimes, layer_times
from nsight_tools.run.samples import locked
from nsight_tools.tables import BUCKETS, TABLES
from nsight_tools.timeline.intervals import covered
from nsight_tools.trace import as_trace
from nsight_tools.units import plural
from nsight_tools.worth import Pricing
from nsight_tools.worth.accounting import without_profiler
from nsight_tools.worth.ranges import Range
from nsight_tools.worth.untraced import Known
from nsight_tools.worth.untraced import Untraced as TimedRun

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from nsight_tools.columns import Bools, Ints
    from nsight_tools.run.limits import LayerLimit
    from nsight_tools.run.requests import Population
    from nsight_tools.trace import Trace


@dataclass(frozen=True)
class TimeOfKind:
    """How long one kind of GPU work kept a GPU busy: `share` of the window, over all GPUs; `count` None for idle."""

    kind: str
    count: int | None
    busy_ns: int
    share: float


@dataclass(frozen=True)
class Untraced:
    """Medians of the host's buckets and of the wall without the profiler, and how they are known."""

    source: str
    launch: Range
    sync: Range
    host: Range
    wall_ns: Range


@dataclass(frozen=True)
class UntracedRun:
    """The run without the profiler that a dataset has, or was given: who timed it, and of how many inferences."""

    measured_by: str
    """As in table `benchmark`: runner, host_clock, cuda_events, trtexec, process."""
    inferences: int
    """0 where they were not timed, or not taken."""
    file: str | None = None
    """The file that somebody gave."""
    problem: str = ""
    """Why its times are not taken."""
    program_ns: int | None = None
    """How long the program ran as a whole, where nothing else was timed."""


@dataclass(frozen=True)
class Times:
    """Times of the judged inferences, nanoseconds: medians and 99th percentiles by bucket, each by itself.

    They need not sum to those of the wall. The percentile is one that an inference had, not a value between two. While
    any inference is under way on a GPU, `at_a_time` are on average, and one ends each `every_ns`. Medians beside the
    buckets: the share in which a GPU works, copies that kernels hide, and the delay from a call's end to its work's
    start. `of` is how many inferences these are of; of the others, `without_work` launched nothing, `warm_up` lead
    what they belong to, and all that follow are of other populations.
    """

    of: int
    median: dict[str, int]
    p99: dict[str, int]
    wall_median_ns: int
    wall_p99_ns: int
    at_a_time: float
    every_ns: int
    without_work: int
    warm_up: int
    warm_up_ns: int
    """What the warm-up took beyond the median."""
    gpu_busy_share: float
    hidden_copy_ns: int
    queue_delay_ns: int
    untraced: Untraced | None = None
    period_ns: int | None = None
    """From one inference to the next, without the profiler as far as that is known; None where each is judged by what
    it takes itself."""


@dataclass(frozen=True)
class Summary:
    """A trace at a glance; None and empty where it does not say.

    Example:
        >>> from nsight_tools import summarize
        >>> summary = summarize("sample_traces/detector_pageable.sqlite")
        >>> summary.inferences, summary.times.wall_median_ns
        (50, 4005332)
    """

    source: str
    captured_by: str | None = None
    """Version of Nsight Systems, known of a report."""
    nsys_version: str | None = None
    """The same, else the exporter's."""
    schema_version: str | None = None
    driver: str | None = None
    cuda: str | None = None
    cpu: str | None = None
    os: str | None = None
    gpus: tuple[dict[str, Any], ...] = ()
    """Rows of the table: those with work, where any has."""
    clocks: tuple[str, ...] = ()
    """Clocks that are locked, in words."""
    duration_ns: int | None = None
    """Of the session."""
    window_ns: int | None = None
    """From the first GPU work to the last."""
    counts: dict[str, int] = field(default_factory=dict)
    """Rows by table."""
    inferences: int = 0
    inference_source: str | None = None
    inference_name: str = ""
    """The NVTX range that they are, without its numbers; empty where they are none."""
    other_name: str = ""
    """The best other candidate, as a name for --inference-range."""
    alike: float = 1.0
    """How regular iterations are that were found by themselves."""
    enqueues: int = 0
    """Enqueues of an inference, median."""
    engines: int = 0
    """Engines that enqueues ran."""
    populations: tuple[Population, ...] = ()
    streams: int = 0
    processes: int = 0
    """Streams and processes with GPU work."""
    time: tuple[TimeOfKind, ...] = ()
    times: Times | None = None
    """None without inferences."""
    layers_by_order: dict[str, Any] | None = None
    run: dict[str, Any] | None = None
    untraced_run: UntracedRun | None = None
    """None where there was none."""
    measured: Measured = field(default_factory=Measured)
    """All that was measured without the profiler."""
    layer_times: LayerTimes | None = None
    """None where TensorRT's own profiler measured none."""
    trtexec: dict[str, str] = field(default_factory=dict)
    """Of what trtexec wrote of a run without a trace: its files, by option. Empty for a trace."""
    timed: TimedRun | None = None
    """What the inferences of such a run took; None where it did not time them."""
    limits: tuple[LayerLimit, ...] = ()
    """What limits each layer, the longest first; empty without GPU metrics, and where they do not tell."""
    limits_notes: tuple[str, ...] = ()
    """What has to be known beside, or why they do not tell."""
    missing: dict[str, str] = field(default_factory=dict)
    """Reasons by table."""

    def __repr__(self) -> str:
        counted = f"{plural(self.inferences, 'inference')}, {plural(self.counts.get('kernels', 0), 'kernel')}"
        return f"<Summary {self.source}: {counted}>"


def summarize(trace: Trace | PathLike[str] | str) -> Summary:
    """The summary of a trace, or of the report at a path; the same object for all who ask, while the trace is held.

    Raises ArgumentError where it is neither, and what `open_trace` raises.

    Example:
        >>> from nsight_tools import summarize
        >>> summarize("sample_traces/detector_pageable.sqlite").counts["kernels"]
        6500
    """
    return as_trace(trace, "summarize").once(_summarized)


def _of_trtexec(trace: Trace) -> dict[str, str]:
    """The files that trtexec wrote of a run that nobody traced, by option; none of a trace."""
    files = trace.manifest.get("trtexec")
    return {str(option): str(name) for option, name in files.items()} if isinstance(files, dict) else {}


def _summarized(trace: Trace) -> Summary:
    manifest, run = trace.manifest, Run.of(trace)
    window, time = _time(run)
    gpus = trace.table("gpus").to_pylist()
    system, about, nsys = (manifest.get(name) or {} for name in ("system", "requests", "nsys"))
    requests = run.requests
    layers, notes = _limits(trace)
    return Summary(
        source=manifest["source"]["name"],
        captured_by=manifest["source"].get("captured_by"),
        nsys_version=manifest["source"].get("captured_by") or nsys.get("version"),
        schema_version=nsys.get("schema_version"),
        **{fact: system.get(fact) for fact in ("driver", "cuda", "cpu", "os")},
        gpus=tuple([gpu for gpu in gpus if gpu["device"] in run.gpus.devices] or gpus),
        duration_ns=(manifest.get("session") or {}).get("duration_ns"),
        window_ns=window,
        counts={name: trace.rows(name) for name in TABLES},
        inferences=len(requests),
        inference_source=" and ".join(sorted(requests.source.counts())) or None,
        inference_name=about.get("name") or "",
        other_name=about.get("other") or "",
        alike=about.get("alike") or 1.0,
        enqueues=round(float(np.median(requests.enqueues[requests.judged]))) if requests.judged.any() else 0,
        engines=len(trace.table("enqueues", ["engine"])["engine"].unique()),
        populations=requests.populations,
        streams=sum(_streams(run, device) for device in run.gpus.devices),
        processes=len({pid for pid, _ in run.threads}),
        time=time,
        times=_times(run),
        layers_by_order=manifest.get("layers_by_order"),
        clocks=_clocks(Run.of(trace)),
        run=manifest.get("run"),
        untraced_run=_untraced_run(trace),
        measured=measured(trace),
        layer_times=layer_times(trace) if trace.rows("layer_times") else None,
        trtexec=_of_trtexec(trace),
        timed=Known.of(trace).untraced if _of_trtexec(trace) else None,
        limits=layers,
        limits_notes=notes,
        missing={name: reason for name in TABLES if (reason := trace.missing(name)) is not None},
    )


def _limits(trace: Trace) -> tuple[tuple[LayerLimit, ...], tuple[str, ...]]:
    """What limits the layers, and what has to be known beside; nothing where GPU metrics were not sampled."""
    if not trace.rows("gpu_metrics"):
        return (), ()
    from nsight_tools.run.limits import notes, of_regions, why_no_limits

    why = why_no_limits(trace)
    return of_regions(trace), tuple(notes(trace)) if why is None else (f"what limits the layers is not known: {why}",)


def _clocks(run: Run) -> tuple[str, ...]:
    """What is locked; alike GPUs are said once."""
    locks = [locked(run, device) for device in run.gpus.devices]
    return tuple(dict.fromkeys(str(lock) for lock in locks if lock))


def _untraced_run(trace: Trace) -> UntracedRun | None:
    table = trace.table("benchmark", ["run", "measured_by"])
    by = words(
        table["measured_by"].filter(pc.is_in(table["run"].cast(pa.string()), pa.array(["benchmark", "program"])))
    )
    if not len(by.codes):
        return None
    known = Known.of(trace)
    return UntracedRun(
        next(iter(by.counts()), "runner"),
        known.untraced.requests if known.untraced else 0,
        trace.manifest.get("untraced_file"),
        known.problem,
        None if known.program is None else round(known.program),
    )


def _streams(run: Run, device: int) -> int:
    """How many streams of how many processes a GPU's work is on."""
    mine = run.work.device == device
    columns = (run.work.pid, run.work.stream) if mine.all() else (run.work.pid[mine], run.work.stream[mine])
    return len(pairs_in(*columns))


def _time(run: Run) -> tuple[int, tuple[TimeOfKind, ...]]:
    """The window from the first GPU work to the last, and for each kind of work how long it kept a GPU busy in it."""
    work, devices = run.work, run.gpus.devices
    if not len(work):
        return 0, ()
    known = ("kernel", "graph", "communication", "h2d", "d2h", "memset")
    groups = {
        "kernels": work.kind.among("kernel"),
        "communication": work.communicates,
        "graphs": work.kind.among("graph"),
        "h2d": work.kind.among("h2d"),
        "d2h": work.kind.among("d2h"),
        "other copies": ~work.kind.among(*known),
        "sets": work.kind.among("memset"),
    }
    window = int(work.end.max() - work.start.min())
    whole = max(window * len(devices), 1)

    def busy(chosen: Bools) -> int:
        here = [np.flatnonzero(chosen & (work.device == device)) for device in devices]
        return sum(covered(work.start[rows], work.end[rows]) for rows in here)

    rows = [
        TimeOfKind(name, int(chosen.sum()), ns := busy(chosen), ns / whole)
        for name, chosen in groups.items()
        if chosen.any()
    ]
    idle = window * len(devices) - sum(run.gpus.busy(device).total for device in devices)
    return window, (*rows, TimeOfKind("idle", None, idle, idle / whole))


def _times(run: Run) -> Times | None:
    requests = run.requests
    chosen = requests.judged
    if not chosen.any():
        return None
    inferences = run.trace.table("inferences").filter(pa.array(chosen))
    columns = {bucket: ints(inferences[f"{bucket}_ns"]) for bucket in BUCKETS}
    wall = ints(inferences["wall_ns"])
    pieces = sum(ints(inferences[name]) for name in ("kernels", "copies", "graphs"))
    median = round(float(np.median(wall)))
    return Times(
        of=int(chosen.sum()),
        median={bucket: round(float(np.median(values))) for bucket, values in columns.items()},
        p99={bucket: _p99(values) for bucket, values in columns.items()},
        wall_median_ns=median,
        wall_p99_ns=_p99(wall),
        at_a_time=run.flow.at_a_time,
        every_ns=run.flow.period_ns,
        without_work=int((~requests.counted).sum()),
        warm_up=int(requests.warm_up.sum()),
        warm_up_ns=int(np.maximum(requests.wall[requests.warm_up] - median, 0).sum()),
        untraced=_untraced(run.trace, columns, wall),
        period_ns=Pricing.of(run.trace).period_ns,
        gpu_busy_share=float(np.median(ints(inferences["gpu_busy_ns"]) / np.maximum(wall, 1))),
        hidden_copy_ns=round(float(np.median(ints(inferences["hidden_copy_ns"])))),
        queue_delay_ns=round(float(np.median(ints(inferences["queue_ns"]) / np.maximum(pieces, 1)))),
    )


def _p99(values: Ints) -> int:
    return int(np.percentile(values, 99, method="inverted_cdf"))


def _untraced(trace: Trace, columns: Mapping[str, Ints], wall: Ints) -> Untraced | None:
    """The run without the profiler; None where no API call was traced, or nothing tells."""
    if not trace.rows("api_calls"):
        return None
    pricing = Pricing.of(trace)
    cases = without_profiler(pricing, {**columns, "wall": wall})
    if not cases or pricing.wall is None:
        return None

    def span(name: str) -> Range:
        return Range(*sorted(round(float(np.median(getattr(case, name)))) for case in cases))

    whole, real = span("wall"), pricing.wall.wall
    if pricing.untraced is not None:  # whatever the trace says
        whole = Range(round(real.low), round(real.point), round(real.high))
    return Untraced(pricing.wall.source, span("launch"), span("sync"), span("host"), whole)
