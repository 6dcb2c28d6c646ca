"""Sequences of kernels beside one another: what is common in order, and what of it is certain."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsight_tools.timeline import order
from nsight_tools.timeline.order import align, launch_order, sequences

LABELS = "abcdefghijklmnopqrstuvwxyz"


def aligned(ours: str, theirs: str, labels: str = "") -> tuple[str, int, int]:
    """Letters of `ours` beside `theirs`, whose labels are `labels` (by default the places); "." for none."""
    alike = np.array([[one == other for other in theirs] for one in ours], np.bool_).reshape(len(ours), len(theirs))
    given = labels or LABELS[: len(theirs)]
    found = align(alike, np.array([LABELS.index(one) if one != "." else -1 for one in given], np.int64))
    assert found is not None
    return "".join(LABELS[one] if one >= 0 else "." for one in found.label), found.common, found.span


@pytest.mark.parametrize(
    ("ours", "theirs", "labels", "common", "span"),
    [
        ("KLMN", "KLMN", "abcd", 4, 4),
        ("xKLMNy", "KLMN", ".abcd.", 4, 4),  # something else runs before and after
        ("KLxMN", "KLMN", "ab.cd", 4, 5),
        ("KMN", "KLMN", "acd", 3, 3),  # one is missing
        ("KLLM", "KLM", "a..c", 3, 4),  # which of the two?
        ("KLM", "KLLM", "a.d", 3, 3),  # the same, of the others
        ("ML", "LM", "..", 1, 2),  # either, not both
        ("KK", "KKK", "..", 2, 2),
        ("xyz", "KLM", "...", 0, 0),
        ("", "KLM", "", 0, 0),
        ("KLM", "", "...", 0, 0),
    ],
)
def test_what_all_alignments_agree_in(ours: str, theirs: str, labels: str, common: int, span: int) -> None:
    assert aligned(ours, theirs) == (labels, common, span)


def test_several_kernels_of_one_layer_need_not_be_told_apart() -> None:
    assert aligned("KLM", "KLLM", "abbc") == ("abc", 3, 3)
    assert aligned("KLM", "KLM", "a.c") == ("a.c", 3, 3)  # a kernel of no layer


def test_too_many_pairs_are_not_aligned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "MOST_PAIRS", 5)
    assert align(np.ones((2, 3), np.bool_), np.zeros(3, np.int64)) is None


def slowly(ours: str, theirs: str) -> tuple[str, int]:
    """What all longest common subsequences agree in, by trying them all."""
    for length in range(min(len(ours), len(theirs)), 0, -1):
        ways = [
            dict(zip(mine, other, strict=True))
            for mine in combinations(range(len(ours)), length)
            for other in combinations(range(len(theirs)), length)
            if all(ours[i] == theirs[j] for i, j in zip(mine, other, strict=True))
        ]
        if ways:
            places = [{way.get(i) for way in ways} for i in range(len(ours))]
            return "".join("." if len(each) > 1 or None in each else LABELS[each.pop() or 0] for each in places), length
    return "." * len(ours), 0


few = st.text("KLM", max_size=6)


@given(few, few)
def test_certain_is_what_every_longest_common_subsequence_holds(ours: str, theirs: str) -> None:
    assert aligned(ours, theirs)[:2] == slowly(ours, theirs)


@given(st.lists(st.text("KLM", min_size=1, max_size=4), max_size=12))
def test_sequences_are_told_apart(drawn: list[str]) -> None:
    lane = np.array([at * 3 for at, one in enumerate(drawn) for _ in one], np.int64)
    token = np.array([LABELS.index(letter.lower()) for one in drawn for letter in one], np.int64)
    found = sequences(lane, token)
    text = ["".join(LABELS[code] for code in tokens).upper() for tokens in found.tokens]
    assert [text[which] for which in found.which] == drawn
    assert len(set(text)) == len(text)
    assert found.count.tolist() == [drawn.count(one) for one in text]
    assert found.count.tolist() == sorted(found.count.tolist(), reverse=True)


def test_launch_order_is_that_of_calls_then_of_nodes_then_of_time() -> None:
    inference, call = np.array([1, 0, 0, 0, 0, 0]), np.array([9, 5, 4, 7, 7, 7])
    node, start = np.array([-1, -1, -1, 12, 11, 11]), np.array([0, 10, 20, 30, 50, 40])
    assert launch_order(inference, call, node, start).tolist() == [2, 1, 5, 4, 3, 0]
