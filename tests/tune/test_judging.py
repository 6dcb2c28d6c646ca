"""Faster, slower or noise: of runs in turn."""

from __future__ import annotations

import numpy as np
import pytest

from nsight_tools.tune.judging import LOOKS, quantile, times, verdict


def in_turn(
    rounds: int, factor: float, *, noise: float = 0.0, drift: float = 0.0, seed: int = 0
) -> tuple[list[bool], list[float]]:
    """Runs A B A B of 1 ms, B `factor` of that."""
    random = np.random.default_rng(seed)
    sides = [bool(number % 2) for number in range(2 * rounds)]
    made = np.exp(noise * random.standard_normal(len(sides)) + drift * np.arange(len(sides)))
    return sides, [1e6 * (factor if side else 1.0) * float(each) for side, each in zip(sides, made, strict=True)]


def judged(rounds: int, factor: float, **more: float) -> str:
    """As a step is: after each look, until one tells."""
    sides, values = in_turn(rounds, factor, **more)  # type: ignore[arg-type]
    for look in LOOKS:
        if found := verdict(sides[: 2 * look], values[: 2 * look]):
            return found
    return ""


def test_a_drift_is_no_difference() -> None:
    sides, values = in_turn(3, 1.0, drift=0.01, noise=1e-6)
    found = times(sides, values)
    assert found.share == pytest.approx(0, abs=1e-4)
    assert found.low < 0 < found.high


def test_a_difference_is_found_under_a_drift() -> None:
    found = times(*in_turn(3, 0.8, drift=0.02, noise=1e-6))
    assert found.share == pytest.approx(-0.2, abs=1e-4)
    low, point, high = found.saved_ns()
    assert low < point < high
    assert point == pytest.approx(0.2 * found.before_ns)


def test_the_fit_is_that_of_least_squares_by_hand() -> None:
    sides, values = in_turn(3, 0.9, noise=0.01, seed=4)
    found = times(sides, values, 0.9)
    log, number, later = np.log(values), np.arange(6), np.array(sides, float)
    # By the theorem of Frisch and Waugh: what is left of both once level and drift are taken out.
    left = [each - np.polyval(np.polyfit(number, each, 1), number) for each in (log, later)]
    slope = float(left[0] @ left[1] / (left[1] @ left[1]))
    rest = left[0] - slope * left[1]
    error = float(np.sqrt(rest @ rest / 3 / (left[1] @ left[1])))
    assert found.share == pytest.approx(np.exp(slope) - 1)
    assert found.high == pytest.approx(np.exp(slope + 2.353 * error) - 1, rel=0.02)  # Student's t: 3, 90 %


def test_equal_runs_are_called_faster_as_seldom_as_the_level_says() -> None:
    found = [judged(8, 1.0, noise=0.01, seed=seed) for seed in range(2000)]
    assert found.count("") == 0
    assert found.count("faster") + found.count("slower") <= 0.015 * len(found)


def test_a_gain_of_a_tenth_is_found_where_runs_differ_by_a_hundredth() -> None:
    found = [judged(8, 0.9, noise=0.01, seed=seed) for seed in range(200)]
    assert found.count("faster") >= 190
    assert found.count("slower") == 0


def test_twice_the_speed_is_told_after_two_rounds() -> None:
    assert verdict(*in_turn(2, 0.5, noise=0.0005)) == "faster"
    assert verdict(*in_turn(2, 2.0, noise=0.0005)) == "slower"
    assert verdict(*in_turn(2, 0.99, noise=0.01)) == ""


def test_it_is_asked_after_whole_rounds_alone() -> None:
    sides, values = in_turn(3, 0.5, noise=0.001)
    assert [verdict(sides[:count], values[:count]) for count in (1, 2, 3, 5)] == [""] * 4


def test_what_cannot_be_judged() -> None:
    for sides, values in (([False, True, False], [1.0, 1.0, 1.0]), ([False] * 4, [1.0] * 4)):
        with pytest.raises(ValueError, match="both sides"):
            times(sides, values)


@pytest.mark.parametrize(
    ("freedom", "level", "t"), [(1, 0.99, 63.657), (2, 0.99, 9.925), (3, 0.99, 5.841), (7, 0.9, 1.895)]
)
def test_quantiles_are_students(freedom: int, level: float, t: float) -> None:
    assert quantile(freedom, level) == pytest.approx(t, rel=0.01)
