"""BUS-BRA in the five folds that its authors published; no patient parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sonoseek.datasets import Dataset, official_folds, open_dataset
from sonoseek.evaluate.protocols.base import FOLDS, Round, rounds_of
from sonoseek.evaluate.protocols.busi import folder_of


class BusbraOfficial:
    """1,875 scans of 1,064 patients, benign against malignant."""

    name = "busbra-official"
    title = "BUS-BRA, published folds"
    description = "BUS-BRA, 2 classes, the 5 folds its authors published: patients never part."
    exclusions = (
        "nothing from the test sides; near-duplicates of a test scan that stand under another patient are taken off "
        "its training side (the published folds part four such pairs)"
    )
    guarded = True
    drops_near_duplicates = True

    def open(self, data_root: Path | None) -> Mapping[str, Dataset]:
        """BUS-BRA under `data_root`/busbra."""
        return {"busbra": open_dataset("busbra", folder_of(data_root) / "busbra")}

    def rounds(self, datasets: Mapping[str, Dataset]) -> tuple[Round, ...]:
        """The published test folds; the validation part is split by patient, not by the authors' inner columns."""
        dataset = datasets["busbra"]
        return tuple(rounds_of(dataset, official_folds(dataset, FOLDS), seed=0))
