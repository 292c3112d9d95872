"""Response models of the REST API: FastAPI derives the OpenAPI document from them, and the page its types."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from sonoseek.batch import JobKind, JobState

Label = Literal["normal", "benign", "malignant"]
Pair = Annotated[list[float], Field(min_length=2, max_length=2)]


class BoxModel(BaseModel):
    """A half-open rectangle: rows top ≤ r < bottom, columns left ≤ c < right, in pixels."""

    top: float
    left: float
    bottom: float
    right: float


class Upload(BaseModel):
    """An uploaded file: sha256 of its bytes, its name, its size and the number of pictures in it."""

    upload_id: str
    name: str
    bytes: int
    frames: int


class FramePrediction(BaseModel):
    """The prediction of one frame of a loop, 0-based; `refused`: why it has none."""

    frame: int
    malignant: float | None = None
    headline: str = ""
    out_of_distribution: bool = False
    refused: str | None = None


class FrameEnd(BaseModel):
    """How many frames were read, of how many, and which has the highest likelihood of malignancy."""

    frames: int
    of: int
    highest: int | None


class JobOptions(BaseModel):
    """Options of a batch job's queries; `extend` is of an index job."""

    k: int | None = None
    where: str | None = None
    per_patient: bool | None = None
    deduplicate: bool | None = None
    extend: bool | None = None


class OpenedRow(Upload):
    """The upload of a row's scan, and the options to query it with."""

    options: JobOptions


class Preprocessing(BaseModel):
    """How a view was preprocessed.

    Attributes:
        crop: the scan area, in pixels of the scan; `manual_crop`: drawn by the reader.
        canvas: side of the model input, pixels; `content`: where the scan lies on it.
        burned_in_annotations: share of the scan that was painted over, 0 … 1.
        archived: the archive has the embedding but not the pixels.
    """

    crop: BoxModel
    manual_crop: bool
    canvas: int
    content: BoxModel
    burned_in_annotations: float
    archived: bool
    warnings: list[str]


class ViewText(BaseModel):
    """Name, size and headline of a further view."""

    name: str
    size: str
    headline: str


class ReportText(BaseModel):
    """The report in the sentences that every format shares; an empty one does not apply."""

    headline: str
    short_headline: str
    tone: Literal["normal", "benign", "malignant", "unsure"]
    likeliest: str
    prediction_set: str
    thresholds: str
    calibration: str
    similar_cases: str
    filtered: str
    left_out: str
    no_matches: str
    novelty: str
    size: str
    contour: str | None
    shared_descriptors: list[str]
    region: str | None
    crop: str | None
    lesion: str | None
    refined: str | None
    titles: list[str]
    preprocessing: list[Preprocessing]
    name: str
    frames: int
    frame: int
    views: list[ViewText]


class ProjectedPoint(BaseModel):
    """A scan in the archive's projection."""

    x: float
    y: float
    state: str


class About(BaseModel):
    """Versions, bundle and archive, and the server's limits."""

    disclaimer: str
    signed_in: bool = Field(description="By a session, which `DELETE /api/session` ends.")
    version: str
    bundle_id: str
    classes: list[str]
    reads_marks: bool
    calibration: str
    abstain_below: float
    gallery_id: str
    gallery_state: str
    scans: int
    cases: int
    writable: bool
    folders: bool
    worklist: bool = Field(description="Whether the server shows the studies of a listener beside a PACS.")
    max_upload_bytes: int
    max_batch_bytes: int
    max_k: int
    max_views: int
    cache_minutes: float
    batch_retention_hours: float


class WorklistDecision(BaseModel):
    """A reader's decision on a study's result; `corrected`: the class that the reader states instead, or null."""

    reader: str
    decided: float = Field(description="Seconds since 1970.")
    corrected: Label | None


class WorklistStudy(BaseModel):
    """A received study and how far it is.

    `study_date` is DICOM's (YYYYMMDD). `malignant`, `picture` (from 0) and `frame` (from 0) are of the frame with the
    highest likelihood of malignancy, null before the study was queried. `received` and `queried`: seconds since 1970.
    """

    study_uid: str
    patient_id: str
    patient_name: str
    accession: str
    study_date: str
    state: Literal["waiting", "querying", "queried", "sent", "committed", "failed", "alarm"]
    pictures: int
    received: float
    queried: float | None
    malignant: float | None
    picture: int | None
    frame: int | None
    message: str
    decision: WorklistDecision | None


class WorklistPage(BaseModel):
    """The newest studies, and how many there are in each state."""

    counts: dict[str, int]
    studies: list[WorklistStudy]


class WorklistEntry(BaseModel):
    """One study, which of its pictures are still here, and other studies of its patient."""

    study: WorklistStudy
    available: list[bool]
    priors: list[WorklistStudy]


class Archive(BaseModel):
    """Counts of the archive's scans, and how it is searched."""

    gallery_id: str
    gallery_state: str
    scans: int
    cases: int
    by_label: dict[str, int]
    by_birads: dict[str, int]
    by_device: dict[str, int]
    by_dataset: dict[str, int]
    descriptor_counts: dict[str, dict[str, int]]
    index: str
    bytes: int
    created: str


class ArchiveProjection(BaseModel):
    """The archive's scans in the plane of the first two principal components; one list per column.

    Attributes:
        total: scans of the archive; the lists hold a sample where there are too many.
        explained_variance_ratio: of x and y, 0 … 1.
        label, dataset: indices into `labels` and `datasets`.
    """

    state: str
    total: int
    explained_variance_ratio: Pair
    labels: list[Label]
    datasets: list[str]
    x: list[float]
    y: list[float]
    label: list[int]
    dataset: list[int]
    case_id: list[str]


class Descriptor(BaseModel):
    """A BI-RADS descriptor: margin, spiculated."""

    feature: str
    descriptor: str


class ArchivedScan(BaseModel):
    """A scan of a case."""

    scan_id: str
    height: int
    width: int
    spacing_mm: Pair | None
    laterality: str | None
    view: str | None
    has_picture: bool
    has_evidence: bool


class ArchivedCase(BaseModel):
    """A case of the archive, with its reference standard as `label`."""

    dataset: str
    case_id: str
    label: Label
    birads: str | None
    histology: str | None
    device: str | None
    group: str | None
    age_years: float | None
    acquired: str | None
    licence: str
    descriptors: list[Descriptor]
    scans: list[ArchivedScan]


class BatchJob(BaseModel):
    """A batch job with its progress; `openable`: its files are on the server, so that its rows can be opened."""

    job_id: str
    kind: JobKind
    state: JobState
    title: str
    total: int
    done: int
    refused: int
    seconds_left: float | None
    created: str
    started: str | None
    finished: str | None
    error: str
    summary: dict[str, Any]
    openable: bool


class RowMatch(BaseModel):
    """The most similar case of a row."""

    dataset: str
    case_id: str
    scan_id: str
    label: Label
    similarity: float


class RowOutcome(BaseModel):
    """The result of a row, see `sonoseek.batch.query.describe`; of a refused file `reference` only, if any."""

    scan_id: str | None = None
    label: Label | None = None
    likeliest: Label | None = None
    headline: str | None = None
    likelihood_of_malignancy: float | None = None
    not_ruled_out: bool | None = None
    out_of_distribution: bool | None = None
    probabilities: dict[str, float] | None = None
    prediction_set: list[Label] | None = None
    agreement: float | None = None
    novelty: float | None = None
    match: RowMatch | None = None
    calibration: str | None = None
    seen_in_training: bool | None = None
    warnings: list[str] | None = None
    reference: Label | None = None


class JobRow(BaseModel):
    """The result for one file: numbered from 1 in the order in which files were finished."""

    number: int
    name: str
    refused: str | None
    outcome: RowOutcome


class Status(BaseModel):
    """The process is alive."""

    status: str


class Readiness(Status):
    """The archive can be searched, and the network is loaded; `batch` is "working" or "in trouble"."""

    bundle_id: str
    gallery_state: str
    batch: Literal["working", "in trouble"]
