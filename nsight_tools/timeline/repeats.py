"""What repeats in a sequence: the period of a program that marks nothing, of enqueues or of all that it launches.

A sequence is an array of tokens, any integers: equal ones stand for the same work. Everything here is deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nsight_tools.timeline.intervals import Int64Array, IntArray

Tokens = np.ndarray[Any, np.dtype[np.integer[Any]]]

ALIKE = 0.8
"""Least share of a sequence that has to be as one period before, for it to repeat at all."""
TURNS = 3
"""A sequence repeats where it holds its period so many times: of two alike pieces either may be chance."""
MOST = 1 << 17
"""Tokens that are looked at: the last ones, for a program begins with what it does once."""
_CANDIDATES = 256
_PREFIX = 1 << 10
"""Most tokens by which the beginning of a period is found again where something was put in between; mostly a few do."""


@dataclass(frozen=True)
class Period:
    """`length` tokens that come again and again; `alike` is the share that is the same one period before."""

    length: int
    alike: float


def period_of(tokens: Tokens) -> Period | None:
    """The shortest period of a sequence; None where it does not repeat.

    A period within a period (the blocks of a network) agrees less than the whole: it is passed over where the whole
    leaves a third less in disagreement. The agreement of all lags comes from an autocorrelation, in which each token is
    a random point of the circle (its error is one over the root of the length), and is counted for the best of them.
    """
    tokens = tokens[-MOST:]
    most = tokens.size // TURNS
    if most < 1:
        return None
    kinds, codes = np.unique(tokens, return_inverse=True)
    if kinds.size == 1:
        return Period(1, 1.0)
    lags = _promising(codes.reshape(-1), kinds.size, most)
    alike = np.array([float(np.mean(tokens[lag:] == tokens[:-lag])) for lag in lags.tolist()])
    if not lags.size or alike.max() < ALIKE:
        return None
    rest = 1 - alike.max()
    enough = np.flatnonzero(1 - alike <= max(1.5 * rest, rest + 1 / tokens.size))
    first = int(enough[np.argmin(lags[enough])])
    return Period(int(lags[first]), float(alike[first]))


def _promising(codes: Int64Array, kinds: int, most: int) -> IntArray:
    """Lags up to `most` at which a sequence looks most like itself: some hundred."""
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, (2, kinds))
    size = 1 << (2 * codes.size - 1).bit_length()
    total = np.zeros(most + 1)
    for angle in angles:
        spectrum = np.fft.fft(np.exp(1j * angle)[codes], size)
        total += np.fft.ifft(np.abs(spectrum) ** 2).real[: most + 1]
    score = total[1:] / (2 * (codes.size - np.arange(1, most + 1)))
    # Among the best are all multiples of a period: the shortest of those that come close to the best are enough.
    close = np.flatnonzero(score >= max(min(score.max() - 0.1, 0.9), ALIKE / 2)) + 1
    best = np.argsort(-score, kind="stable")[:_CANDIDATES] + 1
    found: IntArray = np.union1d(close[:_CANDIDATES], best)
    return found


def beginnings(tokens: Tokens, period: Period, phase: int) -> Int64Array:
    """Where each turn begins, ascending: `phase` is the place of one of the beginnings in `tokens`.

    A turn begins wherever the tokens come that stand at `phase`, as many of them as no other place of the period has.
    """
    at = phase + (tokens.size - period.length - phase) // period.length * period.length  # the last whole turn
    return _places_of(tokens[at : at + period.length], tokens)


def _places_of(turn: Tokens, tokens: Tokens) -> Int64Array:
    """Where the first tokens of a turn stand, as many of them as stand nowhere else in it."""
    starts, within = np.flatnonzero(tokens == turn[0]), np.arange(turn.size)
    for place, token in enumerate(turn[:_PREFIX].tolist()):
        starts = starts[: np.searchsorted(starts, tokens.size - place)]
        starts = starts[tokens[starts + place] == token]
        within = within[turn[(within + place) % turn.size] == token]
        if within.size == 1:
            break
    return starts


def turns(kinds: Tokens, pause: Int64Array | None = None) -> IntArray | None:
    """Where each request of several enqueues begins, by the engine of each enqueue; None where one is a request.

    Either the engines come in a fixed order, or one that comes a fixed number of times (an encoder, a prefill) leads
    others that come as often as they are needed (the steps of a decoder). Two engines that come as they please, as of
    two services, have neither. `pause` is the time before each enqueue, of which a trace that begins within a request
    is told.
    """
    if kinds.size < 2 * TURNS or np.unique(kinds).size < 2:
        return None
    period = period_of(kinds)
    if period is not None and period.length > 1 and period.alike >= ENGINES_ALIKE and _each_repeats(kinds, period):
        first = _first_turn(kinds, period.length, pause)
        return _places_of(kinds[first : first + period.length], kinds)
    return _led(kinds)


ENGINES_ALIKE = 0.95
"""Engines that come in a fixed order do so always, but for what the trace cuts off, or a request that failed."""


def _each_repeats(kinds: Tokens, period: Period) -> bool:
    """Whether every engine comes again one period later, and not only one that nearly all enqueues are of."""
    _, codes = np.unique(kinds, return_inverse=True)
    codes = codes.reshape(-1)
    before, after = codes[: -period.length], codes[period.length :]
    share = np.bincount(before, before == after) / np.maximum(np.bincount(before), 1)
    return bool(share.min() >= ALIKE)


def _first_turn(kinds: Tokens, length: int, pause: Int64Array | None) -> int:
    """Where the first whole turn begins: with the sequence, unless the collection began within a turn.

    No turn begins within several enqueues of one engine. A sequence begins with a turn or ends with one, where that is
    possible: of the two, with the one before which the program pauses longer.
    """
    rest = kinds.size % length

    def unlikely(at: int) -> tuple[bool, bool, float]:
        later = slice(at + length, None, length)
        splits = bool(np.mean(kinds[later] == kinds[at + length - 1 : -1 : length]) > 1 / 2)
        return splits, at not in {0, rest}, 0.0 if pause is None else -float(np.median(pause[later]))

    return min(range(length), key=unlikely)


def _led(kinds: Tokens) -> IntArray | None:
    """Beginnings of requests that one engine leads, each time as often, and others follow."""
    first = np.flatnonzero(np.append(True, kinds[1:] != kinds[:-1]))
    length, kind = np.diff(np.append(first, kinds.size)), kinds[first]
    period = period_of(kind)
    if period is None or period.length < 2 or period.alike < ENGINES_ALIKE or kind.size < TURNS * period.length:
        return None
    for leader in kind[: period.length].tolist():
        mine = kind == leader
        usual = np.median(length[mine])
        others = length[~mine]
        # Where the others come as often each time, that is a fixed order; where the leader varies, it leads nobody.
        if np.mean(length[mine] == usual) >= ENGINES_ALIKE and others.max() > usual and usual * 2 <= np.mean(others):
            starts: IntArray = first[mine]
            return starts
    return None
