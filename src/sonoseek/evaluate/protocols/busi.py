"""What the protocols on BUSI share: repeated folds by group, and the lists of scans that some leave out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sonoseek.core import InvalidValueError
from sonoseek.datasets import Dataset, open_dataset, stratified_group_folds
from sonoseek.evaluate.protocols.base import FOLDS, Round, rounds_of


def open_busi(data_root: Path | None) -> Dataset:
    """BUSI under `data_root`/busi.

    Raises:
        InvalidValueError: no folder is named.
        DatasetError: BUSI is not there.
    """
    return open_dataset("busi", folder_of(data_root) / "busi")


def folder_of(data_root: Path | None) -> Path:
    """Refuse a missing data folder with the remedy."""
    if data_root is None:
        raise InvalidValueError("no data folder is named; set SONOSEEK_DATA or say --data.")
    return data_root


def repeated_folds(dataset: Dataset, *, seeds: Sequence[int], folds: int = FOLDS) -> tuple[Round, ...]:
    """`folds` rounds per seed; near-equal shares of each class, no component parts, validation split by group too."""
    rounds: list[Round] = []
    for seed in seeds:
        rounds += rounds_of(dataset, stratified_group_folds(dataset.records(), folds=folds, seed=seed), seed=seed)
    return tuple(rounds)


class BusiFolds:
    """BUSI in repeated folds by group; the protocols differ in the scans they keep."""

    guarded = True
    drops_near_duplicates = False
    seeds: tuple[int, ...] = (0,)

    def open(self, data_root: Path | None) -> Mapping[str, Dataset]:
        """BUSI, or the part of it that the protocol keeps."""
        return {"busi": self.keep(open_busi(data_root))}

    def keep(self, dataset: Dataset) -> Dataset:
        """All of it, unless a protocol keeps less."""
        return dataset

    def rounds(self, datasets: Mapping[str, Dataset]) -> tuple[Round, ...]:
        """Five folds per seed."""
        return repeated_folds(datasets["busi"], seeds=self.seeds)
