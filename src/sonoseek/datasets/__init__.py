"""Archives of cases: one dataset per file, splits that keep groups together, downloads, the phantom, the audit.

    dataset = open_dataset("busi", "data/busi")
    folds = stratified_group_folds(dataset.records(), folds=5, seed=0)
    case = dataset.load(folds[0].train[0])

Listing the names and describing a dataset reads no scan and imports no reader.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sonoseek.core import InvalidValueError, LazyTable
from sonoseek.datasets.base import Dataset, DatasetCard, Source
from sonoseek.datasets.check import CheckResult, check_dataset
from sonoseek.datasets.splits import (
    Fold,
    check_split,
    components,
    inner_validation,
    official_folds,
    stratified_group_folds,
)
from sonoseek.datasets.subset import Subset

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetCard",
    "Source",
    "open_dataset",
    "describe",
    "check_dataset",
    "CheckResult",
    "Subset",
    "Fold",
    "stratified_group_folds",
    "official_folds",
    "inner_validation",
    "check_split",
    "components",
]

DATASETS = LazyTable(
    "dataset",
    {
        "busi": "sonoseek.datasets.busi:BusiDataset",
        "busbra": "sonoseek.datasets.busbra:BusbraDataset",
        "breast": "sonoseek.datasets.breast:BreastDataset",
        "bus-uclm": "sonoseek.datasets.bus_uclm:BusUclmDataset",
        "bus-uc": "sonoseek.datasets.bus_uc:BusUcDataset",
        "folder": "sonoseek.datasets.folder:FolderDataset",
        "manifest": "sonoseek.datasets.manifest:ManifestDataset",
        "phantom": "sonoseek.datasets.phantom:PhantomDataset",
    },
)


def open_dataset(name: str, root: Path | str | None = None) -> Dataset:
    """Open a dataset; no scan is read yet.

    Args:
        name: in `DATASETS`.
        root: its folder, or one around it; for "manifest" the CSV file; not used for "phantom".

    Raises:
        NotFoundError: no such name.
        InvalidValueError: `root` is missing.
        DatasetError: `root` does not hold the dataset's layout.
    """
    factory: Callable[..., Dataset] = DATASETS.load(name)
    if root is None and name != "phantom":  # which is made on the fly
        raise InvalidValueError(
            f"no folder is named; {name!r} is read from one. Give its root (--data), or take 'phantom'."
        )
    return factory(root)


def describe(name: str) -> DatasetCard:
    """Title, licence, citation, source and limits of a dataset, without opening it.

    Raises:
        NotFoundError: no such name.
    """
    card: DatasetCard = DATASETS.load(name).card
    return card
