from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nsight_tools.timeline.attribution import (
    graph_node_creation,
    innermost,
    match_calls,
    nesting,
)

Range = tuple[int, int, int]
ranges_of = st.lists(
    st.tuples(st.integers(0, 15), st.integers(0, 8), st.integers(0, 1)).map(lambda r: (r[0], r[0] + r[1], r[2])),
    max_size=14,
)
spots = st.lists(st.tuples(st.integers(-1, 25), st.integers(0, 2)), max_size=10)


def columns(rows: list[tuple[int, ...]], width: int) -> tuple[np.ndarray, ...]:
    return tuple(np.array(rows, np.int64).reshape(-1, width).T)


def plain_nesting(rows: list[Range]) -> tuple[list[int], list[int]]:
    """Of the rows that come before in (start, -end, row) and enclose the row, the last is its parent."""
    order = sorted(range(len(rows)), key=lambda row: (rows[row][0], -rows[row][1], row))
    parent = [-1] * len(rows)
    for place, row in enumerate(order):
        for before in order[:place]:
            if rows[before][2] == rows[row][2] and rows[before][1] >= rows[row][1]:
                parent[row] = before
    depth = [0] * len(rows)
    for row in order:
        depth[row] = depth[parent[row]] + 1 if parent[row] >= 0 else 0
    return depth, parent


def plain_innermost(rows: list[Range], points: list[tuple[int, int]]) -> list[int]:
    order = sorted(range(len(rows)), key=lambda row: (rows[row][0], -rows[row][1], row))
    return [
        ([-1] + [row for row in order if rows[row][2] == thread and rows[row][0] <= time < rows[row][1]])[-1]
        for time, thread in points
    ]


def test_ranges_in_ranges() -> None:
    rows = [
        (0, 20, 1),  # 0 [                  ]
        (0, 9, 1),  #  1 [       ]
        (2, 5, 1),  #  2   [ ]
        (5, 9, 1),  #  3      [  ]            touches 2: its sibling
        (10, 20, 1),  # 4          [        ]
        (3, 4, 2),  #  5    another thread
    ]
    depth, parent = nesting(*columns(rows, 3))
    assert depth.tolist() == [0, 1, 2, 2, 1, 0]
    assert parent.tolist() == [-1, 0, 1, 1, 0, -1]


def test_identical_ranges_nest_in_order_of_rows() -> None:
    depth, parent = nesting([3, 3, 3], [7, 7, 7], [1, 1, 1])
    assert (depth.tolist(), parent.tolist()) == ([0, 1, 2], [-1, 0, 1])


def test_ranges_that_overlap_in_part_do_not_enclose_each_other() -> None:
    rows = [
        (0, 10, 1),  # 0 [        ]
        (5, 15, 1),  # 1      [        ]
        (6, 9, 1),  #  2       [ ]        in both: in the one that starts last
        (11, 14, 1),  # 3           [ ]
        (7, 12, 1),  # 4        [   ]     ends after 0 does
    ]
    depth, parent = nesting(*columns(rows, 3))
    assert parent.tolist() == [-1, -1, 1, 1, 1]
    assert depth.tolist() == [0, 0, 1, 1, 1]


def test_the_innermost_range_around_a_point() -> None:
    start, end, thread = columns([(0, 20, 1), (2, 8, 1), (4, 4, 1), (4, 6, 1)], 3)
    _, parent = nesting(start, end, thread)
    point = np.array([-1, 0, 3, 4, 5, 6, 8, 19, 20])
    found = innermost(start, end, thread, parent, point, np.ones(9))
    assert found.tolist() == [-1, 0, 1, 3, 3, 1, 0, 0, -1]
    assert innermost(start, end, thread, parent, point, np.full(9, 2)).tolist() == [-1] * 9


def test_a_deep_stack_and_a_long_row_of_siblings() -> None:
    n = 3000
    depth, parent = nesting(np.arange(n), 2 * n - np.arange(n), np.zeros(n))
    assert depth.tolist() == list(range(n))
    depth, parent = nesting(np.arange(n), np.append(n, np.arange(1, n) + 1), np.zeros(n))
    assert depth.tolist() == [0] + [1] * (n - 1)
    assert parent.tolist() == [-1] + [0] * (n - 1)


@given(ranges_of, spots)
def test_nesting_agrees_with_the_plain_loop(rows: list[Range], points: list[tuple[int, int]]) -> None:
    start, end, thread = columns(rows, 3)
    depth, parent = nesting(start, end, thread)
    assert (depth.tolist(), parent.tolist()) == plain_nesting(rows)
    inside = innermost(start, end, thread, parent, *columns(points, 2))
    assert inside.tolist() == plain_innermost(rows, points)


def test_calls_match_within_their_process_and_the_first_row_wins() -> None:
    calls = [(1, 7), (1, 8), (1, 8), (2, 7), (1, -1)]
    work = [(1, 8), (2, 7), (1, 7), (2, 8), (1, -1), (3, 7)]
    assert match_calls(*columns(work, 2), *columns(calls, 2)).tolist() == [1, 3, 0, -1, -1, -1]


@given(*[st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 6)), max_size=12)] * 2)
def test_matching_agrees_with_the_plain_loop(work: list[tuple[int, int]], calls: list[tuple[int, int]]) -> None:
    expected = [calls.index(one) if one[1] != -1 and one in calls else -1 for one in work]
    assert match_calls(*columns(work, 2), *columns(calls, 2)).tolist() == expected


def test_kernels_of_a_graph_lead_to_the_capture_of_their_node() -> None:
    nodes = [  # pid, start, node, original
        (1, 100, 10, -1),  # 0 captured
        (1, 110, 11, -1),  # 1
        (1, 200, 20, 10),  # 2 instantiated from 0
        (1, 210, 21, 11),  # 3 instantiated from 1
        (1, 300, 30, 20),  # 4 a clone of a clone
        (2, 100, 10, -1),  # 5 another process
        (1, 400, 40, 99),  # 6 its original has no row
        (1, 500, 50, 51),  # 7 and 8 go round in a circle
        (1, 500, 51, 50),
        (1, 90, 11, -1),  # 9 the same node as 1, earlier
    ]
    kernels = [(1, 20), (1, 30), (1, 21), (2, 10), (1, 10), (1, 40), (1, 50), (1, -1), (2, 20), (7, 10)]
    found = graph_node_creation(*columns(nodes, 4), *columns(kernels, 2))
    assert found.tolist() == [0, 0, 9, 5, 0, -1, -1, -1, -1, -1]


def test_of_two_rows_of_an_instantiated_node_the_one_with_original_is_followed() -> None:
    nodes = [  # pid, start, node, original
        (1, 100, 10, -1),  # 0 captured
        (1, 198, 20, -1),  # 1 instantiated from 0: a row without original,
        (1, 200, 20, 10),  # 2 and one with it
        (1, 300, 30, 20),  # 3 a clone of that, in two rows the other way round
        (1, 302, 30, -1),
        (1, 398, 40, -1),  # 5 and 6 captured before the collection
        (1, 400, 40, 11),
    ]
    kernels = [(1, 20), (1, 30), (1, 40), (1, 10)]
    assert graph_node_creation(*columns(nodes, 4), *columns(kernels, 2)).tolist() == [0, 0, -1, 0]


def test_no_graph_nodes() -> None:
    assert graph_node_creation([], [], [], [], [1], [5]).tolist() == [-1]
    assert graph_node_creation([1], [0], [5], [-1], [], []).tolist() == []


def test_a_long_chain_of_clones() -> None:
    n = 50
    ids = np.arange(n)
    assert graph_node_creation(np.zeros(n), ids, ids, ids - 1, np.zeros(n), ids).tolist() == [0] * n
