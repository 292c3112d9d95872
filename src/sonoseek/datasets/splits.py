"""Splits that never part a group.

What may never part is the *component*: cases that share a group or a patient, directly or through others. Groups and
patients are names within one dataset: the same name in two datasets means nothing.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import PATHOLOGIES, CaseRecord, InvalidValueError, SplitError
from sonoseek.datasets.base import Dataset, HasOfficialFolds

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One way to part cases: their case_ids, in the order of the records."""

    train: tuple[str, ...]
    test: tuple[str, ...]


def components(records: Sequence[CaseRecord]) -> tuple[tuple[str, ...], ...]:
    """Case_ids that must stay together, as connected components over shared group and shared patient.

    Returns:
        Sorted within and among each other, so that the order of `records` does not matter.

    Raises:
        SplitError: a case_id stands twice.
    """
    _check_unique(records)
    first: dict[tuple[str, str, str], int] = {}
    ties = ((index, first.setdefault(key, index)) for index, record in enumerate(records) for key in _ties(record))
    groups = connected_components(len(records), ties)
    return tuple(sorted(tuple(sorted(records[index].case_id for index in group)) for group in groups))


def connected_components(count: int, ties: Iterable[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Of 0 … `count` − 1 those that are tied, directly or through others; sorted within and among each other."""
    parent = list(range(count))

    def find(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for one, other in ties:
        parent[find(one)] = find(other)
    members: dict[int, list[int]] = defaultdict(list)
    for item in range(count):
        members[find(item)].append(item)
    return sorted(tuple(group) for group in members.values())


def stratified_group_folds(records: Sequence[CaseRecord], *, folds: int = 5, seed: int = 0) -> tuple[Fold, ...]:
    """Part cases into `folds` test sets with near-equal shares of each class, never parting a component.

    Greedy: components in falling order of size (ties in an order drawn from `seed`), each into the fold where the sum
    of squared shares, of classes and of cases, grows least. The same records and seed give the same folds, whatever
    the order of the records.

    Raises:
        InvalidValueError: `folds` is below 2.
        SplitError: fewer components than folds, or a case_id that stands twice.
    """
    if folds < 2:
        raise InvalidValueError(f"folds is {folds}; a cross-validation has at least 2.")
    groups = components(records)
    if len(groups) < folds:
        raise SplitError(
            f"{len(records)} cases make {len(groups)} groups that must stay together, which cannot fill {folds} folds. "
            "Ask for fewer folds, or add cases."
        )
    pathology = {record.case_id: record.pathology for record in records}
    counts = np.array([[sum(pathology[i] == c for i in ids) for c in PATHOLOGIES] for ids in groups], dtype=np.float64)
    _warn_if_rare(counts, folds=folds)
    where = _assign(counts, folds=folds, seed=seed)
    fold_of = {case_id: int(where[index]) for index, ids in enumerate(groups) for case_id in ids}
    return tuple(_fold(records, {i for i, f in fold_of.items() if f == number}) for number in range(folds))


def _assign(counts: NDArray[np.float64], *, folds: int, seed: int) -> NDArray[np.int64]:
    """Fold per component, from its (components, classes) counts."""
    # A class counts by its share, so that rare classes are spread as evenly as common ones; the last column is size.
    shares = np.column_stack([counts, counts.sum(axis=1)])
    shares = shares[:, shares.sum(axis=0) > 0]
    shares /= shares.sum(axis=0)
    shuffled = np.random.default_rng(seed).permutation(len(counts))
    order = shuffled[np.argsort(-counts[shuffled].sum(axis=1), kind="stable")]
    filled = np.zeros((folds, shares.shape[1]))
    where = np.zeros(len(counts), dtype=np.int64)
    for index in order:
        growth = ((filled + shares[index]) ** 2 - filled**2).sum(axis=1)
        best = np.flatnonzero(growth <= growth.min() + 1e-15)
        fold = int(best[np.argmin(filled[best, -1])])
        filled[fold] += shares[index]
        where[index] = fold
    return where


def official_folds(dataset: Dataset, folds: int = 5) -> tuple[Fold, ...]:
    """The cross-validation that the dataset's authors published, checked like any other.

    Raises:
        SplitError: the dataset publishes none, or not this one, or it parts a group.
    """
    if not isinstance(dataset, HasOfficialFolds):
        raise SplitError(
            f"{dataset.name} publishes no folds of its own; leave --official out, or call stratified_group_folds."
        )
    records = dataset.records()
    fold_of = dataset.official_test_folds(folds)
    absent = [record.case_id for record in records if record.case_id not in fold_of]
    if absent:
        raise SplitError(
            f"{dataset.name}: {len(absent)} cases stand in no published fold, {absent[0]!r} first; each stands in one. "
            "Get the table of folds again from its source."
        )
    made = tuple(_fold(records, {i for i, f in fold_of.items() if f == n}) for n in range(1, folds + 1))
    for fold in made:
        check_split(records, fold)
    return made


def inner_validation(
    records: Sequence[CaseRecord], train_ids: Collection[str], *, fraction: float = 0.2, seed: int = 0
) -> Fold:
    """Part the training side of a fold again: `train` to learn from, `test` to validate on.

    Args:
        records: of the whole dataset: two training cases may be tied through a case that is not one of them.
        train_ids: case_ids of the training side.
        fraction: share of `train_ids` to validate on, above 0, at most 0.5; met as closely as 1/n allows.
        seed: as in `stratified_group_folds`.

    Raises:
        InvalidValueError: `fraction` out of range.
        SplitError: an id that is in no record, or too few groups.
    """
    if not 0 < fraction <= 0.5:
        raise InvalidValueError(f"fraction is {fraction}; it must lie above 0 and at most at 0.5.")
    wanted = set(train_ids)
    _check_known(wanted, records, side="train")
    tie = {case_id: f"component {index}" for index, ids in enumerate(components(records)) for case_id in ids}
    inside = [
        CaseRecord(case_id=r.case_id, dataset="any", pathology=r.pathology, group=tie[r.case_id])
        for r in records
        if r.case_id in wanted
    ]
    fold = stratified_group_folds(inside, folds=round(1 / fraction), seed=seed)[0]
    check_split(records, fold)
    return fold


def check_split(records: Sequence[CaseRecord], fold: Fold) -> None:
    """Refuse a split that lets a group, a patient or a case stand on both sides.

    Args:
        records: of the whole dataset.
        fold: may leave cases out.

    Raises:
        SplitError: names the group and a case on either side; or a side is empty or holds an unknown id.
    """
    for side, ids in (("train", fold.train), ("test", fold.test)):
        if not ids:
            raise SplitError(f"the {side} side of the split is empty; both sides need cases.")
        _check_known(ids, records, side=side)
    train, test = set(fold.train), set(fold.test)
    both = sorted(train & test)
    if both:
        raise SplitError(f"case {both[0]!r} ({len(both)} in all) stands in train and in test; it may stand in one.")
    crossing = [ids for ids in components(records) if not train.isdisjoint(ids) and not test.isdisjoint(ids)]
    if crossing:
        raise SplitError(
            f"{_parting(records, crossing[0], fold=fold)} ({len(crossing)} such groups in all); cases of one group or "
            "patient stay on one side. Make the split with stratified_group_folds."
        )


def _parting(records: Sequence[CaseRecord], ids: Collection[str], *, fold: Fold) -> str:
    """What would part, and a case on either side: a group or patient they share, else the chain that ties them."""
    inside = {record.case_id: record for record in records if record.case_id in set(ids)}
    left = [case_id for case_id in fold.train if case_id in inside]
    right = [case_id for case_id in fold.test if case_id in inside]
    for one in left:
        for other in right:
            for kind, dataset, name in set(_ties(inside[one])) & set(_ties(inside[other])):
                return f"{kind} {name!r} of {dataset} would part: {one!r} is in train and {other!r} in test"
    between = sorted(set(inside) - set(left) - set(right))
    return (
        f"{left[0]!r} is in train and {right[0]!r} in test, tied by shared groups and patients through "
        f"{', '.join(map(repr, between[:3]))}, which is on neither side"
    )


def _ties(record: CaseRecord) -> Iterable[tuple[str, str, str]]:
    """What binds a case to others: (kind, dataset, name)."""
    if record.group is not None:
        yield "group", record.dataset, record.group
    if record.patient_id is not None:
        yield "patient", record.dataset, record.patient_id


def _fold(records: Sequence[CaseRecord], test: Collection[str]) -> Fold:
    return Fold(
        train=tuple(r.case_id for r in records if r.case_id not in test),
        test=tuple(r.case_id for r in records if r.case_id in test),
    )


def _check_unique(records: Sequence[CaseRecord]) -> None:
    seen: dict[str, str] = {}
    for record in records:
        if record.case_id in seen:
            raise SplitError(
                f"case id {record.case_id!r} stands twice, in {seen[record.case_id]} and in {record.dataset}; "
                "a split names cases by their id alone. Split each dataset by itself."
            )
        seen[record.case_id] = record.dataset


def _check_known(ids: Iterable[str], records: Sequence[CaseRecord], *, side: str) -> None:
    unknown = sorted(set(ids) - {record.case_id for record in records})
    if unknown:
        raise SplitError(
            f"the {side} side names {len(unknown)} cases that are in no record, {unknown[0]!r} first; "
            "give the records of the dataset that was split."
        )


def _warn_if_rare(counts: NDArray[np.float64], *, folds: int) -> None:
    spread = (counts > 0).sum(axis=0)
    for pathology, number in zip(PATHOLOGIES, spread, strict=True):
        if 0 < number < folds:
            log.warning("%s stands in %d groups only: some of the %d folds test without it", pathology, number, folds)
