"""The 450 scans of Curated BUSI."""

from __future__ import annotations

from importlib.resources import files as package_files

from sonoseek.datasets import Dataset, Subset
from sonoseek.evaluate.protocols.busi import BusiFolds


class BusiCurated(BusiFolds):
    """Curated BUSI: every copy of a repeated scan is dropped; ten repeats remain, which the groups keep together."""

    name = "busi-curated"
    title = "Curated BUSI (450)"
    description = "The 450 scans of Curated BUSI, 3 classes, 5 folds by group."
    exclusions = "330 scans that the curators dropped: copies, axilla, and others without a stated reason"

    def keep(self, dataset: Dataset) -> Dataset:
        """Those on the curators' list."""
        text = package_files("sonoseek.evaluate.protocols").joinpath("busi_curated.csv").read_text(encoding="utf-8")
        curated = set(text.splitlines()[1:])
        present = [record.case_id for record in dataset.records() if record.case_id in curated]
        return Subset(dataset, present)
