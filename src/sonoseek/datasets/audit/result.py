"""What an audit finds: frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import CaseRecord
from sonoseek.core.patients import PatientShare, patient_warnings

PairKind = Literal["exact", "near", "frame"]
CrossingReason = Literal["exact", "near", "frame", "group", "patient"]


@dataclass(frozen=True, kw_only=True, eq=False)
class DuplicatePair:
    """Two scans that show the same picture, or neighbouring frames of one sweep.

    Attributes:
        a, b: case_ids; `a` stands before `b` in the dataset.
        scan_a, scan_b: which scan of either case, 0-based.
        kind: "exact" (every pixel the same), "near" (the same picture again: shifted, cropped, rescaled, mirrored,
            marked, saved anew), "frame" (not the same picture, but the same place a moment later).
        ncc: normalised cross-correlation of the aligned scans over their overlap, −1 … 1.
        detail: median, over tiles of the overlap, of the correlation of fine texture, −1 … 1. Speckle changes from
            frame to frame, so this, not `ncc`, separates a copy from a neighbour.
        inliers: matched features that agree on the transform; 0 for exact copies, which need none.
        transform: float64 (2, 3), affine, takes (x, y, 1) of `b` to (x, y) of `a`; pixel centres at whole numbers.
        overlap: common area as a share of the smaller scan, 0 … 1.
    """

    a: str
    b: str
    kind: PairKind
    ncc: float
    detail: float
    inliers: int
    transform: NDArray[np.float64]
    overlap: float
    scan_a: int = 0
    scan_b: int = 0

    @property
    def mirrored(self) -> bool:
        """Whether one is a mirror image of the other."""
        return float(np.linalg.det(self.transform[:, :2])) < 0

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "a": self.a,
            "b": self.b,
            "scan_a": self.scan_a,
            "scan_b": self.scan_b,
            "kind": self.kind,
            "ncc": round(self.ncc, 4),
            "detail": round(self.detail, 4),
            "inliers": self.inliers,
            "transform": [[round(float(value), 6) for value in row] for row in self.transform],
            "overlap": round(self.overlap, 4),
            "mirrored": self.mirrored,
        }


@dataclass(frozen=True, kw_only=True)
class DuplicateGroup:
    """Cases that hold the same picture, directly or through others.

    Attributes:
        case_ids: two or more, in the order of the dataset.
        labels: the pathology of each.
    """

    case_ids: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def crosses_labels(self) -> bool:
        """Whether the same picture has more than one label."""
        return len(set(self.labels)) > 1


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """Two cases that a split parts and should not.

    Attributes:
        fold: 0-based.
        train, test: case_ids.
        reason: "exact", "near" or "frame" (this audit found the pair), "group" or "patient" (the dataset says so).
    """

    fold: int
    train: str
    test: str
    reason: CrossingReason


@dataclass(frozen=True, kw_only=True)
class LabelLeak:
    """How far one simple property that is not the picture itself predicts the label.

    Attributes:
        property_name: "mask empty", "mask area", "mask area, where drawn", "mask regions, where drawn", "any burned-in
            mark", "marks away from the edges".
        cases: measured.
        accuracy: of the best simple rule, cross-validated with copies on one side, 0 … 1.
        balanced_accuracy: mean over labels of the sensitivity of the rule that is best at that, cross-validated too.
        baseline: accuracy of always saying the most frequent label.
        chance: balanced accuracy of any constant answer: 1 / labels.
        explanation: one or two sentences with counts, for people.
    """

    property_name: str
    cases: int
    accuracy: float
    balanced_accuracy: float
    baseline: float
    chance: float
    explanation: str

    @property
    def leaks(self) -> bool:
        """Whether the rule beats chance by more than a tenth of what there is to gain."""
        return self.balanced_accuracy > self.chance + 0.1 * (1 - self.chance)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "property": self.property_name,
            "cases": self.cases,
            "accuracy": round(self.accuracy, 4),
            "balanced_accuracy": round(self.balanced_accuracy, 4),
            "baseline": round(self.baseline, 4),
            "chance": round(self.chance, 4),
            "leaks": self.leaks,
            "explanation": self.explanation,
        }


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A case that could not be loaded, and why."""

    case_id: str
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class AuditResult:
    """Everything that an audit found.

    Attributes:
        dataset: its name.
        records: every case of it, unreadable ones included, in its order.
        scans: how many were compared.
        folds: how many splits were checked; 0 where none was given.
        pairs: the same picture twice ("exact", "near"), likeliest first.
        related: neighbouring frames of one sweep ("frame"): not copies, yet they should not part either.
        groups: connected components of `pairs`.
        cross_label_groups: those of `groups` with two labels.
        unstated: those of `pairs` and `related` that the dataset's own groups and patients do not keep together: a
            split that follows them may part these.
        keep_together: connected components of stated groups, patients, `pairs` and `related` together, all cases
            included: what a split should never part.
        marked: case_id → share of its scans' pixels that burned-in annotations cover; cases without are left out.
        marked_inside: the same, away from the edges, where the scanner's own orientation mark does not stand.
        mask_leaks: what masks tell about the label; empty where no case has a mask.
        mark_leaks: what burned-in annotations predict of the label; empty where no scan is marked.
        crossing: what the given splits part.
        unreadable: refused cases.
        largest_patients: the patient with the most cases of each dataset that names any.
        placeholders: patient id that names nobody, and was taken as unknown → scans that carry it.
    """

    dataset: str
    records: tuple[CaseRecord, ...]
    scans: int
    folds: int
    pairs: tuple[DuplicatePair, ...]
    related: tuple[DuplicatePair, ...]
    groups: tuple[DuplicateGroup, ...]
    cross_label_groups: tuple[DuplicateGroup, ...]
    unstated: tuple[DuplicatePair, ...]
    keep_together: tuple[tuple[str, ...], ...]
    marked: Mapping[str, float]
    marked_inside: Mapping[str, float]
    mask_leaks: tuple[LabelLeak, ...]
    mark_leaks: tuple[LabelLeak, ...]
    crossing: tuple[Crossing, ...]
    unreadable: tuple[Unreadable, ...]
    largest_patients: tuple[PatientShare, ...] = ()
    placeholders: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("placeholders", "marked", "marked_inside"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    @property
    def dominant_patients(self) -> tuple[PatientShare, ...]:
        """Those who hold more than half of their dataset: likely no patients."""
        return tuple(share for share in self.largest_patients if share.dominant)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the patient ids, as sentences."""
        return patient_warnings(self.largest_patients, self.placeholders)

    def counts(self) -> dict[str, int]:
        """How many of each, for a table."""
        return {
            "cases": len(self.records),
            "scans": self.scans,
            "exact_pairs": sum(pair.kind == "exact" for pair in self.pairs),
            "near_pairs": sum(pair.kind == "near" for pair in self.pairs),
            "related_pairs": len(self.related),
            "groups": len(self.groups),
            "cross_label_groups": len(self.cross_label_groups),
            "unstated_pairs": len(self.unstated),
            "crossing": len(self.crossing),
            "marked": len(self.marked),
            "marked_inside": len(self.marked_inside),
            "unreadable": len(self.unreadable),
            "dominant_patients": len(self.dominant_patients),
            "placeholders": sum(self.placeholders.values()),
        }

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON; format 1."""
        return {
            "format": 1,
            "dataset": self.dataset,
            "folds": self.folds,
            "counts": self.counts(),
            "pairs": [pair.to_dict() for pair in self.pairs],
            "related": [pair.to_dict() for pair in self.related],
            "groups": [asdict(group) for group in self.groups],
            "cross_label_groups": [asdict(group) for group in self.cross_label_groups],
            "unstated": [pair.to_dict() for pair in self.unstated],
            "marked": {case_id: round(share, 6) for case_id, share in self.marked.items()},
            "marked_inside": {case_id: round(share, 6) for case_id, share in self.marked_inside.items()},
            "mask_leaks": [leak.to_dict() for leak in self.mask_leaks],
            "mark_leaks": [leak.to_dict() for leak in self.mark_leaks],
            "crossing": [asdict(crossing) for crossing in self.crossing],
            "unreadable": [asdict(item) for item in self.unreadable],
            "dominant_patients": [asdict(share) for share in self.dominant_patients],
            "placeholders": dict(self.placeholders),
            "warnings": list(self.warnings),
        }
