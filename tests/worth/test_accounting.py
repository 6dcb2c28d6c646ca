"""Where the time of requests goes without the profiler."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from drawn_loop import REQUESTS, loop
from drawn_trace import drawn
from hypothesis import given
from hypothesis import strategies as st
from test_price import STARVED, THREADS

from nsight_tools.columns import ints
from nsight_tools.worth import Untraced
from nsight_tools.worth.accounting import without_profiler
from nsight_tools.worth.price import Pricing
from nsight_tools.worth.ranges import Range
from nsight_tools.worth.untraced import Wall

if TYPE_CHECKING:
    from nsight_tools.trace import Trace

NAMES = ("launch", "sync", "host", "wall")


def buckets_of(trace: Trace) -> dict[str, Any]:
    table = trace.table("inferences", [f"{name}_ns" for name in NAMES])
    return {name: ints(table[f"{name}_ns"]) for name in NAMES}


def told(real: Range, *, untraced: bool, per: str = "wall") -> Pricing:
    """What prices say of a wall, and nothing else."""
    known = Untraced(wall=real.point) if untraced else None
    return cast("Pricing", SimpleNamespace(wall=Wall(real, ""), per=per, untraced=known))


def test_a_replayed_wall_is_taken_out_of_what_the_host_does() -> None:
    trace = loop(STARVED)
    pricing, buckets = Pricing.of(trace), buckets_of(trace)
    assert pricing.wall is not None
    real = pricing.wall.wall
    traced = float(np.median(buckets["wall"]))
    assert real.point < traced
    for one, wall in zip(without_profiler(pricing, buckets), (real.low, real.point, real.high), strict=True):
        assert float(np.median(one.wall)) == pytest.approx(min(wall, traced))
        assert one.sync.tolist() == buckets["sync"].tolist()
        lost = buckets["launch"] + buckets["host"] - one.launch - one.host
        assert lost.tolist() == pytest.approx([traced - min(wall, traced)] * REQUESTS)


def test_an_untraced_wall_takes_the_place_of_the_estimate() -> None:
    trace = loop(STARVED)
    low, likely, high = without_profiler(Pricing.of(trace, Untraced(wall=323_000.0)), buckets_of(trace))
    assert [float(np.median(one.wall)) for one in (low, likely, high)] == pytest.approx(
        [323_000 * 0.985, 323_000, 323_000 * 1.015]
    )


def test_what_launch_and_host_do_not_hold_was_waited_for_where_an_untraced_run_says_so() -> None:
    buckets = {name: np.array([value]) for name, value in zip(NAMES, (60, 200, 30, 600), strict=True)}

    def after(real: int, *, untraced: bool) -> list[float]:
        one = without_profiler(told(Range(real, real, real), untraced=untraced), buckets)[1]
        return [float(each[0]) for each in (one.launch, one.host, one.sync, one.wall)]

    assert after(500, untraced=True) == [0, 0, 190, 500]
    assert after(500, untraced=False) == [0, 0, 200, 510]
    assert after(555, untraced=True) == pytest.approx([30, 15, 200, 555])
    assert after(700, untraced=True) == [60, 30, 200, 600]  # an untraced run that was slower takes nothing


@given(st.integers(1, 100), st.data())
def test_no_time_is_negative_and_all_else_stays(count: int, data: st.DataObject) -> None:
    times = st.lists(st.integers(0, 1_000_000), min_size=count, max_size=count)
    launch, host, sync, gpu = (np.array(data.draw(times)) for _ in range(4))
    buckets = {"launch": launch, "sync": sync, "host": host, "wall": launch + host + sync + gpu}
    ends = sorted(data.draw(st.lists(st.floats(0, 5e6), min_size=3, max_size=3)))
    untraced = data.draw(st.booleans())
    for real in without_profiler(told(Range(*ends), untraced=untraced), buckets):
        for bucket in (real.launch, real.host, real.sync):
            assert (bucket >= 0).all()
        assert real.launch + real.host + real.sync + gpu == pytest.approx(real.wall, abs=1e-3)
        assert (real.wall <= buckets["wall"] + 1e-6).all()
        if not untraced:
            assert (real.sync == sync).all()


def test_nothing_is_told_of_requests_that_overlap_or_are_not_there() -> None:
    several = loop(THREADS)
    assert without_profiler(Pricing.of(several), buckets_of(several)) == ()
    assert without_profiler(told(Range(1, 2, 3), untraced=True, per="period"), buckets_of(several)) == ()
    none = drawn("thread 1: L...\nstream 7: .##.")
    assert without_profiler(Pricing.of(none), {}) == ()
