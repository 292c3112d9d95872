"""Figures of each hospital that was left out, and their mean: what decides between networks.

Every figure is of scans of one archive. Thresholds and temperature are fitted on the other archives' scans, as
predicted by networks that were not trained on these either. A bundle for a new hospital is calibrated in the same way.
Malignant against benign is scored on the probability of malignancy among those two classes. Intervals draw groups
(patients where they are known) of that archive; the mean's interval draws all archives at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from sonoseek.core import PATHOLOGIES, InvalidValueError
from sonoseek.evaluate import metrics
from sonoseek.evaluate.arrays import truth_of
from sonoseek.evaluate.bootstrap import group_weights, interval
from sonoseek.evaluate.calibrate import (
    RATES,
    Calibration,
    calibrate,
    conformal_quantile,
    fit_temperature,
    kind_of,
    softmax,
    threshold_for,
)
from sonoseek.evaluate.rows import CaseRow, ScanRow, Search, SystemResults

Floats = NDArray[np.float64]
NORMAL, BENIGN, MALIGNANT = range(3)
LARGEST_BIAS = 5.0
"""Of a class, in logits."""
COVERAGE = 0.8
"""Share of scans, most confident first, among which errors are counted as well."""
DEPTH = 5
BIASED = ("ece", "ece_refitted")
"""Figures that resampling noise raises; their interval is shifted back by the mean growth."""
WORSE_WHEN_HIGH = ("ece", "ece_refitted", "aurc", f"error_at_{COVERAGE:.0%}_coverage")


def hospital_figures(results: SystemResults, cases: Mapping[str, CaseRow]) -> dict[str, Any]:
    """Hospital → figure → value, interval and each seed's value, and "scans"; "mean" over hospitals; "worst" of them.

    Args:
        results: of a system, under a protocol whose rounds each test one archive.
        cases: of the protocol.

    Returns:
        Empty where fewer than two archives are tested. "worst": figure → name of a hospital. Figures: see `two_way` and
        `searching`; one that is not defined for a hospital (no normal scans, no search) is left out there.
    """
    names = sorted({cases[row.scan].dataset for row in results.predictions})
    if len(names) < 2:
        return {}
    figures: dict[str, Any] = {}
    drawn: dict[str, dict[str, Floats]] = {}
    sizes: dict[str, int] = {}
    for number, name in enumerate(names):
        figures[name], drawn[name] = _one(results, cases, name, seed=number)
        sizes[name] = sum(case.tested and case.dataset == name for case in cases.values())
    shared = [figure for figure in figures[names[0]] if all(figure in figures[name] for name in names)]
    figures["mean"] = {}
    for figure in shared:
        value = float(np.mean([figures[name][figure]["value"] for name in names]))
        figures["mean"][figure] = {
            "value": value,
            **_ends(figure, np.mean([drawn[name][figure] for name in names], axis=0), value),
            "seeds": np.mean([figures[name][figure]["seeds"] for name in names], axis=0).tolist(),
        }
    figures["worst"] = {
        figure: (max if figure in WORSE_WHEN_HIGH else min)(names, key=lambda name: figures[name][figure]["value"])
        for figure in shared
    }
    for name, size in (*sizes.items(), ("mean", sum(sizes.values()))):
        figures[name]["scans"] = size
    return figures


def finished_round_figures(results: SystemResults, cases: Mapping[str, CaseRow]) -> dict[str, Any]:
    """Hospital → figure → value, interval and each seed's value, of a system some of whose rounds are lacking.

    As `hospital_figures`, without mean and worst; of one hospital alone nothing can be fitted in others, and figures
    that need it are left out.
    """
    names = sorted({cases[row.scan].dataset for row in results.predictions})
    return {name: _one(results, cases, name, seed=number)[0] for number, name in enumerate(names)}


def _one(
    results: SystemResults, cases: Mapping[str, CaseRow], name: str, *, seed: int
) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Figures of one hospital: values and resamples, each the mean over seeds."""
    own = [case for case in cases.values() if case.tested and case.dataset == name]
    place = {group: i for i, group in enumerate(sorted({case.group for case in own}))}
    weights = group_weights(len(place), seed=seed)
    values: dict[str, list[float]] = {}
    resampled: dict[str, list[Floats]] = {}
    for number in sorted({row.seed for row in results.predictions}):
        rows = [row for row in results.predictions if row.seed == number and cases[row.scan].dataset == name]
        group = np.array([place[row.group] for row in rows])
        others = [row for row in results.predictions if row.seed == number and cases[row.scan].dataset != name]
        for source in (np.ones((1, len(rows))), weights[:, group]):
            figures = {**two_way(rows, source, others=others)}
            for prefix, column in (("", "search"), ("own_archive_", "own_archive")):
                figures |= searching(rows, [getattr(row, column) for row in rows], cases, source, prefix=prefix)
            for figure, value in figures.items():
                if len(source) == 1:
                    values.setdefault(figure, []).append(float(value[0]))
                else:
                    resampled.setdefault(figure, []).append(value)
    means = {figure: np.mean(each, axis=0) for figure, each in resampled.items()}
    known = [figure for figure, each in values.items() if all(map(math.isfinite, each))]
    summary: dict[str, Any] = {}
    for figure in known:
        whole = float(np.mean(values[figure]))
        summary[figure] = {"value": whole, **_ends(figure, means[figure], whole), "seeds": values[figure]}
    return summary, {figure: means[figure] for figure in known}


def two_way(rows: Sequence[ScanRow], weights: Floats, *, others: Sequence[ScanRow]) -> dict[str, Floats]:
    """Figures of malignant against benign, and against all others where there are normal scans.

    Args:
        rows: n scans of one hospital.
        weights: (B, n).
        others: scans of the other hospitals, predicted by networks that had not seen those; empty: no figure that needs
            something fitted.

    Returns:
        Figure → (B,). Of `rows` alone: auroc (malignant : benign), auroc_against_all, ece and aurc (of the likelier of
        the two), error_at_80%_coverage. With what is fitted on `others`: accuracy, sensitivity and specificity at the
        threshold of best accuracy; sensitivity and specificity at each threshold that reaches a wanted rate;
        ece_refitted (its temperature); coverage (share of its prediction sets that hold the class).
    """
    score, positive, lesion = _lesions(rows)
    weights_lesion = weights[:, lesion]
    score_lesion, positive_lesion = score[lesion], positive[lesion]
    sure = np.maximum(score_lesion, 1 - score_lesion)
    right = (score_lesion >= 0.5) == positive_lesion
    coverage, risk = metrics.risk_coverage(sure, right, weights_lesion)
    figures = {
        "auroc": metrics.auroc(score_lesion, positive_lesion, weights_lesion),
        "ece": metrics.expected_calibration_error(sure, right, weights_lesion),
        "aurc": metrics.risk_coverage_area(sure, right, weights_lesion),
        f"error_at_{COVERAGE:.0%}_coverage": risk[np.arange(len(risk)), (coverage >= COVERAGE).argmax(axis=1)],
    }
    if not lesion.all():
        malignancy = np.array([row.probabilities[MALIGNANT] for row in rows])
        figures["auroc_against_all"] = metrics.auroc(malignancy, positive, weights)
    if others:
        figures |= _refitted(rows, weights, others=others)
    for name, threshold in _thresholds(others).items():
        called = score_lesion >= threshold
        if name == "accuracy":
            figures["accuracy"] = metrics.weighted_share(called == positive_lesion, weights_lesion)
        suffix = "" if name == "accuracy" else f"_at_{name}"
        figures[f"sensitivity{suffix}"] = metrics.weighted_share(called, weights_lesion * positive_lesion)
        figures[f"specificity{suffix}"] = metrics.weighted_share(~called, weights_lesion * ~positive_lesion)
    return figures


def _refitted(rows: Sequence[ScanRow], weights: Floats, *, others: Sequence[ScanRow]) -> dict[str, Floats]:
    """What a temperature and a conformal quantile give that were fitted on other hospitals' lesions."""
    (values, labels), (other_values, other_labels) = (_lesion_logits(some) for some in (rows, others))
    if not len(other_labels):
        return {}
    temperature = fit_temperature(other_values, other_labels)
    quantile = conformal_quantile(softmax(other_values / temperature), other_labels)
    p = softmax(values / temperature)
    of_lesions = weights[:, truth_of(rows) != NORMAL]
    pair = softmax(values[:, [BENIGN, MALIGNANT]] / temperature)[:, 1]
    sure, right = np.maximum(pair, 1 - pair), (pair >= 0.5) == (labels == MALIGNANT)
    in_set = p[np.arange(len(p)), labels] >= 1 - quantile
    return {
        "ece_refitted": metrics.expected_calibration_error(sure, right, of_lesions),
        "coverage": metrics.weighted_share(in_set, of_lesions),
    }


def _log_probabilities(rows: Sequence[ScanRow]) -> tuple[Floats, NDArray[np.int64]]:
    """(n, C), and the labels (n,)."""
    return np.log(np.maximum(np.array([row.probabilities for row in rows]), 1e-12)), truth_of(rows)


def _lesion_logits(rows: Sequence[ScanRow]) -> tuple[Floats, NDArray[np.int64]]:
    """Log probabilities (m, C) and labels (m,) of the scans with a lesion."""
    values, labels = _log_probabilities(rows)
    return values[labels != NORMAL], labels[labels != NORMAL]


def travelling_calibration(rows: Sequence[ScanRow], validation: Sequence[ScanRow] = ()) -> Calibration:
    """A calibration fitted on lesions of hospitals left out, pooled over hospitals and seeds.

    Scans without a lesion are left out: of the hospitals here only one has them, and networks that have not seen it
    cannot know the class. Networks that have learnt it from one hospital alone call lesions of others normal too
    often: a bias of that class is fitted on the lesions left out and on the validation sides' normal scans, each class
    with a third of the weight.

    Args:
        rows: test sides of a protocol whose rounds each test one hospital; probabilities under each round's own
            temperature.
        validation: validation sides of the same rounds; without a normal scan among them there is no bias.

    Returns:
        Its temperature is the factor by which one fitted on a validation part has to be raised; bias, thresholds and
        quantile are for logits under the raised temperature.

    Raises:
        InvalidValueError: no benign or no malignant scan among the rows.
    """
    values, labels = _lesion_logits(rows)
    if {BENIGN, MALIGNANT} - set(labels.tolist()):
        raise InvalidValueError(
            f"{len(labels)} scans with a lesion are given; a calibration needs benign and malignant ones. Give "
            "the results of a protocol that leaves hospitals out."
        )
    bias = np.array([_bias_of_normal(rows, validation), 0.0, 0.0])
    # the bias is added after the division by the temperature; both are fitted in turn
    temperature = 1.0
    for _ in range(3):
        temperature = fit_temperature(values + temperature * bias, labels)
    fitted = calibrate(values + temperature * bias, labels)
    return replace(fitted, class_bias=tuple(bias.tolist()) if bias.any() else ())


def _bias_of_normal(rows: Sequence[ScanRow], validation: Sequence[ScanRow]) -> float:
    """The bias of the normal class that makes all three classes likeliest, each with a third of the weight; ≤ 0."""
    folds = {(row.seed, row.fold) for row in validation if row.label == PATHOLOGIES[NORMAL]}
    known = [row for row in rows if (row.seed, row.fold) in folds and row.label != PATHOLOGIES[NORMAL]]
    known += [row for row in validation if row.label == PATHOLOGIES[NORMAL]]
    values, labels = _log_probabilities(known)
    if len(set(labels.tolist())) < len(PATHOLOGIES):
        return 0.0
    weight = 1.0 / np.bincount(labels)[labels]

    def cost(bias: float) -> float:
        p = softmax(values + np.array([bias, 0.0, 0.0]))[np.arange(len(labels)), labels]
        return float(-(weight * np.log(np.maximum(p, 1e-300))).sum())

    return float(minimize_scalar(cost, bounds=(-LARGEST_BIAS, 0.0), method="bounded").x)


def _thresholds(others: Sequence[ScanRow]) -> dict[str, float]:
    """Name → threshold on the two-way score, fitted on other hospitals' scans; empty without both kinds."""
    if not others:
        return {}
    score, positive, lesion = _lesions(others)
    score, positive = score[lesion], positive[lesion]
    if positive.all() or not positive.any():
        return {}
    return {
        "accuracy": most_accurate_threshold(score, positive),
        **{name: threshold_for(score, positive, **{kind_of(name): rate}) for name, rate in RATES.items()},
    }


def most_accurate_threshold(score: Floats, positive: NDArray[np.bool_]) -> float:
    """The threshold (positive at or above it) that is right most often; of several, the one in their middle.

    Args:
        score: (n,), n ≥ 1.
        positive: (n,).
    """
    values = np.unique(score)
    thresholds = np.concatenate([values[:1], (values[1:] + values[:-1]) / 2, [np.nextafter(values[-1], np.inf)]])
    right = ((score[None, :] >= thresholds[:, None]) == positive).sum(axis=1)
    best = np.flatnonzero(right == right.max())
    return float(thresholds[best[len(best) // 2]])


def searching(
    rows: Sequence[ScanRow],
    searches: Sequence[Search | None],
    cases: Mapping[str, CaseRow],
    weights: Floats,
    *,
    prefix: str,
) -> dict[str, Floats]:
    """P@5 and mAP of the searches, over queries that have a relevant case; empty without any.

    Args:
        rows: n scans.
        searches: n, theirs; None where nothing was searched.
        cases: of the protocol.
        weights: (B, n).
        prefix: of the figures' names.
    """
    has_relevant = np.array([search is not None and search.relevant > 0 for search in searches], dtype=np.bool_)
    if not has_relevant.any():
        return {}
    precision, average = np.zeros(len(rows)), np.zeros(len(rows))
    for i, (row, search) in enumerate(zip(rows, searches, strict=True)):
        if search is not None and has_relevant[i]:
            precision[i] = np.mean([cases[match].label == row.label for match in search.matches[:DEPTH]])
            average[i] = search.average_precision
    return {
        f"{prefix}precision@{DEPTH}": metrics.weighted_share(precision, weights * has_relevant),
        f"{prefix}map": metrics.weighted_share(average, weights * has_relevant),
    }


def _lesions(rows: Sequence[ScanRow]) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """(n,) each: probability of malignancy among benign and malignant; whether malignant; whether not normal."""
    p = np.array([row.probabilities for row in rows])
    truth = truth_of(rows)
    both = p[:, MALIGNANT] + p[:, BENIGN]
    score = np.where(both > 0, p[:, MALIGNANT] / np.maximum(both, 1e-12), 0.5)
    return score, truth == MALIGNANT, truth != NORMAL


def _ends(figure: str, values: Floats, value: float) -> dict[str, float]:
    low, high = interval(values, around=value if figure in BIASED else None)
    return {"low": low, "high": high}
