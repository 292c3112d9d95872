"""What a protocol is: which scans, which folds, what is left out. One protocol per file."""

from __future__ import annotations

import typing
from pathlib import Path

from sonoseek.datasets import Dataset
from sonoseek.datasets.splits import Fold


class Protocol(typing.Protocol):
    """A fixed way of scoring, so that two figures under one name can be compared.

    Attributes:
        name: as in the table of protocols.
        description: one line for the head of a table.
        exclusions: what is left out, and why; "nothing" where nothing is.
    """

    name: str
    description: str
    exclusions: str

    def dataset(self, data_root: Path) -> Dataset:
        """Open the dataset under the folder that holds all datasets."""

    def folds(self, dataset: Dataset) -> tuple[Fold, ...]:
        """Split its cases; the same folds every time."""
