"""The SQLite file: its schema, how it is made, opened and checked, and what SQLite's errors mean to a user."""

from __future__ import annotations

import os
import secrets
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from sonoseek.core import GalleryError, NotFoundError, SonoseekError, TemporaryError
from sonoseek.core.files import make_private_folder, open_private, sync_folder
from sonoseek.core.version import __version__
from sonoseek.gallery.base import check_new_gallery
from sonoseek.gallery.sqlite.schema import LONGEST_VALUE, SCHEMA, check_schema

SCHEMA_VERSION = 4
APPLICATION_ID = 0x534F4E4F
"""b"SONO": what `file` and SQLite show as the owner of the file."""
FILE_NAME = "gallery.db"
FILE_SUFFIXES = (".db", ".sqlite", ".sqlite3")
OLDEST_SQLITE = (3, 38, 0)
"""STRICT tables came with 3.37, json_each in every build with 3.38."""


def database_path(location: str | Path) -> Path:
    """The file behind a location: itself when it ends in .db, .sqlite or .sqlite3, else `gallery.db` in that folder."""
    path = Path(str(location).removeprefix("sqlite://")).expanduser()
    return path if path.suffix.lower() in FILE_SUFFIXES and not path.is_dir() else path / FILE_NAME


def create_database(
    path: Path,
    *,
    bundle_id: str,
    dimension: int,
    duplicate_threshold: float | None = None,
    gallery_id: str | None = None,
) -> None:
    """Make an empty gallery file; it appears whole or not at all.

    Args:
        path: of the file; folders are made.
        bundle_id: of the network whose embeddings it will hold.
        dimension: numbers per embedding.
        duplicate_threshold: as in `create_gallery`.
        gallery_id: of the gallery that this will be a copy of; None: a new one.

    Raises:
        InvalidValueError: an empty bundle_id, a dimension below 1, or a threshold that is no cosine.
        GalleryError: something is there already, or the folder cannot be written.
    """
    check_new_gallery(bundle_id=bundle_id, dimension=dimension, duplicate_threshold=duplicate_threshold)
    _check_sqlite()
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with explained(path):
        try:
            make_private_folder(path.parent)
            open_private(draft, "xb").close()  # SQLite gives its log the file's mode
            with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
                connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
                connection.executescript(
                    f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};{SCHEMA}"
                )
                meta: dict[str, str | int | float] = {
                    "gallery_id": gallery_id or str(uuid.uuid4()),
                    "bundle_id": bundle_id,
                    "dimension": dimension,
                    "created": datetime.now(UTC).isoformat(),
                    "sonoseek_version": __version__,
                }
                if duplicate_threshold is not None:
                    meta["duplicate_threshold"] = float(duplicate_threshold)
                connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
                connection.execute("INSERT INTO states VALUES (1, ?)", (secrets.randbits(62),))
                connection.execute("COMMIT")
            publish(draft, path)
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)


def publish(draft: Path, path: Path) -> None:
    """Give a finished file its name, so that it survives a power cut; never over another file.

    Raises:
        GalleryError: the name is taken.
        OSError: the folder cannot be written.
    """
    try:
        os.link(draft, path)  # unlike a rename, refuses when someone else was faster
    except FileExistsError:
        raise GalleryError(f"{path} exists already; open it, or choose another place for the gallery.") from None
    except OSError:  # a file system without hard links
        draft.rename(path)
    sync_folder(path.parent)


def connect(path: Path, *, write: bool, timeout_s: float) -> sqlite3.Connection:
    """A connection that was checked to be of a gallery of this schema; autocommit, usable from any thread.

    Raises:
        NotFoundError: no such file.
        GalleryError: not a gallery, damaged, or of another schema version.
        TemporaryError: locked for longer than `timeout_s`.
    """
    _check_sqlite()
    if not path.is_file():
        raise NotFoundError(f"no gallery at {path}; build one with `sonoseek index build`, or correct the path.")
    mode = "rw" if write else "ro"
    if not write and not os.access(path.parent, os.W_OK):
        # Without a writable folder SQLite cannot make the memory that readers of a WAL share. When no writer has left
        # a log behind, the file alone is the whole truth and nobody can change it through this folder.
        log = path.with_name(path.name + "-wal")
        if not log.exists() or log.stat().st_size == 0:
            mode += "&immutable=1"
    with explained(path):
        connection = sqlite3.connect(
            f"file:{quote(str(path.resolve()))}?mode={mode}",
            uri=True,
            timeout=timeout_s,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=64,
        )
        try:
            # A file from elsewhere is input: these three come before its schema is read.
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            _check_header(connection, path)
            check_schema(connection, path)
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA journal_size_limit = 67108864")  # bytes the log keeps after a large batch
            # KiB. Readers keep the pictures of a screenful of matches; a writer the pages that its indices touch.
            connection.execute(f"PRAGMA cache_size = {-131072 if write else -16384}")
        except BaseException:
            connection.close()
            raise
    return connection


def _check_header(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise GalleryError(
            f"{path} is a database, but no sonoseek gallery (application id {application:#x}, expected "
            f"{APPLICATION_ID:#x}). Choose another path, or build the gallery anew."
        )
    if schema != SCHEMA_VERSION:
        remedy = (
            "Upgrade sonoseek." if schema > SCHEMA_VERSION else "Build the gallery anew with `sonoseek index build`."
        )
        raise GalleryError(f"{path} has schema version {schema}, this sonoseek reads {SCHEMA_VERSION}. {remedy}")


def _check_sqlite() -> None:
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        raise GalleryError(
            f"this Python carries SQLite {sqlite3.sqlite_version}; galleries need {needed} or newer. "
            "Use a newer build of Python."
        )


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's and the system's errors into ours, with what a user can do about them."""
    try:
        yield
    except sqlite3.Error as error:
        raise _explain(error, path) from error
    except OSError as error:
        if isinstance(error, SonoseekError):  # TemporaryError is an OSError too
            raise
        raise GalleryError(f"{path}: {error.strerror or error}. Check the path, the rights and the disk.") from error


def _explain(error: sqlite3.Error, path: Path) -> GalleryError | TemporaryError:
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return TemporaryError(f"{path} is being written by another process ({error}). Try again in a moment.")
    remedies = {
        sqlite3.SQLITE_NOTADB: "it is not a gallery, or its head is damaged. Restore it from a copy, or build it anew.",
        sqlite3.SQLITE_CORRUPT: "the file is damaged. Restore it from a copy, or build it anew.",
        sqlite3.SQLITE_FULL: "the disk is full; what was added before is safe. Make room and try again.",
        sqlite3.SQLITE_READONLY: "it is open for reading, or write-protected. Open it with mode 'w'.",
        sqlite3.SQLITE_IOERR: "the disk answers with an error; what was added before is safe. Check the disk.",
        sqlite3.SQLITE_CANTOPEN: "it cannot be opened. Check the path and the rights of file and folder.",
    }
    if code == sqlite3.SQLITE_INTERRUPT:
        return GalleryError(
            f"{path}: a read was ended after more steps than any sound file of its size needs; its pages lead in "
            "circles or it was forged. Restore it from a copy, or build it anew."
        )
    if code == sqlite3.SQLITE_TOOBIG:
        return GalleryError(
            f"{path}: a value is longer than the {LONGEST_VALUE:,} bytes that are read or written at once. Restore the "
            "gallery from a copy, or build it anew; ask for fewer scans at once."
        )
    if isinstance(error, sqlite3.ProgrammingError):
        return GalleryError(f"{path} was closed while in use ({error}). Open it again.")
    return GalleryError(f"{path}: {error}; " + remedies.get(code, "run `sonoseek index verify` on it."))
