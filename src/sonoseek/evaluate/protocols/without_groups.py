"""A dataset without group and patient."""

from __future__ import annotations

from dataclasses import replace

from sonoseek.core import Case, CaseRecord
from sonoseek.datasets import Dataset


class WithoutGroups:
    """Hides groups and patients, so that a split separates them; `true_records` keeps them."""

    def __init__(self, dataset: Dataset) -> None:
        """Wrap a dataset; its pixels are not touched."""
        self._dataset = dataset
        self._records = tuple(replace(record, group=None, patient_id=None) for record in dataset.records())

    @property
    def name(self) -> str:
        """Of the dataset."""
        return self._dataset.name

    @property
    def licence(self) -> str:
        """Of the dataset."""
        return self._dataset.licence

    @property
    def citation(self) -> str:
        """Of the dataset."""
        return self._dataset.citation

    def records(self) -> tuple[CaseRecord, ...]:
        """Every case, without group and patient."""
        return self._records

    def true_records(self) -> tuple[CaseRecord, ...]:
        """Every case with them."""
        return self._dataset.records()

    def load(self, case_id: str, *, masks: bool = True) -> Case:
        """As the dataset loads it, without group and patient."""
        return replace(self._dataset.load(case_id, masks=masks), group=None, patient_id=None)

    def fingerprint(self, case_id: str) -> str:
        """As the dataset gives it."""
        return self._dataset.fingerprint(case_id)
