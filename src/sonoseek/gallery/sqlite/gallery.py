"""The gallery in one SQLite file: the truth on disk, and a search cache beside it.

Readers in any number of processes and threads see one consistent state while one writer changes the next: the file is
in WAL mode, every search reads its rows in one transaction, and follows the cache from the state it was made of to the
one that the transaction sees. What `add` and `remove` acknowledge has been flushed to disk (synchronous=FULL).
"""

from __future__ import annotations

import json
import operator
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import BundleMismatchError, ExcludedCounts, GalleryError, InvalidValueError
from sonoseek.core.patients import PatientShare
from sonoseek.gallery.deduplicate import Hit, check_duplicate_threshold, deduplicate, first_fetch, lowest_cosine
from sonoseek.gallery.exact import normalised
from sonoseek.gallery.novelty_sample import drawn
from sonoseek.gallery.sqlite import rows, write
from sonoseek.gallery.sqlite.checks import describe, find_problems, largest_patients
from sonoseek.gallery.sqlite.connections import Connections
from sonoseek.gallery.sqlite.copy import copy_database
from sonoseek.gallery.sqlite.database import create_database, database_path
from sonoseek.gallery.sqlite.index import build_base, kind_for
from sonoseek.gallery.sqlite.index_files import Base, cache_files, load_base, save_base
from sonoseek.gallery.sqlite.search import SMALL, TOLERATED, Found, View
from sonoseek.gallery.sqlite.versions import count_changes, current_state, is_remembered, read_changes, record_state
from sonoseek.gallery.values import (
    AddResult,
    CaseKey,
    Exclusion,
    GalleryEntry,
    GalleryInfo,
    Index,
    Mode,
    RemoveResult,
    SearchResult,
    check_embedding,
    check_embeddings,
    search_result,
)


class SqliteGallery:
    """See `Gallery`."""

    def __init__(self, path: Path, *, mode: Mode, timeout_s: float, index: Index) -> None:
        """Open the file; callers use `open` or `create`."""
        self._path = path
        self._mode = mode
        self._index: Index = index
        self._connections = Connections(path, write=mode == "w", timeout_s=timeout_s)
        self._loading = threading.Lock()
        self._view: View | None = None
        self._tallied: dict[str, tuple[int, Any]] = {}
        try:
            with self._connections.snapshot() as connection:
                meta = dict(connection.execute("SELECT key, value FROM meta"))
            self.gallery_id: str = str(meta["gallery_id"])
            self.bundle_id: str = str(meta["bundle_id"])
            self.dimension: int = int(meta["dimension"])
            threshold = meta.get("duplicate_threshold")
            self.duplicate_threshold: float | None = None if threshold is None else float(threshold)
        except (KeyError, ValueError) as error:
            self.close()
            raise GalleryError(
                f"{path} lacks its own description ({error}); it is damaged. Restore it from a copy, or build it anew."
            ) from error
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, location: str | Path, *, mode: Mode = "r", timeout_s: float = 5.0, index: Index = "auto") -> Self:
        """See `open_gallery`."""
        return cls(database_path(location), mode=mode, timeout_s=timeout_s, index=index)

    @classmethod
    def create(
        cls,
        location: str | Path,
        *,
        bundle_id: str,
        dimension: int,
        duplicate_threshold: float | None = None,
        exist_ok: bool = False,
        timeout_s: float = 5.0,
        index: Index = "auto",
    ) -> Self:
        """See `create_gallery`."""
        path = database_path(location)
        if not (exist_ok and path.exists()):
            create_database(path, bundle_id=bundle_id, dimension=dimension, duplicate_threshold=duplicate_threshold)
        gallery = cls(path, mode="w", timeout_s=timeout_s, index=index)
        if (gallery.bundle_id, gallery.dimension) != (bundle_id, dimension):
            found = f"bundle {gallery.bundle_id}, dimension {gallery.dimension}"
            gallery.close()
            raise BundleMismatchError(
                f"{path} was filled by {found}; asked for {bundle_id}, {dimension}. Embeddings of two bundles cannot "
                "be compared: continue with that bundle, or build another gallery."
            )
        return gallery

    @property
    def location(self) -> str:
        """The file."""
        return str(self._path)

    # Writing

    def add(self, entries: Iterable[GalleryEntry], *, whole_cases: bool = False) -> AddResult:
        """See `Gallery.add`."""
        self._check_writable()
        prepared = write.prepare_entries(entries, dimension=self.dimension)
        with self._change() as (connection, seq):
            return write.write_entries(connection, prepared, whole_cases=whole_cases, seq=seq)

    def remove(self, *, scan_ids: Iterable[str] = (), cases: Iterable[CaseKey] = ()) -> RemoveResult:
        """See `Gallery.remove`."""
        self._check_writable()
        wanted_scans = list(dict.fromkeys(scan_ids))
        wanted_cases = list(dict.fromkeys((dataset, case_id) for dataset, case_id in cases))
        with self._change() as (connection, seq):
            return write.remove_rows(connection, scan_ids=wanted_scans, cases=wanted_cases, seq=seq)

    def optimise(self) -> None:
        """See `Gallery.optimise`: statistics, VACUUM, an empty log, a fresh cache, no drafts."""
        self._check_writable()
        with self._connections.writer() as connection:
            connection.execute("PRAGMA optimize")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with self._connections.snapshot() as connection, self._loading:
            self._view = None
            for file in cache_files(self._path):
                file.unlink(missing_ok=True)
            self._view = self._built(connection)

    def refresh(self) -> None:
        """See `Gallery.refresh`."""
        with self._connections.snapshot() as connection:
            self._current(connection)

    def snapshot(self, location: str | Path) -> None:
        """See `Gallery.snapshot`: SQLite's online backup."""
        with self._connections.any() as connection:
            copy_database(connection, database_path(location))

    # Reading

    def get(self, scan_id: str) -> GalleryEntry | None:
        """See `Gallery.get`."""
        with self._connections.snapshot() as connection:
            found = connection.execute(
                f"{rows.select_entries()} WHERE s.scan_id = ? {rows.ENTRY_ORDER} LIMIT 1", (scan_id,)
            ).fetchone()
            return None if found is None else rows.read_entry(found)

    def entries(
        self,
        *,
        scan_ids: Iterable[str] = (),
        cases: Iterable[CaseKey] = (),
        pictures: bool = True,
        evidence: bool = True,
    ) -> tuple[GalleryEntry, ...]:
        """See `Gallery.entries`."""
        select = rows.select_entries(pictures=pictures, evidence=evidence)
        wanted = f"WHERE s.row_id IN ({rows.SELECT_BY_SCAN} UNION {rows.SELECT_BY_CASE})"
        with self._connections.snapshot() as connection:
            found = connection.execute(
                f"{select} {wanted} {rows.ENTRY_ORDER}",
                (json.dumps(list(scan_ids)), json.dumps(list(cases))),
            )
            return tuple(rows.read_entry(row) for row in found)

    def count(self) -> int:
        """See `Gallery.count`."""
        with self._connections.snapshot() as connection:
            return int(connection.execute("SELECT count(*) FROM scans").fetchone()[0])

    def state(self) -> str:
        """See `Gallery.state`: the number of the state, and the beginning of its stamp."""
        with self._connections.snapshot() as connection:
            seq, stamp = current_state(connection)
        return f"{seq}-{stamp & 0xFFFFFF:06x}"

    def sample(
        self, count: int, *, seed: int = 0, pictures: bool = False, evidence: bool = False
    ) -> tuple[GalleryEntry, ...]:
        """See `Gallery.sample`."""
        select = rows.select_entries(pictures=pictures, evidence=evidence)
        with self._connections.snapshot() as connection:
            found = [number for (number,) in connection.execute("SELECT row_id FROM scans ORDER BY row_id")]
            picked = drawn(found, count, seed=seed)
            wanted = "WHERE s.row_id IN (SELECT value FROM json_each(?))"
            return tuple(
                rows.read_entry(row)
                for row in connection.execute(f"{select} {wanted} {rows.ENTRY_ORDER}", (json.dumps(picked),))
            )

    def __iter__(self) -> Iterator[GalleryEntry]:
        with self._connections.snapshot() as connection:
            for row in connection.execute(f"{rows.select_entries()} {rows.ENTRY_ORDER}"):
                yield rows.read_entry(row)

    def words(self) -> dict[str, dict[str, int]]:
        """See `Gallery.words`."""
        counted = self._remembered("words", rows.count_words)
        return {feature: dict(counts) for feature, counts in counted.items()}

    def fingerprints(self, dataset: str) -> dict[str, str]:
        """See `Gallery.fingerprints`."""
        with self._connections.snapshot() as connection:
            return dict(
                connection.execute(
                    """SELECT c.case_id, min(s.fingerprint) FROM cases c JOIN scans s USING (case_key)
                    WHERE c.dataset = ? GROUP BY c.case_key
                    HAVING min(s.fingerprint) = max(s.fingerprint) AND min(s.fingerprint) <> ''""",
                    (dataset,),
                )
            )

    def exclusion_for(self, scan_id: str, *, patient_id: str | None = None) -> Exclusion:
        """See `Gallery.exclusion_for`."""
        with self._connections.snapshot() as connection:
            owners = connection.execute(
                """SELECT c.dataset, c.patient_id, c."group" FROM scans s JOIN cases c USING (case_key)
                WHERE s.scan_id = ? ORDER BY c.dataset, c.case_id""",
                (scan_id,),
            ).fetchall()
            owners += connection.execute(
                "SELECT DISTINCT dataset, patient_id, NULL FROM cases WHERE patient_id = ? ORDER BY dataset",
                (patient_id,),
            ).fetchall()
        return Exclusion(
            scan_ids=(scan_id,),
            patients=tuple(dict.fromkeys((dataset, patient) for dataset, patient, _ in owners if patient is not None)),
            groups=tuple(dict.fromkeys((dataset, group) for dataset, _, group in owners if group is not None)),
        )

    def count_excluded(self, exclusion: Exclusion) -> ExcludedCounts:
        """See `Gallery.count_excluded`."""
        with self._connections.snapshot() as connection:
            return rows.count_excluded(connection, exclusion)

    def info(self) -> GalleryInfo:
        """See `Gallery.info`."""
        with self._connections.snapshot() as connection:
            return describe(connection, self._path, index=self._index)

    def largest_patients(self) -> tuple[PatientShare, ...]:
        """See `Gallery.largest_patients`."""
        with self._connections.snapshot() as connection:
            return largest_patients(connection)

    def verify(self, *, on_progress: Callable[[int, int], None] | None = None) -> tuple[str, ...]:
        """See `Gallery.verify`."""
        with self._connections.snapshot() as connection:
            return find_problems(connection, self._path, on_progress=on_progress)

    # Search

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
        """See `Gallery.search`."""
        query = check_embedding(embedding, dimension=self.dimension)
        (result,) = self.search_many(
            query[np.newaxis],
            k=k,
            where=where,
            exclude=exclude,
            novelty=novelty,
            pictures=pictures,
            per_patient=per_patient,
            duplicate_threshold=duplicate_threshold,
        )
        return result

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
        """See `Gallery.search_many`."""
        queries = normalised(check_embeddings(embeddings, dimension=self.dimension))
        if (k := operator.index(k)) < 0:
            raise InvalidValueError(f"k is {k}; it is the number of matches, 0 or more.")
        check_duplicate_threshold(duplicate_threshold)
        with self._connections.snapshot() as connection:
            view = self._current(connection)
            excluded = view.excluded(connection, exclude)

            plain = not per_patient and duplicate_threshold is None
            fetched = k if plain else first_fetch(k)

            def ask(asked: NDArray[np.float32], n: int, *, also_novelty: bool = False) -> list[Found]:
                return view.search(connection, asked, k=n, where=where, excluded=excluded, novelty=also_novelty)

            results = []
            for query, one in zip(queries, ask(queries, fetched, also_novelty=novelty), strict=True):
                ids, cosines, dependent = one.row_ids.tolist(), one.cosines.tolist(), None
                if not plain and k:

                    def fetch(n: int, query: NDArray[np.float32] = query, one: Found = one) -> list[Hit]:
                        return _hits(connection, one if n == fetched else ask(query[np.newaxis], n)[0])

                    kept = deduplicate(
                        fetch,
                        k=k,
                        per_patient=per_patient,
                        duplicate_threshold=duplicate_threshold,
                        vectors=lambda hits: view.vectors(connection, np.array([hit.key for hit in hits], np.int64)),
                    )
                    ids, cosines = [int(each.hit.key) for each in kept], [each.hit.similarity for each in kept]
                    dependent = [(each.near_duplicates, each.same_patient) for each in kept]
                matches = rows.read_matches(connection, ids, cosines, pictures=pictures, dependent=dependent)
                results.append(search_result(matches, one.nearest, own=view.base.own))
        return tuple(results)

    def novelty(self, embedding: NDArray[np.float32], *, exclude: Exclusion | None = None) -> float | None:
        """See `Gallery.novelty`."""
        return self.search(embedding, k=0, exclude=exclude).novelty

    def _current(self, connection: sqlite3.Connection) -> View:
        """What this transaction sees, ready to be searched: from memory, the cache and what changed since, or anew."""
        state = current_state(connection)
        view = self._view
        if view is not None and view.state == state:
            return view
        with self._loading:
            view = self._view
            if view is None or view.state != state:
                view = self._followed(connection, view) if view is not None else None
                if view is None:
                    base = load_base(self._path, gallery_id=self.gallery_id, dimension=self.dimension)
                    loaded = None if base is None else self._seen(base)
                    view = None if loaded is None else self._followed(connection, loaded)
                self._view = view = view or self._built(connection)
            return view

    def _followed(self, connection: sqlite3.Connection, view: View) -> View | None:
        """A view brought to the state of this transaction; None where it must be made anew."""
        state = current_state(connection)
        if view.state == state:
            return view if view.base.kind == kind_for(self._index, view.base.row_ids.size) else None
        rows_in_base = view.base.row_ids.size
        if (
            rows_in_base < SMALL
            or view.base.kind != kind_for(self._index, rows_in_base)
            or view.state.seq > state.seq  # another thread's transaction is ahead of this one
            or not is_remembered(connection, view.state)
            or count_changes(connection, view.base.state) > TOLERATED * rows_in_base
        ):
            return None
        return view.follow(read_changes(connection, view.state, dimension=self.dimension), state)

    def _built(self, connection: sqlite3.Connection) -> View:
        base = build_base(
            connection,
            gallery_id=self.gallery_id,
            dimension=self.dimension,
            index=self._index,
            duplicate_threshold=self.duplicate_threshold,
        )
        if save_base(self._path, base):
            # What was written is mapped instead, so that processes share one copy.
            mapped = load_base(self._path, gallery_id=self.gallery_id, dimension=self.dimension)
            base = mapped if mapped is not None and mapped.state == base.state and mapped.kind == base.kind else base
        return self._seen(base)

    def _seen(self, base: Base) -> View:
        return View.of(base, dimension=self.dimension, lowest=lowest_cosine(self.duplicate_threshold))

    def close(self) -> None:
        """See `Gallery.close`."""
        self._connections.close()
        self._view = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    @contextmanager
    def _change(self) -> Iterator[tuple[sqlite3.Connection, int]]:
        """A transaction that writes, and the number of the state it makes: kept whole, or undone whole."""
        with self._connections.writer() as connection:
            connection.execute("BEGIN IMMEDIATE")
            seq = current_state(connection).seq + 1
            before = connection.total_changes
            yield connection, seq
            if connection.total_changes != before:
                record_state(connection, seq)
            connection.execute("COMMIT")

    def _remembered(self, name: str, tally: Callable[[sqlite3.Connection], Any]) -> Any:
        """What is worked out once per state."""
        with self._connections.snapshot() as connection:
            _, stamp = current_state(connection)
            held = self._tallied.get(name)
            if held is None or held[0] != stamp:
                held = self._tallied[name] = stamp, tally(connection)
            return held[1]

    def _check_writable(self) -> None:
        if self._mode != "w":
            raise GalleryError(f"{self._path} is open for reading. Open it with mode 'w' to change it.")


def _hits(connection: sqlite3.Connection, found: Found) -> list[Hit]:
    """Hits, each with its scan's case, patient and group."""
    ids = found.row_ids.tolist()
    cosines = dict(zip(ids, found.cosines.tolist(), strict=True))
    held = {
        row_id: Hit(
            row_id,
            cosines[row_id],
            case=(dataset, case_id),
            patient=None if patient is None else (dataset, patient),
            group=None if group is None else (dataset, group),
        )
        for row_id, dataset, case_id, patient, group in connection.execute(
            """SELECT s.row_id, c.dataset, c.case_id, c.patient_id, c."group" FROM json_each(?) j
            CROSS JOIN scans s ON s.row_id = j.value CROSS JOIN cases c USING (case_key)""",
            (json.dumps(ids),),
        )
    }
    if not held.keys() >= set(ids):
        raise GalleryError("a scan has lost its case; run `sonoseek index verify` on the gallery.")
    return [held[row_id] for row_id in ids]
