"""A part of a dataset, as a dataset: the training side of a fold, a sample to time."""

from __future__ import annotations

from collections.abc import Iterable

from sonoseek.core import Case, CaseRecord, NotFoundError
from sonoseek.datasets.base import Dataset


class Subset:
    """Some cases of a dataset, in the dataset's order, under its name."""

    def __init__(self, dataset: Dataset, case_ids: Iterable[str]) -> None:
        """Choose.

        Args:
            dataset: of which this is a part.
            case_ids: which cases; a name twice counts once.

        Raises:
            NotFoundError: a case that the dataset does not hold.
        """
        wanted = set(case_ids)
        self._dataset = dataset
        self._records = tuple(record for record in dataset.records() if record.case_id in wanted)
        if missing := wanted - {record.case_id for record in self._records}:
            raise NotFoundError(
                f"{len(missing)} cases are not in {dataset.name!r}, {min(missing)!r} among them; "
                "choose from its records()."
            )

    @property
    def name(self) -> str:
        """Of the whole dataset."""
        return self._dataset.name

    @property
    def licence(self) -> str:
        """Of the whole dataset."""
        return self._dataset.licence

    @property
    def citation(self) -> str:
        """Of the whole dataset."""
        return self._dataset.citation

    def records(self) -> tuple[CaseRecord, ...]:
        """The chosen cases."""
        return self._records

    def load(self, case_id: str, *, masks: bool = True) -> Case:
        """As the whole dataset loads it."""
        return self._dataset.load(case_id, masks=masks)

    def fingerprint(self, case_id: str) -> str:
        """As the whole dataset gives it."""
        return self._dataset.fingerprint(case_id)
