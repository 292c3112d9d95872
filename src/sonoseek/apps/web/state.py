"""Everything that the routes share: one server's engine, shelves, workers and jobs."""

from __future__ import annotations

import fcntl
import hashlib
import json
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

from sonoseek.apps.web.cache import (
    READINGS,
    READINGS_MB,
    REPORTS,
    REPORTS_MB,
    HeldReport,
    Shelf,
    Spool,
    Upload,
    reading_bytes,
    report_bytes,
)
from sonoseek.apps.web.logging_metrics import Metrics
from sonoseek.apps.web.settings import WebSettings
from sonoseek.apps.web.thread_pool import Workers
from sonoseek.batch import BatchRunner, Job, JobStore, Row, without_folder
from sonoseek.core import Box, InvalidValueError, NotFoundError, Scan, ScanReadError, SonoseekError
from sonoseek.engine import EncodedScan, SearchEngine
from sonoseek.gallery import Gallery, GalleryInfo
from sonoseek.indexing.projection import ArchiveMap, draw_map
from sonoseek.io import frame_count, read_scan


class Room:
    """One server's things. Its methods block: routes call them through `workers`."""

    def __init__(self, engine: SearchEngine, settings: WebSettings) -> None:
        """Open the state's folder and begin the batch thread.

        Args:
            engine: with a gallery; closed by `close`.
            settings: of the server.

        Raises:
            InvalidValueError: the engine has no gallery.
            SonoseekError: another server uses this state folder.
        """
        if engine.gallery is None:
            raise InvalidValueError("the engine has no gallery; the reading room needs one. Open it with --gallery.")
        self.engine = engine
        self.gallery: Gallery = engine.gallery
        self.settings = settings
        self.metrics = Metrics()
        self.workers = Workers(settings.cores, metrics=self.metrics)
        self.sessions: set[str] = set()
        self._own_state = None if settings.state else tempfile.TemporaryDirectory(prefix="sonoseek-")
        folder = settings.state or Path(self._own_state.name if self._own_state else "")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock_file = self._alone(folder)
        seconds = settings.cache_minutes * 60
        self.spool = Spool(folder / "uploads")
        self.uploads: Shelf[Upload] = Shelf(
            "scan",
            count=4096,
            seconds=seconds,
            most=settings.cache_mb << 20,
            size=lambda upload: upload.size,
            on_leave=lambda upload: Spool.remove(upload.path),
        )
        self.readings: Shelf[EncodedScan] = Shelf(
            "scan", count=READINGS, seconds=seconds, most=READINGS_MB << 20, size=reading_bytes
        )
        self.reports: Shelf[HeldReport] = Shelf(
            "report", count=REPORTS, seconds=seconds, most=REPORTS_MB << 20, size=report_bytes
        )
        self.jobs = JobStore(folder)
        self.runner = BatchRunner(
            self.jobs,
            engine,
            writable=settings.writable,
            on_index=self.gallery.refresh,
            keep=timedelta(hours=settings.batch_retention_hours),
            keep_bytes=settings.batch_retention_mb << 20,
        )
        self.runner.start()
        self.weights: dict[str, int] = {}
        self._map: ArchiveMap | None = None
        self._info: tuple[str, GalleryInfo] | None = None
        self._looking = threading.Lock()
        self._keeping = threading.Lock()
        self.closing = threading.Event()

    def keep(self, file: BinaryIO, name: str) -> Upload:
        """Take in a file that was sent, and see how many frames it has. The same bytes sent again are kept once.

        Raises:
            ScanReadError: it is no scan; nothing is kept.
        """
        upload_id, path = self.spool.keep(file, name)
        try:
            with self._unplaced(path):
                frames = frame_count(path)
        except BaseException:
            Spool.remove(path)
            raise
        upload = Upload(upload_id=upload_id, name=path.name, path=path, size=path.stat().st_size, frames=frames)
        with self._keeping:
            held = self.uploads.find(upload_id)
            if held is None:
                return self.uploads.put(upload_id, upload)
        Spool.remove(path)  # the same bytes are here already, perhaps being read
        return held

    def open_row(self, job: Job, row: Row) -> Upload:
        """Bring the scan that a row of a batch job was made of to hand, as if it had been sent now.

        Raises:
            InvalidValueError: the file was refused: there is no scan to open.
            NotFoundError: the file is not there any more, or another one lies in its place.
        """
        if row.refused is not None:
            raise InvalidValueError(f"{row.name!r} was refused, so there is no scan to open: {row.refused}")
        upload = None
        with suppress(FileNotFoundError, NotADirectoryError):  # taken away between the two calls
            if (path := self.jobs.source(job, row.name)) is not None:
                with path.open("rb") as file:
                    upload = self.keep(file, path.name)
        if upload is None:
            raise NotFoundError(
                f"{row.name!r} is not on this server any more; the files of a batch job stay for "
                f"{self.settings.batch_retention_hours:g} hours after its end, {self.settings.batch_retention_mb} MiB in all. "
                "Drop the file on the page to ask about it again."
            )
        if self.scan(upload, frame=0).scan_id != row.outcome.get("scan_id"):
            raise NotFoundError(
                f"{row.name!r} has changed since the job asked about it; the row is of the scan that it was. Drop the "
                "file on the page to ask about it as it is now."
            )
        return upload

    def read(self, upload: Upload, *, frame: int, crop: Box | None, lesion: Box | None = None) -> EncodedScan:
        """What the network makes of one frame of a file; remembered for a while.

        Raises:
            ScanReadError, InvalidValueError: as `read_scan` and `SearchEngine.read`.
        """
        key = f"{upload.upload_id}/{frame}/{crop}/{lesion}"
        held = self.readings.find(key)
        if held is not None:
            return held
        made = self.engine.read(self.scan(upload, frame=frame), crop=crop, lesion=lesion)
        reading = self.readings.put(key, made)
        self.check_wanted(upload)
        return reading

    def scan(self, upload: Upload, *, frame: int) -> Scan:
        """One frame of a file, as it was sent. A file of one frame that does not read is let go: it never will.

        Raises:
            NotFoundError: it was taken away meanwhile.
            ScanReadError, InvalidValueError: as `read_scan`.
        """
        try:
            with self._unplaced(upload.path):
                return read_scan(upload.path, frame=frame)
        except NotFoundError:  # its file has left, as one that was deleted or had its time does
            self.uploads.drop(upload.upload_id)
            self.uploads.get(upload.upload_id)
            raise
        except ScanReadError:
            if upload.frames == 1:
                self.uploads.drop(upload.upload_id)
            raise

    def forget(self, upload: Upload) -> None:
        """Take a file away, and all that was made of it."""
        upload.deleted.set()
        if self.uploads.find(upload.upload_id) is upload:  # not the same scan, sent again meanwhile
            self.uploads.drop(upload.upload_id)
        self.readings.drop_all(lambda key, _: key.startswith(f"{upload.upload_id}/"))
        self.reports.drop_all(lambda _, held: any(each.upload_id == upload.upload_id for each in held.uploads))

    def check_wanted(self, *uploads: Upload) -> None:
        """Hold what was just made of files against what was taken away while it was made.

        Raises:
            NotFoundError: one of them was; nothing that was made of it is at hand any more.
        """
        for upload in uploads:
            if upload.deleted.is_set():
                self.forget(upload)
                raise NotFoundError(f"{upload.name!r} was deleted while it was read; send it again.")

    def tidy(self) -> None:
        """Let go of what has had its time."""
        for shelf in (self.reports, self.readings, self.uploads):
            shelf.tidy()

    @contextmanager
    def _unplaced(self, path: Path) -> Iterator[None]:
        """Counts what cannot be read, and says so without naming this machine's folders."""
        try:
            yield
        except SonoseekError as error:
            self.metrics.unread.inc()
            raise type(error)(str(error).replace(f"{path.parent}/", "")) from error

    def unplaced(self, text: str) -> str:
        """An error's sentence without this machine's folders: of the state, and of the archive."""
        location = self.gallery.location
        places = () if "://" in location else (Path(location).parent,)
        return without_folder(text.replace(f"the gallery {location}", "the archive"), self.jobs.folder, *places)

    def report_id(self, question: Mapping[str, Any], state: str) -> str:
        """Names a question to one state of the archive: the same question has the same name."""
        told = json.dumps(
            [
                dict(question),
                self.engine.bundle.bundle_id,
                str(self.engine.bundle.calibration),
                self.gallery.gallery_id,
                state,
            ],
            sort_keys=True,
            default=str,
        )
        return hashlib.sha256(told.encode()).hexdigest()[:24]

    def weight(self, job_id: str) -> int:
        """Bytes of a job's files; counted once, then kept up by whoever sends more."""
        found = self.weights.get(job_id)
        if found is None:
            folder = self.jobs.files(job_id)
            found = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
        return self.weights.setdefault(job_id, found)

    def map(self) -> ArchiveMap:
        """The overview of the archive as it is now; drawn again when the archive has changed."""
        state = self.gallery.state()
        with self._looking:
            if self._map is None or self._map.gallery_state != state:
                self._map = draw_map(self.gallery)
            return self._map

    def info(self) -> tuple[str, GalleryInfo]:
        """The archive's state and what it holds; counted again when it has changed."""
        state = self.gallery.state()
        with self._looking:
            if self._info is None or self._info[0] != state:
                self._info = state, self.gallery.info()
                self.metrics.scans.set(self._info[1].scans)
            return self._info

    def warm_up(self) -> None:
        """Do once what the first reader would otherwise wait for."""
        self.gallery.refresh()
        self.info()
        self.map()

    def close(self) -> None:
        """Finish what runs, and leave nothing that was sent on the disk."""
        self.closing.set()
        self.runner.close()
        self.workers.close()
        for shelf in (self.reports, self.readings, self.uploads):
            shelf.clear()
        self.spool.close()
        self.jobs.close()
        self.engine.close()
        self._lock_file.close()
        if self._own_state is not None:
            self._own_state.cleanup()

    @staticmethod
    def _alone(folder: Path) -> Any:
        lock = (folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise SonoseekError(
                f"another server uses the folder {folder}; one server looks after a state folder. Stop it, or name "
                "another folder with --state."
            ) from None
        return lock
