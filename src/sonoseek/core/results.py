"""What a query returns: frozen values, no behaviour beyond checks and lookups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sonoseek.core.contour import Contour
from sonoseek.core.errors import InvalidValueError
from sonoseek.core.geometry import Box
from sonoseek.core.prediction import Prediction
from sonoseek.core.scan import Scan
from sonoseek.core.upsampling import Upsampling

DISCLAIMER = "research use only, not for diagnosis"


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """Which pixels a class logit, or the similarity of two scans, rests on.

    Attributes:
        evidence_map: float32 (h, w), signed: positive is evidence for `target`, negative against it. In units of the
            explained number per cell of the grid, not rescaled; of an exact method it sums to `value` − `bias`.
        upsampling: from the map's grid to the scan's own pixels.
        method: name of the method in the table of `explain`.
        target: a class ("malignant"), or the other scan of a pair ("match:<scan_id>", "query:<scan_id>").
        value: the number that is explained: a logit, or a cosine.
        bias: the part of it that no pixel of this scan contributes. For a logit, the class's bias. For a cosine, what
            other views and the examples of a refined query add, else 0. Where the method is not exact, the remainder.
        exact: whether map and bias sum to `value` by the network's design; False: a perturbation method, whose map is
            an estimate.
    """

    evidence_map: NDArray[np.float32]
    upsampling: Upsampling = field(repr=False)
    method: str
    target: str
    value: float
    bias: float
    exact: bool = True

    def __post_init__(self) -> None:
        if self.evidence_map.dtype != np.float32 or self.evidence_map.ndim != 2:
            raise InvalidValueError(
                f"evidence_map is {self.evidence_map.dtype} {self.evidence_map.shape}; it must be float32 (h, w)."
            )
        if self.evidence_map.shape != self.upsampling.cells:
            raise InvalidValueError(
                f"evidence_map is {self.evidence_map.shape}, its up-sampling {self.upsampling.cells}; they must be one "
                "grid. Plan the up-sampling for this map."
            )
        if not np.isfinite(self.evidence_map).all():
            raise InvalidValueError("evidence_map holds NaN or infinity; it must be finite. Export the bundle again.")

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the heatmap: the scan's own grid."""
        return self.upsampling.scan_shape

    @property
    def heatmap(self) -> NDArray[np.float32]:
        """The evidence map on the scan's own pixels: float32 (H, W), signed.

        In units of the explained number per pixel. Its sum is that of the evidence map. Each access computes it, in
        about a millisecond.
        """
        return self.upsampling.spread(self.evidence_map)

    @property
    def peak(self) -> float:
        """Largest absolute value of the heatmap."""
        return self.upsampling.peak(self.evidence_map)


@dataclass(frozen=True, kw_only=True)
class Match:
    """One similar past scan.

    Attributes:
        rank: 1-based.
        case_id, scan_id, dataset: of the match.
        similarity: cosine of the embeddings, −1 … 1.
        label: its reference standard: pathology-proven where `histology` is given, else as the archive states it.
        birads, histology, device, patient_id, group, descriptors: as in `CaseRecord`.
        picture: JPEG bytes of the scan, longest side ≤ 512 px, or None: a report needs no source file.
        explanation: the cosine, split over the match's own pixels; on its own grid, not on the query's. None where it
            was not requested, or where the gallery stores no evidence. The split over the query's pixels is among
            `Report.explanations`.
        near_duplicates: scans that this match stands for: their cosine with it reaches the search's duplicate
            threshold, or they share its group and neither names a patient.
        same_patient: other scans that this match stands for: of its case, patient or group, or near-duplicates of
            those. Both are 0 where the search lists every scan.
    """

    rank: int
    case_id: str
    scan_id: str
    similarity: float
    label: str
    dataset: str
    birads: str | None = None
    histology: str | None = None
    device: str | None = None
    patient_id: str | None = None
    group: str | None = None
    descriptors: tuple[tuple[str, str], ...] = ()
    picture: bytes | None = field(default=None, repr=False, compare=False)
    explanation: Explanation | None = field(default=None, repr=False, compare=False)
    near_duplicates: int = 0
    same_patient: int = 0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InvalidValueError(f"rank is {self.rank}; ranks are 1-based.")
        if not -1.0 <= self.similarity <= 1.0:
            raise InvalidValueError(f"similarity is {self.similarity}; a cosine lies in −1 … 1.")


@dataclass(frozen=True, kw_only=True)
class SharedDescriptor:
    """A BI-RADS descriptor that several matches share.

    Attributes:
        feature: "shape", "margin", "orientation", "echogenicity", "posterior" …
        descriptor: "irregular", "spiculated" …
        matches: matches with this descriptor.
        described: matches described for this feature at all; at least `matches`.
        share: of the gallery's scans described for this feature, the share with this descriptor, 0 … 1.
    """

    feature: str
    descriptor: str
    matches: int
    described: int
    share: float

    def __post_init__(self) -> None:
        if not (0 < self.matches <= self.described and 0.0 <= self.share <= 1.0):
            raise InvalidValueError(
                f"{self.feature} {self.descriptor!r}: {self.matches} of {self.described} matches, share {self.share}; "
                "matches must lie in 1 … described, the share in 0 … 1."
            )


Severity = Literal["high", "medium", "low"]
SEVERITIES: tuple[Severity, ...] = ("high", "medium", "low")


@dataclass(frozen=True, kw_only=True)
class ReportWarning:
    """One sentence for the reader, with its severity.

    Attributes:
        severity: "high": the prediction or the matches may mislead as they stand; "medium": they are less certain than
            they look; "low": for information.
        code: the kind of warning, for programs: "seen_in_training", "disagreement" …
        text: one or two sentences.
    """

    severity: Severity
    code: str
    text: str

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise InvalidValueError(f"severity is {self.severity!r}; it must be one of {', '.join(SEVERITIES)}.")


@dataclass(frozen=True, kw_only=True)
class LabelCounts:
    """Reference labels of similar cases, counted.

    Attributes:
        labels: label → number of cases, most first.
    """

    labels: Mapping[str, int]

    def __post_init__(self) -> None:
        ordered = sorted(self.labels.items(), key=lambda item: (-item[1], item[0]))
        object.__setattr__(self, "labels", MappingProxyType(dict(ordered)))
        if any(count < 1 for count in self.labels.values()):
            raise InvalidValueError(f"labels are {dict(self.labels)}; each count must be at least 1.")

    @property
    def total(self) -> int:
        """Number of cases."""
        return sum(self.labels.values())

    def share(self, label: str) -> float | None:
        """Share of the cases with `label`, 0 … 1; None without cases."""
        return self.labels.get(label, 0) / self.total if self.labels else None


@dataclass(frozen=True, kw_only=True)
class ExcludedCounts:
    """Scans of a gallery that are left out of the search, each counted once, under the first reason that holds.

    Attributes:
        scans: in the gallery, in all.
        same_scan: the query scan itself, by its pixels.
        same_patient: of the others, those of its patients.
        same_group: of the rest, those of its groups.
    """

    scans: int
    same_scan: int = 0
    same_patient: int = 0
    same_group: int = 0

    @property
    def excluded(self) -> int:
        """All that are left out."""
        return self.same_scan + self.same_patient + self.same_group


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """A further scan of the same lesion.

    Attributes:
        scan: its heatmaps lie on this grid.
        prediction: of this view alone.
        explanations: as in `Report`: the heatmap of the likeliest class first, then one per match.
        lesion: as in `Report`, on this view.
    """

    scan: Scan
    prediction: Prediction
    explanations: tuple[Explanation, ...]
    lesion: Box | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """The result of one query.

    Attributes:
        scan: the query scan; the heatmaps lie on its grid.
        prediction: of the scan, or of all views together.
        matches: best first, under the filter `where` if there is one.
        explanations: all on the scan's grid: the heatmap of the likeliest class first; then, for each match in their
            order, where the scan is similar to it (target "match:<scan_id>"). Where the match is similar to the scan
            is `Match.explanation`.
        similar_cases: reference labels of the independent cases most similar to the whole scan, ten at most, whatever
            `where`, region and examples are. At most one scan per patient or group counts, and near-duplicates count
            once. The scan itself and its copies do not count. Empty without a gallery or matches.
        hidden: of the ten most similar cases, those that `where` hides; None without a filter.
        left_out: scans that were left out of the search; None without a gallery.
        novelty: percentile, 0 … 100, of the distance to the nearest independent gallery scan among the gallery's
            reference nearest-neighbour distances. Near 100 means "unlike anything in the archive". None without a
            gallery, or where it holds too few scans.
        warnings: the most severe first.
        bundle_id: of the network.
        gallery_id: of the gallery, or None.
        gallery_state: identifies the gallery's content when the search began (`Gallery.state`), or None.
        where: the filter of the search, or None.
        views: further scans of the lesion, where the query has several; `prediction` is of all together.
        region: the box, on the scan's pixels, to which the search was restricted; None: the whole scan.
        crop: the scan area of the first scan as the reader drew it, on its pixels; None: found by preprocessing.
        lesion: the reader's lesion box on the first scan, on its pixels, cut to the scan area; prediction, evidence and
            search use it. None: no box.
        liked, disliked: scan_ids of the archive that the search was moved towards, or away from.
        shared_descriptors: those that several matches share, the largest difference from the gallery first.
        contour: the outline of the evidence for the likeliest class, an estimate; None without evidence.
        version: of sonoseek.
        created: UTC.
        disclaimer: always shown.
    """

    scan: Scan
    prediction: Prediction
    matches: tuple[Match, ...]
    explanations: tuple[Explanation, ...]
    similar_cases: LabelCounts = LabelCounts(labels={})  # frozen
    hidden: LabelCounts | None = None
    left_out: ExcludedCounts | None = None
    novelty: float | None
    warnings: tuple[ReportWarning, ...]
    bundle_id: str
    gallery_id: str | None
    gallery_state: str | None = None
    where: str | None = None
    views: tuple[View, ...] = ()
    region: Box | None = None
    crop: Box | None = None
    lesion: Box | None = None
    liked: tuple[str, ...] = ()
    disliked: tuple[str, ...] = ()
    shared_descriptors: tuple[SharedDescriptor, ...] = ()
    contour: Contour | None = None
    version: str
    created: datetime
    disclaimer: str = DISCLAIMER

    def __post_init__(self) -> None:
        if [m.rank for m in self.matches] != list(range(1, len(self.matches) + 1)):
            raise InvalidValueError("matches are not ranked 1, 2, 3 …; pass them best first, without gaps.")
        similarities = [m.similarity for m in self.matches]
        if similarities != sorted(similarities, reverse=True):
            raise InvalidValueError("matches are not sorted by similarity; pass them best first.")
        pairs = [(self.scan, each) for each in self.explanations]
        pairs += [(view.scan, each) for view in self.views for each in view.explanations]
        for scan, explanation in pairs:
            if explanation.shape != scan.shape:
                raise InvalidValueError(
                    f"a heatmap has shape {explanation.shape} on a scan {scan.shape}; heatmaps must lie on the "
                    "scan's own grid. A heatmap on a match's pixels belongs in Match.explanation."
                )
        if self.created.tzinfo is None:
            raise InvalidValueError("created has no time zone; pass datetime.now(timezone.utc).")

        ranks = [SEVERITIES.index(warning.severity) for warning in self.warnings]
        if ranks != sorted(ranks):
            raise InvalidValueError("warnings are not sorted by severity; pass the most severe first.")

    @property
    def scan_id(self) -> str:
        """Of the query scan."""
        return self.scan.scan_id

    @property
    def agreement(self) -> float | None:
        """Share of `similar_cases` with the likeliest class, 0 … 1; None without any."""
        return self.similar_cases.share(self.prediction.likeliest)

    def pair(self, rank: int) -> tuple[Explanation, Explanation | None] | None:
        """Why the scan and the match of this rank are similar: heatmaps on the scan's and on the match's pixels.

        Returns:
            None where pairs were not explained. The second is None where the gallery stores no evidence of the match.

        Raises:
            InvalidValueError: no such rank.
        """
        if not 1 <= rank <= len(self.matches):
            raise InvalidValueError(f"rank is {rank}; the report has {len(self.matches)} matches, ranked from 1.")
        match = self.matches[rank - 1]
        for explanation in self.explanations:
            if explanation.target == f"match:{match.scan_id}":
                return explanation, match.explanation
        return None
