import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from sonoseek.core import InvalidValueError
from sonoseek.evaluate.metrics import (
    classification_figures,
    expected_calibration_error,
    majority_vote,
    precision_at_k,
)

CLASSES = ("normal", "benign", "malignant")


def verdicts(seed: int, count: int = 60) -> tuple[list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(3), rng.integers(0, 3, count - 3)])
    scores = rng.random((count, 3)) + 1.5 * np.eye(3)[truth] * rng.random((count, 1))
    return [CLASSES[i] for i in truth], scores / scores.sum(axis=1, keepdims=True)


@given(st.integers(0, 10_000))
def test_figures_agree_with_an_independent_implementation(seed: int) -> None:
    labels, p = verdicts(seed)
    truth = np.array([CLASSES.index(label) for label in labels])
    figures = classification_figures(labels, p, classes=CLASSES)
    assert figures["accuracy"] == pytest.approx((p.argmax(1) == truth).mean())
    assert figures["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, p.argmax(1)))
    assert figures["auroc_malignant"] == pytest.approx(roc_auc_score(truth == 2, p[:, 2]))
    assert figures["auroc_macro"] == pytest.approx(roc_auc_score(truth, p, multi_class="ovr"))
    brier = sum((p[i, c] - (truth[i] == c)) ** 2 for i in range(len(p)) for c in range(3)) / len(p)
    assert figures["brier"] == pytest.approx(brier)


def test_columns_follow_the_classes_named() -> None:
    labels, p = verdicts(1)
    turned = classification_figures(labels, p[:, ::-1], classes=CLASSES[::-1])
    assert turned == pytest.approx(classification_figures(labels, p, classes=CLASSES))


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.55, 0.55])
    correct = np.array([True, True, True, False])
    # two bins: |0.95 - 1| and |0.55 - 0.5|, half the scans each
    assert expected_calibration_error(confidence, correct) == pytest.approx(0.05)
    assert expected_calibration_error(np.ones(5), np.ones(5, bool)) == 0.0


def test_an_absent_class_is_not_scored_as_a_figure() -> None:
    labels, p = verdicts(2)
    keep = [i for i, label in enumerate(labels) if label != "malignant"]
    figures = classification_figures([labels[i] for i in keep], p[keep], classes=CLASSES)
    assert np.isnan(figures["auroc_malignant"])


@pytest.mark.parametrize("shape", [(3, 2), (0, 3), (4, 3)])
def test_shapes_that_do_not_fit_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(InvalidValueError, match="shape"):
        classification_figures(["benign"] * 3 if shape[0] else [], np.zeros(shape), classes=CLASSES)


def test_unknown_labels_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="cancer"):
        classification_figures(["cancer"], np.ones((1, 3)) / 3, classes=CLASSES)


def test_precision_counts_the_first_k_and_refuses_short_rankings() -> None:
    relevant = np.array([[True, False, True], [True, True, False]])
    assert precision_at_k(relevant, k=1) == 1.0
    assert precision_at_k(relevant, k=2) == 0.75
    with pytest.raises(InvalidValueError, match="rank at least k"):
        precision_at_k(relevant, k=4)


def test_a_tied_vote_goes_to_the_first_hit() -> None:
    assert majority_vote([["a", "b", "b"], ["b", "a", "a", "b"]]) == ["b", "b"]
