"""The JSON report as typed structures: what is written, and the published schema, come from the same definitions."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

SCHEMA_VERSION = "4"
HEATMAP_ENCODING: Final = "base64/zlib/float16-le"
"""Row-major little-endian float16 numbers, zlib, base64; times `scale` they are the heatmap."""
MAP_ENCODING: Final = "base64/zlib/float32-le"
"""Row-major little-endian float32 numbers, zlib, base64."""

Share = Annotated[float, Meta(ge=0, le=1)]
Cosine = Annotated[float, Meta(ge=-1, le=1, description="Cosine of the embeddings.")]
Millimetres = Annotated[float, Meta(ge=0)]
Pixels = Annotated[int, Meta(ge=1, description="Pixels.")]
Shape = Annotated[list[Annotated[int, Meta(ge=1)]], Meta(min_length=2, max_length=2, description="(rows, columns).")]
ScanId = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="sha256 over shape and pixels.")]
Name = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=0)]


class _Part(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A JSON object whose keys are all known and all there."""


class BoxPart(_Part):
    """A box in the scan's pixels, edges."""

    top: float
    left: float
    bottom: float
    right: float


class ScanPart(_Part):
    """The query scan, or a further view of the lesion."""

    scan_id: ScanId
    height: Pixels
    width: Pixels
    spacing_mm: Annotated[
        list[Annotated[float, Meta(gt=0)]] | None,
        Meta(
            description="(row, column) distance of pixel centres in millimetres; null where the file does not state it."
        ),
    ]
    laterality: Annotated[Literal["left", "right"] | None, Meta(description="The breast.")]
    view: Annotated[str | None, Meta(description="View of the lesion, as its archive names it.")]
    frame: Annotated[Annotated[int, Meta(ge=0)] | None, Meta(description="0-based, of a file with several frames.")]
    frames: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="Frames of that file, where known.")]
    source: Annotated[str, Meta(description="Origin of the scan, for people.")]


class OperatingPointPart(_Part):
    """A threshold on the likelihood of malignancy."""

    name: Annotated[str, Meta(description="The rate that it was fitted to: sensitivity_98, specificity_90 …")]
    threshold: Share
    sensitivity: Annotated[float, Meta(ge=0, le=1, description="On the scans that it was fitted on.")]
    specificity: Annotated[float, Meta(ge=0, le=1, description="On the scans that it was fitted on.")]
    reached: Annotated[bool, Meta(description="Whether the likelihood of malignancy is at or above the threshold.")]


class PredictionSetPart(_Part):
    """The conformal prediction set. A class outside of it is not ruled out."""

    coverage: Annotated[float, Meta(ge=0, le=1, description="Share of such sets that hold the true class.")]
    classes: Annotated[list[str], Meta(description="Likeliest first.")]


class CalibrationPart(_Part):
    """The cases that temperature, biases and thresholds were fitted on."""

    source: Annotated[Literal["bundle", "archive"], Meta(description="archive: fitted on cases of the gallery.")]
    cases: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="Of the archive; null: the bundle's own.")]
    fitted: Annotated[
        Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")] | None, Meta(description="The day of the fit, UTC.")
    ]
    bundle_points: Annotated[
        list[str], Meta(description="Operating points of the bundle that stay: the archive had too few cases for them.")
    ]
    text: Annotated[str, Meta(min_length=1, description="To be shown with every probability.")]


class PredictionPart(_Part):
    """Calibrated probabilities of one scan, or of several views of one lesion."""

    likelihood_of_malignancy: Annotated[
        float | None, Meta(description="Calibrated probability; null where the bundle has no class malignant.")
    ]
    operating_points: Annotated[list[OperatingPointPart], Meta(description="Lowest threshold first.")]
    fitted_on: Annotated[
        str, Meta(description="Description of the scans that thresholds and temperature were fitted on.")
    ]
    calibration: CalibrationPart
    likeliest: Annotated[str, Meta(description="The class with the highest probability, also when no label is given.")]
    label: Annotated[str | None, Meta(description="The class; null: not sure, or out of distribution.")]
    probabilities: Annotated[
        dict[str, Share], Meta(min_length=2, description="Class to calibrated probability; they sum to 1.")
    ]
    prediction_set: PredictionSetPart
    entropy: Annotated[float, Meta(ge=0, description="Of the probabilities, in nats.")]
    ood_score: Annotated[
        float | None,
        Meta(
            description="Out-of-distribution score: distance from the training scans, relative to the threshold; above "
            "1 no label is given. Null where the bundle has no such score."
        ),
    ]


class WarningPart(_Part):
    """One sentence for the reader."""

    severity: Annotated[
        Literal["high", "medium", "low"],
        Meta(
            description="high: prediction or matches may mislead; medium: they are less certain than they look; low: "
            "for information."
        ),
    ]
    code: Annotated[str, Meta(min_length=1, description="The kind of warning, for programs.")]
    text: str


class LabelCountsPart(_Part):
    """Reference labels of cases, counted."""

    labels: Annotated[dict[str, Annotated[int, Meta(ge=1)]], Meta(description="Label to cases, most first.")]
    total: Count


class SimilarCasesPart(LabelCountsPart):
    """The independent cases most similar to the whole scan, ten at most, whatever is listed."""

    agreement: Annotated[float | None, Meta(description="Share of them with the likeliest class; null without any.")]


class LeftOutPart(_Part):
    """Scans of the gallery that were left out of the search, each counted once."""

    scans: Annotated[int, Meta(ge=0, description="In the gallery, in all.")]
    same_scan: Count
    same_patient: Count
    same_group: Count


class DescriptorPart(_Part):
    """A descriptor of the BI-RADS lexicon, by a reader."""

    feature: Name
    descriptor: Name


class SharedDescriptorPart(DescriptorPart):
    """A descriptor that several matches share."""

    matches: Annotated[int, Meta(ge=1, description="Matches with it.")]
    described: Annotated[int, Meta(ge=1, description="Matches described for the feature at all.")]
    share: Annotated[float, Meta(ge=0, le=1, description="Of the gallery's scans described for the feature.")]


class MapPart(_Part):
    """An evidence map on its own grid."""

    encoding: Literal["base64/zlib/float32-le"]
    shape: Shape
    data: str


class HeatmapPart(_Part):
    """The evidence map on the scan's own pixels."""

    encoding: Literal["base64/zlib/float16-le"]
    shape: Shape
    scale: Annotated[float, Meta(gt=0, description="The decoded numbers times this are the heatmap.")]
    data: str


class ExplanationPart(_Part, omit_defaults=True):
    """The heatmap of a logit, or of a cosine."""

    target: Annotated[str, Meta(description="A class, match:<scan_id>, or query:<scan_id>.")]
    method: str
    exact: Annotated[bool, Meta(description="Whether sum and bias give the value by the network's design.")]
    value: Annotated[float, Meta(description="The number to explain: a logit, or a cosine.")]
    bias: Annotated[float, Meta(description="The part of it that no pixel contributes.")]
    sum: Annotated[float, Meta(description="Sum of the heatmap; with bias it gives the value, to 1e-4.")]
    peak: Annotated[float, Meta(ge=0, description="Largest absolute value of the heatmap.")]
    shape: Shape
    evidence_map: MapPart
    heatmap: HeatmapPart | msgspec.UnsetType = msgspec.UNSET


class MatchPart(_Part):
    """A similar past scan."""

    rank: Annotated[int, Meta(ge=1)]
    case_id: Annotated[str, Meta(min_length=1, description="Unique within its dataset.")]
    scan_id: Name
    dataset: Name
    label: Annotated[str, Meta(description="Reference standard.")]
    pathology_proven: Annotated[
        bool,
        Meta(description="Whether the archive states a histology; otherwise the label is as the archive states it."),
    ]
    similarity: Cosine
    distance: Annotated[float, Meta(ge=0, le=2, description="1 - similarity.")]
    birads: Literal["0", "1", "2", "3", "4", "4A", "4B", "4C", "5", "6"] | None
    histology: str | None
    device: str | None
    group: Annotated[
        str | None,
        Meta(description="Scans of one group are never matches of one another; null where it is the patient's id."),
    ]
    near_duplicates: Annotated[int, Meta(ge=0, description="Copies of this scan that the match stands for.")]
    same_patient: Annotated[
        int, Meta(ge=0, description="Other scans of its patient or group that the match stands for.")
    ]
    descriptors: list[DescriptorPart]
    explanation: Annotated[
        ExplanationPart | None,
        Meta(
            description="The cosine on the match's own pixels (target query:<scan_id>); null where the gallery stores "
            "no evidence or none was requested."
        ),
    ]


class ContourPart(_Part):
    """Outline of the evidence for the likeliest class: an estimate."""

    estimate: Literal[True]
    longest_mm: Millimetres | None
    shortest_mm: Millimetres | None
    area_mm2: Millimetres | None
    depth_mm: Millimetres | None
    height_mm: Millimetres | None
    width_mm: Millimetres | None
    area_pixels: Annotated[float, Meta(ge=0)]
    taller_than_wide: bool | None
    level: Share
    points: Annotated[
        list[Annotated[list[float], Meta(min_length=2, max_length=2)]],
        Meta(min_length=3, description="(row, column) in scan pixels, edges: 0 … height, 0 … width."),
    ]


class ViewPart(_Part):
    """A further view of the lesion, queried together with the first."""

    scan: ScanPart
    prediction: PredictionPart
    explanations: list[ExplanationPart]
    lesion: Annotated[BoxPart | None, Meta(description="The reader's mark on this view; null: none.")]


class ReportDocument(_Part):
    """The result of a query with a breast ultrasound scan. Research use only, not for diagnosis."""

    schema: Literal["sonoseek-report"]
    schema_version: Literal["4"]
    disclaimer: Annotated[str, Meta(min_length=1, description="To be shown with the report.")]
    headline: Annotated[str, Meta(min_length=1, description="The first sentence of the report.")]
    warnings: Annotated[list[WarningPart], Meta(description="The most severe first.")]
    prediction: PredictionPart
    similar_cases: SimilarCasesPart
    hidden_by_filter: Annotated[
        LabelCountsPart | None, Meta(description="Of the similar cases, those that the filter hides; null without one.")
    ]
    left_out: LeftOutPart | None
    novelty: Annotated[
        Annotated[float, Meta(ge=0, le=100)] | None,
        Meta(
            description="Percentile of the distance to the nearest independent archived scan among the archive's "
            "reference nearest-neighbour distances; null without a gallery, or where it holds too few scans."
        ),
    ]
    matches: Annotated[list[MatchPart], Meta(description="Similar past scans, best first, under the filter.")]
    shared_descriptors: Annotated[
        list[SharedDescriptorPart], Meta(description="BI-RADS descriptors that several matches share.")
    ]
    scan: ScanPart
    views: Annotated[
        list[ViewPart],
        Meta(description="Further views of the lesion, where the query has several; prediction is of all together."),
    ]
    explanations: Annotated[
        list[ExplanationPart],
        Meta(description="On the scan's own grid: of the likeliest class first, then one per match in their order."),
    ]
    contour: ContourPart | None
    where: Annotated[str | None, Meta(description="The filter of the search.")]
    region: Annotated[
        BoxPart | None, Meta(description="The box to which the search was restricted; null: the whole scan.")
    ]
    crop: Annotated[
        BoxPart | None, Meta(description="The scan area as the reader drew it; null: found by preprocessing.")
    ]
    lesion: Annotated[
        BoxPart | None,
        Meta(
            description="The reader's mark, the box of the lesion on the scan, which prediction, explanations and "
            "matches use; null: no mark."
        ),
    ]
    liked: Annotated[list[ScanId], Meta(description="Scans of the archive that the search was moved towards.")]
    disliked: Annotated[list[ScanId], Meta(description="Scans of the archive that the search was moved away from.")]
    bundle_id: Annotated[str, Meta(min_length=1, description="Of the network.")]
    gallery_id: Annotated[str | None, Meta(description="Of the gallery; null where none was searched.")]
    gallery_state: Annotated[
        str | None,
        Meta(description="Identifies the gallery's content when the search began; changes with every change."),
    ]
    version: Annotated[str, Meta(description="Of sonoseek.")]
    created: Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$", description="UTC.")]


def report_schema() -> dict[str, Any]:
    """The published JSON Schema (2020-12) that every JSON report satisfies."""
    schema = msgspec.json.schema(ReportDocument)
    whole = schema["$defs"].pop(ReportDocument.__name__)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:sonoseek:report:{SCHEMA_VERSION}",
        "title": f"sonoseek report, schema version {SCHEMA_VERSION}",
        **{key: value for key, value in whole.items() if key != "title"},
        "$defs": schema["$defs"],
    }
