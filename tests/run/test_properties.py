"""What holds of every run: nothing about the rest changes a number about the requests that are judged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from made_run import Request, loop, made

from nsight_tools.analysis import analyze
from nsight_tools.run import Run
from nsight_tools.summary import summarize

if TYPE_CHECKING:
    from nsight_tools.trace import Trace

FEW = settings(max_examples=6, phases=set(Phase) - {Phase.shrink})  # each imports two traces

KERNELS = st.lists(st.integers(5_000, 200_000), min_size=1, max_size=5).map(tuple)


@st.composite
def steady(draw: Any, fewest: int = 12) -> list[Request]:
    """Requests of one population; what the host does varies, and nobody stands out."""
    usual = Request(
        draw(KERNELS),
        up=draw(st.integers(1_000, 50_000)),
        down=draw(st.integers(1_000, 50_000)),
        host=draw(st.integers(1_000, 50_000)),
        gap=draw(st.integers(1_000, 60_000)),
    )
    varies = draw(st.lists(st.integers(0, 4), min_size=fewest, max_size=30))
    return [replace(usual, host=usual.host + usual.host * at // 100) for at in varies]


def numbers(trace: Trace) -> dict[str, Any]:
    """What is said about the judged requests, each number by its name."""
    run, times = Run.of(trace), summarize(trace).times
    assert times is not None
    found: dict[str, Any] = {
        name: getattr(times, name)
        for name in ("of", "median", "p99", "wall_median_ns", "wall_p99_ns", "gpu_busy_share", "hidden_copy_ns")
    }
    found |= {"queue_delay_ns": times.queue_delay_ns, "at_a_time": times.at_a_time, "window": run.window_ns}
    found |= {f"busy {gpu}": run.gpus.busy(gpu).intersection(run.window).total for gpu in run.gpus.devices}
    found |= {f"idle {gpu}": run.gpus.idle(gpu).total for gpu in run.gpus.devices}
    copies = run.copies[run.judges(run.copies.inference)]
    return found | {"exposed": run.gpus.exposed(copies), "occupied": run.host_occupied}


def same(before: Trace, after: Trace) -> None:
    """Whatever was added changes no number; the period is a mean over one completion more or less."""
    assert numbers(after) == numbers(before)
    first, second = Run.of(before).flow, Run.of(after).flow
    assert second.period_ns == pytest.approx(first.period_ns, rel=0.02)
    assert second.between.each_ns == pytest.approx(first.between.each_ns, abs=2)


@FEW
@given(steady(), st.integers(5, 100), st.booleans())
def test_a_slow_first_request(requests: list[Request], times: int, marked: bool) -> None:
    first = replace(requests[0], host=times * 300_000 + times * sum(requests[0].kernels))
    before, after = made(loop(requests, marked=marked)), made(loop([first, *requests], marked=marked))
    same(before, after)
    assert Run.of(after).flow.between.regular == Run.of(before).flow.between.regular
    said = summarize(after).times
    assert said is not None
    assert said.warm_up == 1


@FEW
@given(steady(), st.data(), st.integers(50, 1000))
def test_a_pause(requests: list[Request], data: st.DataObject, milliseconds: int) -> None:
    at = data.draw(st.integers(1, len(requests) - 1))
    paused = [*requests]
    paused[at] = replace(requests[at], gap=milliseconds * 1_000_000)
    before, after = made(loop(requests)), made(loop(paused))
    same(before, after)
    assert Run.of(after).flow.between.regular == Run.of(before).flow.between.regular


@FEW
@given(steady(), st.data())
def test_a_second_population(requests: list[Request], data: st.DataObject) -> None:
    """Another engine or another shape that takes less of the time, before, behind or in between."""
    lengths = tuple(length // 3 for length in requests[0].kernels)
    other = replace(requests[0], kernels=lengths, grid=64, up=requests[0].up // 3, host=requests[0].host // 3)
    places = data.draw(st.lists(st.integers(0, len(requests)), min_size=5, max_size=len(requests)))
    both = [*requests]
    for place in sorted(places, reverse=True):
        both.insert(place, other)
    before, after = made(loop(requests)), made(loop(both))
    same(before, after)
    assert len(Run.of(after).requests.populations) == 2


@FEW
@given(steady(), st.integers(2, 6), st.integers(0, 100_000))
def test_several_beside_each_other(requests: list[Request], count: int, later: int) -> None:
    """Threads with a stream each: whatever runs at once, it fills no more time than there is."""
    trace, single = made(*_beside(requests, count, later)), made(loop(requests))
    run, alone = Run.of(trace), Run.of(single)
    assert run.count == count * len(requests)
    (gpu,) = run.gpus.devices
    for line in (run.gpus.busy(gpu), run.gpus.computing(gpu)):
        assert line.intersection(run.window).total <= run.window_ns
    assert run.gpus.exposed(run.copies) <= run.window_ns
    assert max(run.occupied.values()) <= run.window_ns
    assert run.flow.at_a_time <= count
    said = summarize(trace)
    assert sum(one.share for one in said.time if one.kind == "idle") <= 1
    assert all(one.share <= 1 for one in said.time)
    # One is done as often as that many threads are.
    assert run.flow.period_ns == pytest.approx(alone.flow.period_ns / count, rel=0.01)


def _beside(requests: list[Request], count: int, later: int) -> list[Any]:
    return [
        loop(requests, start=1_000_000 + each * later, tid=each + 1, stream=each + 7, marked=True)
        for each in range(count)
    ]


@FEW
@given(steady(), st.integers(0, 100_000), st.booleans())
def test_two_gpus_that_do_the_same(requests: list[Request], later: int, marked: bool) -> None:
    """A process each: what is said of a GPU is what is said of one that works alone."""
    single = made(loop(requests, marked=marked))
    other = loop(requests, pid=2000, tid=2, device=1, start=1_000_000 + later, marked=marked)
    both = made(loop(requests, marked=marked), other)
    one, two = Run.of(single), Run.of(both)
    first, second = summarize(single).times, summarize(both).times
    assert first is not None
    assert second is not None
    assert replace(second, of=first.of, untraced=None) == replace(first, untraced=None)
    assert two.flow.at_a_time == one.flow.at_a_time
    assert two.flow.period_ns == one.flow.period_ns
    between = two.flow.between
    assert (between.total_ns, between.count) == (2 * one.flow.between.total_ns, 2 * one.flow.between.count)
    for gpu in two.gpus.devices:
        own = two.gpus.busy(gpu).total
        assert own == one.gpus.busy(0).total
    assert two.gpus.exposed(two.copies) == 2 * one.gpus.exposed(one.copies)


# What findings promise


def worths(trace: Trace) -> dict[tuple[str, int], int]:
    """What each finding that promises anything says of one inference, by its code and place among its rule's."""
    found: dict[tuple[str, int], int] = {}
    for outcome in analyze(trace):
        for place, finding in enumerate(outcome.findings):
            if finding.recoverable_ns_per_inference is not None:
                found[finding.code, place] = finding.recoverable_ns_per_inference
    return found


@FEW
@given(steady(fewest=20), st.data())
def test_what_is_added_promises_nothing(requests: list[Request], data: st.DataObject) -> None:
    """Neither a slow first request, nor a pause, nor a second population: what they cost is a note at most."""
    lengths = tuple(length // 3 for length in requests[0].kernels)
    other = replace(requests[0], kernels=lengths, grid=64, up=requests[0].up // 3, host=requests[0].host // 3)
    at = data.draw(st.integers(1, len(requests) - 1))
    slow, paused = replace(requests[0], host=20_000_000), replace(requests[at], gap=200_000_000)
    before = worths(made(loop(requests)))
    for changed in (
        [slow, *requests],
        [*requests[:at], paused, *requests[at + 1 :]],
        [*[other] * 10, *requests],
    ):
        after = worths(made(loop(changed)))
        assert after.keys() == before.keys()
        assert all(after[code] == pytest.approx(before[code], rel=2 / len(requests)) for code in before)


@FEW
@given(steady(), st.integers(1, 6), st.integers(0, 100_000))
def test_nothing_is_worth_more_than_the_period(requests: list[Request], count: int, later: int) -> None:
    trace = made(*_beside(requests, count, later))
    period = Run.of(trace).flow.period_ns
    assert all(worth <= period for worth in worths(trace).values())
    shares = [
        piece.value
        for outcome in analyze(trace)
        for finding in outcome.findings
        for piece in finding.evidence
        if piece.unit == "ratio" and "share" in piece.metric and not isinstance(piece.value, str)
    ]
    assert all(0 <= one <= 1 for one in shares)


@FEW
@given(steady(), st.integers(0, 100_000))
def test_two_gpus_that_do_the_same_are_promised_the_same(requests: list[Request], later: int) -> None:
    other = loop(requests, pid=2000, tid=2, device=1, start=1_000_000 + later)
    one, two = worths(made(loop(requests))), worths(made(loop(requests), other))
    assert two.keys() == one.keys()
    assert all(two[code] == pytest.approx(one[code], abs=2) for code in one)
