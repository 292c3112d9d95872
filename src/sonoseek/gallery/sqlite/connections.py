"""Connections to one SQLite file, shared out to threads."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sonoseek.core import GalleryError, TemporaryError
from sonoseek.gallery.sqlite.database import connect, explained

STEPS = 100_000_000
"""Steps of SQLite's machine that the reads of one block may take, whatever the size of the file: some seconds."""
STEPS_PER_BYTE = 10
"""Beyond `STEPS`, for each byte of the file: a scan has more than a kilobyte, and no read takes 10,000 steps for it."""
_EVERY = 50_000
"""Steps between two checks of how many there were."""


def limit_steps(connection: sqlite3.Connection, path: Path) -> None:
    """End the reads to come once they take far more steps than the file has bytes: pages that lead in circles."""
    steps = 0

    def too_many() -> bool:
        nonlocal steps
        steps += _EVERY
        if steps <= STEPS:
            return False
        log = path.with_name(path.name + "-wal")
        size = sum(each.stat().st_size for each in (path, log) if each.exists())
        return steps > STEPS + STEPS_PER_BYTE * size

    connection.set_progress_handler(too_many, _EVERY)


class PinnedConnection:
    """One connection in one transaction, shared out to the blocks of one thread, one after the other."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Take a connection whose transaction has begun."""
        self._path = path
        self._connection = connection

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """The connection; as `Connections.snapshot`, in the one state."""
        with explained(self._path):
            limit_steps(self._connection, self._path)
            yield self._connection

    any = snapshot

    def close(self) -> None:
        """Nothing: whoever lent the connection takes it back."""


class Connections:
    """A pool: each block has a connection to itself; as many are opened as are in use at once."""

    def __init__(self, path: Path, *, write: bool, timeout_s: float) -> None:
        """Open nothing yet."""
        self._path = path
        self._write = write
        self._timeout_s = timeout_s
        self._process = os.getpid()
        self._identity = self._file_identity()
        self._writing = threading.Lock()
        self._opened: list[sqlite3.Connection] = []
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    @contextmanager
    def any(self, *, limited: bool = True) -> Iterator[sqlite3.Connection]:
        """A connection to oneself; a transaction that is still open at the end of the block is undone.

        Args:
            limited: whether the statements of the block are ended after too many steps; see `limit_steps`.

        Raises:
            GalleryError: closed, forked, or the file is no longer the one that was opened; and what SQLite's errors in
                the block mean.
            TemporaryError: the file is locked.
        """
        with explained(self._path):
            connection = self._borrow()
            try:
                if limited:
                    limit_steps(connection, self._path)
                yield connection
            finally:
                self._return(connection)

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one state of the file until the end of the block."""
        with self.any() as connection:
            connection.execute("BEGIN")
            yield connection

    @contextmanager
    def pinned(self) -> Iterator[PinnedConnection]:
        """One state of the file for several blocks of one thread; errors of the block itself pass as they are."""
        with explained(self._path):
            connection = self._borrow()
        try:
            with explained(self._path):
                connection.execute("BEGIN")
                connection.execute("SELECT 1 FROM states LIMIT 1").fetchone()  # the first read fixes the state
            yield PinnedConnection(self._path, connection)
        finally:
            with explained(self._path):
                self._return(connection)

    def _borrow(self) -> sqlite3.Connection:
        self._check_usable()
        try:
            return self._idle.pop()
        except IndexError:
            connection = connect(self._path, write=self._write, timeout_s=self._timeout_s)
            self._opened.append(connection)
            return connection

    def _return(self, connection: sqlite3.Connection) -> None:
        if not self._closed:
            connection.set_progress_handler(None, 0)
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._idle.append(connection)

    @contextmanager
    def writer(self) -> Iterator[sqlite3.Connection]:
        """A connection, while no other thread of this process writes.

        Raises:
            TemporaryError: another thread writes for longer than the time-out.
        """
        if not self._writing.acquire(timeout=self._timeout_s):
            raise TemporaryError(f"{self._path} is being written by another thread. Try again in a moment.")
        try:
            with self.any(limited=False) as connection:
                yield connection
        finally:
            self._writing.release()

    def close(self) -> None:
        """Close every connection; blocks that still run fail with `GalleryError`."""
        self._closed = True
        self._idle.clear()
        while self._opened:
            with suppress(sqlite3.Error):
                self._opened.pop().close()

    def _check_usable(self) -> None:
        if self._closed:
            raise GalleryError(f"{self._path} is closed. Open it again.")
        if self._process != os.getpid():
            raise GalleryError(
                f"{self._path} was opened before this process was forked; SQLite files do not survive that. "
                "Open the gallery in the process that uses it."
            )
        if self._file_identity() != self._identity:
            raise GalleryError(f"{self._path} was deleted or replaced while it was open. Open it again.")

    def _file_identity(self) -> tuple[int, int] | None:
        """Which file the name stands for; None when there is none."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino
