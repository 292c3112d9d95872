"""One thread that works the jobs off, in the order in which they were begun."""

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
from sonoseek.batch.query import ask_files
from sonoseek.batch.retention import let_go
from sonoseek.batch.store import JobStore
from sonoseek.core import InvalidValueError, NotFoundError, SonoseekError
from sonoseek.engine import SearchEngine

log = logging.getLogger(__name__)
ABANDONED = timedelta(days=1)
"""A job that has received no file for longer is nobody's: it is stopped, and its files are taken off the disk."""
PAUSE_S = 5.0
"""Seconds after which a thread that met trouble, a full disk say, tries again."""
SWEEP_S = 600.0
"""Seconds between looks for abandoned jobs, and for files that have had their time."""


class BatchRunner:
    """Works on a store's jobs, one at a time, in a thread of its own."""

    def __init__(
        self,
        store: JobStore,
        engine: SearchEngine,
        *,
        writable: bool = False,
        on_index: Callable[[], None] | None = None,
        keep: timedelta = timedelta(0),
        keep_bytes: int = 0,
    ) -> None:
        """Get ready; `start` begins.

        Args:
            store: of the jobs.
            engine: that answers; its gallery is the one that index jobs write to.
            writable: whether index jobs may run.
            on_index: called when one has changed the gallery.
            keep: how long the files of a job stay after it has ended, so that its rows can be opened; zero: not at all.
            keep_bytes: of all such files together, at most.
        """
        self._store = store
        self._engine = engine
        self._writable = writable
        self._on_index = on_index
        self._keep, self._keep_bytes = keep, keep_bytes
        self._wake = threading.Event()
        self._end = threading.Event()
        self._troubled = False
        self._thread = threading.Thread(target=self._work, name="sonoseek-batch", daemon=True)

    def start(self) -> None:
        """Take up what a process that ended left, and whatever comes."""
        self._take_up()
        self._thread.start()
        self._wake.set()

    @property
    def alive(self) -> bool:
        """Whether there is anybody to work on jobs."""
        return self._thread.is_alive()

    @property
    def troubled(self) -> bool:
        """Whether jobs wait because their list cannot be written, on a full disk say; tried again every few seconds."""
        return self._troubled

    def submit(self, job_id: str) -> Job:
        """All files are there: let the job wait for its turn.

        Raises:
            NotFoundError: no such job.
            InvalidValueError: it is not receiving files any more; it has none; or it would write and must not.
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
        """A job is waiting: look now, not in a second."""
        self._wake.set()

    def stop_job(self, job_id: str) -> Job:
        """End a job where it is; what was finished is kept.

        Raises:
            NotFoundError: no such job.
        """
        job = self._store.get(job_id)
        if not job.ended:
            self._store.change(job_id, state="stopped", finished=datetime.now(UTC), unless=ENDED)
            if job.state != "running":
                self._let_go()
        return self._store.get(job_id)

    def close(self, *, timeout_s: float = 10.0) -> None:
        """Finish the file at hand and end; the job goes on when a runner starts again."""
        self._end.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _work(self) -> None:
        """Until the end, whatever happens: had it died of a full disk, every later job would wait for ever."""
        swept = time.monotonic()
        while not self._end.is_set():
            try:
                if self._troubled:
                    self._take_up()
                    self._troubled = False
                if time.monotonic() - swept > SWEEP_S:
                    self._take_up()
                    swept = time.monotonic()
                if (job := self._store.next_waiting()) is not None:
                    self._run(job)
                    continue
            except Exception:
                log.exception("the batch thread met trouble and tries again in %g s", PAUSE_S)
                self._troubled = True
                self._end.wait(PAUSE_S)
                continue
            self._wake.wait(timeout=1.0)
            self._wake.clear()

    def _take_up(self) -> None:
        """What nobody works on waits for its turn again; what nobody sends any more ends."""
        for job in self._store.list():
            if job.state == "running":
                self._store.change(job.job_id, state="waiting", unless=ENDED)
            if job.state == "receiving" and datetime.now(UTC) - self._store.last_sent(job) > ABANDONED:
                self.stop_job(job.job_id)
        self._let_go()

    def _let_go(self) -> None:
        let_go(self._store, keep=self._keep, most=self._keep_bytes)

    def _run(self, job: Job) -> None:
        if not self._store.change(
            job.job_id, state="running", started=job.started or datetime.now(UTC), error="", unless=ENDED
        ):
            return
        folder = self._store.files(job.job_id) if job.folder is None else Path(job.folder)
        ended: dict[str, Any] = {}
        try:
            summary = self._do(job, folder)
            if not self._end.is_set():
                ended = {"state": "done", "summary": summary}
        except StoppedError:
            pass
        except sqlite3.Error:  # the list of jobs cannot be written, so neither can an end of this one: try again later
            raise
        except (SonoseekError, OSError) as error:
            ended = {
                "state": "failed",
                "error": without_folder(str(error), folder, *self._places()) or type(error).__name__,
            }
        except Exception as error:
            log.exception("a batch job broke")
            told = f"unexpected {type(error).__name__}: {error}"
            ended = {"state": "failed", "error": without_folder(told, folder, *self._places())}
        if ended:
            self._store.change(job.job_id, finished=datetime.now(UTC), unless=ENDED, **ended)
        if self._over(job):
            if not self._known(job):
                remove_folder(self._store.files(job.job_id))  # of a file that was written while the job was deleted
            self._let_go()

    def _do(self, job: Job, folder: Path) -> Mapping[str, Any]:
        if not folder.is_dir():
            raise InvalidValueError("the folder is not there any more; begin the job anew.")
        if job.kind != "index":
            return ask_files(self._store, job, self._engine, folder=folder, stopped=lambda: self._stopped(job))
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
                taken=self._taken(job),
            )
        finally:
            if self._on_index is not None:
                self._on_index()

    def _taken(self, job: Job) -> Collection[str]:
        """Datasets of the archive that a job may not write; asked as it begins, for much may have come since."""
        gallery = self._engine.gallery
        if gallery is None or job.started is not None or job.options.get("extend"):  # it goes on, or is meant to
            return ()
        gallery.refresh()
        return gallery.info().by_dataset.keys()

    def _places(self) -> tuple[Path, ...]:
        """Folders that no error's sentence may name, besides a job's own."""
        location = "" if self._engine.gallery is None else self._engine.gallery.location
        return () if "://" in location else (Path(location).parent,)

    def _stopped(self, job: Job) -> bool:
        return self._end.is_set() or self._over(job)

    def _over(self, job: Job) -> bool:
        """Whether nobody wants it any more: it has ended, or a person stopped it and then deleted it meanwhile."""
        try:
            return self._store.get(job.job_id).ended
        except NotFoundError:
            return True

    def _known(self, job: Job) -> bool:
        """Whether it was not deleted meanwhile."""
        return any(each.job_id == job.job_id for each in self._store.list())
