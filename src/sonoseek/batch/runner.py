"""One thread that works the jobs off, in the order in which they were begun."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sonoseek.batch.asking import ask_files
from sonoseek.batch.files import remove_folder, without_folder
from sonoseek.batch.indexing import StoppedError, index_folder
from sonoseek.batch.job import ENDED, Job
from sonoseek.batch.store import JobStore
from sonoseek.core import InvalidValueError, NotFoundError, SonoseekError
from sonoseek.engine import SearchEngine

log = logging.getLogger(__name__)
ABANDONED = timedelta(days=1)
"""A job that receives files for longer keeps nothing when a server starts."""


class BatchRunner:
    """Works on a store's jobs, one at a time, in a thread of its own."""

    def __init__(
        self,
        store: JobStore,
        engine: SearchEngine,
        *,
        writable: bool = False,
        on_index: Callable[[], None] | None = None,
    ) -> None:
        """Get ready; `start` begins.

        Args:
            store: of the jobs.
            engine: that answers; its gallery is the one that index jobs write to.
            writable: whether index jobs may run.
            on_index: called when one has changed the gallery.
        """
        self._store = store
        self._engine = engine
        self._writable = writable
        self._on_index = on_index
        self._wake = threading.Event()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, name="sonoseek-batch", daemon=True)

    def start(self) -> None:
        """Take up what a process that ended left, and whatever comes."""
        for job in self._store.list():
            if job.state == "running":
                self._store.change(job.job_id, state="waiting")
            if job.state == "receiving" and datetime.now(UTC) - job.created > ABANDONED:
                self.stop_job(job.job_id)  # whoever sent its files has gone
            if job.ended:
                remove_folder(self._store.files(job.job_id))
        self._thread.start()
        self._wake.set()

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
                remove_folder(self._store.files(job_id))
        return self._store.get(job_id)

    def close(self, *, timeout_s: float = 10.0) -> None:
        """Finish the file at hand and end; the job goes on when a runner starts again."""
        self._end.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _work(self) -> None:
        while not self._end.is_set():
            waiting = [job for job in reversed(self._store.list()) if job.state == "waiting"]
            if not waiting:
                self._wake.wait(timeout=1.0)
                self._wake.clear()
                continue
            self._run(waiting[0])

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
            remove_folder(self._store.files(job.job_id))

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
            )
        finally:
            if self._on_index is not None:
                self._on_index()

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
