"""What most papers do: BUSI split at random, copies of one scan on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sonoseek.datasets import Dataset
from sonoseek.evaluate.protocols.base import Round
from sonoseek.evaluate.protocols.busi import open_busi, repeated_folds
from sonoseek.evaluate.protocols.without_groups import WithoutGroups


class RandomSplit:
    """As `busi-grouped`, blind to groups. Its figures are too high."""

    name = "random-split"
    title = "BUSI, random split"
    description = (
        "BUSI, 3 classes, 5 folds at random: copies of one scan stand on both sides. Kept to show what that does."
    )
    exclusions = "nothing"
    guarded = False
    drops_near_duplicates = False

    def open(self, data_root: Path | None) -> Mapping[str, Dataset]:
        """BUSI with its groups hidden."""
        return {"busi": WithoutGroups(open_busi(data_root))}

    def rounds(self, datasets: Mapping[str, Dataset]) -> tuple[Round, ...]:
        """Five stratified folds of single scans."""
        return repeated_folds(datasets["busi"], seeds=(0,))
