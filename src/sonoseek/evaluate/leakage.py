"""Leakage: a group, a patient or a near-duplicate on both sides of a round fails the run; nothing is repaired."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from sonoseek.core import CaseRecord, SplitError
from sonoseek.datasets import Dataset, components
from sonoseek.evaluate.near_duplicates import Pair
from sonoseek.evaluate.protocols.base import CaseSet, Key, Round, all_true_records, keys, true_records

GroupNumbers = Mapping[Key, int]
"""(dataset, case_id) → number of the component of cases that must never part."""


def number_groups(datasets: Mapping[str, Dataset]) -> dict[Key, int]:
    """Components over shared group and shared patient, within each dataset, the hidden ones included."""
    numbers: dict[Key, int] = {}
    for name, dataset in datasets.items():
        base = len(numbers)
        for number, ids in enumerate(components(true_records(dataset))):
            numbers.update({(name, case_id): base + number for case_id in ids})
    return numbers


def without_near_duplicates(round_: Round, pairs: Iterable[Pair]) -> tuple[Round, tuple[Key, ...]]:
    """Take near-duplicates of test scans off the training side.

    Returns:
        The round, and who was taken off.
    """
    test = keys(round_.test)
    partners = {other for a, b in pairs for one, other in ((a, b), (b, a)) if one in test}
    dropped = partners & (keys(round_.train) | keys(round_.validation))
    sides = [
        {name: tuple(case_id for case_id in ids if (name, case_id) not in dropped) for name, ids in side.items()}
        for side in (round_.train, round_.validation)
    ]
    return replace(round_, train=sides[0], validation=sides[1]), tuple(sorted(dropped))


def check_round(round_: Round, *, datasets: Mapping[str, Dataset], groups: GroupNumbers, pairs: Sequence[Pair]) -> None:
    """Refuse a round in which anything crosses between two of its three sides.

    Raises:
        SplitError: with the pair that crosses, why, how many do, and the remedy.
    """
    sides = {"train": round_.train, "validation": round_.validation, "test": round_.test}
    if not keys(round_.test):
        raise SplitError(f"round {round_.label}: the test side is empty; there is nothing to score.")
    records = all_true_records(datasets)
    for side, cases in sides.items():
        if unknown := sorted(keys(cases) - set(records)):
            raise SplitError(
                f"round {round_.label}: {side} names {unknown[0]}, which no dataset holds; take it from records()."
            )
    for one, other in combinations(sides, 2):
        # near-duplicates inside the training side bias the validation, not the test: groups and patients only
        crossing = crossings(
            sides[one], sides[other], records=records, groups=groups, pairs=pairs if other == "test" else ()
        )
        if crossing:
            a, b, why = crossing[0]
            raise SplitError(
                f"round {round_.label}: {a[1]!r} of {a[0]} is in {one} and {b[1]!r} of {b[0]} in {other}, {why} "
                f"({len(crossing)} such pairs): the figures would flatter. Keep such cases on one side."
            )


def crossings(
    one: CaseSet, other: CaseSet, *, records: Mapping[Key, CaseRecord], groups: GroupNumbers, pairs: Sequence[Pair]
) -> list[tuple[Key, Key, str]]:
    """What stands on both sides: the same case, cases that are tied, near-duplicates.

    Returns:
        (case of `one`, case of `other`, why), one per case of `other` and reason, in a stable order.
    """
    left, right = keys(one), keys(other)
    crossing: list[tuple[Key, Key, str]] = [(key, key, "the same case") for key in sorted(left & right)]
    first: dict[int, Key] = {}
    for key in sorted(left):
        first.setdefault(groups[key], key)
    crossing += [
        (partner, key, _tie_in_words(records[partner], records[key]))
        for key in sorted(right - left)
        if (partner := first.get(groups[key])) is not None
    ]
    crossing += [(x, y, "near-duplicate") for a, b in pairs for x, y in ((a, b), (b, a)) if x in left and y in right]
    return crossing


def leaking_share(round_: Round, *, groups: GroupNumbers) -> float:
    """Share of test cases of which a copy, or another case of the same group, is on the training side; 0 … 1."""
    learnt = {groups[key] for key in keys(round_.gallery)}
    test = sorted(keys(round_.test))
    return sum(groups[key] in learnt for key in test) / len(test)


def _tie_in_words(a: CaseRecord, b: CaseRecord) -> str:
    if a.group is not None and a.group == b.group:
        return f"both of group {a.group!r}"
    if a.patient_id is not None and a.patient_id == b.patient_id:
        return f"both of patient {a.patient_id!r}"
    return "tied by shared groups and patients through others"
