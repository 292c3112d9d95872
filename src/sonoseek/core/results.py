"""What a query gives back: frozen values, no behaviour beyond checks and look-ups."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from sonoseek.core.contour import Contour
from sonoseek.core.errors import InvalidValueError
from sonoseek.core.geometry import Box
from sonoseek.core.scan import Scan
from sonoseek.core.upsampling import Upsampling

DISCLAIMER = "research use only, not for diagnosis"


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What the scan most likely shows.

    Attributes:
        probabilities: calibrated, one per class of the bundle, sum 1 within 1e-6.
        label: the class, or None: the system abstains ("not sure").
        prediction_set: classes that cannot be excluded at the bundle's conformal level (default 90 %), likeliest first.
        entropy: of `probabilities`, in nats, 0 (certain) … log(classes).
        unfamiliarity: distance of the scan from those that the network was trained on, in units of the border between
            like and unlike: above 1 there is no label, however high the probabilities. None: the bundle cannot say.
            Not `Report.novelty`, which is about the gallery.
    """

    probabilities: Mapping[str, float]
    label: str | None
    prediction_set: tuple[str, ...]
    entropy: float
    unfamiliarity: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "probabilities", MappingProxyType(dict(self.probabilities)))
        total = sum(self.probabilities.values())
        if not math.isclose(total, 1.0, abs_tol=1e-6):
            raise InvalidValueError(f"probabilities sum to {total:.8f}; they must sum to 1. Pass a softmax.")
        unknown = {self.label, *self.prediction_set} - {None, *self.probabilities}
        if unknown:
            raise InvalidValueError(f"{sorted(map(str, unknown))} are no classes of {sorted(self.probabilities)}.")
        if self.unfamiliarity is not None and not 0 <= self.unfamiliarity < math.inf:
            raise InvalidValueError(
                f"unfamiliarity is {self.unfamiliarity}; it is a distance, 0 or more and finite. Pass None if unknown."
            )
        if self.unfamiliar and self.label is not None:
            raise InvalidValueError(
                f"unfamiliarity is {self.unfamiliarity} and the label {self.label!r}; above 1 no label is given. "
                "Pass None as the label."
            )

    @property
    def unfamiliar(self) -> bool:
        """Whether the scan is unlike anything that the network was trained on."""
        return self.unfamiliarity is not None and self.unfamiliarity > 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """Which pixels something rests on.

    Attributes:
        cells: float32 (h, w), signed: positive speaks for `target`, negative against it. In units of the explained
            number per cell, never stretched; of an exact method they sum to `explained` − `bias`.
        upsampling: how the cells lie on the scan's own pixels.
        method: name of the method in the table of `explain`.
        target: a class ("malignant"), or the other scan of a pair ("match:<scan_id>", "query:<scan_id>").
        explained: the number that is explained: a logit, or a cosine.
        bias: the part of it that no pixel of this scan carries: a class's bias; for the cosine of several views or of a
            refined query, what the other views and the examples add, else 0; whatever the cells leave over where the
            method is not exact.
        exact: whether cells and bias sum to `explained` because the network is built so; False: the method asks the
            network from outside, and its cells are a judgement, not a sum.
    """

    cells: NDArray[np.float32]
    upsampling: Upsampling = field(repr=False)
    method: str
    target: str
    explained: float
    bias: float
    exact: bool = True

    def __post_init__(self) -> None:
        if self.cells.dtype != np.float32 or self.cells.ndim != 2:
            raise InvalidValueError(f"cells are {self.cells.dtype} {self.cells.shape}; they must be float32 (h, w).")
        if self.cells.shape != self.upsampling.cells:
            raise InvalidValueError(
                f"cells are {self.cells.shape}, the up-sampling spreads {self.upsampling.cells}; they must be one "
                "grid. Plan the up-sampling for these cells."
            )
        if not np.isfinite(self.cells).all():
            raise InvalidValueError("cells hold NaN or infinity; an explanation is finite. Export the bundle again.")

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the heatmap: the scan's own grid."""
        return self.upsampling.scan_shape

    @property
    def heatmap(self) -> NDArray[np.float32]:
        """The cells on the scan's own pixels: float32 (H, W), signed, in units of the explained number per pixel.

        It sums to what the cells sum to. Worked out anew at each call, in about a millisecond.
        """
        return self.upsampling.spread(self.cells)

    @property
    def peak(self) -> float:
        """Largest absolute value of the heatmap: its raw scale."""
        return self.upsampling.peak(self.cells)


@dataclass(frozen=True, kw_only=True)
class Match:
    """One similar past scan.

    Attributes:
        rank: 1-based.
        case_id, scan_id, dataset: of the match.
        similarity: cosine of the embeddings, −1 … 1.
        label: its proven pathology.
        birads, histology, device, patient_id, group, descriptors: as in `CaseRecord`.
        picture: JPEG bytes of the scan, longest side ≤ 512 px, or None; so that a report needs no source file.
        explanation: the cosine, split over the match's own pixels; on its own grid, not on the query's. None where it
            was not asked for, or where the gallery keeps no evidence. The split over the query's pixels is among
            `Report.explanations`.
        near_duplicates: scans left out behind this match because they show nearly the same: their cosine with it
            reaches the search's duplicate threshold, or they share its group and neither names a patient.
        same_patient: other scans left out behind this match: of its case, patient or group, or near-duplicates of
            those. Both are 0 where the search was not asked for independent matches.
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
class SharedWord:
    """A BI-RADS descriptor that several matches share.

    Attributes:
        feature: "shape", "margin", "orientation", "echogenicity", "posterior" …
        word: "irregular", "spiculated" …
        matches: how many matches carry it.
        described: how many matches are described for this feature at all; at least `matches`.
        share: of the gallery's scans that are described for this feature, how many carry it, 0 … 1.
    """

    feature: str
    word: str
    matches: int
    described: int
    share: float

    def __post_init__(self) -> None:
        if not (0 < self.matches <= self.described and 0.0 <= self.share <= 1.0):
            raise InvalidValueError(
                f"{self.feature} {self.word!r}: {self.matches} of {self.described} matches, share {self.share}; counts "
                "run 1 … described, a share 0 … 1."
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """Another scan of the lesion that was asked about, read beside the first.

    Attributes:
        scan: on whose grid its heatmaps lie.
        prediction: what this view alone shows.
        explanations: as in `Report`: the verdict's heatmap first, then one per match.
    """

    scan: Scan
    prediction: Prediction
    explanations: tuple[Explanation, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """Everything that one query says.

    Attributes:
        scan: the scan that was asked about, on whose grid the heatmaps lie.
        prediction: the verdict.
        matches: best first.
        explanations: all on the scan's grid: the verdict's heatmap first; then, for each match in their order, where
            the scan is like it (target "match:<scan_id>"); where the match is like the scan, the match itself carries.
        agreement: share of `matches` that carry the likeliest class, weighted by nothing, 0 … 1; None without matches.
        novelty: percentile, 0 … 100, of the distance to the nearest gallery scan among the gallery's own
            nearest-neighbour distances; near 100 means "unlike anything in the archive"; None without a gallery.
        warnings: sentences for the reader.
        bundle_id: of the network that spoke.
        gallery_id: of the gallery, or None.
        gallery_state: names the gallery's state when the search began (`Gallery.state`), or None.
        where: the filter that the search ran under, or None.
        views: the other scans of the lesion, where several were asked about as one; `prediction` is of all together.
        region: the box, on the scan's pixels, whose evidence alone was searched with, or None for all of it.
        crop: the scan area of the first scan as the reader drew it, on its pixels, or None: cleaning found it.
        liked, disliked: scan_ids of the archive that the search was moved towards, or away from.
        shared_words: descriptors that several matches share, the most telling first; empty where the archive has none.
        contour: the outline of the verdict's evidence, an estimate for the reader's eye; None without evidence.
        version: of sonoseek.
        created: UTC.
        disclaimer: always shown.
    """

    scan: Scan
    prediction: Prediction
    matches: tuple[Match, ...]
    explanations: tuple[Explanation, ...]
    agreement: float | None
    novelty: float | None
    warnings: tuple[str, ...]
    bundle_id: str
    gallery_id: str | None
    gallery_state: str | None = None
    where: str | None = None
    views: tuple[View, ...] = ()
    region: Box | None = None
    crop: Box | None = None
    liked: tuple[str, ...] = ()
    disliked: tuple[str, ...] = ()
    shared_words: tuple[SharedWord, ...] = ()
    contour: Contour | None = None
    version: str
    created: datetime
    disclaimer: str = DISCLAIMER

    def __post_init__(self) -> None:
        if [m.rank for m in self.matches] != list(range(1, len(self.matches) + 1)):
            raise InvalidValueError("matches are not ranked 1, 2, 3 …; give them best first, without gaps.")
        similarities = [m.similarity for m in self.matches]
        if similarities != sorted(similarities, reverse=True):
            raise InvalidValueError("matches are not sorted by similarity; give them best first.")
        pairs = [(self.scan, each) for each in self.explanations]
        pairs += [(view.scan, each) for view in self.views for each in view.explanations]
        for scan, explanation in pairs:
            if explanation.shape != scan.shape:
                raise InvalidValueError(
                    f"a heatmap has shape {explanation.shape} on a scan {scan.shape}; heatmaps lie on the scan's "
                    "own grid. That of a match's own pixels belongs into the match."
                )
        if self.created.tzinfo is None:
            raise InvalidValueError("created has no time zone; pass datetime.now(timezone.utc).")

    @property
    def scan_id(self) -> str:
        """Of the scan that was asked about."""
        return self.scan.scan_id

    def pair(self, rank: int) -> tuple[Explanation, Explanation | None] | None:
        """Why the scan and the match of this rank are alike: on the scan's pixels, and on the match's.

        Returns:
            None where pairs were not explained. The second is None where the gallery keeps no evidence of the match.

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
