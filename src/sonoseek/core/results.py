"""What a query gives back: frozen values, no behaviour beyond checks and look-ups."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from sonoseek.core.errors import InvalidValueError
from sonoseek.core.scan import Scan

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


@dataclass(frozen=True, kw_only=True)
class Match:
    """One similar past scan.

    Attributes:
        rank: 1-based.
        case_id, scan_id, dataset: of the match.
        similarity: cosine of the embeddings, −1 … 1.
        label: its proven pathology.
        birads, histology, device, patient_id, group: as in `CaseRecord`.
        picture: JPEG bytes of the scan, longest side ≤ 512 px, or None; so that a report needs no source file.
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
    picture: bytes | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InvalidValueError(f"rank is {self.rank}; ranks are 1-based.")
        if not -1.0 <= self.similarity <= 1.0:
            raise InvalidValueError(f"similarity is {self.similarity}; a cosine lies in −1 … 1.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """Which pixels something rests on.

    Attributes:
        heatmap: float32 (H, W) on the scan's own grid, signed: positive speaks for `target`, negative against it. In
            units of the explained number per pixel, never stretched: pixels sum to `explained` − `bias`.
        method: name of the method in the table of `explain`.
        target: a class ("malignant"), or a match ("match:<scan_id>").
        explained: the number that is split: a logit, or a cosine.
        bias: the part of it that no pixel carries (a class's bias; 0 for a cosine).
        cells: float32 (h, w), the same split on the network's own cells, of which `heatmap` is the up-sampling.
    """

    heatmap: NDArray[np.float32]
    method: str
    target: str
    explained: float
    bias: float
    cells: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.heatmap.dtype != np.float32 or self.heatmap.ndim != 2:
            raise InvalidValueError(f"heatmap is {self.heatmap.dtype} {self.heatmap.shape}; it must be float32 (H, W).")

    @property
    def peak(self) -> float:
        """Largest absolute value of the heatmap: its raw scale."""
        return float(np.abs(self.heatmap).max(initial=0.0))


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """Everything that one query says.

    Attributes:
        scan: the scan that was asked about, on whose grid the heatmaps lie.
        prediction: the verdict.
        matches: best first.
        explanations: the verdict's heatmap first; then any others that were asked for.
        agreement: share of `matches` that carry the likeliest class, weighted by nothing, 0 … 1; None without matches.
        novelty: percentile, 0 … 100, of the distance to the nearest gallery scan among the gallery's own
            nearest-neighbour distances; near 100 means "unlike anything in the archive"; None without a gallery.
        warnings: sentences for the reader.
        bundle_id: of the network that spoke.
        gallery_id: of the gallery, or None.
        where: the filter that the search ran under, or None.
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
    where: str | None = None
    version: str
    created: datetime
    disclaimer: str = DISCLAIMER

    def __post_init__(self) -> None:
        if [m.rank for m in self.matches] != list(range(1, len(self.matches) + 1)):
            raise InvalidValueError("matches are not ranked 1, 2, 3 …; give them best first, without gaps.")
        similarities = [m.similarity for m in self.matches]
        if similarities != sorted(similarities, reverse=True):
            raise InvalidValueError("matches are not sorted by similarity; give them best first.")
        for explanation in self.explanations:
            if explanation.heatmap.shape != self.scan.shape:
                raise InvalidValueError(
                    f"a heatmap has shape {explanation.heatmap.shape} on a scan {self.scan.shape}; "
                    "heatmaps lie on the scan's own grid."
                )
        if self.created.tzinfo is None:
            raise InvalidValueError("created has no time zone; pass datetime.now(timezone.utc).")

    @property
    def scan_id(self) -> str:
        """Of the scan that was asked about."""
        return self.scan.scan_id
