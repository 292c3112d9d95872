"""The index in memory: of the state that a transaction sees, from memory, from its files, or built anew."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass, field
from pathlib import Path

from sonoseek.gallery.deduplicate import lowest_cosine
from sonoseek.gallery.sqlite.index import build_index, kind_for
from sonoseek.gallery.sqlite.index_files import SearchIndex, cache_files, load_index, save_index
from sonoseek.gallery.sqlite.search import SMALL, TOLERATED, Snapshot
from sonoseek.gallery.sqlite.versions import count_changes, current_state, is_remembered, read_changes
from sonoseek.gallery.values import Index


@dataclass(eq=False, kw_only=True)
class IndexCache:
    """Snapshots of one SQLite gallery; safe for several threads.

    Attributes:
        path: of the gallery's file.
        gallery_id, dimension, duplicate_threshold: of the gallery.
        index: how it is searched.
        snapshot: the last one that was used.
    """

    path: Path
    gallery_id: str
    dimension: int
    duplicate_threshold: float | None
    index: Index
    snapshot: Snapshot | None = None
    _loading: threading.Lock = field(default_factory=threading.Lock)

    def current(self, connection: sqlite3.Connection) -> Snapshot:
        """The state that this transaction sees, ready to be searched."""
        state = current_state(connection)
        snapshot = self.snapshot
        if snapshot is not None and snapshot.state == state:
            return snapshot
        with self._loading:
            snapshot = self.snapshot
            if snapshot is None or snapshot.state != state:
                snapshot = self._followed(connection, snapshot) if snapshot is not None else None
                if snapshot is None:
                    index = self._load()
                    if index is not None and index.state == state and not _spans(connection, index):
                        index = None
                    loaded = None if index is None else self._snapshot_of(index)
                    snapshot = None if loaded is None else self._followed(connection, loaded)
                self.snapshot = snapshot = snapshot or self._built(connection)
            return snapshot

    def rebuild(self, connection: sqlite3.Connection) -> None:
        """Make the index and its files anew; drafts of killed processes are deleted."""
        with self._loading:
            self.snapshot = None
            for file in cache_files(self.path):
                file.unlink(missing_ok=True)
            self.snapshot = self._built(connection)

    def clear(self) -> None:
        """Let go of the memory."""
        self.snapshot = None

    def _load(self) -> SearchIndex | None:
        return load_index(self.path, gallery_id=self.gallery_id, dimension=self.dimension)

    def _followed(self, connection: sqlite3.Connection, snapshot: Snapshot) -> Snapshot | None:
        """A snapshot brought to the state of this transaction; None where it must be made anew."""
        state = current_state(connection)
        indexed = snapshot.index.row_ids.size
        if snapshot.state == state:
            return snapshot if snapshot.index.kind == kind_for(self.index, indexed) else None
        if (
            indexed < SMALL
            or snapshot.index.kind != kind_for(self.index, indexed)
            or snapshot.state.seq > state.seq  # another thread's transaction is ahead of this one
            or not is_remembered(connection, snapshot.state)
            or count_changes(connection, snapshot.index.state) > TOLERATED * indexed
        ):
            return None
        return snapshot.follow(read_changes(connection, snapshot.state, dimension=self.dimension), state)

    def _built(self, connection: sqlite3.Connection) -> Snapshot:
        index = build_index(
            connection,
            gallery_id=self.gallery_id,
            dimension=self.dimension,
            index=self.index,
            duplicate_threshold=self.duplicate_threshold,
        )
        if save_index(self.path, index):
            # What was written is mapped instead, so that processes share one copy.
            mapped = self._load()
            if mapped is not None and mapped.state == index.state and mapped.kind == index.kind:
                index = mapped
        return self._snapshot_of(index)

    def _snapshot_of(self, index: SearchIndex) -> Snapshot:
        return Snapshot.of(index, dimension=self.dimension, lowest=lowest_cosine(self.duplicate_threshold))


def _spans(connection: sqlite3.Connection, index: SearchIndex) -> bool:
    """Whether the first and the last scan of an index of this state are those of the gallery."""
    ends = connection.execute("SELECT (SELECT min(row_id) FROM scans), (SELECT max(row_id) FROM scans)").fetchone()
    ids = index.row_ids
    return bool(ends == ((int(ids[0]), int(ids[-1])) if ids.size else (None, None)))


class PinnedIndex:
    """What an `IndexCache` has for one state, kept for several searches of it while the cache goes on to later ones."""

    def __init__(self, cache: IndexCache) -> None:
        """Take nothing yet."""
        self._cache = cache
        self._snapshot: Snapshot | None = None

    def current(self, connection: sqlite3.Connection) -> Snapshot:
        """The state of the one transaction that this is used in."""
        if self._snapshot is None:
            self._snapshot = self._cache.current(connection)
        return self._snapshot
