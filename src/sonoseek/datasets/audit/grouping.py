"""From pairs to groups: what holds together, which labels are at odds, what a split parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from sonoseek.core import CaseRecord, SplitError
from sonoseek.datasets.audit.result import Crossing, CrossingReason, DuplicateGroup, DuplicatePair
from sonoseek.datasets.splits import Fold, components, connected_components


def connected(count: int, pairs: Iterable[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Connected components of two members and more, among 0 … `count` − 1; sorted."""
    return [group for group in connected_components(count, pairs) if len(group) > 1]


def duplicate_groups(records: Sequence[CaseRecord], pairs: Iterable[DuplicatePair]) -> tuple[DuplicateGroup, ...]:
    """Cases that hold the same picture, directly or through others."""
    place = {record.case_id: index for index, record in enumerate(records)}
    return tuple(
        DuplicateGroup(
            case_ids=tuple(records[index].case_id for index in group),
            labels=tuple(records[index].pathology for index in group),
        )
        for group in connected(len(records), ((place[pair.a], place[pair.b]) for pair in pairs))
    )


def keep_together(records: Sequence[CaseRecord], pairs: Iterable[DuplicatePair]) -> tuple[tuple[str, ...], ...]:
    """What a split should never part: stated groups and patients, and found pairs; every case stands in one."""
    place = {record.case_id: index for index, record in enumerate(records)}
    ties = [(place[pair.a], place[pair.b]) for pair in pairs]
    for stated in components(records):
        ties += [(place[stated[0]], place[other]) for other in stated[1:]]
    groups = connected_components(len(records), ties)
    return tuple(tuple(records[index].case_id for index in group) for group in groups)


def unstated_pairs(records: Sequence[CaseRecord], pairs: Iterable[DuplicatePair]) -> tuple[DuplicatePair, ...]:
    """Found pairs that the dataset's own groups and patients do not keep together."""
    unit = {case_id: index for index, stated in enumerate(components(records)) for case_id in stated}
    return tuple(pair for pair in pairs if unit[pair.a] != unit[pair.b])


def crossings(
    records: Sequence[CaseRecord], pairs: Iterable[DuplicatePair], folds: Sequence[Fold]
) -> tuple[Crossing, ...]:
    """What the folds part: found pairs, and, once per test case, stated groups and patients.

    Raises:
        SplitError: a fold names a case that is not in the dataset.
    """
    known = {record.case_id for record in records}
    found = list(pairs)
    crossed: list[Crossing] = []
    for number, fold in enumerate(folds):
        train, test = set(fold.train), set(fold.test)
        unknown = sorted((train | test) - known)
        if unknown:
            raise SplitError(
                f"fold {number} names {len(unknown)} cases that the dataset does not have, {unknown[0]!r} first; "
                "audit a split together with the dataset that it was made from."
            )
        for pair in found:
            for one, other in ((pair.a, pair.b), (pair.b, pair.a)):
                if one in train and other in test:
                    crossed.append(Crossing(fold=number, train=one, test=other, reason=pair.kind))
        crossed += _stated_crossings(records, number, train=train, test=test)
    return tuple(dict.fromkeys(crossed))


def _stated_crossings(
    records: Sequence[CaseRecord], number: int, *, train: set[str], test: set[str]
) -> Iterator[Crossing]:
    reasons: tuple[CrossingReason, CrossingReason] = ("group", "patient")
    for reason in reasons:
        members: dict[str, list[str]] = defaultdict(list)
        for record in records:
            unit = record.group if reason == "group" else record.patient_id
            if unit is not None:
                members[unit].append(record.case_id)
        for ids in members.values():
            taught = next((case_id for case_id in ids if case_id in train), None)
            if taught is not None:
                for case_id in ids:
                    if case_id in test:
                        yield Crossing(fold=number, train=taught, test=case_id, reason=reason)
