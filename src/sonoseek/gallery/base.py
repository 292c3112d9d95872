"""What every gallery can do.

An engine (SQLite, Milvus) is one folder beside this file, listed in `ENGINES`; the same test suite runs over each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import BundleMismatchError, ExcludedCounts, GalleryError, InvalidValueError
from sonoseek.core.patients import PatientShare
from sonoseek.gallery.deduplicate import check_duplicate_threshold
from sonoseek.gallery.exact import normalised
from sonoseek.gallery.values import (
    MAX_DIMENSION,
    AddResult,
    CaseKey,
    Exclusion,
    GalleryEntry,
    GalleryInfo,
    Mode,
    RemoveResult,
    SearchResult,
    VectorSearch,
    VectorSearchKeywords,
    check_embedding,
    check_embeddings,
)

Computed = TypeVar("Computed")


class Gallery(ABC):
    """Cases and their embeddings, searchable. Safe to use from several threads.

    Every method raises `GalleryError` when the gallery is damaged or closed and `TemporaryError` when trying again is
    sensible; writing methods raise `GalleryError` when the gallery is open for reading.

    Attributes:
        gallery_id: uuid, stable for the life of the gallery.
        bundle_id: of the network that made the embeddings.
        dimension: numbers per embedding.
        duplicate_threshold: cosine from which on novelty takes two scans for near-duplicates, set when the gallery was
            created; None: never.
        location: file or address, for people.
        site_key: fingerprint of the site key that its pseudonyms were made with, as when it was opened; None: it has no
            such pseudonyms.
    """

    def __init__(self, *, location: str, mode: Mode, meta: Mapping[str, Any]) -> None:
        """Take the gallery's description.

        Args:
            location: file or address, for people.
            mode: "r" to search, "w" to change it as well.
            meta: gallery_id, bundle_id, dimension and, where there is one, duplicate_threshold, as they are stored.

        Raises:
            GalleryError: the description is incomplete.
        """
        self.location = location
        self._mode: Mode = mode
        self._computed: dict[str, tuple[str, Any]] = {}
        try:
            self.gallery_id = str(meta["gallery_id"])
            self.bundle_id = str(meta["bundle_id"])
            self.dimension = int(meta["dimension"])
            if not 1 <= self.dimension <= MAX_DIMENSION:
                raise ValueError(f"dimension is {self.dimension}; it lies in 1 … {MAX_DIMENSION:,}")  # noqa: TRY301
            threshold = meta.get("duplicate_threshold")
            self.duplicate_threshold = None if threshold is None else float(threshold)
            self.site_key: str | None = meta.get("site_key")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise undescribed(location, error) from error

    # Writing

    @abstractmethod
    def add(self, entries: Iterable[GalleryEntry], *, whole_cases: bool = False) -> AddResult:
        """Add new entries and update known ones; all of them or none. When it returns, they are safe on disk.

        On Milvus "all or none" holds for what can be refused beforehand; a server lost in the middle keeps some, and
        adding the same again completes them.

        Args:
            entries: read to the end before anything is written. All entries of a case must have the same record.
            whole_cases: what is given of a case is all there is: its other scans are removed in the same step. For a
                case whose files have changed.

        Raises:
            InvalidValueError: an entry that cannot be stored; nothing was written.
        """

    @abstractmethod
    def remove(self, *, scan_ids: Iterable[str] = (), cases: Iterable[CaseKey] = ()) -> RemoveResult:
        """Remove these pixels from whichever cases own them, and these cases; all or none, safe when it returns."""

    @abstractmethod
    def store_site_key(self, fingerprint: str) -> None:
        """Store which site key its pseudonyms are made with; raises SiteKeyError where another one is stored."""

    @abstractmethod
    def replace_unkeyed(self, keyed: Callable[[str], str], *, fingerprint: str) -> int:
        """See `sonoseek.gallery.pseudonyms.rekey`."""

    @abstractmethod
    def count_unkeyed(self) -> int:
        """How many cases have a pseudonym from before there was a site key."""

    @abstractmethod
    def refresh(self) -> None:
        """Bring what searches use up to the present, so that the next search need not."""

    @abstractmethod
    def optimise(self) -> None:
        """Give back free space, refresh statistics and rebuild what searches use."""

    @abstractmethod
    def copy_to(self, location: str | Path) -> None:
        """Copy one state of the whole gallery into a new SQLite gallery, while others read and write on.

        The copy has the same gallery_id. It appears whole or not at all, and is flushed to disk when this returns.

        Args:
            location: folder or file, as in `open_gallery`; nothing may be there yet.

        Raises:
            GalleryError: something is there, or it cannot be written.
        """

    # Reading

    def snapshot(self) -> AbstractContextManager[Gallery]:
        """One state of the gallery to read from, whatever is written meanwhile; for several reads that belong together.

        Yields:
            A gallery, open for reading, to be used in one thread and within the block. On Milvus, which has no
            transaction over several requests: the gallery itself, so that later reads may see later writes.
        """
        return nullcontext(self)

    def get(self, scan_id: str) -> GalleryEntry | None:
        """The entry of these pixels; the first by dataset and case_id where two cases own them; None if not here."""
        entries = self.entries(scan_ids=[scan_id])
        return entries[0] if entries else None

    @abstractmethod
    def entries(
        self,
        *,
        scan_ids: Iterable[str] = (),
        cases: Iterable[CaseKey] = (),
        pictures: bool = True,
        evidence: bool = True,
    ) -> tuple[GalleryEntry, ...]:
        """Every entry of these pixels and of these cases, by dataset, case_id, scan_id; what is missing is skipped.

        Without `pictures`, or without `evidence`, entries have None in place of theirs, and are read faster.
        """

    @abstractmethod
    def count(self) -> int:
        """How many scans it holds."""

    @abstractmethod
    def state(self) -> str:
        """Names the present state: the same until something is written, then another; for links and caches."""

    @abstractmethod
    def sample(
        self, count: int, *, seed: int = 0, pictures: bool = False, evidence: bool = False
    ) -> tuple[GalleryEntry, ...]:
        """Entries drawn at random, by dataset, case_id, scan_id; all of them where there are fewer than `count`."""

    @abstractmethod
    def __iter__(self) -> Iterator[GalleryEntry]:
        """Every entry as it was when the iteration began, by dataset, case_id, scan_id.

        On Milvus: the entries that were there when it began, less those removed since, each as it is at its turn.
        """

    @abstractmethod
    def descriptor_counts(self) -> dict[str, dict[str, int]]:
        """Scans per BI-RADS descriptor: feature → descriptor → scans; under "": scans described for the feature."""

    @abstractmethod
    def fingerprints(self, dataset: str) -> dict[str, str]:
        """case_id → fingerprint of the dataset's cases whose scans all have the same non-empty one."""

    @abstractmethod
    def exclusion_for(self, scan_id: str, *, patient_id: str | None = None) -> Exclusion:
        """The scan itself and, for every case that owns it, that case's patient and group.

        Args:
            scan_id: of the query scan; it need not be in the gallery.
            patient_id: of the query scan, if known: patients of this name are left out too, in every dataset.
        """

    @abstractmethod
    def count_excluded(self, exclusion: Exclusion) -> ExcludedCounts:
        """How many scans an exclusion leaves out of a search, by reason."""

    @abstractmethod
    def info(self) -> GalleryInfo:
        """What it holds."""

    @abstractmethod
    def largest_patients(self) -> tuple[PatientShare, ...]:
        """The patient with the most cases of each dataset, largest first; without datasets that name no patient."""

    @abstractmethod
    def verify(self, *, on_progress: Callable[[int, int], None] | None = None) -> tuple[str, ...]:
        """Read everything and list what is wrong, as sentences; () when all is well. Damage is listed, not raised."""

    # Search

    def search(self, embedding: NDArray[np.float32], **options: Unpack[VectorSearchKeywords]) -> SearchResult:
        """The `k` most similar scans, by cosine; each one's similarity is exact.

        Args:
            embedding: float32 (D,), of the same bundle.
            options: fields of `VectorSearch`: `gallery.search(embedding, k=5)`.

        Raises:
            InvalidValueError: a wrong embedding, k or duplicate_threshold.
            WhereError: a filter that does not parse.
        """
        query = check_embedding(embedding, dimension=self.dimension)
        (result,) = self.search_many(query[np.newaxis], **options)
        return result

    def search_many(
        self, embeddings: NDArray[np.float32], **options: Unpack[VectorSearchKeywords]
    ) -> tuple[SearchResult, ...]:
        """Several searches at once, in one state of the gallery: what `search` finds for each, faster.

        Args:
            embeddings: float32 (Q, D), of the same bundle; Q may be 0.
            options: as in `search`, the same for all.

        Raises:
            InvalidValueError, WhereError: as in `search`.
        """
        queries = normalised(check_embeddings(embeddings, dimension=self.dimension))
        return self._search(queries, VectorSearch(**options))

    def novelty(self, embedding: NDArray[np.float32], *, exclude: Exclusion | None = None) -> float | None:
        """`SearchResult.novelty` alone."""
        return self.search(embedding, k=0, exclude=exclude).novelty

    @abstractmethod
    def _search(self, queries: NDArray[np.float32], options: VectorSearch) -> tuple[SearchResult, ...]:
        """`search_many` of checked queries: float32 (Q, D), of length 1."""

    # Checks, and the end

    def check_bundle(self, bundle_id: str) -> None:
        """Refuse another bundle than the one that filled the gallery.

        Raises:
            BundleMismatchError: it is another.
        """
        if self.bundle_id != bundle_id:
            raise BundleMismatchError(
                f"the gallery {self.location} was filled by bundle {self.bundle_id!r}, not by {bundle_id!r}; "
                "embeddings of two bundles cannot be compared. Use the bundle that filled the gallery (--bundle), or "
                "build the gallery again with this one."
            )

    def _check_created(self, *, bundle_id: str, dimension: int) -> Self:
        """This gallery, which was to be created; closed, if it was there before and is of another bundle.

        Raises:
            BundleMismatchError: it was filled by another bundle, or holds embeddings of another dimension.
        """
        if (self.bundle_id, self.dimension) != (bundle_id, dimension):
            self.close()
            raise BundleMismatchError(
                f"{self.location} was filled by bundle {self.bundle_id}, dimension {self.dimension}; asked for "
                f"{bundle_id}, {dimension}. Embeddings of two bundles cannot be compared: continue with that bundle, "
                "or build another gallery."
            )
        return self

    def _check_writable(self) -> None:
        if self._mode != "w":
            raise GalleryError(f"{self.location} is open for reading. Open it with mode 'w' to change it.")

    def _once_per_state(self, name: str, state: str, compute: Callable[[], Computed]) -> Computed:
        """What `compute` returns, computed again only when the gallery has another state."""
        cached = self._computed.get(name)
        if cached is None or cached[0] != state:
            cached = self._computed[name] = state, compute()
        value: Computed = cached[1]
        return value

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections. Closing twice is fine."""

    def __enter__(self) -> Self:
        """For `with open_gallery(...) as gallery:`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close."""
        self.close()


def check_new_gallery(*, bundle_id: str, dimension: int, duplicate_threshold: float | None) -> None:
    """Refuse what no gallery can be created with.

    Raises:
        InvalidValueError: an empty bundle_id, a dimension below 1, or a threshold that is no cosine.
    """
    if not bundle_id or not 1 <= dimension <= MAX_DIMENSION:
        raise InvalidValueError(
            f"bundle_id={bundle_id!r}, dimension={dimension}; a gallery needs a named bundle and 1 … {MAX_DIMENSION:,} "
            "numbers per embedding. Pass Bundle.bundle_id and Bundle.embedding_dim."
        )
    check_duplicate_threshold(duplicate_threshold)


def undescribed(location: str, error: Exception) -> GalleryError:
    """The error of a gallery whose description is lost or does not read."""
    return GalleryError(
        f"{location} lacks its own description ({error}); it is damaged. Restore it from a copy, or build it anew."
    )
