from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsight_tools.timeline.intervals import Intervals, at_a_time, shared

times = st.integers(-20, 40)
raw = st.lists(st.tuples(times, times), max_size=12)
points = np.arange(-25, 45)


def columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of pairs, or of the runs of `#` in a drawing where one character is one nanosecond."""
    both = np.array(pairs, np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def drawn(picture: str) -> Intervals:
    marks = [at for at, symbol in enumerate(picture) if symbol == "#"]
    return Intervals.union(np.array(marks, np.int64), np.array(marks, np.int64) + 1)


def picture(intervals: Intervals, width: int) -> str:
    return "".join("#" if inside else "." for inside in intervals.contains(np.arange(width)))


def instants(intervals: Intervals) -> set[int]:
    """The set, nanosecond by nanosecond; fails if the intervals are not the maximal ones."""
    assert intervals.start.dtype == intervals.end.dtype == np.int64
    assert (intervals.end > intervals.start).all()
    assert (intervals.start[1:] > intervals.end[:-1]).all()
    return {t for lo, hi in zip(intervals.start, intervals.end, strict=True) for t in range(lo, hi)}


def plain(pairs: list[tuple[int, int]]) -> set[int]:
    return {t for lo, hi in pairs for t in range(lo, hi)}


def test_union_merges_what_overlaps_and_what_touches() -> None:
    line = Intervals.union([8, 0, 3, 2, 12, 14], [9, 3, 5, 3, 12, 13])
    assert picture(line, 16) == "#####...#......."
    assert line.start.tolist() == [0, 8]
    assert line.total == 6


def test_a_long_interval_hides_the_short_ones_after_it() -> None:
    assert Intervals.union([0, 1, 8], [10, 2, 12]).end.tolist() == [12]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("intersection", "..#....#........"),
        ("subtract", "##.............."),
    ],
)
def test_two_sets(name: str, expected: str) -> None:
    one, other = drawn("###....#........"), drawn("..####.##.......")
    assert picture(getattr(one, name)(other), 16) == expected


def test_gaps_complement_and_clip() -> None:
    line = drawn("..##...###..#...")
    assert picture(line.gaps(), 16) == "....###...##...."
    assert picture(line.complement(0, 16), 16) == "##..###...##.###"
    assert picture(line.complement(3, 8), 16) == "....###........."
    assert picture(line.clip(3, 8), 16) == "...#...#........"


def test_coverage_of_windows() -> None:
    line = drawn("..##...###..#...")
    assert line.coverage([0, 3, 5, 8, 13, 9], [16, 8, 5, 10, 16, 2]).tolist() == [6, 2, 0, 2, 0, 0]


def test_shared_time() -> None:
    #       0 ######....
    #       2 ..####....      and a third one that begins when it ends
    #       6 ......##..
    assert picture(shared([0, 2, 6], [8, 6, 8]), 10) == "..######.."
    assert len(shared([0, 2, 6], [8, 6, 8])) == 1


def test_the_empty_set() -> None:
    nothing = Intervals.union([], [])
    assert (len(nothing), nothing.total, len(nothing.gaps()), len(shared([], []))) == (0, 0, 0, 0)
    assert instants(nothing.complement(2, 5)) == {2, 3, 4}
    assert nothing.coverage([0], [9]).tolist() == [0]
    assert not nothing.contains([1]).any()
    assert len(nothing.subtract(drawn("##"))) == len(nothing.intersection(drawn("##"))) == 0
    assert len(drawn("##").intersection(nothing)) == 0
    assert instants(drawn("##").subtract(nothing)) == {0, 1}


def test_nanoseconds_beyond_what_a_float_holds() -> None:
    day = 2**60 + 1
    assert Intervals.union([day], [day + 1]).coverage([0], [2**62]).tolist() == [1]


@given(raw, raw, times, times)
def test_sets_agree_with_sets_of_nanoseconds(
    one: list[tuple[int, int]], other: list[tuple[int, int]], lo: int, hi: int
) -> None:
    a, b = Intervals.union(*columns(one)), Intervals.union(*columns(other))
    mine, theirs, window = plain(one), plain(other), set(range(lo, hi))
    assert instants(a) == mine
    assert a.total == len(mine)
    assert instants(a.intersection(b)) == mine & theirs
    assert instants(a.subtract(b)) == mine - theirs
    assert instants(a.complement(lo, hi)) == window - mine
    assert instants(a.clip(lo, hi)) == window & mine
    assert instants(a.gaps()) == (set(range(min(mine), max(mine))) - mine if mine else set())
    assert {t for t, inside in zip(points, a.contains(points), strict=True) if inside} == mine
    starts, ends = columns(other)
    assert a.coverage(starts, ends).tolist() == [len(mine & set(range(s, e))) for s, e in other]


@given(raw)
def test_shared_time_agrees_with_counting(pairs: list[tuple[int, int]]) -> None:
    both = shared(*columns(pairs))
    assert instants(both) == {t for t in points if sum(lo <= t < hi for lo, hi in pairs) >= 2}


@given(raw)
def test_how_many_are_under_way_agrees_with_counting(pairs: list[tuple[int, int]]) -> None:
    under_way = [sum(lo <= t < hi for lo, hi in pairs) for t in plain(pairs)]
    assert at_a_time(*columns(pairs)) == pytest.approx(np.mean(under_way or [1]))


def test_any_of_several_sets() -> None:
    one, other = Intervals.union([0, 10], [5, 15]), Intervals.union([4, 20], [8, 30])
    found = Intervals.any_of([one, other])
    assert (found.start.tolist(), found.end.tolist()) == ([0, 10, 20], [8, 15, 30])
    assert Intervals.any_of([]).total == 0
    assert Intervals.any_of([]).start.dtype == np.int64
