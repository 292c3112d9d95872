"""Resampling by groups against a plain loop, SciPy and scikit-learn."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from sonoseek.evaluate import metrics
from sonoseek.evaluate.bootstrap import (
    LEVEL,
    RESAMPLES,
    Difference,
    group_weights,
    interval,
    mcnemar,
    paired_difference,
    share_interval,
)


def archive(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Group (60,) of 25 groups, positive (60,) and score (60,), alike within a group."""
    rng = np.random.default_rng(seed)
    group = np.concatenate([np.arange(25), rng.integers(0, 25, 35)])
    positive = (rng.random(25) < 0.4)[group]
    return group, positive, positive + rng.normal(0, 1, 25)[group] + rng.normal(0, 0.3, 60)


def test_each_draw_has_as_many_groups_as_the_archive() -> None:
    weights = group_weights(25)
    assert weights.shape == (RESAMPLES, 25)
    assert (weights.sum(axis=1) == 25).all()
    assert weights.min() == 0
    assert weights.mean(axis=0) == pytest.approx(1, abs=0.2)
    assert np.array_equal(weights, group_weights(25))
    assert not np.array_equal(weights, group_weights(25, seed=1))
    with pytest.raises(ValueError, match="read-only"):
        weights[0, 0] = 5


def test_weighted_figures_are_those_of_a_loop_that_repeats_whole_groups() -> None:
    group, positive, score = archive()
    weights = group_weights(25)
    areas = metrics.auroc(score, positive, weights[:, group])
    shares = metrics.weighted_share(score > 0, weights[:, group])
    for number in range(40):
        rows = np.concatenate([np.flatnonzero(group == g) for g in range(25) for _ in range(int(weights[number, g]))])
        assert areas[number] == pytest.approx(roc_auc_score(positive[rows], score[rows]))
        assert shares[number] == pytest.approx(np.mean(score[rows] > 0))


def test_an_interval_is_the_middle_of_the_draws_and_agrees_with_scipy() -> None:
    values = np.random.default_rng(3).normal(2, 1, 80)  # one scan a group
    means = group_weights(80) @ values / 80
    low, high = interval(means)
    ordered = np.sort(means)
    assert ordered[24] <= low <= ordered[25]
    assert ordered[974] <= high <= ordered[975]
    wanted = stats.bootstrap(
        (values,), np.mean, confidence_level=LEVEL, n_resamples=4_000, method="percentile", rng=0
    ).confidence_interval
    assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=0.03)


def test_groups_that_are_alike_widen_the_interval() -> None:
    group, positive, score = archive()
    together = metrics.auroc(score, positive, group_weights(25)[:, group])
    apart = metrics.auroc(score, positive, group_weights(60))
    assert np.ptp(interval(together)) > 1.2 * np.ptp(interval(apart))


def test_the_interval_of_a_figure_that_resampling_raises_is_shifted_back_and_ends_at_0() -> None:
    draws = np.random.default_rng(0).normal(0.10, 0.02, 1_000)
    low, high = interval(draws)
    assert interval(draws, around=0.06) == pytest.approx(
        (low - draws.mean() + 0.06, high - draws.mean() + 0.06), abs=1e-12
    )
    assert interval(draws, around=0.01)[0] == 0.0


@pytest.mark.parametrize("groups", [1, 24, 300])
def test_a_share_that_all_or_none_have_gets_the_exact_interval(groups: int) -> None:
    exact = stats.binomtest(groups, groups).proportion_ci(0.95, method="exact")
    assert share_interval(np.ones(50), value=1.0, groups=groups) == pytest.approx((exact.low, 1.0))
    assert share_interval(np.zeros(50), value=0.0, groups=groups) == pytest.approx((0.0, 1 - exact.low))


def test_any_other_share_keeps_the_interval_of_its_draws() -> None:
    drawn = np.linspace(0.4, 0.9, 101)
    assert share_interval(drawn, value=0.7, groups=20) == interval(drawn)
    assert share_interval(np.full(9, 0.5), value=0.5, groups=20) == (0.5, 0.5)
    assert share_interval(np.ones(9), value=1.0, groups=0) == (1.0, 1.0)  # no share: a mean of sizes, say


def test_draws_without_a_figure_are_left_out() -> None:
    draws = np.array([math.nan, 1.0, 2.0, 3.0, math.nan])
    assert interval(draws) == pytest.approx(tuple(np.quantile([1.0, 2.0, 3.0], [0.025, 0.975])))
    assert all(math.isnan(end) for end in interval(np.full(4, math.nan)))


def test_a_paired_difference_counts_draws_on_either_side_of_0() -> None:
    rng = np.random.default_rng(1)
    other = rng.normal(0.7, 0.05, 1_000)
    gain = rng.normal(0.02, 0.01, 1_000)
    found = paired_difference(other + gain, other, value=0.02)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(gain, [0.025, 0.975])))
    assert found.p == pytest.approx(2 * min(np.mean(gain <= 0), np.mean(gain >= 0)))
    assert paired_difference(other, other + gain, value=-0.02).p == found.p  # two-sided
    assert paired_difference(other + 1, other, value=1.0).p == 1 / 1_000  # never 0
    rounded = other + rng.choice([-1e-15, 1e-15], 1_000)  # another machine's sums
    assert paired_difference(rounded, other, value=0.0).p == 1.0


def test_a_paired_difference_takes_draws_that_both_systems_have() -> None:
    one, other = np.array([1.0, 2.0, math.nan, 4.0]), np.array([0.0, math.nan, 0.0, 1.0])
    found = paired_difference(one, other, value=2.0)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile([1.0, 3.0], [0.025, 0.975])))
    none = paired_difference(np.full(3, math.nan), np.ones(3), value=0.5)
    assert isinstance(none, Difference)
    assert none.value == 0.5
    assert math.isnan(none.p)


@pytest.mark.parametrize(("only_one", "only_other"), [(3, 9), (9, 3), (0, 6), (5, 5), (1, 0)])
def test_mcnemar_is_exact(only_one: int, only_other: int) -> None:
    both = 20
    one = np.array([True] * only_one + [False] * only_other + [True] * both)
    other = np.array([False] * only_one + [True] * only_other + [True] * both)
    count = only_one + only_other
    tail = sum(math.comb(count, k) for k in range(min(only_one, only_other) + 1)) / 2**count
    assert mcnemar(one, other) == pytest.approx(min(1.0, 2 * tail))


def test_systems_that_agree_do_not_differ() -> None:
    assert mcnemar([True, False, True], [True, False, True]) == 1.0
