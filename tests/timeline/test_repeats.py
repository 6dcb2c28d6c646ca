from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsight_tools.timeline.repeats import Period, beginnings, period_of, turns


def tokens(text: str) -> np.ndarray:
    """One token for each letter."""
    return np.array([ord(letter) for letter in text if letter != " "], np.int64)


NETWORK = "a bcd bcd bcd bcd e"
"""What a network launches: a block within it comes four times."""


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("abcdabcdabcd", 4),
        ("abcd" * 3 + "ab", 4),  # cut off
        ("cd" + "abcd" * 5, 4),  # begun within a turn
        (NETWORK * 5, 14),  # not the block, of 3
        ("ab" * 40, 2),
        ("a" * 12, 1),
    ],
)
def test_period_of_what_repeats_exactly(text: str, length: int) -> None:
    assert period_of(tokens(text)) == Period(length, 1.0)


@pytest.mark.parametrize("text", ["", "a", "ab", "abcd", "abcdabcd", "abcdefghijklmnop", "abab" + "cdefghijklmnopqrst"])
def test_no_period(text: str) -> None:
    assert period_of(tokens(text)) is None


def test_a_few_tokens_in_between_are_no_other_period() -> None:
    """An allocation, a log, a health check: each puts what follows off by some tokens once."""
    turn = tokens("abcdefghij" * 4)[:39]
    parts = [turn] * 30
    for at in (20, 11, 4):
        parts.insert(at, tokens("xy"))
    period = period_of(np.concatenate(parts))
    assert period is not None
    assert period.length == 39
    assert 0.85 < period.alike < 1


def test_blocks_that_differ_in_one_token_are_no_period() -> None:
    """Forty-nine of fifty tokens are as a block before; only the whole leaves nothing in disagreement."""
    block = tokens("abcdefghij" * 5)
    other = block.copy()
    other[7] = ord("z")
    assert period_of(np.concatenate([block, block, other] * 6)) == Period(150, 1.0)


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 5, 50]))
def test_what_is_random_does_not_repeat(seed: int, kinds: int) -> None:
    assert period_of(np.random.default_rng(seed).integers(0, kinds, 2000)) is None


@given(st.lists(st.integers(0, 5), min_size=2, max_size=40), st.integers(3, 30), st.integers(0, 39))
def test_the_period_divides_what_was_repeated(turn: list[int], count: int, cut: int) -> None:
    """Whatever the trace cuts off before the first turn: the shortest period of what repeats, by the plain loop."""
    sequence = (turn * (count + 1))[cut % len(turn) :]
    shortest = next(n for n in range(1, len(turn) + 1) if all(a == b for a, b in zip(sequence, sequence[n:])))  # noqa: B905
    assert period_of(np.array(sequence)) == Period(shortest, 1.0)


def test_beginnings() -> None:
    once = tokens("abcd" * 4)
    assert beginnings(once, Period(4, 1.0), 0).tolist() == [0, 4, 8, 12]
    assert beginnings(once, Period(4, 1.0), 2).tolist() == [2, 6, 10, 14]


def test_beginnings_behind_what_was_put_in_between() -> None:
    sequence = tokens("abcd abcd xy abcd abcd z abcd abcd")
    period = Period(4, 1.0)
    assert beginnings(sequence, period, sequence.size % 4).tolist() == [0, 4, 10, 14, 19, 23]


def test_a_beginning_is_as_long_as_it_takes_to_tell_it_apart() -> None:
    """`ab` stands three times in a turn, `abe` once."""
    sequence = tokens("abe abc abd" * 4)
    assert beginnings(sequence, Period(9, 1.0), 0).tolist() == [0, 9, 18, 27]


@given(st.permutations(range(12)), st.integers(4, 20), st.integers(0, 11))
def test_every_turn_begins_once(turn: list[int], count: int, phase: int) -> None:
    sequence = np.array(turn * count)
    assert beginnings(sequence, Period(12, 1.0), phase).tolist() == list(range(phase, 12 * count, 12))


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ("ab" * 6, [0, 2, 4, 6, 8, 10]),  # a detector and a recognizer
        ("abbb" * 4, [0, 4, 8, 12]),
        ("abcdefghijk" * 3, [0, 11, 22]),  # partitions
        ("aaaaaaaa", None),  # one engine: each is a request
        ("abab", None),  # too few to tell
    ],
)
def test_engines_in_a_fixed_order(kinds: str, expected: list[int] | None) -> None:
    found = turns(tokens(kinds))
    assert (None if found is None else found.tolist()) == expected


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ("bb" + "abbb" * 5, [2, 6, 10, 14, 18]),  # begun within a request
        ("abbb" * 5 + "ab", [0, 4, 8, 12, 16, 20]),  # ended within one
        ("b" + "abbb" * 4 + "ab", [1, 5, 9, 13, 17]),
        ("bb" + "abbb" * 4 + "ab", [2, 6, 10, 14, 18]),  # both, and as many as whole ones have
    ],
)
def test_a_request_that_the_trace_cuts_off(kinds: str, expected: list[int]) -> None:
    found = turns(tokens(kinds))
    assert found is not None
    assert found.tolist() == expected


def test_behind_a_request_that_failed_the_next_one_begins_where_it_does() -> None:
    found = turns(tokens("abcd" * 20 + "ab" + "abcd" * 20))
    assert found is not None
    assert found.tolist() == [*range(0, 84, 4), *range(82, 162, 4)]


def test_the_pause_tells_which_engine_begins_where_the_order_does_not() -> None:
    kinds = tokens("b" + "ab" * 6)
    before = np.where(kinds == ord("a"), 5000, 200)
    assert [found.tolist() for found in (turns(kinds, before), turns(kinds, 5200 - before)) if found is not None] == [
        [1, 3, 5, 7, 9, 11],
        [0, 2, 4, 6, 8, 10, 12],
    ]
    whole = tokens("ab" * 6)  # nothing is cut off: what comes first begins, however long the host takes in between
    found = turns(whole, np.where(whole == ord("b"), 5000, 200))
    assert found is not None
    assert found[0] == 0


@given(st.lists(st.integers(3, 60), min_size=8, max_size=40, unique=True))
def test_an_encoder_leads_as_many_steps_of_a_decoder_as_are_needed(steps: list[int]) -> None:
    found = turns(tokens("".join("a" + "b" * count for count in steps)))
    assert found is not None
    assert found.tolist() == np.cumsum([0, *(1 + count for count in steps[:-1])]).tolist()


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 0.3]), st.integers(400, 1000))
def test_two_services_that_are_asked_at_random_make_no_requests_together(seed: int, share: float, count: int) -> None:
    """Of a few hundred enqueues: a service that is rarely asked leads the other one as an encoder its decoder."""
    assert turns((np.random.default_rng(seed).random(count) < share).astype(np.int64)) is None
