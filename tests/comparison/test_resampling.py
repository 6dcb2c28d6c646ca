from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from nsight_tools.comparison.judge import judged
from nsight_tools.comparison.quantities import Cells, Quantities
from nsight_tools.comparison.resampling import (
    LEVEL,
    WALLS,
    Floats,
    block_length,
    cliffs_delta,
    estimate,
    resampled,
    resamples,
    statistics,
    student,
    thinned,
    weighted,
)
from nsight_tools.comparison.result import Change, Difference

WALL = np.array([0, 0, 0, 1])


def of(before: Floats, after: Floats) -> Difference:
    return judged("wall", "ns", WALLS, estimate((before, before[:, None]), (after, after[:, None]), WALL))


def correlated(random: np.random.Generator, n: int, rho: float) -> Floats:
    """An autoregressive series of order 1, which has run for a while."""
    noise = random.normal(0, 1, n + 200)
    series = np.zeros(n + 200)
    for at in range(1, n + 200):
        series[at] = rho * series[at - 1] + noise[at]
    return 1e6 + 1e4 * series[200:]


def test_the_typical_inference_is_the_mean_of_the_middle_half_and_its_buckets_sum_to_its_wall() -> None:
    random = np.random.default_rng(1)
    buckets = random.integers(0, 1000, (40, 3)).astype(float)
    wall = buckets.sum(axis=1)
    found = statistics(wall, np.column_stack([wall, buckets]), np.ones((1, 40)))[0]
    middle = np.sort(wall)[10:30]
    assert found[WALLS] == pytest.approx(middle.mean())
    assert found[WALLS + 1 :].sum() == pytest.approx(found[WALLS])
    assert found[1] == pytest.approx(wall.mean())
    assert found[0] in {np.sort(wall)[19], np.sort(wall)[20]}


def test_weights_are_counts() -> None:
    wall, values = np.arange(8.0), np.arange(8.0)[:, None] ** 2
    weights = np.array([[2.0, 0, 1, 3, 0, 1, 0, 1]])
    repeated = np.repeat(np.arange(8), weights[0].astype(int))
    plain = statistics(wall[repeated], values[repeated], np.ones((1, 8)))
    np.testing.assert_allclose(statistics(wall, values, weights), plain)


@pytest.mark.parametrize(("n", "block"), [(20, 1), (20, 6), (23, 5), (300, 40)])
def test_resamples_are_whole_blocks_around_a_circle(n: int, block: int) -> None:
    weights = np.concatenate(list(resamples(n, block, 50, np.random.default_rng(0))))
    assert weights.shape == (50, n)
    assert (weights.sum(axis=1) == -(-n // block) * block).all()
    assert np.abs(weights.mean(axis=0) - weights.mean()).max() < 1.5


def test_blocks_are_as_long_as_a_run_remembers() -> None:
    random = np.random.default_rng(2)
    lengths = [np.median([block_length(correlated(random, 400, rho)) for _ in range(15)]) for rho in (0, 0.5, 0.9)]
    assert lengths[0] <= 3
    assert lengths[0] < lengths[1] < lengths[2] <= 60
    assert block_length(np.full(50, 7.0)) == 1


@pytest.mark.parametrize(("rho", "n"), [(0.0, 50), (0.0, 200), (0.6, 200), (0.9, 200)])
def test_equal_runs_are_noise_however_they_are_correlated(rho: float, n: int) -> None:
    random = np.random.default_rng(5)
    verdicts = [of(correlated(random, n, rho), correlated(random, n, rho)).change for _ in range(40)]
    assert sum(verdict is not Change.NOISE for verdict in verdicts) <= 2


def test_a_plain_bootstrap_would_call_those_a_change() -> None:
    # The reason for blocks: the interval by independent inferences misses far more often than its level says.
    random = np.random.default_rng(5)
    misses = 0
    for _ in range(60):
        before, after = correlated(random, 300, 0.9), correlated(random, 300, 0.9)
        error = np.sqrt(before.var() / 300 + after.var() / 300)
        misses += abs(after.mean() - before.mean()) > 2.58 * error
    assert misses > 20


@pytest.mark.parametrize("share", [0.005, 0.02, -0.02])
def test_a_real_change_is_found_and_its_interval_holds_it(share: float) -> None:
    random = np.random.default_rng(7)
    before, after = random.normal(1e6, 1e4, 400), random.normal(1e6 * (1 + share), 1e4, 400)
    found = of(before, after)
    assert found.change is (Change.MORE if share > 0 else Change.LESS)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= share * 1e6 <= found.high


def test_a_run_that_drifts_cannot_show_less_than_its_drift() -> None:
    drifting = 1e6 + np.repeat([0.0, 3e4], 150) + np.random.default_rng(0).normal(0, 100, 300)
    other = 1.025e6 + np.random.default_rng(1).normal(0, 100, 300)
    found = of(drifting, other)
    assert found.drift == pytest.approx(3e4, rel=0.01)
    assert found.change is Change.NOISE


def test_a_constant_is_the_same_or_changed_exactly() -> None:
    constant = np.full(30, 137.0)
    assert of(constant, constant).change is Change.SAME
    changed = of(constant, constant + 1)
    assert (changed.change, changed.low, changed.high) == (Change.MORE, 1, 1)


def test_quantities_that_are_judged_together_get_wider_intervals() -> None:
    random = np.random.default_rng(3)
    runs = [(values[:, 0], values) for values in (random.normal(1e6, 1e4, (100, 20)) for _ in range(2))]
    together = estimate(runs[0], runs[1], np.array([0] * WALLS + [1] * 20))
    alone = estimate(runs[0], runs[1], np.arange(WALLS + 20))
    ratio = (together.high - together.low)[WALLS:] / (alone.high - alone.low)[WALLS:]
    assert (ratio > 1.15).all()
    assert (ratio < 2).all()


def test_the_same_traces_give_the_same_answer() -> None:
    random = np.random.default_rng(3)
    before, after = random.normal(1e6, 1e4, 60), random.normal(1e6, 1e4, 60)
    assert of(before, after) == of(before, after)


def test_cliffs_delta_counts_pairs() -> None:
    before, after = np.array([1.0, 2, 3]), np.array([2.0, 4])
    pairs = [np.sign(b - a) for a in before for b in after]
    assert cliffs_delta(before, after) == pytest.approx(np.mean(pairs))
    assert cliffs_delta(before, before) == 0


def exact_student(freedom: float) -> float:
    """The two-sided quantile at `LEVEL`, by integration over the angle whose tangent is t / sqrt(freedom)."""
    edges = np.linspace(0, np.pi / 2, 1_000_001)
    density = np.cos((edges[1:] + edges[:-1]) / 2) ** (freedom - 1)
    reached = np.append(0, np.cumsum(density)) / density.sum()
    return float(np.sqrt(freedom) * np.tan(np.interp(LEVEL, reached, edges)))


def test_the_integration_agrees_with_the_closed_forms() -> None:
    assert exact_student(1) == pytest.approx(np.tan(np.pi / 2 * LEVEL), rel=1e-6)
    assert exact_student(2) == pytest.approx(LEVEL * np.sqrt(2 / (1 - LEVEL**2)), rel=1e-6)


@pytest.mark.parametrize(
    ("freedom", "tolerance"),
    [(2, 0.042), (2.5, 0.018), (3, 0.008), (4, 0.003), (5, 0.001), (10, 1e-4), (30, 1e-5), (1000, 1e-5)],
)
def test_students_quantile(freedom: float, tolerance: float) -> None:
    assert student(freedom) == pytest.approx(exact_student(freedom), rel=tolerance)


def test_students_quantile_at_its_ends() -> None:
    assert student(1) == student(2)
    assert student(1e9) == pytest.approx(NormalDist().inv_cdf((1 + LEVEL) / 2))


def test_long_series_are_thinned_to_means() -> None:
    series = np.arange(1001.0)
    short = thinned(series, 100)
    assert short.size == 100
    assert short.mean() == pytest.approx(series.mean(), rel=0.01)
    assert thinned(series, 2000) is series


def heavy(random: np.random.Generator, n: int, rho: float) -> tuple[Floats, Floats]:
    """Correlated walls with stalls, and parts of them that follow the wall, ignore it, or never change."""
    wall = correlated(random, n, rho) + 2e4 * random.pareto(2.5, n)
    parts = [wall, 0.6 * wall + random.normal(0, 2e4, n), random.gamma(2, 1e4, n), np.full(n, 137.0)]
    return wall, np.column_stack(parts)


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_weighted_chunks_say_what_resamples_say(rho: float) -> None:
    """Standard errors agree as well as two bootstraps do, those of so rare a quantile nearly; a constant has none."""
    ratios = []
    for seed in range(5):
        wall, values = heavy(np.random.default_rng(seed), 5_000, rho)
        block = block_length(wall)
        ways = [way(wall, values, block, np.random.default_rng(seed)) for way in (resampled, weighted)]
        assert all((drawn[:, -1] == drawn[0, -1]).all() for drawn in ways)
        errors = [drawn[:, :-1].std(axis=0) for drawn in ways]
        ratios.append(errors[1] / errors[0])
    apart = np.abs(np.mean(ratios, axis=0) - 1)
    assert apart[2] < 0.15  # the 99th percentile
    assert np.delete(apart, 2).max() < 0.05


def test_weighted_chunks_move_together_as_resamples_do() -> None:
    wall, values = heavy(np.random.default_rng(9), 5_000, 0.6)
    ways = [way(wall, values[:, :-1], 20, np.random.default_rng(1)) for way in (resampled, weighted)]
    np.testing.assert_allclose(np.corrcoef(ways[1].T), np.corrcoef(ways[0].T), atol=0.1)


@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_long_equal_runs_are_noise(rho: float) -> None:
    random = np.random.default_rng(6)
    verdicts = [of(correlated(random, 7_000, rho), correlated(random, 9_000, rho)).change for _ in range(25)]
    assert sum(verdict is not Change.NOISE for verdict in verdicts) <= 1


def test_a_long_constant_is_the_same() -> None:
    constant = np.full(20_000, 137.0)
    assert of(constant, constant).change is Change.SAME
    changed = of(constant, constant + 1)
    assert (changed.change, changed.low, changed.high) == (Change.MORE, 1, 1)


def test_sparse_columns_are_the_dense_ones() -> None:
    random = np.random.default_rng(0)
    cells = Cells(60, 4, random.integers(0, 60, 500), random.integers(0, 4, 500), random.integers(1, 9, 500))
    dense = np.zeros((60, 4))
    np.add.at(dense, (cells.inference, cells.column), cells.value)
    both = [Quantities(60, [part]) for part in (cells, dense)]
    weights, starts = random.random((3, 60)), np.array([0, 7, 8, 30])
    for ask in (
        lambda each: each.weighted(weights),
        lambda each: each.chunked(weights[0], starts),
        lambda each: each.every(1),
        lambda each: each.every(7),
    ):
        np.testing.assert_allclose(ask(both[0]), ask(both[1]))
    np.testing.assert_allclose(both[0].weighted(weights), weights @ dense)
    np.testing.assert_allclose(both[0].every(7), dense[::7])
    assert Quantities(60, [cells, dense]).every(1).shape == (60, 8)


def test_a_long_run_is_judged_and_estimated_by_all_of_it() -> None:
    random = np.random.default_rng(4)
    before, after = random.normal(1e6, 1e4, 25_000), random.normal(1.002e6, 1e4, 25_000)
    found = of(before, after)
    middle = [np.sort(values)[6_250:18_750].mean() for values in (before, after)]
    assert (found.before, found.after) == pytest.approx(tuple(middle))
    assert found.change is Change.MORE
    assert found.low is not None
    assert 0 < found.low < 2_000
