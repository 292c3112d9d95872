"""Jobs and their rows in one SQLite file: what a killed process had finished is there for the next one."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sonoseek.batch.files import remove_folder, safe_name
from sonoseek.batch.job import ENDED, Job, JobState, Row, check_kind
from sonoseek.core import InvalidValueError, NotFoundError, SonoseekError
from sonoseek.core.files import make_private_folder, open_private
from sonoseek.core.transactions import transaction

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    job_id TEXT PRIMARY KEY, kind TEXT NOT NULL, state TEXT NOT NULL, title TEXT NOT NULL, owner TEXT NOT NULL,
    folder TEXT, options TEXT NOT NULL, total INTEGER NOT NULL, done INTEGER NOT NULL, refused INTEGER NOT NULL,
    created TEXT NOT NULL, started TEXT, finished TEXT, error TEXT NOT NULL, summary TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS rows (
    job_id TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE, number INTEGER NOT NULL, name TEXT NOT NULL,
    refused TEXT, outcome TEXT NOT NULL, PRIMARY KEY (job_id, name), UNIQUE (job_id, number)) STRICT, WITHOUT ROWID;
"""
VERSION = 2
PARTIAL = ".part"
"""End of the name of a file that is being received."""
TIMES = ("created", "started", "finished")
JSON = ("options", "summary")
FIELDS = tuple(item.name for item in fields(Job))


class JobStore:
    """Jobs on disk. Safe for several threads; one process at a time uses a folder."""

    def __init__(self, folder: Path | str) -> None:
        """Open or make the store.

        Args:
            folder: for `jobs.sqlite` and the jobs' files; made if need be, readable by this user alone.

        Raises:
            SonoseekError: another version's file, or one that is damaged.
        """
        self.folder = Path(folder)
        make_private_folder(self.folder)
        self._lock = threading.RLock()
        file = self.folder / "jobs.sqlite"
        open_private(file, "ab").close()  # SQLite gives its log the file's mode
        self._connection = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._remove_partial_files()
        try:
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                self._connection.execute(f"PRAGMA {pragma}")
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version == 1:  # jobs without an owner are everybody's
                self._connection.execute("ALTER TABLE jobs ADD COLUMN owner TEXT NOT NULL DEFAULT ''")
            elif version not in (0, VERSION):
                raise SonoseekError(
                    f"{self.folder}: the list of jobs has version {version}, this sonoseek knows {VERSION}. "
                    "Name another folder for it, or install a newer sonoseek."
                )
            self._connection.executescript(f"{SCHEMA} PRAGMA user_version = {VERSION};")
        except sqlite3.DatabaseError as error:
            raise SonoseekError(
                f"{self.folder / 'jobs.sqlite'}: the list of jobs does not read ({error}). Move it away; the gallery "
                "does not depend on it."
            ) from error

    def make_partial_path(self, path: Path) -> Path:
        """Another name beside a file's, for what arrives of it; a server that starts or ends deletes such files."""
        return path.with_name(f".{secrets.token_hex(8)}{PARTIAL}")  # the file's own name may have the greatest length

    def _remove_partial_files(self) -> None:
        for path in (self.folder / "files").rglob(f".*{PARTIAL}"):
            path.unlink(missing_ok=True)

    def create(
        self,
        kind: str,
        *,
        title: str,
        owner: str = "",
        total: int = 0,
        folder: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Job:
        """Create a job: "receiving" its files, or, where a folder on this machine is given, "waiting".

        Raises:
            InvalidValueError: no such kind; an unprintable or overlong title; a negative total; an index job whose
                dataset an unfinished job writes, unless its options have `extend`.
        """
        checked = check_kind(kind)
        if not title.strip() or len(title) > 200 or not title.isprintable():
            raise InvalidValueError(f"title is {title[:80]!r}; it must be 1 … 200 printable characters.")
        if total < 0:
            raise InvalidValueError(f"total is {total}; it is the number of files, 0 or more.")
        job = Job(
            job_id=secrets.token_hex(8),
            kind=checked,
            state="receiving" if folder is None else "waiting",
            title=title.strip(),
            owner=owner,
            folder=folder,
            options=dict(options or {}),
            total=total,
            created=datetime.now(UTC),
        )
        with self._writing() as connection:
            if job.kind == "index" and not job.options.get("extend") and self._is_being_written(job.title):
                raise InvalidValueError(
                    f"a job that puts a dataset called {job.title!r} into the archive has not ended yet, and its cases "
                    "would be replaced by cases of the same name; choose another name, or stop it, or set extend."
                )
            connection.execute(
                f"INSERT INTO jobs ({', '.join(FIELDS)}) VALUES ({', '.join('?' * len(FIELDS))})",  # noqa: S608  # ours
                [_stored(name, getattr(job, name)) for name in FIELDS],
            )
        return job

    def get(self, job_id: str, *, owner: str | None = None) -> Job:
        """A job with its progress.

        Args:
            job_id: of the job.
            owner: who asks; None: anybody.

        Raises:
            NotFoundError: no such job, or another owner's.
        """
        with self._lock:
            row = self._connection.execute("SELECT * FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
        if row is None or owner not in (None, row["owner"]):
            raise NotFoundError(f"there is no job {job_id[:40]!r} of yours; it may have been deleted. List the jobs.")
        return _job(row)

    def list(self, *, owner: str | None = None) -> tuple[Job, ...]:
        """Every job, or those of one owner, the newest first."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT * FROM jobs WHERE ?1 IS NULL OR owner = ?1 ORDER BY created DESC, rowid DESC", (owner,)
            ).fetchall()
        return tuple(_job(row) for row in rows)

    def next_waiting(self) -> Job | None:
        """The waiting job that was created first."""
        with self._lock:
            row = self._connection.execute(
                "SELECT * FROM jobs WHERE state = 'waiting' ORDER BY created, rowid LIMIT 1"
            ).fetchone()
        return None if row is None else _job(row)

    def change(self, job_id: str, *, unless: Sequence[JobState] = (), **values: Any) -> bool:
        """Set fields of a job, unless it is in one of these states; returns whether they were set."""
        names = ", ".join(f"{name} = ?" for name in values)
        barred = ", ".join("?" * len(unless))
        with self._writing() as connection:
            changed = connection.execute(
                f"UPDATE jobs SET {names} WHERE job_id = ? AND state NOT IN ({barred})",  # noqa: S608  # our own names
                [*(_stored(name, value) for name, value in values.items()), job_id, *unless],
            )
            return changed.rowcount > 0

    def add_row(self, job_id: str, name: str, *, outcome: Mapping[str, Any], refused: str | None = None) -> bool:
        """Write one file's row and count it, atomically; False where it has one already, or the job was deleted."""
        with self._writing() as connection:
            written = connection.execute(
                """INSERT OR IGNORE INTO rows
                SELECT ?1, (SELECT coalesce(max(number), 0) + 1 FROM rows WHERE job_id = ?1), ?2, ?3, ?4
                FROM jobs WHERE job_id = ?1""",
                (job_id, name, refused, json.dumps(dict(outcome), ensure_ascii=False)),
            )
            if not written.rowcount:
                return False
            connection.execute(
                "UPDATE jobs SET done = done + 1, refused = refused + ? WHERE job_id = ?",
                (refused is not None, job_id),
            )
            return True

    def rows(self, job_id: str, *, after: int = 0, limit: int = 1_000) -> tuple[Row, ...]:
        """Rows with a number above `after`, in order, at most `limit`."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT * FROM rows WHERE job_id = ? AND number > ? ORDER BY number LIMIT ?", (job_id, after, limit)
            ).fetchall()
        return tuple(map(_row, rows))

    def rows_by_malignancy(
        self, job_id: str, *, skip: int = 0, limit: int = 1_000, refused_only: bool = False
    ) -> tuple[Row, ...]:
        """Rows by the likelihood of malignancy, the highest first; ties by their number.

        Scans without a prediction come after those with one, refused files last.

        Args:
            job_id: of the job.
            skip: rows of that order that are left out.
            limit: rows at most.
            refused_only: of refused files alone.
        """
        with self._lock:
            rows = self._connection.execute(
                f"""SELECT * FROM rows WHERE job_id = ? {"AND refused IS NOT NULL" if refused_only else ""}
                ORDER BY refused IS NOT NULL, coalesce(json_extract(outcome, '$.out_of_distribution'), 0),
                    json_extract(outcome, '$.probabilities.malignant') DESC, number
                LIMIT ? OFFSET ?""",  # noqa: S608  # our own words
                (job_id, limit, skip),
            ).fetchall()
        return tuple(map(_row, rows))

    def row(self, job_id: str, number: int) -> Row:
        """One row by its number.

        Raises:
            NotFoundError: no such job, or no such row of it.
        """
        self.get(job_id)
        with self._lock:
            row = self._connection.execute(
                "SELECT * FROM rows WHERE job_id = ? AND number = ?", (job_id, number)
            ).fetchone()
        if row is None:
            raise NotFoundError(f"job {job_id!r} has no row {number}; its rows are counted from 1. List them.")
        return _row(row)

    def every_row(self, job_id: str) -> Iterator[Row]:
        """All rows, in order, a thousand at a time."""
        last = 0
        while page := self.rows(job_id, after=last):
            yield from page
            last = page[-1].number

    def files(self, job_id: str) -> Path:
        """Folder of a job's own files; it need not be there."""
        return self.folder / "files" / job_id

    def source(self, job: Job, name: str) -> Path | None:
        """Path of a row's file: among the job's own files, or in the folder on this machine that it was run on.

        Args:
            job: the job.
            name: of the row.

        Returns:
            Its path; None: it is not there any more, or it is a link out of the folder.
        """
        root = self.files(job.job_id) if job.folder is None else Path(job.folder)
        path = root / name
        return path if path.is_file() and path.resolve().is_relative_to(root.resolve()) else None

    def openable(self, job: Job) -> bool:
        """Whether files of a job may still be there, so that its rows can be opened."""
        return (self.files(job.job_id) if job.folder is None else Path(job.folder)).is_dir()

    def last_sent(self, job: Job) -> datetime:
        """When the last upload of a file of a job began, UTC; without files, when the job was created."""
        try:
            return datetime.fromtimestamp(self.files(job.job_id).stat().st_mtime, UTC)
        except FileNotFoundError:
            return job.created

    def make_path(self, job_id: str, name: str) -> Path:
        """Path for a file of this name; its folder is made.

        Raises:
            InvalidValueError: a name that is not accepted; a file where a folder of this name is, or the reverse.
        """
        path = self.files(job_id) / safe_name(name)
        try:
            make_private_folder(path.parent)
        except (FileExistsError, NotADirectoryError):
            raise InvalidValueError(
                f"{name[:80]!r} lies in a folder that is called like a file of this job; rename one of them."
            ) from None
        os.utime(self.files(job_id))  # for `last_sent`
        if path.is_dir():
            raise InvalidValueError(f"{name[:80]!r} is called like a folder of this job; rename one of them.")
        return path

    def delete(self, job_id: str) -> None:
        """Delete a job, its rows and its files.

        Raises:
            NotFoundError: no such job.
            InvalidValueError: it is running.
        """
        if self.get(job_id).state == "running":
            raise InvalidValueError(f"job {job_id!r} is running; stop it before it is deleted.")
        with self._writing() as connection:
            connection.execute("DELETE FROM jobs WHERE job_id = ?", (job_id,))
        remove_folder(self.files(job_id))

    def close(self) -> None:
        """Close the file, and delete files that were not received whole. Closing twice is fine."""
        self._remove_partial_files()
        with self._lock:
            self._connection.close()

    def _is_being_written(self, title: str) -> bool:
        ended = ", ".join("?" * len(ENDED))
        unfinished = self._connection.execute(
            f"SELECT 1 FROM jobs WHERE kind = 'index' AND title = ? AND state NOT IN ({ended})",  # noqa: S608  # ours
            (title, *ENDED),
        )
        return unfinished.fetchone() is not None

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, transaction(self._connection) as connection:
            yield connection


def _stored(name: str, value: Any) -> Any:
    if name in JSON:
        return json.dumps(dict(value), ensure_ascii=False)
    return value.isoformat() if isinstance(value, datetime) else value


def _row(row: sqlite3.Row) -> Row:
    return Row(number=row["number"], name=row["name"], refused=row["refused"], outcome=json.loads(row["outcome"]))


def _job(row: sqlite3.Row) -> Job:
    values: dict[str, Any] = {name: row[name] for name in FIELDS}
    values |= {name: json.loads(values[name]) for name in JSON}
    values |= {name: None if values[name] is None else datetime.fromisoformat(values[name]) for name in TIMES}
    return Job(**values)
