"""BUSI, three classes, five folds, three seeds; scans of one group never part."""

from __future__ import annotations

from sonoseek.evaluate.protocols.busi import BusiFolds


class BusiGrouped(BusiFolds):
    """All 780 scans of BUSI, split by the duplicate groups that ship with the package."""

    name = "busi-grouped"
    title = "BUSI, groups kept together"
    description = "BUSI, 3 classes, 5 folds for each of 3 seeds; near-identical scans never part; no masks."
    exclusions = "nothing: axilla, needle, burned-in annotations and groups with two labels all stay in"
    seeds = (0, 1, 2)
