"""Sequences and lanes against what a viewer does with them: a stack for each lane."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsight_tools.timeline.lanes import lanes, sequence

SLICES = st.lists(
    st.tuples(st.integers(0, 2), st.integers(-5, 30), st.integers(0, 12)), max_size=40
)  # track, start, length


def columns(slices: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    array = np.array(slices, np.int64).reshape(-1, 3)
    return array[:, 0], array[:, 1], array[:, 1] + array[:, 2]


@pytest.mark.parametrize("nest", [True, False])
@given(slices=SLICES)
def test_a_stack_for_each_lane_holds(nest: bool, slices: list[tuple[int, int, int]]) -> None:
    track, start, end = columns(slices)
    happens = sequence(start, end)
    lane = lanes(happens, track, nest=nest)
    times = np.concatenate([start, end])[happens]
    assert (times[1:] >= times[:-1]).all()
    stacks: dict[tuple[int, int], list[int]] = defaultdict(list)
    for code in happens.tolist():
        row = code % len(slices)
        stack = stacks[int(track[row]), int(lane[row])]
        if code < len(slices):
            assert nest or not stack or start[row] == end[row]
            stack.append(row)
        else:
            assert stack.pop() == row
    assert not any(stacks.values())


@given(slices=SLICES)
def test_no_more_lanes_than_slices_open_at_once(slices: list[tuple[int, int, int]]) -> None:
    slices = [(track, start, length + 1) for track, start, length in slices]
    track, start, end = columns(slices)
    lane = lanes(sequence(start, end), track, nest=False)
    for one in set(track.tolist()):
        mine = track == one
        open_at_once = max(int(((start <= t) & (t < end) & mine).sum()) for t in start[mine].tolist())
        assert sorted(set(lane[mine].tolist())) == list(range(open_at_once))


@given(slices=SLICES)
def test_what_nests_lies_on_one_lane(slices: list[tuple[int, int, int]]) -> None:
    """Only what overlaps without nesting, or touches such a stretch, leaves lane 0."""
    track, start, end = columns(slices)
    lane = lanes(sequence(start, end), track, nest=True)

    def crosses(a: int, b: int) -> bool:
        return track[a] == track[b] and start[a] < start[b] < end[a] < end[b]

    for one in set(track.tolist()):
        mine = np.flatnonzero(track == one).tolist()
        if not any(crosses(a, b) for a in mine for b in mine):
            assert not lane[mine].any()


def test_none() -> None:
    none = np.zeros(0, np.int64)
    assert sequence(none, none).size == lanes(none, none, nest=True).size == 0
