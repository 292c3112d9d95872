"""The gallery in one SQLite file: the truth on disk, and a cache of unit vectors beside it for exact search.

Readers in any number of processes and threads see one consistent state while one writer changes the next: the file is
in WAL mode, every search reads its rows in one transaction, and the cache carries the stamp of the state it was made
from. What `add` and `remove` acknowledge has been flushed to disk (synchronous=FULL).
"""

# ruff: noqa: S608  # SQL is put together from constants alone; values travel as parameters

from __future__ import annotations

import json
import operator
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import BundleMismatchError, GalleryError, InvalidValueError
from sonoseek.gallery import rows
from sonoseek.gallery.checks import describe, find_problems
from sonoseek.gallery.connections import Connections
from sonoseek.gallery.contract import (
    AddResult,
    CaseKey,
    Exclusion,
    GalleryEntry,
    GalleryInfo,
    Mode,
    RemoveResult,
    SearchResult,
    check_embedding,
)
from sonoseek.gallery.database import create_database, database_path
from sonoseek.gallery.exact import best_rows, masked_products, nearest_distance, normalised, percentile
from sonoseek.gallery.state import advance_stamp, build_vectors, current_stamp
from sonoseek.gallery.vectors import Vectors, cache_path, load_vectors, save_vectors

_REMEMBERED = 8
"""Filters whose selections are kept; each takes eight bytes per scan that passes it."""


class SqliteGallery:
    """See `Gallery`."""

    def __init__(self, path: Path, *, mode: Mode, timeout_s: float) -> None:
        """Open the file; callers use `open` or `create`."""
        self._path = path
        self._mode = mode
        self._connections = Connections(path, write=mode == "w", timeout_s=timeout_s)
        self._loading = threading.Lock()
        self._vectors: Vectors | None = None
        self._selections: dict[tuple[int, str], NDArray[np.intp]] = {}
        self._words: tuple[int, dict[str, dict[str, int]]] | None = None
        try:
            with self._connections.snapshot() as connection:
                meta = dict(connection.execute("SELECT key, value FROM meta"))
            self.gallery_id: str = str(meta["gallery_id"])
            self.bundle_id: str = str(meta["bundle_id"])
            self.dimension: int = int(meta["dimension"])
        except (KeyError, ValueError) as error:
            self.close()
            raise GalleryError(
                f"{path} lacks its own description ({error}); it is damaged. Restore it from a copy, or build it anew."
            ) from error
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, location: str | Path, *, mode: Mode = "r", timeout_s: float = 5.0) -> Self:
        """See `open_gallery`."""
        return cls(database_path(location), mode=mode, timeout_s=timeout_s)

    @classmethod
    def create(
        cls, location: str | Path, *, bundle_id: str, dimension: int, exist_ok: bool = False, timeout_s: float = 5.0
    ) -> Self:
        """See `create_gallery`."""
        path = database_path(location)
        if not (exist_ok and path.exists()):
            create_database(path, bundle_id=bundle_id, dimension=dimension)
        gallery = cls(path, mode="w", timeout_s=timeout_s)
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
        prepared = rows.prepare_entries(entries, dimension=self.dimension)
        with self._change() as connection:
            return rows.write_entries(connection, prepared, whole_cases=whole_cases)

    def remove(self, *, scan_ids: Iterable[str] = (), cases: Iterable[CaseKey] = ()) -> RemoveResult:
        """See `Gallery.remove`."""
        self._check_writable()
        wanted_scans = list(dict.fromkeys(scan_ids))
        wanted_cases = list(dict.fromkeys((dataset, case_id) for dataset, case_id in cases))
        with self._change() as connection:
            return rows.remove_rows(connection, scan_ids=wanted_scans, cases=wanted_cases)

    def optimise(self) -> None:
        """See `Gallery.optimise`: statistics, VACUUM, an empty log, a fresh cache, no drafts of killed processes."""
        self._check_writable()
        for draft in self._path.parent.glob(f".{self._path.name}.*"):
            draft.unlink(missing_ok=True)
        with self._connections.writer() as connection:
            connection.execute("PRAGMA optimize")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with self._connections.snapshot() as connection, self._loading:
            self._vectors = self._build(connection, current_stamp(connection))

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

    def __iter__(self) -> Iterator[GalleryEntry]:
        with self._connections.snapshot() as connection:
            for row in connection.execute(f"{rows.select_entries()} {rows.ENTRY_ORDER}"):
                yield rows.read_entry(row)

    def words(self) -> dict[str, dict[str, int]]:
        """See `Gallery.words`."""
        with self._connections.snapshot() as connection:
            stamp = current_stamp(connection)
            if self._words is None or self._words[0] != stamp:
                self._words = stamp, rows.count_words(connection)
        return {feature: dict(counts) for feature, counts in self._words[1].items()}

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

    def info(self) -> GalleryInfo:
        """See `Gallery.info`."""
        with self._connections.snapshot() as connection:
            return describe(connection, self._path)

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
    ) -> SearchResult:
        """See `Gallery.search`."""
        query = normalised(check_embedding(embedding, dimension=self.dimension))
        if operator.index(k) < 0:
            raise InvalidValueError(f"k is {k}; it is the number of matches, 0 or more.")
        with self._connections.snapshot() as connection:
            vectors = self._current_vectors(connection)
            selected = None if where is None else self._selection(connection, vectors, where)
            excluded = self._excluded(connection, vectors, exclude)
            products = masked_products(vectors.unit, query, excluded=excluded) if novelty else None
            found, similarities = best_rows(
                vectors.unit, query, k=k, rows=selected, excluded=excluded, products=products
            )
            matches = rows.read_matches(
                connection, vectors.row_ids[found].tolist(), similarities.tolist(), pictures=pictures
            )
        if products is None:
            return SearchResult(matches=matches)
        nearest = nearest_distance(products)
        return SearchResult(matches=matches, nearest=nearest, novelty=percentile(nearest, own=vectors.own))

    def novelty(self, embedding: NDArray[np.float32], *, exclude: Exclusion | None = None) -> float | None:
        """See `Gallery.novelty`."""
        return self.search(embedding, k=0, exclude=exclude).novelty

    def _current_vectors(self, connection: sqlite3.Connection) -> Vectors:
        """The unit vectors of the state that this transaction sees: from memory, the cache file, or the truth."""
        stamp = current_stamp(connection)
        vectors = self._vectors
        if vectors is not None and vectors.stamp == stamp:
            return vectors
        with self._loading:
            vectors = self._vectors
            if vectors is None or vectors.stamp != stamp:
                vectors = load_vectors(
                    cache_path(self._path), gallery_id=self.gallery_id, stamp=stamp, dimension=self.dimension
                )
                self._vectors = vectors = vectors or self._build(connection, stamp)
            return vectors

    def _build(self, connection: sqlite3.Connection, stamp: int) -> Vectors:
        vectors = build_vectors(connection, gallery_id=self.gallery_id, dimension=self.dimension, stamp=stamp)
        path = cache_path(self._path)
        if not save_vectors(path, vectors):
            return vectors
        # What was written is mapped instead, so that processes share one copy.
        return load_vectors(path, gallery_id=self.gallery_id, stamp=stamp, dimension=self.dimension) or vectors

    def _selection(self, connection: sqlite3.Connection, vectors: Vectors, where: str) -> NDArray[np.intp]:
        """Rows of the matrix that pass a filter, ascending."""
        key = (vectors.stamp, where)
        selected = self._selections.get(key)
        if selected is None:
            from sonoseek.gallery.where_sql import compile_where, install_functions  # loads the parser when needed

            condition, parameters = compile_where(where)
            install_functions(connection)
            found = connection.execute(
                f"SELECT s.row_id FROM scans s JOIN cases c USING (case_key) WHERE {condition}",
                parameters,
            )
            selected = vectors.rows_of(np.fromiter((row_id for (row_id,) in found), np.int64))
            if len(self._selections) >= _REMEMBERED:
                self._selections = {}
            self._selections[key] = selected
        return selected

    def _excluded(
        self, connection: sqlite3.Connection, vectors: Vectors, exclude: Exclusion | None
    ) -> NDArray[np.intp]:
        """Rows of the matrix that must not answer."""
        found: set[int] = set()
        if exclude is not None:
            for values, sql in (
                (exclude.scan_ids, rows.SELECT_BY_SCAN),
                (exclude.patients, rows.SELECT_BY_PATIENT),
                (exclude.groups, rows.SELECT_BY_GROUP),
            ):
                if values:
                    found.update(row_id for (row_id,) in connection.execute(sql, (json.dumps(values),)))
        return vectors.rows_of(np.fromiter(found, np.int64, len(found)))

    def close(self) -> None:
        """See `Gallery.close`."""
        self._connections.close()
        self._vectors = None
        self._selections = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """A transaction that writes, and marks a new state if anything was changed: kept whole, or undone whole."""
        with self._connections.writer() as connection:
            connection.execute("BEGIN IMMEDIATE")
            before = connection.total_changes
            yield connection
            if connection.total_changes != before:
                advance_stamp(connection)
            connection.execute("COMMIT")

    def _check_writable(self) -> None:
        if self._mode != "w":
            raise GalleryError(f"{self._path} is open for reading. Open it with mode 'w' to change it.")
