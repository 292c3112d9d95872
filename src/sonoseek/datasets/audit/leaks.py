"""How far a property that is not the picture gives the label away.

A simple rule is fitted on four fifths of the cases and scored on the fifth, with copies on one side: the property is
divided into bins, and each bin predicts one label. A network can learn at least what such a rule does. For accuracy a
bin predicts its most frequent label; for balanced accuracy, where a rare label counts as much as a common one, the
label that is most over-represented in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.core import PATHOLOGIES, Case
from sonoseek.datasets.audit.result import LabelLeak

FOLDS = 5
BINS = 12
CASES_PER_BIN = 10
"""At least about so many: in emptier bins the rule would learn chance."""
SEED = 0


@dataclass(frozen=True, kw_only=True)
class MaskFacts:
    """What is measured of a case's masks.

    Attributes:
        drawn: whether any mask is there, be it empty.
        area: mean share of the scan that the masks cover, 0 … 1.
        regions: connected parts in all masks.
    """

    drawn: bool
    area: float
    regions: int


def mask_facts(case: Case) -> MaskFacts:
    """Measure the masks of a case."""
    masks = [mask for mask in case.lesion_masks if mask is not None]
    regions = sum(cv2.connectedComponents(mask.astype(np.uint8))[0] - 1 for mask in masks)
    area = float(np.mean([mask.mean() for mask in masks])) if masks else 0.0
    return MaskFacts(drawn=bool(masks), area=area, regions=regions)


def mask_leaks(
    facts: Mapping[str, MaskFacts], labels: Mapping[str, str], units: Sequence[tuple[str, ...]]
) -> tuple[LabelLeak, ...]:
    """What masks tell: whether one is empty, how large it is, in how many parts.

    Args:
        facts: case_id → its masks, of the cases that were read.
        labels: case_id → pathology.
        units: cases that stay on one side of the inner folds.

    Returns:
        One figure per property, or none where no case has a mask.
    """
    if not any(item.drawn for item in facts.values()):
        return ()
    empty = {case_id: float(item.regions == 0) for case_id, item in facts.items()}
    area = {case_id: item.area for case_id, item in facts.items()}
    percent = {case_id: item.area * 100 for case_id, item in facts.items()}
    about_area = f"The share of the scan that the mask covers, without its place or shape. {_medians(percent, labels)}"
    found = [("mask empty", empty, _explain_empty(empty, labels)), ("mask area", area, about_area)]
    if drawn := {case_id: item for case_id, item in facts.items() if item.regions}:
        same = "The same, among the cases that have a drawn mask: what the size of the lesion alone predicts."
        found.append(("mask area, where drawn", {case_id: item.area for case_id, item in drawn.items()}, same))
        several = {case_id: item.regions > 1 for case_id, item in drawn.items()}
        shares = _shares(several, labels, what="with several parts")
        parts = {case_id: float(item.regions) for case_id, item in drawn.items()}
        found.append(("mask regions, where drawn", parts, f"The number of separate parts of a drawn mask. {shares}"))
    return tuple(_leak(name, values, labels, units, explanation=explanation) for name, values, explanation in found)


def mark_leaks(
    marked: Mapping[str, float],
    inside: Mapping[str, float],
    *,
    read: Sequence[str],
    labels: Mapping[str, str],
    units: Sequence[tuple[str, ...]],
) -> tuple[LabelLeak, ...]:
    """What burned-in annotations predict, all of them, and those away from the edges; none where nothing is marked.

    Args:
        marked: case_id → share of pixels under burned-in annotations, above 0.
        inside: the same, away from the edges.
        read: case_ids that were read.
        labels: case_id → pathology.
        units: cases that stay on one side of the inner folds.
    """
    return tuple(
        _leak(
            name,
            {case_id: shares.get(case_id, 0.0) for case_id in read},
            labels,
            units,
            explanation=explanation + _shares({case_id: case_id in shares for case_id in read}, labels, what="marked"),
        )
        for name, shares, explanation in (
            (
                "any burned-in annotation",
                marked,
                "The share of pixels under burned-in annotations, the scanner’s own among them. ",
            ),
            ("marks away from the edges", inside, "Calipers and words over tissue: calipers stand on lesions only. "),
        )
        if shares
    )


def _leak(
    name: str,
    values: Mapping[str, float],
    labels: Mapping[str, str],
    units: Sequence[tuple[str, ...]],
    *,
    explanation: str,
) -> LabelLeak:
    truth, predicted = _cross_validated(values, labels, units, balanced=False)
    _, balanced = _cross_validated(values, labels, units, balanced=True)
    names = sorted(set(truth))
    recalls = [np.mean([s == t for s, t in zip(balanced, truth, strict=True) if t == label]) for label in names]
    return LabelLeak(
        property_name=name,
        cases=len(truth),
        accuracy=float(np.mean([s == t for s, t in zip(predicted, truth, strict=True)])),
        balanced_accuracy=float(np.mean(recalls)),
        baseline=Counter(truth).most_common(1)[0][1] / len(truth),
        chance=1 / len(names),
        explanation=explanation,
    )


def _cross_validated(
    values: Mapping[str, float], labels: Mapping[str, str], units: Sequence[tuple[str, ...]], *, balanced: bool
) -> tuple[list[str], list[str]]:
    """The true label of each case, and what a rule learnt without its fold says."""
    parts = [[case_id for case_id in unit if case_id in values] for unit in units]
    parts = [part for part in parts if part]
    order = np.random.default_rng(SEED).permutation(len(parts))
    fold_of = {case_id: place % FOLDS for place, index in enumerate(order) for case_id in parts[index]}
    ids = sorted(values)
    amounts = np.array([values[case_id] for case_id in ids])
    truth = [labels[case_id] for case_id in ids]
    where = np.array([fold_of[case_id] for case_id in ids])
    predicted = [""] * len(ids)
    for fold in range(FOLDS):
        inside = where != fold
        # Nothing is on the training side when the dataset is a single group: then the rule has seen its own answers.
        learn = inside if inside.any() else ~inside
        edges = _edges(amounts[learn])
        bins = np.searchsorted(edges, amounts, side="right")
        rule = _rule(bins[learn], [label for label, use in zip(truth, learn, strict=True) if use], balanced=balanced)
        for index in np.flatnonzero(~inside):
            predicted[index] = rule[int(bins[index])]
    return truth, predicted


def _edges(amounts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cuts between bins: zero apart; one bin per value where values repeat (counts), equal shares where they do not."""
    positive = amounts[amounts > 0]
    if not positive.size:
        return np.empty(0)
    values = np.unique(positive)
    if 2 * values.size <= positive.size and values.size <= BINS:
        inner = (values[:-1] + values[1:]) / 2
    else:
        bins = min(BINS, 1 + positive.size // CASES_PER_BIN)
        inner = np.quantile(positive, np.arange(1, bins) / bins)
    return np.unique(np.concatenate([[positive.min() / 2], inner]))


def _rule(bins: NDArray[np.int64], labels: Sequence[str], *, balanced: bool) -> dict[int, str]:
    """Bin → its label; a bin never met says the most frequent label of all."""
    overall = Counter(labels)
    rule = dict.fromkeys(range(BINS + 2), _foremost(overall))
    for number in set(bins.tolist()):
        inside = Counter(label for label, place in zip(labels, bins, strict=True) if place == number)
        shares = {label: count / overall[label] for label, count in inside.items()}
        rule[number] = _foremost(shares if balanced else inside)
    return rule


def _foremost(weights: Mapping[str, float]) -> str:
    return max(sorted(weights, key=PATHOLOGIES.index), key=weights.__getitem__)


def _explain_empty(empty: Mapping[str, float], labels: Mapping[str, str]) -> str:
    blank = Counter(labels[case_id] for case_id, flag in empty.items() if flag)
    drawn = Counter(labels[case_id] for case_id, flag in empty.items() if not flag)
    if not blank:
        return "No mask is empty: that a mask is there says nothing."
    if not drawn:
        return "Every mask is empty."
    label = _foremost(blank)
    both = sum(blank.values())
    missed = drawn[label]
    exact = both == blank[label] and not missed
    counts = f"{blank[label]} of {both} cases with an empty mask are {label}, {missed} {label} have a drawn one"
    if exact:
        return (
            f"Exactly the {label} cases have an empty mask: {counts}. A mask as input, or a crop around it, leaks the "
            "label."
        )
    return f"“Mask empty, so {label}”: {counts}."


def _shares(flags: Mapping[str, bool], labels: Mapping[str, str], *, what: str) -> str:
    parts = []
    for label in PATHOLOGIES:
        ids = [case_id for case_id in flags if labels[case_id] == label]
        if ids:
            hits = sum(flags[case_id] for case_id in ids)
            parts.append(f"{label} {hits} of {len(ids)} ({100 * hits / len(ids):.0f} %)")
    return f"{what[0].upper()}{what[1:]}: {', '.join(parts)}."


def _medians(percent: Mapping[str, float], labels: Mapping[str, str]) -> str:
    parts = []
    for label in PATHOLOGIES:
        inside = [value for case_id, value in percent.items() if labels[case_id] == label]
        if inside:
            parts.append(f"{label} {np.median(inside):.1f} %")
    return f"Medians: {', '.join(parts)}."
