"""What every gallery can do, and the values that go in and out.

An engine (SQLite, Milvus) is one file beside this one, listed in `ENGINES`; the same test suite runs over each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import CaseRecord, InvalidValueError, Match

Mode = Literal["r", "w"]
Index = Literal["auto", "exact", "ivf"]
"""How a gallery searches. "exact": a matrix product with every scan. "ivf": an inverted file of quantised vectors, its
best hits ranked again exactly. "auto": by size."""
CaseKey = tuple[str, str]
"""(dataset, case_id)."""
UNKNOWN = "unknown"
"""Key of `GalleryInfo`'s tallies under which scans without a value are counted."""


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
        evidence: what the network said of the scan, packed (`sonoseek.encoder.pack_evidence`), or None: then a match
            with it cannot be explained on its own pixels.
        scan_shape: (H, W) of the scan in pixels.
        spacing_mm: (row, column) in millimetres, or None.
        laterality: "left", "right" or None.
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
    source: str = ""
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if not self.scan_id:
            raise InvalidValueError("scan_id is empty; it is the content hash of the scan. Pass Scan.scan_id.")
        if self.laterality not in (None, "left", "right"):
            raise InvalidValueError(f"laterality is {self.laterality!r}; it must be 'left', 'right' or None.")
        if min(self.scan_shape) < 1:
            raise InvalidValueError(f"scan_shape is {self.scan_shape}; it must be (H, W) in pixels. Pass Scan.shape.")
        if self.picture is not None and not self.picture.startswith(b"\xff\xd8"):
            raise InvalidValueError("picture is no JPEG; make it with sonoseek.gallery.encode_picture, or pass None.")
        embedding = check_embedding(self.embedding)
        if embedding.flags.writeable:
            embedding = embedding.copy()
            embedding.flags.writeable = False
        object.__setattr__(self, "embedding", embedding)


def check_embedding(embedding: Any, *, dimension: int | None = None) -> NDArray[np.float32]:
    """An embedding as float32 (D,).

    Raises:
        InvalidValueError: not one vector of real numbers, of another length than `dimension`, with NaN or infinity, or
            all zero (it has no direction, so no cosine).
    """
    if not isinstance(embedding, np.ndarray) or embedding.ndim != 1 or embedding.dtype.kind != "f":
        found = f"{getattr(embedding, 'dtype', type(embedding).__name__)} {getattr(embedding, 'shape', '')}"
        raise InvalidValueError(f"the embedding is {found}; it must be float32 (D,). Pass Encoding.embedding[i].")
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
        found = f"{getattr(embeddings, 'dtype', type(embeddings).__name__)} {getattr(embeddings, 'shape', '')}"
        raise InvalidValueError(f"the embeddings are {found}; they must be float32 (Q, D). Pass Encoding.embedding.")
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


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What one search found.

    Attributes:
        matches: best first; equal similarities in the order of scan_id, dataset, case_id.
        nearest: distance, 1 − cosine, to the nearest scan of the whole gallery that is not excluded, whatever `where`
            says; None when there is none, or when novelty was not asked for.
        novelty: share in percent, 0 … 100, of the gallery's own nearest-neighbour distances (same scan, case, patient
            and group left out) that are smaller than `nearest`; near 100 means "unlike anything in the archive". None
            when the gallery holds fewer than 20 scans, or when novelty was not asked for. The gallery's own distances
            are a sample, and may be of a state up to a tenth older than the one that was searched.
    """

    matches: tuple[Match, ...]
    nearest: float | None = None
    novelty: float | None = None


@dataclass(frozen=True, kw_only=True)
class AddResult:
    """How many scans an `add` added, changed, found unchanged; and removed from cases that were given whole."""

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
    """How many scans a `remove` removed, and which of the things asked for were not there."""

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
        bytes: the truth on disk.
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

    def __post_init__(self) -> None:
        for name in ("by_label", "by_dataset", "by_device", "by_birads"):
            object.__setattr__(self, name, dict(getattr(self, name)))


class Gallery(Protocol):
    """Cases and their embeddings, searchable. Safe to use from several threads.

    Every method raises `GalleryError` when the gallery is damaged or closed and `TemporaryError` when trying again is
    sensible; writing methods raise `GalleryError` when the gallery is open for reading.
    """

    @property
    def gallery_id(self) -> str:
        """Uuid, stable for the life of the gallery."""
        ...

    @property
    def bundle_id(self) -> str:
        """Of the network that made the embeddings."""
        ...

    @property
    def dimension(self) -> int:
        """Numbers per embedding."""
        ...

    @property
    def location(self) -> str:
        """File or address, for people."""
        ...

    def add(self, entries: Iterable[GalleryEntry], *, whole_cases: bool = False) -> AddResult:
        """Add new entries and update known ones; all of them or none. When it returns, they are safe on disk.

        On Milvus "all or none" holds for what can be refused beforehand; a server lost in the middle keeps some, and
        adding the same again completes them.

        Args:
            entries: read to the end before anything is written. All entries of a case must carry the same record.
            whole_cases: what is given of a case is all there is: its other scans are removed in the same step. For a
                case whose files have changed.

        Raises:
            InvalidValueError: an entry that cannot be kept; nothing was written.
        """
        ...

    def remove(self, *, scan_ids: Iterable[str] = (), cases: Iterable[CaseKey] = ()) -> RemoveResult:
        """Remove these pixels from whichever cases own them, and these cases; all or none, safe when it returns."""
        ...

    def get(self, scan_id: str) -> GalleryEntry | None:
        """The entry of these pixels; the first by dataset and case_id where two cases own them; None if not here."""
        ...

    def entries(
        self,
        *,
        scan_ids: Iterable[str] = (),
        cases: Iterable[CaseKey] = (),
        pictures: bool = True,
        evidence: bool = True,
    ) -> tuple[GalleryEntry, ...]:
        """Every entry of these pixels and of these cases, by dataset, case_id, scan_id; what is missing is skipped.

        Without `pictures`, or without `evidence`, entries carry None in place of theirs, and are read faster.
        """
        ...

    def count(self) -> int:
        """How many scans it holds."""
        ...

    def state(self) -> str:
        """Names the present state: the same until something is written, then another; for links and caches."""
        ...

    def sample(
        self, count: int, *, seed: int = 0, pictures: bool = False, evidence: bool = False
    ) -> tuple[GalleryEntry, ...]:
        """Entries drawn at random, by dataset, case_id, scan_id; all of them where there are fewer than `count`."""
        ...

    def __iter__(self) -> Iterator[GalleryEntry]:
        """Every entry as it was when the iteration began, by dataset, case_id, scan_id.

        On Milvus: the entries that were there when it began, less those removed since, each as it is at its turn.
        """
        ...

    def search(
        self,
        embedding: NDArray[np.float32],
        *,
        k: int = 10,
        where: str | None = None,
        exclude: Exclusion | None = None,
        novelty: bool = True,
        pictures: bool = True,
        per_patient: bool = False,
        fold: float | None = None,
    ) -> SearchResult:
        """The `k` most similar scans, by cosine; each one's similarity is exact, however it was found.

        Args:
            embedding: float32 (D,), of the same bundle.
            k: at most this many; fewer only when fewer scans pass `where` and `exclude`. 0 for novelty alone.
            where: filter; the language is described in `sonoseek.gallery.where`. None for no filter.
            exclude: what must not answer; see `exclusion_for`.
            novelty: also say how unusual the query is; costs a look at every scan even under a narrow filter.
            pictures: put each match's picture into it.
            per_patient: one match per patient, the best; where no patient is named, per group, else per case.
            fold: a cosine, 0 … 1: a scan at least this similar to a better match stands behind it and is not one
                itself. None: near-copies are matches like any other. `Match.folded` counts what stands behind.

        Raises:
            InvalidValueError: a wrong embedding, k or fold.
            WhereError: a filter that does not parse.
        """
        ...

    def search_many(
        self,
        embeddings: NDArray[np.float32],
        *,
        k: int = 10,
        where: str | None = None,
        exclude: Exclusion | None = None,
        novelty: bool = True,
        pictures: bool = True,
        per_patient: bool = False,
        fold: float | None = None,
    ) -> tuple[SearchResult, ...]:
        """Several searches at once, in one state of the gallery: what `search` finds for each, faster.

        Args:
            embeddings: float32 (Q, D), of the same bundle; Q may be 0.
            k: as in `search`, and the same for all; so are the rest.
            where: as in `search`.
            exclude: as in `search`.
            novelty: as in `search`.
            pictures: as in `search`.
            per_patient: as in `search`.
            fold: as in `search`.

        Raises:
            InvalidValueError, WhereError: as in `search`.
        """
        ...

    def novelty(self, embedding: NDArray[np.float32], *, exclude: Exclusion | None = None) -> float | None:
        """`SearchResult.novelty` alone."""
        ...

    def exclusion_for(self, scan_id: str, *, patient_id: str | None = None) -> Exclusion:
        """The scan itself and, for every case that owns it, that case's patient and group.

        Args:
            scan_id: of the scan that asks; it need not be in the gallery.
            patient_id: of the scan that asks, if it says: patients of this name are left out too, in every dataset.
        """
        ...

    def words(self) -> dict[str, dict[str, int]]:
        """How often its scans' BI-RADS descriptors occur: feature → word → scans; under "": described for it at all."""
        ...

    def fingerprints(self, dataset: str) -> dict[str, str]:
        """case_id → fingerprint of the dataset's cases whose scans all carry the same non-empty one."""
        ...

    def info(self) -> GalleryInfo:
        """What it holds."""
        ...

    def verify(self, *, on_progress: Callable[[int, int], None] | None = None) -> tuple[str, ...]:
        """Read everything and list what is wrong, as sentences; () when all is well. Damage is listed, not raised."""
        ...

    def snapshot(self, location: str | Path) -> None:
        """Copy one state of the whole gallery into a new SQLite gallery, while others read and write on.

        The copy carries the same gallery_id. It appears whole or not at all, and is safe on disk when this returns.

        Args:
            location: folder or file, as in `open_gallery`; nothing may be there yet.

        Raises:
            GalleryError: something is there, or it cannot be written.
        """
        ...

    def refresh(self) -> None:
        """Bring what searches use up to the present, so that the next search need not."""
        ...

    def optimise(self) -> None:
        """Give back free space, refresh statistics and rebuild what searches use."""
        ...

    def close(self) -> None:
        """Let go of files and connections. Closing twice is fine."""
        ...

    def __enter__(self) -> Self:
        """For `with open_gallery(...) as gallery:`."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close."""
        ...
