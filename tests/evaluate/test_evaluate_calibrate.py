"""Calibration: known temperatures are found, promises of coverage are kept."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from sonoseek.core import PATHOLOGIES
from sonoseek.evaluate.calibrate import (
    calibrate,
    conformal_quantile,
    fit_abstention,
    fit_temperature,
    operating_points,
    softmax,
    threshold_for,
)


def draw(n, *, temperature, seed=0):
    """Logits, and labels drawn from softmax(logits / temperature)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (n, 3)).astype(np.float32)
    p = softmax(logits / temperature)
    labels = (p.cumsum(1) < rng.random((n, 1))).sum(1).clip(0, 2)
    return logits, labels.astype(np.int64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found(temperature):
    assert fit_temperature(*draw(5000, temperature=temperature)) == pytest.approx(temperature, rel=0.1)


def test_a_perfect_network_gets_a_finite_temperature():
    logits = np.eye(3, dtype=np.float32) * 5
    assert 0.2 <= fit_temperature(logits, np.arange(3)) <= 5


def test_prediction_sets_hold_the_truth_as_often_as_promised():
    kept = []
    for seed in range(60):
        logits, labels = draw(300, temperature=1.0, seed=seed)
        p = softmax(logits)
        quantile = conformal_quantile(p[:100], labels[:100])
        kept.append(np.mean(1 - p[100:][np.arange(200), labels[100:]] <= quantile))
    assert 0.89 <= np.mean(kept) <= 0.93


def test_too_few_scans_to_promise_exclude_nothing():
    assert conformal_quantile(np.full((5, 3), 1 / 3), np.zeros(5, int)) == 1.0


def test_abstention_makes_what_is_left_right_but_never_withholds_all():
    logits, labels = draw(2000, temperature=1.0)
    p = softmax(logits)
    threshold = fit_abstention(p, labels)
    top = p.max(1) >= threshold
    assert top.mean() >= 0.7
    assert np.mean(p.argmax(1)[top] == labels[top]) > np.mean(p.argmax(1) == labels)
    rng = np.random.default_rng(0)
    hopeless = rng.integers(0, 3, 2000)
    assert np.mean(p.max(1) >= fit_abstention(p, hopeless)) == pytest.approx(0.7, abs=0.01)
    assert fit_abstention(np.eye(3), np.arange(3)) == pytest.approx(1 / 3)


def test_operating_points_give_what_they_state():
    logits, labels = draw(500, temperature=1.0)
    p = softmax(logits)[:, PATHOLOGIES.index("malignant")]
    points = operating_points(p, labels)
    positive = labels == 2
    for wanted in (0.90, 0.95, 0.98):
        point = points[f"sensitivity_{wanted * 100:.0f}"]
        called = p >= point["threshold"]
        assert called[positive].mean() == point["sensitivity"] >= wanted
        assert (~called[~positive]).mean() == point["specificity"]
    assert operating_points(p, np.zeros(500, int)) == {}


def test_everything_at_once_is_within_a_bundles_rules():
    made = calibrate(*draw(90, temperature=1.5))
    assert made.temperature > 0
    assert 1 / 3 <= made.abstain_below <= 1
    assert 0 <= made.conformal["quantile"] <= 1


@pytest.mark.parametrize("seed", range(3))
def test_the_temperature_is_that_of_a_general_optimiser(seed):
    logits, labels = draw(400, temperature=1.7, seed=seed)

    def cost(t):
        return log_loss(labels, softmax(logits / t), labels=[0, 1, 2])

    wanted = minimize_scalar(cost, bounds=(0.2, 5.0), method="bounded", options={"xatol": 1e-6}).x
    assert fit_temperature(logits, labels) == pytest.approx(wanted, rel=1e-3)


def test_the_abstention_threshold_is_the_lowest_that_is_right_often_enough():
    logits, labels = draw(300, temperature=0.8)
    p = softmax(logits)
    top, right = p.max(1), p.argmax(1) == labels
    enough = [t for t in sorted({1 / 3, *top}) if np.mean(top >= t) >= 0.7]
    good = [t for t in enough if np.mean(right[top >= t]) >= 0.9]
    assert good
    assert fit_abstention(p, labels) == good[0]


def test_the_quantile_is_the_score_of_the_corrected_rank():
    p = np.linspace(0.05, 0.95, 10)[:, None] * [[1.0, 0.0]]
    p[:, 1] = 1 - p[:, 0]
    scores = sorted(1 - p[:, 0])
    assert conformal_quantile(p, np.zeros(10, int)) == scores[10 - 1]  # ⌈11 · 0.9⌉ = 10, not 9
    assert conformal_quantile(p, np.zeros(10, int), level=0.5) == scores[6 - 1]


def test_equal_scores_are_called_together():
    score, positive = np.array([0.2, 0.2, 0.7, 0.7, 0.7]), np.array([False, True, False, True, True])
    assert threshold_for(score, positive, sensitivity=0.6) == 0.7
    assert threshold_for(score, positive, sensitivity=0.9) == 0.2
    assert 0.2 < threshold_for(score, positive, specificity=0.5) <= 0.7
    assert threshold_for(score, positive, specificity=0.9) > 0.7
    assert np.isnan(threshold_for(score, np.ones(5, bool), specificity=0.9))


def test_softmax_does_not_overflow():
    assert softmax(np.array([[1e4, 0.0, -1e4]])).tolist() == [[1.0, 0.0, 0.0]]
