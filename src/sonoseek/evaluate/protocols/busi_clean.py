"""BUSI without the scans that are known to be wrong."""

from __future__ import annotations

from sonoseek.datasets import Dataset, Subset
from sonoseek.datasets.busi import known_groups
from sonoseek.evaluate.protocols.busi import BusiFolds

OBJECTIONS = ("axilla", "needle")


class BusiClean(BusiFolds):
    """As `busi-grouped`, without groups that carry two labels, without the axilla, without needles."""

    name = "busi-clean"
    title = "BUSI without known errors"
    description = "BUSI, 3 classes, 5 folds; as busi-grouped, without the scans that are known to be wrong."
    exclusions = (
        "groups that carry two labels; scans of the axilla or with a needle (Pawlowska et al. 2023, "
        "doi:10.1016/j.dib.2023.109247)"
    )

    def keep(self, dataset: Dataset) -> Dataset:
        """Those without an objection."""
        bad = {
            name.rpartition(".")[0]
            for name, facts in known_groups().items()
            if facts.cross_class or facts.objection in OBJECTIONS
        }
        return Subset(dataset, [record.case_id for record in dataset.records() if record.case_id not in bad])
