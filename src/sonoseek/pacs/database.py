"""The journal's SQLite file: its schema, one writer at a time, and what is durable when a call returns."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sonoseek.core import NotFoundError, SonoseekError, TemporaryError
from sonoseek.core.files import make_private_folder, open_private
from sonoseek.core.transactions import transaction

VERSION = 2
SCHEMA = """
CREATE TABLE IF NOT EXISTS received (
    sop_uid TEXT PRIMARY KEY, sop_class TEXT NOT NULL, study_uid TEXT NOT NULL, series_uid TEXT NOT NULL,
    modality TEXT NOT NULL, body_part TEXT NOT NULL, patient_id TEXT NOT NULL, sender TEXT NOT NULL,
    address TEXT NOT NULL, file TEXT, digest TEXT NOT NULL, bytes INTEGER NOT NULL,
    received REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS received_study ON received (study_uid);
CREATE INDEX IF NOT EXISTS received_files ON received (study_uid) WHERE file IS NOT NULL;
CREATE TABLE IF NOT EXISTS studies (
    study_uid TEXT PRIMARY KEY, patient_id TEXT NOT NULL, patient_name TEXT NOT NULL, accession TEXT NOT NULL,
    study_date TEXT NOT NULL, rule TEXT NOT NULL, state TEXT NOT NULL, due REAL NOT NULL, received REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, key TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT '',
    malignant REAL, frame_uid TEXT NOT NULL DEFAULT '', frame INTEGER, queried REAL,
    conflicts INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS studies_due ON studies (state, due);
CREATE TABLE IF NOT EXISTS done (
    key TEXT PRIMARY KEY, study_uid TEXT NOT NULL, objects INTEGER NOT NULL, made REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY, study_uid TEXT NOT NULL, key TEXT NOT NULL, kind TEXT NOT NULL, sop_class TEXT NOT NULL,
    sop_uid TEXT NOT NULL, file TEXT NOT NULL, peer TEXT NOT NULL, state TEXT NOT NULL, due REAL NOT NULL,
    created REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, refusals INTEGER NOT NULL DEFAULT 0,
    commitment INTEGER NOT NULL DEFAULT 0, transaction_uid TEXT, commit_tries INTEGER NOT NULL DEFAULT 0,
    commit_failures INTEGER NOT NULL DEFAULT 0, sent REAL, committed REAL, message TEXT NOT NULL DEFAULT '',
    UNIQUE (sop_uid, peer)) STRICT;
CREATE INDEX IF NOT EXISTS outbox_due ON outbox (peer, state, due);
CREATE TABLE IF NOT EXISTS decisions (
    study_uid TEXT PRIMARY KEY, key TEXT NOT NULL, reader TEXT NOT NULL, decided REAL NOT NULL,
    corrected TEXT) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS outbox_study ON outbox (study_uid);
CREATE INDEX IF NOT EXISTS outbox_files ON outbox (sent) WHERE file != '';
CREATE TABLE IF NOT EXISTS discarded (sop_class TEXT PRIMARY KEY, objects INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""
BUSY_S = 10.0
"""Seconds that a writer waits for the writer of another process, such as `pacs retry`."""


class Database:
    """One connection for all threads of a process. What was committed survives a power cut."""

    def __init__(self, folder: Path, *, create: bool = True) -> None:
        """Open or make the file.

        Args:
            folder: for `journal.sqlite`; made if need be, for this user alone.
            create: False: it must be there.

        Raises:
            NotFoundError: it is not there, and `create` is False.
            SonoseekError: another version's file, or one that is damaged.
            TemporaryError: another process writes to it for longer than `BUSY_S`.
            OSError: the disk is full, or the folder cannot be written.
        """
        self.file = folder / "journal.sqlite"
        if not create and not self.file.is_file():
            raise NotFoundError(
                f"{folder}: there is no journal; `sonoseek pacs listen` makes it. Check `state` in the settings."
            )
        make_private_folder(folder)
        open_private(self.file, "ab").close()  # SQLite gives its log the file's mode
        self.lock = threading.RLock()
        self._connection = sqlite3.connect(
            self.file, check_same_thread=False, isolation_level=None, timeout=BUSY_S, cached_statements=256
        )
        self._connection.row_factory = sqlite3.Row
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        with self._named():
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, VERSION):
                raise SonoseekError(
                    f"{self.file}: the journal has version {version}, this sonoseek knows {VERSION}. Name another "
                    "folder as `state`, or install the sonoseek that wrote it."
                )
            for pragma in ("journal_mode = WAL", "synchronous = FULL"):
                self._connection.execute(f"PRAGMA {pragma}")
            if version == 0:
                self._connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except sqlite3.OperationalError as error:
            text = str(error)
            if "locked" in text or "busy" in text:
                raise TemporaryError(
                    f"{self.file}: another process has written to the journal for {BUSY_S:g} s; try again."
                ) from error
            raise OSError(
                errno.ENOSPC if "full" in text else errno.EIO,
                os.strerror(errno.ENOSPC) if "full" in text else text,
                os.fspath(self.file),
            ) from error
        except sqlite3.DatabaseError as error:
            raise SonoseekError(
                f"{self.file}: the journal does not read ({error}). Move it away; studies that were not queried are "
                "then sent again by their sender."
            ) from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction; on disk when the block has ended without an error, undone otherwise."""
        with self.lock, self._named(), transaction(self._connection) as connection:
            yield connection

    def all(self, query: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Every row of a query."""
        with self.lock, self._named():
            return self._connection.execute(query, values).fetchall()

    def one(self, query: str, values: Sequence[Any] = ()) -> Any:
        """The first value of the first row; None: there is none."""
        rows = self.all(query, values)
        return rows[0][0] if rows else None

    def close(self) -> None:
        """Close the file. Closing twice is fine."""
        with self.lock:
            self._connection.close()
