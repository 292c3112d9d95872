"""The values that go into a gallery and come out of it."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import CaseRecord, InvalidValueError, Match, Settings
from sonoseek.gallery.deduplicate import check_duplicate_threshold
from sonoseek.gallery.exact import Nearest, nearest_distance, percentile

Mode = Literal["r", "w"]
Index = Literal["auto", "exact", "ivf"]
"""How a gallery searches. "exact": a matrix product with every scan. "ivf": an inverted file of quantised vectors, its
best hits ranked again exactly. "auto": by size."""
CaseKey = tuple[str, str]
"""(dataset, case_id)."""
UNKNOWN = "unknown"
"""Key of `GalleryInfo`'s tallies under which scans without a value are counted."""

MAX_DIMENSION = 1 << 16
"""Numbers per embedding."""
LARGEST_PICTURE = 4 << 20
"""Bytes. A picture of 512 × 512 pixels has some 100 kB."""
LARGEST_EVIDENCE = 32 << 20
"""Bytes. A scan's evidence has some 15 kB."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GalleryEntry:
    """One scan of one case, as the gallery keeps it.

    Attributes:
        record: what is known about the case; a `Case` may be given, its pixels are not kept.
        scan_id: content hash of the pixels (`Scan.scan_id`). Two cases may own the same pixels: an entry is known by
            scan_id, dataset and case_id together.
        embedding: float32 (D,), finite, not all zero, not normalised. Kept as float16 times a power of two: each
            number comes back within 2⁻¹¹ of its size (or 6e-8 of the largest number's).
        picture: JPEG of the scan (`encode_picture`), or None.
        evidence: the scan's evidence map, packed (`sonoseek.encoder.pack_evidence`), or None: then a match
            with it cannot be explained on its own pixels.
        scan_shape: (H, W) of the scan in pixels.
        spacing_mm: (row, column) in millimetres, or None.
        laterality: the breast: "left", "right" or None.
        view: which picture of the lesion it is, as its archive names it, or None.
        source: where the scan came from, for people.
        fingerprint: of the case's files when they were read (`Dataset.fingerprint`); "" when unknown. A build that
            continues skips cases whose fingerprint has not changed.
    """

    record: CaseRecord
    scan_id: str
    embedding: NDArray[np.float32]
    picture: bytes | None = field(default=None, repr=False)
    evidence: bytes | None = field(default=None, repr=False)
    scan_shape: tuple[int, int]
    spacing_mm: tuple[float, float] | None = None
    laterality: str | None = None
    view: str | None = None
    source: str = ""
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if not self.scan_id:
            raise InvalidValueError("scan_id is empty; it is the content hash of the scan. Pass Scan.scan_id.")
        if self.laterality not in (None, "left", "right"):
            raise InvalidValueError(f"laterality is {self.laterality!r}; it must be 'left', 'right' or None.")
        if min(self.scan_shape) < 1:
            raise InvalidValueError(f"scan_shape is {self.scan_shape}; it must be (H, W) in pixels. Pass Scan.shape.")
        check_scan_size(self.scan_shape)
        for name, value, largest in (
            ("picture", self.picture, LARGEST_PICTURE),
            ("evidence", self.evidence, LARGEST_EVIDENCE),
        ):
            if value is not None and len(value) > largest:
                raise InvalidValueError(f"{name} has {len(value):,} bytes; a gallery keeps at most {largest:,}.")
        if self.picture is not None and not self.picture.startswith(b"\xff\xd8"):
            raise InvalidValueError("picture is no JPEG; make it with sonoseek.gallery.encode_picture, or pass None.")
        embedding = check_embedding(self.embedding)
        if embedding.flags.writeable:
            embedding = embedding.copy()
            embedding.flags.writeable = False
        object.__setattr__(self, "embedding", embedding)


def check_scan_size(shape: tuple[int, int]) -> None:
    """Refuse a scan that is larger than those that are read: heatmaps and pictures are made in its size.

    Raises:
        InvalidValueError: more than `SONOSEEK_MAX_MEGAPIXELS`.
    """
    pixels = shape[0] * shape[1]
    if pixels > Settings.max_megapixels * 1e6 and pixels > Settings.from_environment().max_megapixels * 1e6:
        raise InvalidValueError(
            f"scan_shape is {shape[0]} × {shape[1]}; at most {Settings.from_environment().max_megapixels:g} megapixels "
            "are read. If it is sound, raise SONOSEEK_MAX_MEGAPIXELS."
        )


def check_embedding(embedding: Any, *, dimension: int | None = None) -> NDArray[np.float32]:
    """An embedding as float32 (D,).

    Raises:
        InvalidValueError: not one vector of real numbers, of another length than `dimension`, with NaN or infinity, or
            all zero (it has no direction, so no cosine).
    """
    if not isinstance(embedding, np.ndarray) or embedding.ndim != 1 or embedding.dtype.kind != "f":
        given = f"{getattr(embedding, 'dtype', type(embedding).__name__)} {getattr(embedding, 'shape', '')}"
        raise InvalidValueError(f"the embedding is {given}; it must be float32 (D,). Pass Encoding.embedding[i].")
    if dimension is not None and embedding.shape[0] != dimension:
        raise InvalidValueError(
            f"the embedding has {embedding.shape[0]} numbers, the gallery holds {dimension} per scan. "
            "Ask with the bundle that filled the gallery."
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused just below
        vector: NDArray[np.float32] = embedding.astype(np.float32, copy=False)
    if not np.isfinite(vector).all() or not vector.any():
        raise InvalidValueError(
            "the embedding holds NaN or infinity, or is all zero; it must be finite and point somewhere. "
            "Check the scan and the bundle that made it."
        )
    return vector


def check_embeddings(embeddings: Any, *, dimension: int) -> NDArray[np.float32]:
    """Several embeddings as float32 (Q, D); Q may be 0.

    Raises:
        InvalidValueError: not a matrix, or one of them as in `check_embedding`.
    """
    if not isinstance(embeddings, np.ndarray) or embeddings.ndim != 2 or embeddings.dtype.kind != "f":
        given = f"{getattr(embeddings, 'dtype', type(embeddings).__name__)} {getattr(embeddings, 'shape', '')}"
        raise InvalidValueError(f"the embeddings are {given}; they must be float32 (Q, D). Pass Encoding.embedding.")
    checked = [check_embedding(row, dimension=dimension) for row in embeddings]
    return np.stack(checked) if checked else np.empty((0, dimension), np.float32)


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """Scans that must not answer.

    Attributes:
        scan_ids: these pixels, in whichever cases.
        patients: (dataset, patient_id): every scan of these patients.
        groups: (dataset, group): every scan of these groups.
    """

    scan_ids: tuple[str, ...] = ()
    patients: tuple[tuple[str, str], ...] = ()
    groups: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.scan_ids or self.patients or self.groups)

    def __or__(self, other: Exclusion) -> Exclusion:
        return Exclusion(
            scan_ids=tuple(dict.fromkeys(self.scan_ids + other.scan_ids)),
            patients=tuple(dict.fromkeys(self.patients + other.patients)),
            groups=tuple(dict.fromkeys(self.groups + other.groups)),
        )


class VectorSearchKeywords(TypedDict, total=False):
    """`VectorSearch` as keyword arguments."""

    k: int
    where: str | None
    exclude: Exclusion | None
    novelty: bool
    pictures: bool
    per_patient: bool
    duplicate_threshold: float | None


@dataclass(frozen=True, kw_only=True)
class VectorSearch:
    """Options of `Gallery.search`, checked.

    Attributes:
        k: at most this many; fewer only when fewer scans pass `where` and `exclude`. 0 for novelty alone.
        where: filter; the language is described in `sonoseek.gallery.filter.grammar`. None for no filter.
        exclude: scans to leave out; see `Gallery.exclusion_for`.
        novelty: also compute the novelty; every scan is compared, even under a narrow filter.
        pictures: put each match's picture into it.
        per_patient: only the best scan of those that share a case, a patient or a group with each other.
        duplicate_threshold: a cosine, above 0 and at most 1: a scan at least this similar to a better one is a
            near-duplicate of it and no match itself. None: near-duplicates are matches like any other.
            `Match.near_duplicates` and `Match.same_patient` count what `per_patient` and this left out; see
            `sonoseek.gallery.deduplicate` for the rule.

    Raises:
        InvalidValueError: k below 0, or a duplicate_threshold that is no cosine.
    """

    k: int = 10
    where: str | None = None
    exclude: Exclusion | None = None
    novelty: bool = True
    pictures: bool = True
    per_patient: bool = False
    duplicate_threshold: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", operator.index(self.k))
        if self.k < 0:
            raise InvalidValueError(f"k is {self.k}; it is the number of matches, 0 or more.")
        check_duplicate_threshold(self.duplicate_threshold)

    @property
    def deduplicates(self) -> bool:
        """Whether some hits are counted behind others; else every hit is a match."""
        return self.per_patient or self.duplicate_threshold is not None


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The result of one search.

    Attributes:
        matches: best first; equal similarities in the order of scan_id, dataset, case_id.
        nearest: distance, 1 − cosine, to the nearest scan of the whole gallery that is not excluded, whatever `where`
            says; None when there is none, or when novelty was not asked for.
        novelty: percentile, 0 … 100, of the distance to the query's nearest scan among the gallery's reference
            nearest-neighbour distances. These are the distances of a sample of its scans, each to the nearest scan of
            another case, patient and group. Near 100 means "unlike anything in the archive". Near-duplicates, by the
            gallery's `duplicate_threshold`, are left out on both sides: a copy in the archive does not lower it. None
            when the gallery holds fewer than 20 scans, when all of them are copies, or when novelty was not asked for.
            The reference distances may be of a state up to a tenth older than the one that was searched.
    """

    matches: tuple[Match, ...]
    nearest: float | None = None
    novelty: float | None = None


def search_result(
    matches: tuple[Match, ...], nearest: Nearest, *, reference_distances: NDArray[np.float32]
) -> SearchResult:
    """A result from the cosines of the nearest scans, and the reference nearest-neighbour distances, ascending."""
    return SearchResult(
        matches=matches,
        nearest=nearest_distance(nearest.any),
        novelty=percentile(nearest_distance(nearest.distinct), reference_distances),
    )


@dataclass(frozen=True, kw_only=True)
class AddResult:
    """How many scans an `add` added, changed, left unchanged; and removed from cases that were given whole."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0

    def __add__(self, other: AddResult) -> AddResult:
        return AddResult(
            added=self.added + other.added,
            updated=self.updated + other.updated,
            unchanged=self.unchanged + other.unchanged,
            removed=self.removed + other.removed,
        )


@dataclass(frozen=True, kw_only=True)
class RemoveResult:
    """How many scans a `remove` removed, and which requested ones did not exist."""

    removed: int = 0
    missing_scan_ids: tuple[str, ...] = ()
    missing_cases: tuple[CaseKey, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GalleryInfo:
    """What a gallery holds.

    Attributes:
        gallery_id: uuid, stable for the life of the gallery.
        engine: name in `ENGINES`.
        location: file or address.
        bundle_id: of the network that made the embeddings.
        dimension: numbers per embedding.
        scans, cases: how many.
        by_label, by_dataset, by_device, by_birads: scans per value, most first (BI-RADS in clinical order); those
            without a value under "unknown".
        bytes: of the stored data on disk.
        cache_bytes: what can be rebuilt.
        index: how it is searched, in words: "exact", or the kind, its numbers and its measured recall.
        schema_version: of the gallery.
        sonoseek_version: that created it.
        created: UTC.
    """

    gallery_id: str
    engine: str
    location: str
    bundle_id: str
    dimension: int
    scans: int
    cases: int
    by_label: Mapping[str, int]
    by_dataset: Mapping[str, int]
    by_device: Mapping[str, int]
    by_birads: Mapping[str, int]
    bytes: int
    cache_bytes: int
    index: str
    schema_version: int
    sonoseek_version: str
    created: datetime
