"""A bundle's calibration refitted on an archive's own cases, cross-validated by patient; no torch, no SciPy.

Temperature and biases are fitted by `evaluate.archive_scaling`; thresholds, abstention and conformal quantile as for a
bundle (`evaluate.calibrate`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import CaseRecord, InvalidValueError
from sonoseek.core.prediction import MALIGNANT
from sonoseek.core.version import __version__
from sonoseek.datasets import stratified_group_folds
from sonoseek.encoder import Bundle
from sonoseek.encoder.archive_calibration import ArchiveCalibration, Figure, FigurePair
from sonoseek.evaluate.archive_cases import ArchiveCases, Progress, collect_cases
from sonoseek.evaluate.archive_scaling import Flags, Floats, carried_threshold, fit_scaling
from sonoseek.evaluate.bootstrap import group_weights, interval, share_interval
from sonoseek.evaluate.calibrate import (
    LEVEL,
    RATES,
    conformal_quantile,
    fit_abstention,
    kind_of,
    operating_point,
    softmax,
)
from sonoseek.evaluate.metrics import auroc, expected_calibration_error, weighted_share
from sonoseek.gallery import Gallery

Points = Mapping[str, Mapping[str, float]]

FEWEST_CASES = 100
FEWEST_OF_KIND = 30
"""Malignant cases, and cases that are not: with 30, the threshold of 90 % sensitivity rests on the third lowest
likelihood. A class gets a bias of its own from as many cases on."""
FEWEST_GROUPS = 20
"""Patients or groups; fewer give no interval that one may trust."""
FEWEST_GROUPS_OF_KIND = 10
"""Of either kind: two for each fold."""
FOLDS = 5
REPEATS = 5
"""Cross-validations, each with folds of its own; their figures are averaged."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedCalibration:
    """A calibration; fields as in `ArchiveCalibration`."""

    temperature: float
    class_bias: Floats
    abstain_below: float
    quantile: float
    points: Points

    def probabilities(self, logits: NDArray[np.floating]) -> Floats:
        """(n, C) logits → (n, C), rows sum to 1."""
        return softmax(logits / self.temperature + self.class_bias)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What the number of cases allows, decided once for the whole archive: classes with a bias, points to refit."""

    classes: tuple[int, ...]
    points: tuple[str, ...]


def calibrate_archive(
    gallery: Gallery,
    bundle: Bundle,
    *,
    seed: int = 0,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> ArchiveCalibration:
    """Refit temperature, biases and thresholds of a bundle on the labelled cases of a gallery; nothing is stored.

    The figures "after" are of cases that were not fitted on: `REPEATS` times `FOLDS` folds that part no group. Store
    the result with `sonoseek.gallery.write_calibration`, if it is `improved`.

    Args:
        gallery: filled by `bundle`.
        bundle: with its own calibration.
        seed: of folds; 0 or more.
        on_progress: (what is done, steps done, steps in all).

    Raises:
        InvalidValueError: too few cases that the bundle was not trained on; the bundle has no class "malignant".
        BundleMismatchError, SplitError, GalleryError: as `collect_cases`.
    """
    if MALIGNANT not in bundle.classes or bundle.calibration.cases is not None:
        raise InvalidValueError(
            f"bundle {bundle.bundle_id!r} has the classes {', '.join(bundle.classes)} and "
            f"{'an archive calibration' if bundle.calibration.cases else 'its own calibration'}; a bundle with the "
            f"class {MALIGNANT!r} and its own calibration is refitted. Load it with load_bundle."
        )
    reading, fitting = (
        None if on_progress is None else partial(on_progress, what) for what in ("training scans", "cross-validation")
    )
    cases = collect_cases(gallery, bundle, on_progress=reading)
    return calibrate_cases(cases, bundle, gallery_id=gallery.gallery_id, seed=seed, on_progress=fitting)


def calibrate_cases(
    cases: ArchiveCases, bundle: Bundle, *, gallery_id: str, seed: int = 0, on_progress: Progress | None = None
) -> ArchiveCalibration:
    """As `calibrate_archive`, of cases that were read before.

    Raises:
        InvalidValueError: too few cases.
    """
    malignant = bundle.classes.index(MALIGNANT)
    check_enough(cases, malignant=malignant)
    shift = bundle.temperature * np.array(bundle.class_bias or (0.0,) * len(bundle.classes))
    cases = replace(cases, logits=cases.logits + shift)  # the bundle's own bias is where the fit starts
    own = FittedCalibration(
        temperature=bundle.temperature,
        class_bias=np.zeros(len(bundle.classes)),
        abstain_below=bundle.abstain_below,
        quantile=bundle.conformal_quantile,
        points=bundle.operating_points,
    )
    plan = _plan(cases, malignant=malignant, classes=len(bundle.classes))
    fitted = _fit(cases, own, plan, which=np.ones(len(cases.labels), np.bool_), malignant=malignant)
    figures, change = _figures(cases, own, plan, malignant=malignant, seed=seed, on_progress=on_progress)
    return ArchiveCalibration(
        sonoseek=__version__,
        bundle_id=bundle.bundle_id,
        gallery_id=gallery_id,
        gallery_state=cases.state,
        created=datetime.now(UTC).replace(microsecond=0),
        cases=cases.count(),
        scans=len(cases.labels),
        patients=cases.count_groups(),
        class_cases={
            name: count for index, name in enumerate(bundle.classes) if (count := cases.count(cases.labels == index))
        },
        left_out=dict(cases.left_out),
        temperature=fitted.temperature,
        class_bias=dict(zip(bundle.classes, (fitted.class_bias + shift / fitted.temperature).tolist(), strict=True)),
        abstain_below=fitted.abstain_below,
        conformal={"level": LEVEL, "quantile": fitted.quantile},
        operating_points={name: dict(point) for name, point in fitted.points.items()},
        bundle_points=[name for name in fitted.points if name not in plan.points],
        figures=figures,
        log_loss_change=change,
        improved_by=_improved_by(figures, change, plan),
    )


def check_enough(cases: ArchiveCases, *, malignant: int) -> None:
    """Refuse what is too little to fit on and to cross-validate.

    Args:
        cases: that are left.
        malignant: index of the class.

    Raises:
        InvalidValueError: with the numbers there are, the numbers needed, and what was left out.
    """
    positive = cases.labels == malignant
    counts = [cases.count(), cases.count(positive), cases.count(~positive)]
    groups = [cases.count_groups(), cases.count_groups(positive), cases.count_groups(~positive)]
    least = [FEWEST_CASES, FEWEST_OF_KIND, FEWEST_OF_KIND]
    least_groups = [FEWEST_GROUPS, FEWEST_GROUPS_OF_KIND, FEWEST_GROUPS_OF_KIND]
    if all(have >= need for have, need in zip(counts + groups, least + least_groups, strict=True)):
        return
    raise InvalidValueError(
        f"{counts[0]} cases can be used, {counts[1]} malignant and {counts[2]} not, of {groups[0]} patients or groups "
        f"({groups[1]} with a malignant case, {groups[2]} with another); it takes {least[0]} cases, {least[1]} "
        f"malignant and {least[2]} not, of {least_groups[0]} patients or groups, {least_groups[1]} of either kind. "
        f"{left_out_in_words(cases.left_out)}Add cases with a reference standard that the bundle was not trained on; "
        "until then the bundle's calibration is used."
    )


def left_out_in_words(left_out: Mapping[str, int]) -> str:
    """One sentence of what was not used, ending in a space; "" where all was."""
    words = {
        "trained_on": "were in the bundle's training data",
        "related": "are of the same patient, group or near-duplicates as those",
        "other_class": "have a label that is no class of the bundle",
        "out_of_distribution": "are unlike the training scans and get no prediction",
    }
    listed = [f"{count} {words[reason]}" for reason, count in left_out.items()]
    return f"Left out: {', '.join(listed)}. " if listed else ""


def _plan(cases: ArchiveCases, *, malignant: int, classes: int) -> _Plan:
    positive = cases.labels == malignant
    of_kind = {"sensitivity": cases.count(positive), "specificity": cases.count(~positive)}
    return _Plan(
        classes=tuple(c for c in range(classes) if cases.count(cases.labels == c) >= FEWEST_OF_KIND),
        # below 1 / (1 - rate) cases the threshold would be the lowest score itself
        points=tuple(name for name, rate in RATES.items() if of_kind[kind_of(name)] >= round(1 / (1 - rate))),
    )


def _fit(
    cases: ArchiveCases, own: FittedCalibration, plan: _Plan, *, which: Flags, malignant: int
) -> FittedCalibration:
    """Fit on the scans that `which` marks."""
    logits, labels = cases.logits[which], cases.labels[which]
    temperature, bias = fit_scaling(
        logits,
        labels,
        temperature=own.temperature,
        classes=plan.classes,
        weight=cases.count_groups(which) / len(labels),
    )
    p = softmax(logits / temperature + bias)
    score, positive = p[:, malignant], labels == malignant
    refitted = {name: operating_point(name, score, positive) for name in plan.points}
    lowest = min((p["threshold"] for name, p in refitted.items() if kind_of(name) == "sensitivity"), default=1.0)
    points: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys((*RATES, *own.points)):
        if name in refitted:
            points[name] = refitted[name]
        elif name in own.points:
            before = own.probabilities(logits)[:, malignant]
            carried = carried_threshold(before, score, positive, threshold=own.points[name]["threshold"])
            if kind_of(name) == "sensitivity":  # a higher sensitivity never has the higher threshold
                carried = min(carried, lowest)
            points[name] = {**own.points[name], "threshold": carried}
    return FittedCalibration(
        temperature=temperature,
        class_bias=bias,
        abstain_below=fit_abstention(p, labels),
        quantile=conformal_quantile(p, labels),
        points=points,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Predicted:
    """What one calibration, or those of the folds together, makes of all scans: one row per scan."""

    p: Floats
    labelled: Flags
    included: Flags
    called: Mapping[str, Flags]


def _predict(fitted: FittedCalibration, logits: Floats, *, malignant: int) -> _Predicted:
    p = fitted.probabilities(logits)
    top = np.arange(p.shape[1]) == p.argmax(axis=1)[:, None]
    return _Predicted(
        p=p,
        labelled=p.max(axis=1) >= fitted.abstain_below,
        included=(1 - p <= fitted.quantile) | top,
        called={name: p[:, malignant] >= point["threshold"] for name, point in fitted.points.items()},
    )


def _cross_validated(
    cases: ArchiveCases, own: FittedCalibration, plan: _Plan, *, malignant: int, seed: int
) -> _Predicted:
    """Each scan by what was fitted on the other folds."""
    records = [
        CaseRecord(
            case_id=str(number),
            dataset="archive",
            pathology="malignant" if label == malignant else "benign",
            group=str(group),
        )
        for number, (label, group) in enumerate(zip(cases.labels, cases.groups.tolist(), strict=True))
    ]
    parts: list[tuple[NDArray[np.intp], _Predicted]] = []
    for fold in stratified_group_folds(records, folds=FOLDS, seed=seed):
        test = np.array([int(case_id) for case_id in fold.test])
        learnt = np.ones(len(records), np.bool_)
        learnt[test] = False
        fitted = _fit(cases, own, plan, which=learnt, malignant=malignant)
        parts.append((test, _predict(fitted, cases.logits[test], malignant=malignant)))
    order = np.argsort(np.concatenate([test for test, _ in parts]))
    return _Predicted(
        p=np.concatenate([each.p for _, each in parts])[order],
        labelled=np.concatenate([each.labelled for _, each in parts])[order],
        included=np.concatenate([each.included for _, each in parts])[order],
        called={name: np.concatenate([each.called[name] for _, each in parts])[order] for name in parts[0][1].called},
    )


def _figures(
    cases: ArchiveCases, own: FittedCalibration, plan: _Plan, *, malignant: int, seed: int, on_progress: Progress | None
) -> tuple[dict[str, FigurePair], Figure]:
    """Each figure before and after, with intervals; and the change of the log loss."""
    drawn = group_weights(cases.count_groups())[:, np.unique(cases.groups, return_inverse=True)[1]]
    weights = np.concatenate([np.ones((1, len(cases.labels))), drawn])
    before = _measure(_predict(own, cases.logits, malignant=malignant), cases.labels, weights, malignant=malignant)
    rounds = []
    for number in range(REPEATS):
        held_out = _cross_validated(cases, own, plan, malignant=malignant, seed=seed * REPEATS + number)
        rounds.append(_measure(held_out, cases.labels, weights, malignant=malignant))
        if on_progress is not None:
            on_progress(number + 1, REPEATS)
    after = {name: np.mean([each[name] for each in rounds], axis=0) for name in rounds[0]}
    nothing = np.full(len(weights), np.nan)
    groups = _groups_of_shares(cases, malignant=malignant)

    def figure(values: Floats, name: str) -> Figure:
        return _figure(values, shifted=name == "ece", groups=groups.get(name.rpartition(":")[2], 0))

    figures = {
        name: FigurePair(before=figure(before.get(name, nothing), name), after=figure(after.get(name, nothing), name))
        for name in dict.fromkeys((*after, *before))
    }
    return figures, _figure(after["log_loss"] - before["log_loss"])


def _groups_of_shares(cases: ArchiveCases, *, malignant: int) -> dict[str, int]:
    """Share → groups that it is of; of the AUROC, those of the rarer kind."""
    positive, negative = (
        len(np.unique(cases.groups[which])) for which in (cases.labels == malignant, cases.labels != malignant)
    )
    everyone = dict.fromkeys(("set_coverage", "label_share", "label_accuracy"), cases.count_groups())
    return {**everyone, "auroc": min(positive, negative), "sensitivity": positive, "specificity": negative}


def _measure(predicted: _Predicted, labels: NDArray[np.int64], weights: Floats, *, malignant: int) -> dict[str, Floats]:
    """Figures (B,) by rows of weights (B, n); the first row's are those of the scans themselves."""
    p, rows, positive = predicted.p, np.arange(len(labels)), labels == malignant
    right = p.argmax(axis=1) == labels
    measured = {
        "log_loss": weighted_share(-np.log(np.maximum(p[rows, labels], 1e-300)), weights),
        "ece": expected_calibration_error(p.max(axis=1), right, weights),
        "auroc": auroc(p[:, malignant], positive, weights),
        "set_coverage": weighted_share(predicted.included[rows, labels], weights),
        "set_size": weighted_share(predicted.included.sum(axis=1).astype(np.float64), weights),
        "label_share": weighted_share(predicted.labelled, weights),
        "label_accuracy": weighted_share(right[predicted.labelled], weights[:, predicted.labelled]),
    }
    for name, called in predicted.called.items():
        measured[f"{name}:sensitivity"] = weighted_share(called[positive], weights[:, positive])
        measured[f"{name}:specificity"] = weighted_share(~called[~positive], weights[:, ~positive])
    return measured


def _figure(values: Floats, *, shifted: bool = False, groups: int = 0) -> Figure:
    value = float(values[0])
    if shifted:
        low, high = interval(values[1:], around=value)
    else:
        low, high = share_interval(values[1:], value=value, groups=groups)
    return Figure(**{k: v if math.isfinite(v) else None for k, v in (("value", value), ("low", low), ("high", high))})


def _improved_by(figures: Mapping[str, FigurePair], change: Figure, plan: _Plan) -> str:
    """What makes the refit better than the bundle's calibration beyond chance; "" where nothing does.

    Either the log loss falls, with its whole interval. Or it does not rise beyond chance, an operating point of the
    bundle misses its sensitivity on this archive with its whole interval, and the refitted one comes nearer.
    """
    if change.high is not None and change.high < 0:
        return "log_loss"
    if change.low is None or change.low > 0:
        return ""
    for name in (each for each in plan.points if kind_of(each) == "sensitivity"):
        before, after, rate = figures[f"{name}:sensitivity"].before, figures[f"{name}:sensitivity"].after, RATES[name]
        if before.value is None or before.high is None or after.value is None:
            continue
        if before.high < rate and abs(after.value - rate) < abs(before.value - rate):
            return name
    return ""
