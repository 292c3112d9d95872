"""One thread that runs the jobs, in the order in which they were created."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sonoseek.batch.files import remove_folder, without_folder
from sonoseek.batch.indexing import StoppedError, index_folder
from sonoseek.batch.job import ENDED, Job
from sonoseek.batch.query import query_files
from sonoseek.batch.retention import delete_expired_files
from sonoseek.batch.store import JobStore
from sonoseek.core import InvalidValueError, NotFoundError, SonoseekError
from sonoseek.engine import SearchEngine

log = logging.getLogger(__name__)
ABANDONED = timedelta(days=1)
"""A job that has received no file for longer is stopped, and its files are deleted."""
PAUSE_S = 5.0
"""Seconds after which the thread retries after an error such as a full disk."""
CLEANUP_S = 600.0
"""Seconds between two checks for abandoned jobs and expired files."""


class BatchRunner:
    """Runs a store's jobs, one at a time, in a thread of its own.

    `failing` is true while jobs wait because their list cannot be written, such as on a full disk.
    """

    def __init__(
        self,
        store: JobStore,
        engine: SearchEngine,
        *,
        writable: bool = False,
        on_index: Callable[[], None] | None = None,
        retention: timedelta = timedelta(0),
        retention_bytes: int = 0,
    ) -> None:
        """Prepare; `start` starts the thread.

        Args:
            store: of the jobs.
            engine: answers the queries; index jobs write to its gallery.
            writable: whether index jobs may run.
            on_index: called when one has changed the gallery.
            retention: how long the files of a job are kept after its end, so that its rows can be opened; zero: not at
                all.
            retention_bytes: of all such files together, at most.
        """
        self._store = store
        self._engine = engine
        self._writable = writable
        self._on_index = on_index
        self._retention, self._retention_bytes = retention, retention_bytes
        self._wake = threading.Event()
        self._end = threading.Event()
        self.failing = False
        self._thread = threading.Thread(target=self._work, name="sonoseek-batch", daemon=True)

    def start(self) -> None:
        """Resume the jobs of a process that ended, and wait for new ones."""
        self._resume()
        self._thread.start()
        self._wake.set()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def submit(self, job_id: str) -> Job:
        """All files are there: queue the job.

        Raises:
            NotFoundError: no such job.
            InvalidValueError: it is not receiving; it has no files; or it would write to a read-only archive.
        """
        job = self._store.get(job_id)
        if job.state not in ("receiving", "waiting"):
            raise InvalidValueError(f"job {job_id!r} is {job.state}; only one that receives files can be started.")
        if job.kind == "index" and not self._writable:
            raise InvalidValueError("this archive is open for reading only; start the server with --writable to add.")
        if job.folder is None and not self._store.files(job_id).is_dir():
            raise InvalidValueError(f"job {job_id!r} has no files yet; send at least one.")
        self._store.change(job_id, state="waiting", unless=("running", *ENDED))
        self.wake()
        return self._store.get(job_id)

    def wake(self) -> None:
        """Check for waiting jobs now."""
        self._wake.set()

    def stop_job(self, job_id: str) -> Job:
        """Stop a job; what was finished is kept.

        Raises:
            NotFoundError: no such job.
        """
        job = self._store.get(job_id)
        if not job.ended:
            self._store.change(job_id, state="stopped", finished=datetime.now(UTC), unless=ENDED)
            if job.state != "running":
                self._delete_expired()
        return self._store.get(job_id)

    def close(self, *, timeout_s: float = 10.0) -> None:
        """Finish the present file and end; the job continues when a runner starts again."""
        self._end.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _work(self) -> None:
        """Run until the end, whatever the error: a full disk must not end the thread."""
        cleaned = time.monotonic()
        while not self._end.is_set():
            try:
                if self.failing:
                    self._resume()
                    self.failing = False
                if time.monotonic() - cleaned > CLEANUP_S:
                    self._resume()
                    cleaned = time.monotonic()
                if (job := self._store.next_waiting()) is not None:
                    self._run(job)
                    continue
            except Exception:
                log.exception("the batch thread failed and retries in %g s", PAUSE_S)
                self.failing = True
                self._end.wait(PAUSE_S)
                continue
            self._wake.wait(timeout=1.0)
            self._wake.clear()

    def _resume(self) -> None:
        """Queue interrupted jobs again; stop abandoned ones."""
        for job in self._store.list():
            if job.state == "running":
                self._store.change(job.job_id, state="waiting", unless=ENDED)
            if job.state == "receiving" and datetime.now(UTC) - self._store.last_sent(job) > ABANDONED:
                self.stop_job(job.job_id)
        self._delete_expired()

    def _delete_expired(self) -> None:
        delete_expired_files(self._store, retention=self._retention, max_bytes=self._retention_bytes)

    def _run(self, job: Job) -> None:
        if not self._store.change(
            job.job_id, state="running", started=job.started or datetime.now(UTC), error="", unless=ENDED
        ):
            return
        folder = self._store.files(job.job_id) if job.folder is None else Path(job.folder)
        end: dict[str, Any] = {}
        failure = ""
        try:
            summary = self._run_job(job, folder)
            if not self._end.is_set():
                end = {"state": "done", "summary": summary}
        except StoppedError:
            pass
        except sqlite3.Error:  # the list of jobs cannot be written, so the end of this job cannot either: retry later
            raise
        except (SonoseekError, OSError) as error:
            failure = str(error) or type(error).__name__
        except Exception as error:
            log.exception("a batch job failed")
            failure = f"unexpected {type(error).__name__}: {error}"
        if failure:
            end = {"state": "failed", "error": without_folder(failure, folder, *self._private_folders())}
        if end:
            self._store.change(job.job_id, finished=datetime.now(UTC), unless=ENDED, **end)
        if self._has_ended(job):
            if not self._exists(job):
                remove_folder(self._store.files(job.job_id))  # a file may have been written while the job was deleted
            self._delete_expired()

    def _run_job(self, job: Job, folder: Path) -> Mapping[str, Any]:
        if not folder.is_dir():
            raise InvalidValueError("the folder is not there any more; create the job again.")
        if job.kind != "index":
            return query_files(self._store, job, self._engine, folder=folder, stopped=lambda: self._stopped(job))
        if not self._writable or self._engine.gallery is None:
            raise InvalidValueError("this archive is open for reading only; start the server with --writable to add.")
        try:
            return index_folder(
                self._store,
                job,
                self._engine.encoder,
                gallery=self._engine.gallery.location,
                folder=folder,
                stopped=lambda: self._stopped(job),
                existing=self._existing(job),
            )
        finally:
            if self._on_index is not None:
                self._on_index()

    def _existing(self, job: Job) -> Collection[str]:
        """Datasets of the archive that a job may not write; read when it starts."""
        gallery = self._engine.gallery
        if gallery is None or job.started is not None or job.options.get("extend"):  # a build goes on, or may extend
            return ()
        gallery.refresh()
        return gallery.info().by_dataset.keys()

    def _private_folders(self) -> tuple[Path, ...]:
        """Folders that no error's text may name, besides a job's own."""
        location = "" if self._engine.gallery is None else self._engine.gallery.location
        return () if "://" in location else (Path(location).parent,)

    def _stopped(self, job: Job) -> bool:
        return self._end.is_set() or self._has_ended(job)

    def _has_ended(self, job: Job) -> bool:
        """Whether it has ended, or was deleted."""
        try:
            return self._store.get(job.job_id).ended
        except NotFoundError:
            return True

    def _exists(self, job: Job) -> bool:
        """Whether it was not deleted."""
        return any(each.job_id == job.job_id for each in self._store.list())
