"""A dataset without group and patient."""

from __future__ import annotations

from dataclasses import replace

from sonoseek.core import Case, CaseRecord
from sonoseek.datasets import Dataset, Subset


class WithoutGroups(Subset):
    """Hides groups and patients, so that a split separates them; `true_records` keeps them."""

    def __init__(self, dataset: Dataset) -> None:
        """Wrap a dataset; its pixels are not touched."""
        super().__init__(dataset, (record.case_id for record in dataset.records()))
        self._records = tuple(replace(record, group=None, patient_id=None) for record in self._records)

    def true_records(self) -> tuple[CaseRecord, ...]:
        """Every case with them."""
        return self._dataset.records()

    def load(self, case_id: str, *, masks: bool = True) -> Case:
        """As the dataset loads it, without group and patient."""
        return replace(super().load(case_id, masks=masks), group=None, patient_id=None)
