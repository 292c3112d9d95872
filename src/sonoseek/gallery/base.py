"""What every gallery can do.

An engine (SQLite, Milvus) is one file beside this one, listed in `ENGINES`; the same test suite runs over each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import ExcludedCounts
from sonoseek.core.patients import PatientShare
from sonoseek.gallery.values import (
    AddResult,
    CaseKey,
    Exclusion,
    GalleryEntry,
    GalleryInfo,
    RemoveResult,
    SearchResult,
)


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
    def duplicate_threshold(self) -> float | None:
        """Cosine from which on novelty takes two scans for near-duplicates, set when it was created; None: never."""
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
        duplicate_threshold: float | None = None,
    ) -> SearchResult:
        """The `k` most similar scans, by cosine; each one's similarity is exact, however it was found.

        Args:
            embedding: float32 (D,), of the same bundle.
            k: at most this many; fewer only when fewer scans pass `where` and `exclude`. 0 for novelty alone.
            where: filter; the language is described in `sonoseek.gallery.filter.grammar`. None for no filter.
            exclude: what must not answer; see `exclusion_for`.
            novelty: also say how unusual the query is; costs a look at every scan even under a narrow filter.
            pictures: put each match's picture into it.
            per_patient: only the best scan of those that share a case, a patient or a group with each other.
            duplicate_threshold: a cosine, above 0 and at most 1: a scan at least this similar to a better one is a
                near-duplicate of it and no match itself. None: near-duplicates are matches like any other.
                `Match.near_duplicates` and `Match.same_patient` count what `per_patient` and this left out; see
                `sonoseek.gallery.deduplicate` for the rule.

        Raises:
            InvalidValueError: a wrong embedding, k or duplicate_threshold.
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
        duplicate_threshold: float | None = None,
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
            duplicate_threshold: as in `search`.

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

    def count_excluded(self, exclusion: Exclusion) -> ExcludedCounts:
        """How many scans an exclusion leaves out of a search, by reason."""
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

    def largest_patients(self) -> tuple[PatientShare, ...]:
        """The patient with the most cases of each dataset, largest first; without datasets that name no patient."""
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
