"""What a protocol is: which scans, training, validation and test side. One protocol per file."""

from __future__ import annotations

import hashlib
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sonoseek.core import PATHOLOGIES, CaseRecord
from sonoseek.datasets import Dataset, Fold, inner_validation

CaseSet = Mapping[str, tuple[str, ...]]
"""Dataset name → case_ids."""
Key = tuple[str, str]
"""(dataset name, case_id)."""
VALIDATION = 0.125
"""Share of a training side that stops the training early, sets temperature and thresholds; split by group as well."""
FOLDS = 5
OWN_ARCHIVES = ("folder", "manifest")
"""Datasets whose case names are their owner's: the same name in two of them proves nothing, the pixels do."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One training side and one test side.

    Attributes:
        seed: of the split, where there are several; else 0.
        fold: 0 … within the seed.
        train: to learn from. validation: for early stopping, temperature and thresholds; empty where nothing is fitted.
        test: touched once, at the end.
    """

    seed: int
    fold: int
    train: CaseSet
    validation: CaseSet
    test: CaseSet

    @property
    def label(self) -> str:
        """Names the round's folder."""
        return f"seed-{self.seed}/fold-{self.fold}"

    @property
    def gallery(self) -> CaseSet:
        """The gallery of a test query: everything that is not tested."""
        names = dict.fromkeys((*self.train, *self.validation))
        return {name: (*self.train.get(name, ()), *self.validation.get(name, ())) for name in names}

    @property
    def digest(self) -> str:
        """16 hex digits over the sides: a run that resumes must be of the same round."""
        sides = {
            side: {name: sorted(ids) for name, ids in sorted(cases.items())}
            for side, cases in (("train", self.train), ("validation", self.validation), ("test", self.test))
        }
        return hashlib.sha256(json.dumps(sides).encode()).hexdigest()[:16]


class Protocol(typing.Protocol):
    """A fixed way of scoring, so that two figures under one name can be compared.

    Attributes:
        name: of the folder with its results; as in the table of protocols unless it takes parameters.
        title: a few words for people.
        description: one or two sentences for the head of a table.
        exclusions: what is left out, and why; "nothing" where nothing is.
        guarded: True where a group, a patient or a near-duplicate on both sides fails the run. False marks a protocol
            that flatters, included to show by how much: what crosses is counted, and near-duplicates may be matches.
        drops_near_duplicates: near-duplicates of a test scan that no group names are taken off the training side,
            instead of failing the run; for published folds, whose test sides must stay as they are.

    With `own_archive = True` each test scan is also a query to its own test side, without its own group and patient,
    and there are figures for each tested archive. With `reader_marks = True` each test scan has a reader's mark
    (`evaluate.reader_marks`); name, title and description say so.
    """

    name: str
    title: str
    description: str
    exclusions: str
    guarded: bool
    drops_near_duplicates: bool

    def open(self, data_root: Path | None) -> Mapping[str, Dataset]:
        """Open its datasets under the folder that holds all of them: name → dataset."""

    def rounds(self, datasets: Mapping[str, Dataset]) -> tuple[Round, ...]:
        """Split their cases; the same every time."""


def true_records(dataset: Dataset) -> tuple[CaseRecord, ...]:
    """A dataset's records with every known group and patient, also where `records` hides them for a protocol."""
    records: tuple[CaseRecord, ...] = getattr(dataset, "true_records", dataset.records)()
    return records


def all_true_records(datasets: Mapping[str, Dataset]) -> dict[Key, CaseRecord]:
    """The `true_records` of several datasets by dataset and case."""
    return {(name, record.case_id): record for name, dataset in datasets.items() for record in true_records(dataset)}


def keys(side: CaseSet) -> set[Key]:
    """The cases of a side."""
    return {(name, case_id) for name, ids in side.items() for case_id in ids}


def classes_of(records: typing.Iterable[CaseRecord]) -> tuple[str, ...]:
    """Pathologies that occur, in the order of `PATHOLOGIES`."""
    present = {record.pathology for record in records}
    return tuple(name for name in PATHOLOGIES if name in present)


def rounds_of(dataset: Dataset, folds: typing.Iterable[Fold], *, seed: int) -> list[Round]:
    """A round for each fold of a dataset; an eighth of its training side, never parting a group, validates."""
    records, name = dataset.records(), dataset.name
    rounds = []
    for number, fold in enumerate(folds):
        inner = inner_validation(records, fold.train, fraction=VALIDATION, seed=seed)
        train, validation, test = ({name: ids} for ids in (inner.train, inner.test, fold.test))
        rounds.append(Round(seed=seed, fold=number, train=train, validation=validation, test=test))
    return rounds
