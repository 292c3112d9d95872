"""The gallery in one SQLite file, with a search cache beside it.

Readers in any number of processes and threads see one consistent state while one writer changes the next. The file is
in WAL mode, and every search reads its rows in one transaction. It applies to the cache what changed between the
cache's state and that of the transaction. What `add` and `remove` acknowledge has been flushed to disk
(synchronous=FULL).
"""

from __future__ import annotations

import copy
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import ExcludedCounts, GalleryError
from sonoseek.core.patients import PatientShare
from sonoseek.core.transactions import transaction
from sonoseek.gallery.base import Gallery, undescribed
from sonoseek.gallery.novelty_sample import drawn
from sonoseek.gallery.sqlite import rows, write
from sonoseek.gallery.sqlite.checks import describe, find_problems, largest_patients
from sonoseek.gallery.sqlite.connections import Connections, PinnedConnection
from sonoseek.gallery.sqlite.copy import copy_database
from sonoseek.gallery.sqlite.database import create_database, database_path
from sonoseek.gallery.sqlite.index_cache import IndexCache, PinnedIndex
from sonoseek.gallery.sqlite.matches import find_matches
from sonoseek.gallery.sqlite.versions import count_rows, current_state, read_meta, record_state
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
    VectorSearch,
)


class SqliteGallery(Gallery):
    """See `Gallery`."""

    def __init__(self, path: Path, *, mode: Mode, timeout_s: float, index: Index) -> None:
        """Open the file; callers use `open` or `create`."""
        self._path = path
        self._index: Index = index
        self._file = Connections(path, write=mode == "w", timeout_s=timeout_s)
        self._connections: Connections | PinnedConnection = self._file
        try:
            try:
                with self._file.snapshot() as connection:
                    meta = read_meta(connection)
            except ValueError as error:  # a text that is not UTF-8
                raise undescribed(str(path), error) from error
            super().__init__(location=str(path), mode=mode, meta=meta)
        except BaseException:
            self._file.close()
            raise
        self._index_cache = IndexCache(
            path=path,
            gallery_id=self.gallery_id,
            dimension=self.dimension,
            duplicate_threshold=self.duplicate_threshold,
            index=index,
        )
        self._indices: IndexCache | PinnedIndex = self._index_cache

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
            try:
                create_database(path, bundle_id=bundle_id, dimension=dimension, duplicate_threshold=duplicate_threshold)
            except GalleryError:
                if not (exist_ok and path.exists()):  # another process may have been the first
                    raise
        gallery = cls(path, mode="w", timeout_s=timeout_s, index=index)
        return gallery._check_created(bundle_id=bundle_id, dimension=dimension)

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

    def store_site_key(self, fingerprint: str) -> None:
        """See `Gallery.store_site_key`."""
        self._check_writable()
        with self._file.writer() as connection, transaction(connection):
            write.store_site_key(connection, fingerprint, location=self.location)
        self.site_key = fingerprint

    def replace_unkeyed(self, keyed: Callable[[str], str], *, fingerprint: str) -> int:
        """See `Gallery.replace_unkeyed`: one transaction."""
        self._check_writable()
        with self._change() as (connection, seq):
            write.store_site_key(connection, fingerprint, location=self.location)
            changed = write.replace_unkeyed(connection, keyed, seq=seq)
        self.site_key = fingerprint
        return changed

    def optimise(self) -> None:
        """See `Gallery.optimise`: statistics, VACUUM, an empty log, a fresh cache, no drafts."""
        self._check_writable()
        with self._file.writer() as connection:
            connection.execute("PRAGMA optimize")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with self._connections.snapshot() as connection:
            self._index_cache.rebuild(connection)

    def refresh(self) -> None:
        """See `Gallery.refresh`."""
        with self._connections.snapshot() as connection:
            self._indices.current(connection)

    def copy_to(self, location: str | Path) -> None:
        """See `Gallery.copy_to`: SQLite's online backup."""
        with self._file.any() as connection:
            copy_database(connection, database_path(location))

    # Reading

    @contextmanager
    def snapshot(self) -> Iterator[Gallery]:
        """See `Gallery.snapshot`: one transaction. The block holds a connection, and the log from being emptied."""
        if isinstance(self._connections, PinnedConnection):
            yield self
            return
        with self._file.pinned() as connection:
            pinned = copy.copy(self)
            pinned._connections, pinned._indices, pinned._mode = connection, PinnedIndex(self._index_cache), "r"
            yield pinned

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
            fetched = connection.execute(
                f"{select} {wanted} {rows.ENTRY_ORDER}",
                (json.dumps(list(scan_ids)), json.dumps(list(cases))),
            )
            return tuple(rows.entry_from_row(row) for row in fetched)

    def count(self) -> int:
        """See `Gallery.count`."""
        with self._connections.snapshot() as connection:
            return count_rows(connection)

    def state(self) -> str:
        """See `Gallery.state`: the number of the state, and the beginning of its stamp."""
        with self._connections.snapshot() as connection:
            return _name_of(connection)

    def sample(
        self, count: int, *, seed: int = 0, pictures: bool = False, evidence: bool = False
    ) -> tuple[GalleryEntry, ...]:
        """See `Gallery.sample`."""
        select = rows.select_entries(pictures=pictures, evidence=evidence)
        with self._connections.snapshot() as connection:
            row_ids = [row_id for (row_id,) in connection.execute("SELECT row_id FROM scans ORDER BY row_id")]
            picked = drawn(row_ids, count, seed=seed)
            wanted = "WHERE s.row_id IN (SELECT value FROM json_each(?))"
            return tuple(
                rows.entry_from_row(row)
                for row in connection.execute(f"{select} {wanted} {rows.ENTRY_ORDER}", (json.dumps(picked),))
            )

    def __iter__(self) -> Iterator[GalleryEntry]:
        with self._connections.snapshot() as connection:
            for row in connection.execute(f"{rows.select_entries()} {rows.ENTRY_ORDER}"):
                yield rows.entry_from_row(row)

    def descriptor_counts(self) -> dict[str, dict[str, int]]:
        """See `Gallery.descriptor_counts`."""
        with self._connections.snapshot() as connection:
            counts = self._once_per_state(
                "descriptor_counts", _name_of(connection), lambda: rows.count_descriptors(connection)
            )
        return {feature: dict(per_descriptor) for feature, per_descriptor in counts.items()}

    def count_unkeyed(self) -> int:
        """See `Gallery.count_unkeyed`."""
        with self._connections.snapshot() as connection:
            return self._once_per_state("unkeyed", _name_of(connection), lambda: write.count_unkeyed(connection))

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

    def _search(self, queries: NDArray[np.float32], options: VectorSearch) -> tuple[SearchResult, ...]:
        with self._connections.snapshot() as connection:
            return find_matches(connection, self._indices.current(connection), queries, options)

    def close(self) -> None:
        """See `Gallery.close`; a snapshot's is the end of nothing."""
        self._connections.close()
        if self._connections is self._file:
            self._index_cache.clear()

    @contextmanager
    def _change(self) -> Iterator[tuple[sqlite3.Connection, int]]:
        """A transaction that writes, and the number of the state it makes: committed or undone as a whole."""
        with self._file.writer() as connection, transaction(connection):
            seq = current_state(connection).seq + 1
            before = connection.total_changes
            yield connection, seq
            if connection.total_changes != before:
                record_state(connection, seq)


def _name_of(connection: sqlite3.Connection) -> str:
    """The present state's name: its number, and the beginning of its stamp."""
    seq, stamp = current_state(connection)
    return f"{seq}-{stamp & 0xFFFFFF:06x}"
