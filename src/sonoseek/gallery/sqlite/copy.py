"""Copies of a whole gallery, made while it is in use."""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sonoseek.core import GalleryError
from sonoseek.core.files import make_private_folder, open_private
from sonoseek.gallery.sqlite.database import explained, publish

_PAGES = 4_096
"""Copied at a time: 16 MiB, between which writers get their turn."""


def copy_database(connection: sqlite3.Connection, path: Path) -> None:
    """One state of the file behind a connection, in a new file: whole and on disk when this returns.

    Raises:
        GalleryError: something is there already, or the folder cannot be written.
    """
    with published(path) as draft:
        open_private(draft, "xb").close()  # SQLite would make it as the umask has it
        with closing(sqlite3.connect(draft, isolation_level=None)) as target:
            connection.execute("BEGIN")  # one state, however long it takes: writers go on in the log
            connection.execute("SELECT 1 FROM states").fetchone()
            connection.backup(target, pages=_PAGES)
            target.execute("PRAGMA synchronous = FULL")
            target.execute("PRAGMA journal_mode = WAL")
            target.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """A name for a draft beside `path`; what the block makes there gets the name `path`, once it is on disk."""
    if path.exists():
        raise GalleryError(f"{path} exists already; choose another place for the copy.")
    draft = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    with explained(path):
        try:
            make_private_folder(path.parent)
            yield draft
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            publish(draft, path)
        finally:
            for name in path.parent.glob(draft.name + "*"):
                with suppress(OSError):
                    name.unlink(missing_ok=True)
