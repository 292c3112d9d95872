"""What the paper reports, as far as its summary states: augment the set first, split it afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sonoseek.datasets import Dataset, Fold, stratified_group_folds
from sonoseek.evaluate.protocols.augmented import AugmentedDataset
from sonoseek.evaluate.protocols.base import Round
from sonoseek.evaluate.protocols.busi import open_busi

SIZE = 3_840
PARTS = 20
TEST_PARTS = VALIDATION_PARTS = 3


class PaperLike:
    """BUSI augmented to 3,840 pictures by rotation, flips, zoom, contrast; then 70 % train, 15 % validation, 15 % test.

    Fawzy et al. 2026 augment "from 548 to 3,840", seven pictures of each; 548 is 70 % of BUSI. Whether they split first
    is not stated in the available text. This is the order in which figures of 99 % arise.
    """

    name = "paper-like"
    title = "BUSI, augmented before the split"
    description = (
        "BUSI augmented to 3,840 pictures by rotation, flips, zoom and contrast, then split at random 70/15/15: the "
        "test side holds altered copies of what was learnt. Kept to show what that does."
    )
    exclusions = "nothing"
    guarded = False
    drops_near_duplicates = False

    def open(self, data_root: Path | None) -> Mapping[str, Dataset]:
        """BUSI, augmented."""
        return {"busi": AugmentedDataset(open_busi(data_root), count=SIZE, seed=0)}

    def rounds(self, datasets: Mapping[str, Dataset]) -> tuple[Round, ...]:
        """One random split, stratified by class."""
        dataset = datasets["busi"]
        parts: tuple[Fold, ...] = stratified_group_folds(dataset.records(), folds=PARTS, seed=0)
        held_out = TEST_PARTS + VALIDATION_PARTS
        sides = [
            tuple(case_id for part in chosen for case_id in part.test)
            for chosen in (parts[held_out:], parts[TEST_PARTS:held_out], parts[:TEST_PARTS])
        ]
        train, validation, test = ({"busi": side} for side in sides)
        return (Round(seed=0, fold=0, train=train, validation=validation, test=test),)
