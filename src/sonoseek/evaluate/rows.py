"""The rows of an evaluation: one struct per row of its tables (`tables` writes them)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import msgspec

from sonoseek.core import PATHOLOGIES

Count = Annotated[int, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Pathology = Annotated[str, msgspec.Meta(pattern=f"^({'|'.join(PATHOLOGIES)})$")]
TEST, VALIDATION = "test", "validation"
Side = Annotated[str, msgspec.Meta(pattern=f"^({TEST}|{VALIDATION})$")]
NAN = math.nan


class CaseRow(msgspec.Struct, frozen=True, kw_only=True):
    """One scan of a protocol.

    Attributes:
        scan: its name, unique within the protocol.
        dataset, patient, label, birads, device: as in `CaseRecord`; "" where unknown.
        group: names the scans that stay on one side: a near-duplicate, a patient, or the scan alone.
        tested: whether it is ever tested.
    """

    scan: str
    dataset: str
    group: str
    patient: str
    label: Pathology
    birads: str
    device: str
    tested: bool


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """The search of one scan.

    Attributes:
        gallery: scans that may be found. relevant: those of the query's reference class.
        average_precision, r_precision: over the whole ranked gallery.
        ndcg, ndcg_chance: at 10, by BI-RADS; NaN where the query has none.
        matches: the first ten, best first.
    """

    gallery: Count
    relevant: Count
    average_precision: Share
    r_precision: Share
    ndcg: Share = NAN
    ndcg_chance: Share = NAN
    matches: tuple[str, ...] = ()


class ScanRow(msgspec.Struct, frozen=True, kw_only=True):
    """One scan in one round: its prediction and its search.

    Attributes:
        seed, fold: of the round.
        side: of the round on which the scan stands: "test", or "validation", which thresholds are fitted on.
        condition: of `corruptions`, under which the scan was changed first; "" for the scan as it is.
        scan, group, label: as in `CaseRow`.
        normal, benign, malignant: predicted probabilities, as written; `probabilities` are to be counted with.
        relevant_of_5: of a changed scan, how many of its first five matches are relevant; −1: not searched.
        search: among the training side, which the validation side is part of; None: nothing was searched.
        own_archive: among the other groups of the scan's own, tested archive; None: not part of the protocol.
    """

    seed: Count
    fold: Count
    side: Side
    condition: str = ""
    scan: str
    group: str
    label: Pathology
    normal: Share
    benign: Share
    malignant: Share
    relevant_of_5: Annotated[int, msgspec.Meta(ge=-1, le=5)] = -1
    search: Search | None = None
    own_archive: Search | None = None

    @property
    def probabilities(self) -> tuple[float, ...]:
        """In the order of `PATHOLOGIES`; their sum is 1 whatever was rounded."""
        values = (self.normal, self.benign, self.malignant)
        total = sum(values)
        return tuple(value / total for value in values)


class RoundRow(msgspec.Struct, frozen=True, kw_only=True):
    """One round: sizes of its sides, what predicted, and thresholds it brought along (NaN: fitted on its validation).

    Attributes:
        seed, fold: of the round.
        train, validation, test: cases on each side.
        gallery_normal, gallery_benign, gallery_malignant: scans of each class that may be found.
        leaking_share: of the test scans that have a copy on the training side.
        dropped: training cases taken off because a test case is a copy of them.
        identity: of the bundle or the fitted system.
        abstain_below, conformal_quantile, sensitivity_90, specificity_90: thresholds.
    """

    seed: Count
    fold: Count
    train: Count
    validation: Count
    test: Count
    gallery_normal: Count
    gallery_benign: Count
    gallery_malignant: Count
    leaking_share: Share
    dropped: Count
    identity: str
    abstain_below: Share = NAN
    conformal_quantile: Share = NAN
    sensitivity_90: Share = NAN
    specificity_90: Share = NAN

    @property
    def gallery(self) -> tuple[int, ...]:
        """In the order of `PATHOLOGIES`."""
        return tuple(getattr(self, f"gallery_{name}") for name in PATHOLOGIES)


@dataclass(frozen=True, kw_only=True)
class SystemResults:
    """All rows of one system under one protocol, in the order of its rounds."""

    rows: tuple[ScanRow, ...]
    rounds: tuple[RoundRow, ...]

    @cached_property
    def predictions(self) -> tuple[ScanRow, ...]:
        """Of the test sides, the scans as they are."""
        return tuple(row for row in self.rows if row.side == TEST and not row.condition)

    @cached_property
    def validation(self) -> tuple[ScanRow, ...]:
        """Of the validation sides."""
        return tuple(row for row in self.rows if row.side == VALIDATION)

    @cached_property
    def changed(self) -> tuple[ScanRow, ...]:
        """Of the test sides, changed scans; empty where that was not measured."""
        return tuple(row for row in self.rows if row.condition)

    @property
    def searched(self) -> bool:
        """Whether test scans were searched for; then all were."""
        return any(row.search is not None for row in self.predictions)

    @property
    def own_archive(self) -> bool:
        """Whether they were searched for in their own archive; then all were."""
        return any(row.own_archive is not None for row in self.predictions)
