"""Every figure against an independent implementation, with weights as without."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from torchmetrics.functional.classification import multiclass_calibration_error

from sonoseek.core import InvalidValueError
from sonoseek.evaluate import metrics
from sonoseek.evaluate.calibrate import conformal_quantile, threshold_for
from sonoseek.evaluate.metrics.retrieval import average_precision_full, birads_gain, ndcg_at, r_precision

ONES = np.ones((1, 80))


def predictions(seed: int, *, groups: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """truth (80,), probabilities (80, 3), whole weights (80,)."""
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(3), rng.integers(0, 3, 77)])
    p = rng.random((80, 3)) + 1.2 * np.eye(3)[truth] * rng.random((80, 1))
    p /= p.sum(axis=1, keepdims=True)
    return truth, np.round(p, 1) if groups else p, rng.integers(0, 4, 80).astype(float) + (truth == truth[0])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_classification_agrees_with_scikit_learn(seed: int, groups: bool) -> None:
    truth, p, weight = predictions(seed, groups=groups)
    said, w = p.argmax(axis=1), np.stack([np.ones(80), weight])
    counts = metrics.from_confusion(metrics.confusion(said, truth, w, classes=3))
    for row, sample_weight in enumerate(w):
        keep = sample_weight > 0
        assert metrics.accuracy(p, truth, w)[row] == pytest.approx(
            sk.accuracy_score(truth, said, sample_weight=sample_weight)
        )
        assert counts["balanced_accuracy"][row] == pytest.approx(
            sk.balanced_accuracy_score(truth[keep], said[keep], sample_weight=sample_weight[keep])
        )
        wanted = sk.f1_score(
            truth[keep], said[keep], average="macro", sample_weight=sample_weight[keep], labels=np.unique(truth[keep])
        )
        assert counts["macro_f1"][row] == pytest.approx(wanted)
        for c in range(3):
            positive = truth == c
            assert counts["sensitivity"][row, c] == pytest.approx(
                sk.recall_score(positive, said == c, sample_weight=sample_weight)
            )
            assert counts["specificity"][row, c] == pytest.approx(
                sk.recall_score(~positive, said != c, sample_weight=sample_weight)
            )
            assert metrics.auroc(p[:, c], positive, w)[row] == pytest.approx(
                sk.roc_auc_score(positive, p[:, c], sample_weight=sample_weight)
            )
            assert metrics.average_precision(p[:, c], positive, w)[row] == pytest.approx(
                sk.average_precision_score(positive, p[:, c], sample_weight=sample_weight)
            )


def test_a_kind_that_is_absent_gives_no_figure() -> None:
    _, p, _ = predictions(0)
    none = np.zeros(80, dtype=bool)
    assert np.isnan(metrics.auroc(p[:, 0], none, ONES)[0])
    assert np.isnan(metrics.average_precision(p[:, 0], none, ONES)[0])
    counts = metrics.from_confusion(metrics.confusion(p.argmax(1), np.ones(80, int), ONES, classes=3))
    assert np.isnan(counts["sensitivity"][0, 2])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_calibration_agrees_with_torchmetrics_and_with_plain_sums(seed: int) -> None:
    truth, p, _ = predictions(seed)
    correct = p.argmax(axis=1) == truth
    wanted = multiclass_calibration_error(torch.from_numpy(p), torch.from_numpy(truth), num_classes=3, n_bins=15)
    found = metrics.expected_calibration_error(p.max(axis=1), correct, ONES)[0]
    assert found == pytest.approx(float(wanted), abs=1e-6)
    by_hand = sum((p[i, c] - (truth[i] == c)) ** 2 for i in range(80) for c in range(3)) / 80
    assert metrics.brier(p, truth, ONES)[0] == pytest.approx(by_hand)
    said, right, count = metrics.reliability(p.max(axis=1), correct)
    assert np.nansum(np.abs(said - right) * count) / 80 == pytest.approx(found)


def test_weights_count_scans() -> None:
    """A scan of weight 2 is that scan twice, for the figures that no library weighs."""
    truth, p, weight = predictions(5)
    correct, top = p.argmax(axis=1) == truth, p.max(axis=1)
    rows = np.repeat(np.arange(80), weight.astype(int))
    ones = np.ones((1, len(rows)))
    for figure in (metrics.expected_calibration_error, metrics.risk_coverage_area):
        twice = figure(top[rows], correct[rows], ones)
        assert figure(top, correct, weight[None])[0] == pytest.approx(twice[0])
    assert metrics.brier(p, truth, weight[None])[0] == pytest.approx(metrics.brier(p[rows], truth[rows], ones)[0])


def test_risk_over_coverage_by_hand() -> None:
    confidence, correct = np.array([0.9, 0.8, 0.8, 0.5]), np.array([True, False, True, True])
    coverage, risk = metrics.risk_coverage(confidence, correct, np.ones((1, 4)))
    # the two equally sure scans are answered together
    assert coverage[0].tolist() == [0.25, 0.75, 0.75, 1.0]
    assert risk[0] == pytest.approx([0, 1 / 3, 1 / 3, 1 / 4])
    assert metrics.risk_coverage_area(confidence, correct, np.ones((1, 4)))[0] == pytest.approx((2 / 3 + 1 / 4) / 4)


@pytest.mark.parametrize("seed", range(5))
def test_conformal_sets_agree_with_mapie(seed: int) -> None:
    from mapie.classification import SplitConformalClassifier
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Given(ClassifierMixin, BaseEstimator):
        """Predicts the given probabilities."""

        def fit(self, x: np.ndarray, y: np.ndarray) -> "Given":
            self.classes_ = np.arange(3)
            return self

        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            return x

        def predict(self, x: np.ndarray) -> np.ndarray:
            return x.argmax(axis=1)

    truth, p, _ = predictions(seed)
    _, fresh, _ = predictions(seed + 100)
    model = SplitConformalClassifier(Given().fit(p, truth), confidence_level=0.9, conformity_score="lac", prefit=True)
    _, sets = model.conformalize(p, truth).predict_set(fresh)
    quantile = conformal_quantile(p, truth, level=0.9)
    assert np.array_equal(1 - fresh <= quantile + 1e-12, sets[:, :, 0])


def test_thresholds_just_reach_what_they_are_asked_for() -> None:
    truth, p, _ = predictions(9)
    score, positive = p[:, 2], truth == 2
    cut = threshold_for(score, positive, sensitivity=0.9)
    assert (score >= cut)[positive].mean() >= 0.9
    assert (score > cut)[positive].mean() < 0.9
    cut = threshold_for(score, positive, specificity=0.9)
    assert (score < cut)[~positive].mean() >= 0.9
    assert (score < np.nextafter(cut, -1))[~positive].mean() < 0.9
    assert np.isnan(threshold_for(score, np.zeros(80, bool), sensitivity=0.9))


def searches(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(40, 8)), rng.integers(0, 3, 40), rng.normal(size=(90, 8)), rng.integers(0, 3, 90)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_retrieval_agrees_with_pytorch_metric_learning(seed: int) -> None:
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    queries, labels, gallery, gallery_labels = searches(seed)
    calculator = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision"),
        k=None,
        device=torch.device("cpu"),
        knn_func=CustomKNN(CosineSimilarity()),
    )
    wanted = calculator.get_accuracy(
        torch.from_numpy(queries), torch.from_numpy(labels), torch.from_numpy(gallery), torch.from_numpy(gallery_labels)
    )
    units = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (queries, gallery)]
    order = np.argsort(-(units[0] @ units[1].T), axis=1)
    relevant = gallery_labels[order] == labels[:, None]
    assert metrics.precision_at(relevant, k=1).mean() == pytest.approx(wanted["precision_at_1"])
    assert np.mean([r_precision(row) for row in relevant]) == pytest.approx(wanted["r_precision"])
    full = np.mean([average_precision_full(row) for row in relevant])
    assert full == pytest.approx(wanted["mean_average_precision"])


def test_both_definitions_of_map_at_k_by_hand() -> None:
    relevant = np.array([[True, False, True, False, False], [False] * 5, [False, True, False, False, False]])
    total = np.array([2, 3, 40])
    found = metrics.average_precision_at(relevant, total, k=5, divide_by="found")
    possible = metrics.average_precision_at(relevant, total, k=5, divide_by="possible")
    assert found == pytest.approx([(1 + 2 / 3) / 2, 0, 1 / 2])
    assert possible == pytest.approx([(1 + 2 / 3) / 2, 0, 1 / 2 / 5])


def test_short_rankings_are_refused() -> None:
    relevant = np.array([[True, False, True], [True, True, False]])
    assert metrics.precision_at(relevant, k=2).mean() == 0.75
    for k in (0, 4):
        with pytest.raises(InvalidValueError, match="rank at least k"):
            metrics.precision_at(relevant, k=k)


def test_a_tied_vote_goes_to_the_first_hit() -> None:
    assert metrics.majority_vote(np.array([[0, 1, 1], [1, 0, 2], [2, 0, 0]]), classes=3).tolist() == [1, 1, 0]
    assert metrics.majority_vote(np.array([[2, 0, 0, 2]]), classes=3).tolist() == [2]


def test_ndcg_follows_birads() -> None:
    gains = birads_gain("4A", np.array(["4", "5", "2", "", "0"]))
    assert gains is not None
    assert gains.tolist() == [3, 2, 1, 0, 0]
    assert birads_gain("0", np.array(["4"])) is None
    ideal, _ = ndcg_at(gains)
    assert ideal == pytest.approx(1.0)
    turned, chance = ndcg_at(gains[::-1])
    wanted = sk.ndcg_score(gains[::-1][None], -np.arange(5.0)[None])
    assert turned == pytest.approx(wanted)
    assert turned < chance < 1


def test_chance_levels_are_what_random_rankings_give() -> None:
    composition, label = {0: 13, 1: 43, 2: 21}, 2
    levels = metrics.chance_levels(composition, label)
    rng = np.random.default_rng(3)
    cases = np.repeat([0, 1, 2], [13, 43, 21])
    rankings = np.stack([rng.permutation(cases) for _ in range(3_000)])
    relevant = rankings == label
    total = np.full(3_000, 21)
    assert levels["precision@5"] == pytest.approx(21 / 77)
    assert levels["hit_rate@5"] == pytest.approx(relevant[:, :5].any(axis=1).mean(), abs=0.03)
    for kind in ("found", "possible"):
        drawn = metrics.average_precision_at(relevant, total, k=5, divide_by=kind).mean()
        assert levels[f"map@5_{kind}"] == pytest.approx(drawn, abs=0.03)
    assert levels["map_full"] == pytest.approx(np.mean([average_precision_full(row) for row in relevant]), abs=0.01)
    votes = metrics.majority_vote(rankings[:, :5], classes=3) == label
    assert levels["majority_vote@5"] == pytest.approx(votes.mean(), abs=0.03)
    assert metrics.chance_levels({}, 0) == {}


def test_a_curve_of_scans_of_one_class_is_drawn_without_a_warning() -> None:
    from matplotlib.figure import Figure

    from sonoseek.evaluate.figures import _roc

    axes = Figure().subplots()
    block: Any = SimpleNamespace(truth=np.array([2, 2]), probabilities=np.full((2, 3), 1 / 3))
    _roc(axes, {"a system": block})  # warnings are errors here
    assert axes.get_legend() is None
