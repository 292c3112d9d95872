"""BUSI, three classes, five folds; scans of one group never part."""

from __future__ import annotations

from pathlib import Path

from sonoseek.datasets import Dataset, open_dataset
from sonoseek.datasets.splits import Fold, stratified_group_folds


class BusiGrouped:
    """All 780 scans of BUSI, split by the duplicate groups that ship with the package."""

    name = "busi-grouped"
    description = "BUSI, 3 classes, 5 folds, near-identical scans kept together, no masks"
    exclusions = "nothing: axilla, needle, burned-in marks and groups with two labels all stay in"
    fold_count = 5
    seed = 0

    def dataset(self, data_root: Path) -> Dataset:
        """Open BUSI under `data_root`/busi."""
        return open_dataset("busi", data_root / "busi")

    def folds(self, dataset: Dataset) -> tuple[Fold, ...]:
        """Five stratified folds by group."""
        return stratified_group_folds(dataset.records(), folds=self.fold_count, seed=self.seed)
