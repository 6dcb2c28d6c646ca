"""What each of the two verdicts says of a change: drawn runs, and what was measured of them without the profiler."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from comparison.loops import jitter, loop
from drawing import table
from drawn_trace import drawn
from made_run import Request, made
from made_run import loop as serve

from nsight_tools import compare
from nsight_tools.comparison import Effect, Metric, Verdict, regressed
from nsight_tools.report.compared import said
from nsight_tools.worth.known import CAPTURES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsight_tools.comparison import Comparison
    from nsight_tools.trace import Trace


def compared(before: Trace, after: Trace) -> Comparison:
    return compare(before, after, names=("b", "a"), outcomes=([], []))


def verdicts(found: Comparison) -> tuple[Verdict, Verdict]:
    return found.throughput.verdict, found.latency.verdict


def aspects(found: Comparison, effect: Effect) -> list[str]:
    return [each.aspect for each in found.setup if each.effect is effect]


def ahead(kernels: list[int], depth: int) -> Trace:
    """A thread that never waits: it launches a request whenever one is done, and `depth` of them lie before the GPU."""
    stream, thread, ranges = "." * (depth * kernels[0]), "", ""
    for at, length in enumerate(kernels):
        stream += "#%"[at % 2] * length
        thread += "L" + "." * (length - 1)
        ranges += "[i]" + "." * (length - 3)
    return drawn(f"stream 7: {stream}\nthread 1: {thread}\nnvtx 1:   {ranges}")


def test_a_loop_that_waits_against_one_that_runs_ahead() -> None:
    """Each takes four times as long, and one is done in less time: the wall alone would call that slower."""
    waits, runs = loop(jitter(60, 20, seed=1)), ahead(jitter(60, 20, seed=2), 4)
    found = compared(waits, runs)
    assert found.leads is Metric.THROUGHPUT
    assert verdicts(found) == (Verdict.FASTER, Verdict.SLOWER)
    assert "inferences in flight" in aspects(found, Effect.CHANGE)
    assert not found.blocking
    assert found.after.in_flight == pytest.approx(5, abs=0.5)
    assert verdicts(compared(runs, waits)) == (Verdict.SLOWER, Verdict.FASTER)
    assert [regressed(found, 5, each) for each in (None, "throughput", "latency", "both")] == [False, False, True, True]


def requests(count: int = 40, seed: int = 0, **options: Any) -> list[Request]:
    """Requests that differ from each other by a percent of their kernels and of what lies between them."""
    usual, random = Request(**options), np.random.default_rng(seed)
    spread = 1 + 0.01 * random.standard_normal((count, 2))
    return [
        replace(usual, kernels=tuple(round(each * one) for each in usual.kernels), gap=round(usual.gap * other))
        for one, other in spread.tolist()
    ]


def threads(count: int, **options: Any) -> Trace:
    """So many threads, with a stream each, that serve requests beside each other."""
    return made(
        *(
            serve(requests(seed=at, **options), tid=1 + at, stream=7 + at, start=1_000_000 + 37_000 * at)
            for at in range(count)
        )
    )


def test_four_threads_against_one() -> None:
    """As long for each, and four times as many: as if the GPU had room for all."""
    found = compared(threads(1), threads(4))
    assert found.leads is Metric.THROUGHPUT
    assert found.throughput.verdict is Verdict.FASTER
    assert found.throughput.difference is not None
    assert found.throughput.difference.relative(found.throughput.difference.difference) == pytest.approx(-0.75, abs=0.1)
    assert {"inferences in flight", "streams that inferences take turns on"} <= {*aspects(found, Effect.CHANGE)}


def test_what_the_profiler_may_have_made_is_undecided() -> None:
    """The launches of one are its limit, and a microsecond of each may be the profiler's; of the other the GPU is."""
    many = made(serve(requests(kernels=(2_000,) * 60)))
    few = made(serve(requests(kernels=(10_500,) * 20)))
    found = compared(many, few)
    assert found.latency.traced is not None
    assert found.latency.traced.high is not None
    assert found.latency.traced.high < 0
    assert found.latency.verdict is Verdict.UNDECIDED
    assert found.latency.why == "all of it may be the profiler's own"
    assert regressed(found, 5) is None
    assert regressed(found, 400) is False


def test_the_same_launches_of_other_kernels_are_told_by_their_traces() -> None:
    long, short = (made(serve(requests(seed=at, kernels=(each,) * 3))) for at, each in ((1, 60_000), (2, 50_000)))
    assert verdicts(compared(long, short)) == (Verdict.FASTER, Verdict.FASTER)
    assert verdicts(compared(long, made(serve(requests(seed=3, kernels=(60_000,) * 3))))) == (Verdict.NOISE,) * 2


def measured(
    trace: Trace, wall: float, every: float, count: int = 100, seed: int = 0, calls: int | None = None
) -> Trace:
    """With an untraced run of walls around one, which are done `every` so many nanoseconds; `calls` are the host's."""
    spread = 1 + 0.002 * np.random.default_rng(seed).standard_normal(count)
    rows = [
        {
            "run": "benchmark",
            "measured_by": "runner",
            "inference": at,
            "start_ns": round(at * every),
            "wall_ns": each,
            "enqueue_ns": calls,
        }
        for at, each in enumerate(np.round(wall * spread).astype(np.int64).tolist())
    ]
    return trace.with_untraced(table("benchmark", rows), "times.json")


def test_untraced_runs_of_both_are_the_verdict() -> None:
    """As traced both streams' launches hold four streams back; without the profiler one is done in half the time."""
    before = measured(threads(1), 190_000, 205_000)
    after = measured(threads(4), 220_000, 60_000, seed=1)
    found = compared(before, after)
    assert verdicts(found) == (Verdict.FASTER, Verdict.SLOWER)
    assert {each.source for each in found.judgements} == {"untraced"}
    assert found.throughput.difference is not None
    assert found.throughput.difference.after == pytest.approx(60_000, rel=0.01)
    assert found.after.in_flight == pytest.approx(220 / 60, rel=0.1)


def test_what_two_runs_of_the_same_differ_by_is_noise() -> None:
    """However sure each run is of its own: less than that says nothing."""
    before = measured(threads(1), 190_000, 205_000)
    within, beyond = (measured(threads(1), 190_000 * (1 + share * CAPTURES), 205_000, seed=1) for share in (0.9, 1.2))
    assert compared(before, within).latency.verdict is Verdict.NOISE
    assert compared(before, beyond).latency.verdict is Verdict.SLOWER


@pytest.mark.parametrize(
    ("calls", "verdict"),
    [
        (165_000, Verdict.NOISE),  # the same calls took 15 us longer, as the walls did
        (150_000, Verdict.SLOWER),  # they did not
        (140_000, Verdict.SLOWER),  # the host was faster
        (None, Verdict.SLOWER),  # nobody measured them
    ],
)
def test_a_host_that_was_slower_for_the_same_calls_is_no_change(calls: int | None, verdict: Verdict) -> None:
    before = measured(threads(1), 190_000, 205_000, calls=150_000)
    found = compared(before, measured(threads(1), 205_000, 220_000, seed=1, calls=calls))
    assert verdicts(found) == (verdict, verdict)
    assert ("the host took 15.0 µs longer for the same calls" in said(found.latency)) == (verdict is Verdict.NOISE)


def test_a_host_that_is_slower_by_more_than_from_run_to_run_is_slower() -> None:
    before = measured(threads(1), 190_000, 205_000, calls=150_000)
    assert compared(before, measured(threads(1), 260_000, 275_000, seed=1, calls=220_000)).latency.verdict is (
        Verdict.SLOWER
    )


def test_fewer_calls_that_take_less_are_a_change() -> None:
    before = measured(made(serve(requests(kernels=(20_000,) * 9))), 190_000, 205_000, calls=150_000)
    after = measured(made(serve(requests(kernels=(20_000,) * 6))), 175_000, 190_000, seed=1, calls=135_000)
    assert compared(before, after).latency.verdict is Verdict.FASTER


def test_one_untraced_run_is_held_against_an_estimate() -> None:
    found = compared(measured(threads(1), 190_000, 205_000), made(serve(requests(seed=1, kernels=(80_000,) * 6))))
    assert found.latency.source == "mixed"
    assert found.latency.difference is not None
    assert found.latency.difference.before == pytest.approx(190_000, rel=0.01)
    assert found.latency.verdict is Verdict.SLOWER


def test_times_of_another_program_are_not_taken_and_that_is_said() -> None:
    found = compared(measured(threads(1), 900_000, 905_000), threads(1))
    assert found.latency.source == "trace"
    assert any(each.startswith("what BEFORE takes without the profiler: one takes 900 ") for each in found.untold)


def paced(every: int, kernels: int, seed: int) -> Trace:
    """Requests that a clock asks for: each begins a moment behind its beat, whatever the one before it took."""
    random = np.random.default_rng(seed)
    lines = {"stream 7": "", "thread 1": "", "nvtx 1": ""}
    for length in (kernels + random.integers(-2, 3, 40)).tolist():
        rest = every - length - 6
        lines["stream 7"] += "..." + "#" * length + "..." + "." * rest
        lines["thread 1"] += ".LS" + "S" * length + "S.." + "." * rest
        lines["nvtx 1"] += "[i" + "." * (length + 1) + "].." + "." * rest
    return drawn("\n".join(f"{label + ':':<10} {line}" for label, line in lines.items()))


def test_requests_at_a_pace_have_a_latency_and_no_throughput() -> None:
    found = compared(paced(120, 40, 1), paced(120, 20, 2))
    assert verdicts(found) == (Verdict.NOT_COMPARABLE, Verdict.FASTER)
    assert found.throughput.why == "pace"
    (pace,) = [each for each in found.setup if each.aspect == "pace"]
    assert pace.blocks == (Metric.THROUGHPUT,)
    assert pace.before.startswith("every 120 ")
    assert found.leads is Metric.LATENCY
    assert [regressed(found, 5, each) for each in (None, "throughput", "both")] == [False, None, None]


def test_throughput_is_that_of_a_gpu() -> None:
    """Two GPUs serve twice as many; each serves as many as before."""
    two = made(
        *(
            serve(requests(seed=at), tid=1 + at, device=at, stream=7 + at, start=1_000_000 + 37_000 * at)
            for at in (0, 1)
        )
    )
    found = compared(threads(1), two)
    assert found.throughput.traced is not None
    assert found.throughput.traced.relative(found.throughput.traced.difference) == pytest.approx(0, abs=0.02)
    assert "GPUs" in aspects(found, Effect.CHANGE)


def mixed(seed: int, *kinds: tuple[int, int]) -> Trace:
    """Kinds of requests by turns, each by its grid and the length of its kernels."""
    random = np.random.default_rng(seed)

    def each() -> Iterable[Request]:
        for _ in range(40):
            for grid, length in kinds:
                yield Request(kernels=(round(length * (1 + 0.01 * random.standard_normal())),) * 3, grid=grid)

    return made(serve(each()))


def test_each_kind_of_request_has_its_verdicts() -> None:
    """The large ones are as before, the small ones take twice as long, and come first on the other side."""
    found = compared(mixed(1, (512, 90_000), (16, 40_000)), mixed(2, (16, 80_000), (512, 90_000)))
    assert [each.name for each in found.populations] == ["1: 3 kernels", "2: 3 kernels"]
    large, small = found.populations
    assert (large.latency.verdict, small.latency.verdict) == (Verdict.NOISE, Verdict.SLOWER)
    assert (large.latency.difference, found.latency.verdict) == (found.latency.difference, Verdict.NOISE)
    assert small.latency.difference is not None
    assert small.latency.difference.relative(small.latency.difference.difference) == pytest.approx(0.7, abs=0.15)
    assert (small.before, small.after) == (40, 40)
    assert compared(threads(1), threads(1)).populations == ()
