"""Whether times without the profiler are of what the trace holds, and which of them count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import drawn_loop
import numpy as np
import pytest
from drawing import table
from made_run import Request, loop, made

from nsight_tools.comparison.runs import ComparedRun
from nsight_tools.run import Run
from nsight_tools.summary import summarize
from nsight_tools.worth import Pricing, Untraced
from nsight_tools.worth.untraced import Known

if TYPE_CHECKING:
    import pyarrow as pa

    from nsight_tools.trace import Trace

COUNT = 20
LONG = Request(kernels=(200_000, 300_000), grid=64)


def traced(requests: list[Request] | None = None, **options: Any) -> Trace:
    rows = loop(requests or [Request()] * COUNT, **options)
    for number, row in enumerate(rows["nvtx_ranges"]):
        row["payload"] = number
    return made(rows)


def times(*walls: float, by: str = "host_clock", every: float | None = None, **columns: Any) -> pa.Table:
    """The untraced run of inferences that take so long, one behind the other, or one `every` so many nanoseconds."""
    start = np.cumsum([0, *walls[:-1]]) if every is None else np.arange(len(walls)) * every
    rows = [
        {"run": "benchmark", "measured_by": by, "inference": at, "start_ns": int(begin), "wall_ns": int(wall)} | columns
        for at, (begin, wall) in enumerate(zip(start, walls, strict=True))
    ]
    return table("benchmark", rows)


def wall_of(trace: Trace) -> float:
    requests = Run.of(trace).requests
    return float(np.median(requests.wall[requests.judged]))


@pytest.mark.parametrize("by", ["host_clock", "cuda_events", "trtexec", "runner"])
def test_who_measured_it_is_known(by: str) -> None:
    trace = traced()
    wall = wall_of(trace)
    given = trace.with_untraced(times(*[0.9 * wall] * COUNT, by=by, enqueue_ns=7), "times.json")
    known = Untraced.of(given)
    assert known is not None
    assert (known.wall, known.enqueue, known.requests, known.source) == (int(0.9 * wall), 7, COUNT, by)
    assert Pricing.of(given).untraced == known
    run = summarize(given).untraced_run
    assert run is not None
    assert (run.measured_by, run.inferences, run.file) == (by, COUNT, "times.json")
    assert (Known.of(trace), summarize(trace).untraced_run) == (Known(), None)


def test_another_untraced_run_takes_the_place_of_the_first_and_not_of_the_traced() -> None:
    trace = traced()
    timing = table("benchmark", [{"run": "timing", "inference": 0, "wall_ns": 5}])
    first = trace.with_untraced(timing, "x").with_untraced(times(*[100_000] * COUNT), "y")
    second = first.with_untraced(times(*[90_000] * 12), "z")
    assert second.rows("benchmark") == 13
    assert second.sql("SELECT count(*) AS n FROM benchmark WHERE run = 'timing'")["n"].to_pylist() == [1]
    assert trace.rows("benchmark") == 0


@pytest.mark.parametrize(
    ("share", "taken"), [(0.3, False), (0.6, True), (1.0, True), (1.45, True), (1.6, False), (9.0, False)]
)
def test_what_takes_far_longer_or_less_than_its_work_is_of_something_else(share: float, taken: bool) -> None:
    """The GPU works 160 of about 200 us for an inference."""
    trace = traced()
    wall = wall_of(trace)
    known = Known.of(trace.with_untraced(times(*[share * wall] * COUNT), "times.json"))
    assert (known.untraced is not None) is taken
    assert ("there and" in known.problem or "there, and its work" in known.problem) is not taken


@pytest.mark.parametrize(("every", "taken"), [(0.5, True), (1.0, True), (2.0, False)])
def test_of_several_under_way_the_period_is_held_against_the_traces(every: float, taken: bool) -> None:
    """Each takes four times as long as traced, as it waits for three others."""
    trace = traced()
    period = Run.of(trace).flow.period_ns
    rows = times(*[4 * every * period] * 40, every=every * period)
    assert (Known.of(trace.with_untraced(rows, "times.json")).untraced is not None) is taken


def test_of_several_populations_the_judged_one_counts_by_its_numbers() -> None:
    trace = traced([Request(), LONG] * COUNT)
    judged = Run.of(trace).requests.populations[0]
    assert (judged.count, len(Run.of(trace).requests.populations)) == (COUNT, 2)
    rows = times(*[150_000, 500_000] * COUNT, 1, 1, 1)  # it went on for longer than the trace
    known = Untraced.of(trace.with_untraced(rows, "times.json"))
    assert known is not None
    assert (known.requests, known.wall) == (COUNT, 500_000)


def test_a_block_that_does_not_wait_for_the_gpu_has_no_wall_by_the_hosts_clock() -> None:
    ahead = """
        nvtx 1:   [inference]..........
        thread 1: .L..................S
        stream 7: ......##############.
    """
    trace = drawn_loop.loop(ahead)
    rows = times(*[wall_of(trace)] * COUNT)
    known = Known.of(trace.with_untraced(rows, "times.json"))
    assert known.problem.startswith("nsight_tools.inference() ends before the GPU is done")
    by_events = Known.of(trace.with_untraced(times(*[wall_of(trace)] * COUNT, by="cuda_events"), "times.json"))
    assert by_events.untraced is not None


def test_few_inferences_say_nothing() -> None:
    known = Known.of(traced().with_untraced(times(*[100_000] * 5), "times.json"))
    assert known.problem == "it has 5 of the 10 inferences that are needed"


def test_a_program_as_a_whole_times_no_inference() -> None:
    rows = table("benchmark", [{"run": "program", "measured_by": "process", "wall_ns": 2_000_000}])
    given = traced().with_untraced(rows, "benchmark.parquet")
    assert Known.of(given) == Known(program=2_000_000.0)
    assert Untraced.of(given) is None


def test_a_comparison_takes_no_times_that_are_not_of_the_trace() -> None:
    trace = traced([Request()] * 40)
    wall = wall_of(trace)
    runs = [ComparedRun(trace.with_untraced(times(*[share * wall] * 40), "x")) for share in (0.9, 9.0)]
    assert [run.untraced.walls.size for run in runs] == [40, 0]
    assert [run.in_flight for run in runs] == [1.0, 1.0]
