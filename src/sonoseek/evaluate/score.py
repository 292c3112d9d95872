"""From rows to figures: mean and deviation over folds, and intervals by drawing groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import PATHOLOGIES
from sonoseek.evaluate import metrics
from sonoseek.evaluate.arrays import MALIGNANT, Block, blocks, group_numbers, learnt_classes
from sonoseek.evaluate.bootstrap import group_weights, interval, share_interval
from sonoseek.evaluate.rows import CaseRow, SystemResults

Floats = NDArray[np.float64]
Figures = dict[str, Floats]
SUBSET_SEARCHES = ("precision@5", "map_full", "majority_vote@5")
BIASED = ("ece",)
"""Figures that resampling noise raises; their interval is shifted back by the mean growth."""
POINTS = ("sensitivity_90", "specificity_90")
"""Operating points whose sensitivity and specificity are measured."""
FEWEST = 20
"""Scans. A BI-RADS category or a scanner with fewer is not scored on its own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """A system's figures under one protocol.

    Attributes:
        summary: as in `scores.json`: plain values.
        seeds: that were scored.
        pooled: figure → its value over all scans, mean over seeds. resampled: figure → (resamples,), for paired
            comparisons; row b is the same draw of groups for every system of a protocol.
        by_seed: seed → (pooled, resampled) of that seed alone.
        right: (n,) of the first seed, in the order of scan names: whether each prediction is right; for McNemar.
    """

    summary: dict[str, Any]
    seeds: tuple[int, ...]
    pooled: Mapping[str, float]
    resampled: Mapping[str, Floats]
    by_seed: Mapping[int, tuple[Mapping[str, float], Mapping[str, Floats]]]
    right: NDArray[np.bool_]

    def first_seed(self) -> Scored:
        """The same, of the first seed alone, to compare with a system that has no other."""
        pooled, resampled = self.by_seed[self.seeds[0]]
        return replace(self, seeds=self.seeds[:1], pooled=pooled, resampled=resampled)


def score(results: SystemResults, cases: Mapping[str, CaseRow]) -> Scored:
    """Every figure of one system.

    Scans of a class that no training side holds are not scored (no system could be right); what was
    predicted for them stands in "unlearnt".

    Args:
        results: of the system.
        cases: of the protocol; both as `files` reads them.
    """
    learnt = learnt_classes(results.rounds)
    every = blocks(results, cases)
    seeds = {seed: block.take(learnt[block.truth]) for seed, block in every.items()}
    weights = group_weights(len(group_numbers(cases)))
    summary: dict[str, Any] = {"counts": _counts(results, cases, seeds)}
    classified = _figures_by_seed(seeds, classification, weights)
    summary["classification"] = _summary(classified, groups=_groups_of_shares(seeds.values()))
    searched = _figures_by_seed(seeds, searching, weights) if results.searched else {}
    if searched:
        summary["retrieval"] = _with_chance(_summary(searched, groups={}), seeds)
    summary["subsets"] = _subsets(seeds, cases, weights)
    if patients := _by_patient(seeds, cases):
        by_patient = _figures_by_seed(patients, classification, weights)
        summary["patients"] = _summary(by_patient, groups=_groups_of_shares(patients.values()))
    summary["unlearnt"] = _unlearnt(every, learnt)
    first = seeds[min(seeds)]
    right = (first.probabilities.argmax(axis=1) == first.truth)[np.argsort(np.array(first.scans))]
    by_seed = {
        seed: (
            {**classified[seed].pooled, **(searched[seed].pooled if searched else {})},
            {**classified[seed].resampled, **(searched[seed].resampled if searched else {})},
        )
        for seed in seeds
    }
    names = by_seed[min(seeds)][0]
    return Scored(
        summary=plain(summary),
        seeds=tuple(seeds),
        pooled={name: float(np.mean([pooled[name] for pooled, _ in by_seed.values()])) for name in names},
        resampled={name: np.mean([drawn[name] for _, drawn in by_seed.values()], axis=0) for name in names},
        by_seed=by_seed,
        right=right,
    )


def classification(block: Block, weights: Floats) -> Figures:
    """Figures of predictions, for each row of `weights` (B, n): name → (B,)."""
    p, truth = block.probabilities, block.truth
    predicted, top = p.argmax(axis=1), p.max(axis=1)
    correct, positive, malignancy = predicted == truth, truth == MALIGNANT, p[:, MALIGNANT]
    counts = metrics.from_confusion(metrics.confusion(predicted, truth, weights, classes=len(PATHOLOGIES)))
    present = [c for c in range(len(PATHOLOGIES)) if (truth == c).any()]
    aurocs = {c: metrics.auroc(p[:, c], truth == c, weights) for c in present}
    sure = top >= block.thresholds.abstain_below
    included = (1 - p <= block.thresholds.conformal_quantile[:, None]) | (np.arange(p.shape[1]) == predicted[:, None])
    figures = {
        "accuracy": metrics.weighted_share(correct, weights),
        "balanced_accuracy": counts["balanced_accuracy"],
        "macro_f1": counts["macro_f1"],
        "auroc_malignant": aurocs.get(MALIGNANT, np.full(len(weights), np.nan)),
        "auroc_macro": np.mean(list(aurocs.values()), axis=0),
        "average_precision_malignant": metrics.average_precision(malignancy, positive, weights),
        **{f"sensitivity_{PATHOLOGIES[c]}": counts["sensitivity"][:, c] for c in present},
        **{f"specificity_{PATHOLOGIES[c]}": counts["specificity"][:, c] for c in present},
        "ece": metrics.expected_calibration_error(top, correct, weights),
        "brier": metrics.brier(p, truth, weights),
        "aurc": metrics.risk_coverage_area(top, correct, weights),
        "coverage": metrics.weighted_share(sure, weights),
        "accuracy_when_sure": metrics.weighted_share(correct, weights * sure),
        "set_coverage": metrics.weighted_share(included[np.arange(len(truth)), truth], weights),
        "set_size": metrics.weighted_share(included.sum(axis=1).astype(np.float64), weights),
    }
    if absent := [c for c in range(len(PATHOLOGIES)) if c not in present]:
        figures["predicted_absent_class"] = metrics.weighted_share(np.isin(predicted, absent), weights)
    for name in POINTS:
        threshold: Floats = getattr(block.thresholds, name)
        called, fitted = malignancy >= threshold, np.isfinite(threshold)
        figures[f"sensitivity_at_{name}"] = metrics.weighted_share(called, weights * (positive & fitted))
        figures[f"specificity_at_{name}"] = metrics.weighted_share(~called, weights * (~positive & fitted))
    if np.isnan(block.thresholds.abstain_below).all():
        for name in ("coverage", "accuracy_when_sure", "set_coverage", "set_size"):
            figures[name] = np.full(len(weights), np.nan)
    return figures


@dataclass(frozen=True, kw_only=True, eq=False)
class _OneSeed:
    """Figure → value of each fold; over all folds; and for each resample."""

    folds: Mapping[str, list[float]]
    pooled: Mapping[str, float]
    resampled: Figures


def _figures_by_seed(
    seeds: Mapping[int, Block], figures_of: Callable[[Block, Floats], Figures], weights: Floats
) -> dict[int, _OneSeed]:
    by_seed = {}
    for seed, block in seeds.items():
        folds: dict[str, list[float]] = {}
        for fold in np.unique(block.fold):
            part = block.take(block.fold == fold)
            for name, value in figures_of(part, np.ones((1, len(part.truth)))).items():
                folds.setdefault(name, []).append(float(value[0]))
        whole = figures_of(block, np.ones((1, len(block.truth))))
        by_seed[seed] = _OneSeed(
            folds=folds,
            pooled={name: float(value[0]) for name, value in whole.items()},
            resampled=figures_of(block, weights[:, block.group]),
        )
    return by_seed


def _groups_of_shares(scored: Iterable[Block]) -> dict[str, int]:
    """Share among the figures → fewest groups of a seed that it is of; of an AUROC, those of the rarer kind."""
    fewest: dict[str, int] = {}
    for block in scored:
        counts = dict.fromkeys(("accuracy", "coverage", "set_coverage"), len(np.unique(block.group)))
        for c, name in enumerate(PATHOLOGIES):
            own, other = (len(np.unique(block.group[which])) for which in (block.truth == c, block.truth != c))
            counts |= {f"sensitivity_{name}": own, f"specificity_{name}": other}
            if c == MALIGNANT:
                counts["auroc_malignant"] = min(own, other)
                counts |= {f"sensitivity_at_{point}": own for point in POINTS}
                counts |= {f"specificity_at_{point}": other for point in POINTS}
        for figure, count in counts.items():
            fewest[figure] = min(count, fewest.get(figure, count))
    return fewest


def _summary(by_seed: Mapping[int, _OneSeed], *, groups: Mapping[str, int]) -> dict[str, Any]:
    """Figure → mean and deviation over all folds of all seeds; value over all scans and its interval over groups.

    `groups` has the number of groups of each figure that is a share.
    """
    summary: dict[str, Any] = {}
    for name in next(iter(by_seed.values())).pooled:
        folds = [value for seed in by_seed.values() for value in seed.folds.get(name, ())]
        known = [value for value in folds if math.isfinite(value)]
        pooled = float(np.mean([seed.pooled[name] for seed in by_seed.values()]))
        drawn = np.mean([seed.resampled[name] for seed in by_seed.values()], axis=0)
        if name in groups:
            low, high = share_interval(drawn, value=pooled, groups=groups[name])
        else:
            low, high = interval(drawn, around=pooled if name in BIASED else None)
        summary[name] = {
            "mean": float(np.mean(known)) if known else math.nan,
            "sd": float(np.std(known, ddof=1)) if len(known) > 1 else math.nan,
            "pooled": pooled,
            "low": low,
            "high": high,
            "folds": folds,
        }
    return summary


def searching(block: Block, weights: Floats) -> Figures:
    """Mean of each search figure over the queries for which it is defined, for each row of `weights`."""
    if not block.searches:
        return {}
    values = np.stack(list(block.searches.values()), axis=1)
    known = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (weights @ np.where(known, values, 0.0)) / (weights @ known.astype(np.float64))
    return dict(zip(block.searches, means.T, strict=True))


def _with_chance(summary: dict[str, Any], seeds: Mapping[int, Block]) -> dict[str, Any]:
    """Put the level of chance beside each figure."""
    for name, figure in summary.items():
        levels = [
            np.nanmean(b.chance[name]) for b in seeds.values() if name in b.chance and np.isfinite(b.chance[name]).any()
        ]
        figure["chance"] = float(np.mean(levels)) if levels else math.nan
    return summary


def _subsets(seeds: Mapping[int, Block], cases: Mapping[str, CaseRow], weights: Floats) -> dict[str, Any]:
    """Class, BI-RADS category, scanner → value → a few figures, where there are enough scans to say anything."""
    subsets: dict[str, Any] = {}
    for kind in ("label", "birads", "device"):
        of_scan = {case.scan: getattr(case, kind) for case in cases.values() if case.tested}
        values = sorted({value for value in of_scan.values() if value})
        if kind == "label":
            values = [name for name in PATHOLOGIES if name in values]
        for value in values:
            parts = {s: b.take(np.array([of_scan[name] == value for name in b.scans])) for s, b in seeds.items()}
            size = len(next(iter(parts.values())).scans)
            if size >= FEWEST:
                subsets.setdefault(kind, {})[value] = {"scans": size, **_subset(parts, weights)}
    return subsets


def _subset(parts: Mapping[int, Block], weights: Floats) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, figures_of in (("prediction", _brief), ("search", searching)):
        seeds = [
            (figures_of(block, np.ones((1, len(block.truth)))), figures_of(block, weights[:, block.group]))
            for block in parts.values()
        ]
        for figure in dict.fromkeys(figure for whole, _ in seeds for figure in whole):
            if name == "search" and figure not in SUBSET_SEARCHES:
                continue
            low, high = interval(np.mean([drawn[figure] for _, drawn in seeds if figure in drawn], axis=0))
            value = float(np.mean([whole[figure][0] for whole, _ in seeds if figure in whole]))
            figures[figure] = {"value": value, "low": low, "high": high}
            levels = [np.nanmean(b.chance[figure]) for b in parts.values() if figure in b.chance]
            if levels:
                figures[figure]["chance"] = float(np.mean(levels))
    return figures


def _brief(block: Block, weights: Floats) -> Figures:
    p, truth = block.probabilities, block.truth
    return {
        "accuracy": metrics.accuracy(p, truth, weights),
        "auroc_malignant": metrics.auroc(p[:, MALIGNANT], truth == MALIGNANT, weights),
    }


def _by_patient(seeds: Mapping[int, Block], cases: Mapping[str, CaseRow]) -> dict[int, Block]:
    """One row per patient: mean probabilities over the scans, the worst reference class; empty where none has two."""
    by_seed: dict[int, Block] = {}
    for seed, block in seeds.items():
        names = [cases[scan].patient or f"alone:{scan}" for scan in block.scans]
        patients, first, member = np.unique(names, return_index=True, return_inverse=True)
        if len(patients) == len(names):
            continue
        truth = np.zeros(len(patients), dtype=np.int64)
        np.maximum.at(truth, member, block.truth)
        by_seed[seed] = Block(
            scans=tuple(map(str, patients)),
            probabilities=np.array([block.probabilities[member == i].mean(axis=0) for i in range(len(patients))]),
            truth=truth,
            fold=block.fold[first],
            group=block.group[first],
            thresholds=block.thresholds.take(first),
            searches={},
            chance={},
        )
    return by_seed


def _unlearnt(every: Mapping[int, Block], learnt: NDArray[np.bool_]) -> dict[str, Any]:
    """Predictions for scans of a class that no training side holds: how many scans, and the share of each class."""
    unlearnt: dict[str, Any] = {}
    for c in np.flatnonzero(~learnt):
        predicted = [b.probabilities[b.truth == c].argmax(axis=1) for b in every.values()]
        if len(predicted[0]):
            unlearnt[PATHOLOGIES[c]] = {
                "scans": len(predicted[0]),
                **{
                    f"called_{name}": float(np.mean(np.concatenate(predicted) == i))
                    for i, name in enumerate(PATHOLOGIES)
                },
            }
    return unlearnt


def _counts(results: SystemResults, cases: Mapping[str, CaseRow], seeds: Mapping[int, Block]) -> dict[str, Any]:
    tested = [case for case in cases.values() if case.tested]
    return {
        "scans": len(tested),
        "scored": len(next(iter(seeds.values())).scans),
        "groups": len({case.group for case in tested}),
        "patients": len({case.patient for case in tested if case.patient}),
        **{name: sum(case.label == name for case in tested) for name in PATHOLOGIES},
        "seeds": len(seeds),
        "rounds": len(results.rounds),
        "leaking_share": float(np.mean([r.leaking_share for r in results.rounds])) if results.rounds else 0.0,
        "dropped": sum(r.dropped for r in results.rounds),
    }


def plain(value: Any) -> Any:
    """Rounded floats, None for NaN: what JSON can hold, the same on every machine."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return round(float(value), 6) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
