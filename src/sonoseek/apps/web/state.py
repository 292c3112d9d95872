"""The application state: one server's engine, caches, worker pool and batch jobs, shared by all routes."""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

from sonoseek.apps.web.cached_report import (
    MAX_ENCODED_SCANS,
    MAX_ENCODED_SCANS_MB,
    MAX_REPORTS,
    MAX_REPORTS_MB,
    CachedReport,
    encoded_scan_bytes,
    report_bytes,
)
from sonoseek.apps.web.logging_metrics import Metrics
from sonoseek.apps.web.sessions import Sessions
from sonoseek.apps.web.settings import WebSettings
from sonoseek.apps.web.thread_pool import WorkerPool
from sonoseek.apps.web.ttl_cache import TTLCache
from sonoseek.apps.web.upload_store import Upload, UploadStore
from sonoseek.batch import BatchRunner, Job, JobStore, Row, folder_bytes, without_folder
from sonoseek.core import Box, InvalidValueError, NotFoundError, Scan, ScanReadError, SonoseekError
from sonoseek.core.files import lock_file, make_private_folder
from sonoseek.engine import EncodedScan, SearchEngine
from sonoseek.gallery import Gallery, GalleryInfo
from sonoseek.indexing.projection import Projection, project_gallery
from sonoseek.io import frame_count, read_scan
from sonoseek.pacs.rules import load_config
from sonoseek.pacs.worklist import Worklist


class AppState:
    """One server's shared objects. Its methods block: routes call them through `pool`."""

    def __init__(self, engine: SearchEngine, settings: WebSettings) -> None:
        """Open the state folder and start the batch thread.

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
        self.pool = WorkerPool(settings.cores, metrics=self.metrics)
        self.sessions = Sessions()
        self._temporary = None if settings.state else tempfile.TemporaryDirectory(prefix="sonoseek-")
        folder = settings.state or Path(self._temporary.name if self._temporary else "")
        make_private_folder(folder)
        lock = lock_file(folder / "lock")
        if lock is None:
            raise SonoseekError(
                f"another server uses the folder {folder}; one server at a time uses a state folder. Stop it, or name "
                "another folder with --state."
            )
        self._lock = lock
        ttl_s = settings.cache_minutes * 60
        self.upload_store = UploadStore(folder / "uploads")
        self.uploads: TTLCache[Upload] = TTLCache(
            "scan",
            max_entries=4096,
            ttl_s=ttl_s,
            max_size=settings.cache_mb << 20,
            size_of=lambda upload: upload.size,
            on_evict=lambda upload: UploadStore.remove(upload.path),
        )
        self.encoded_scans: TTLCache[EncodedScan] = TTLCache(
            "scan",
            max_entries=MAX_ENCODED_SCANS,
            ttl_s=ttl_s,
            max_size=MAX_ENCODED_SCANS_MB << 20,
            size_of=encoded_scan_bytes,
        )
        self.reports: TTLCache[CachedReport] = TTLCache(
            "report", max_entries=MAX_REPORTS, ttl_s=ttl_s, max_size=MAX_REPORTS_MB << 20, size_of=report_bytes
        )
        self.worklist = None if settings.pacs is None else Worklist(load_config(settings.pacs))
        self.jobs = JobStore(folder)
        self.runner = BatchRunner(
            self.jobs,
            engine,
            writable=settings.writable,
            on_index=self.gallery.refresh,
            retention=timedelta(hours=settings.batch_retention_hours),
            retention_bytes=settings.batch_retention_mb << 20,
        )
        self.runner.start()
        self.job_bytes: dict[str, int] = {}
        self._projection: Projection | None = None
        self._info: tuple[str, GalleryInfo] | None = None
        self._gallery_lock = threading.Lock()
        self._upload_lock = threading.Lock()
        self.closing = threading.Event()
        self._closed = False

    def save_upload(self, file: BinaryIO, name: str) -> Upload:
        """Store an uploaded file and count its frames. The same bytes sent again are stored once.

        Raises:
            ScanReadError: it is no scan; nothing is stored.
        """
        upload_id, path = self.upload_store.save(file, name)
        try:
            with self._without_folder(path):
                frames = frame_count(path)
        except BaseException:
            UploadStore.remove(path)
            raise
        upload = Upload(upload_id=upload_id, name=path.name, path=path, size=path.stat().st_size, frames=frames)
        with self._upload_lock:
            known = self.uploads.find(upload_id)
            if known is None:
                return self.uploads.put(upload_id, upload)
        UploadStore.remove(path)  # the same bytes are stored already, and may be in use
        return known

    def open_row(self, job: Job, row: Row) -> Upload:
        """Load the scan of a batch job's row, as if it had been uploaded now.

        Raises:
            InvalidValueError: the file was refused: there is no scan to open.
            NotFoundError: the file was deleted, or another one lies in its place.
        """
        if row.refused is not None:
            raise InvalidValueError(f"{row.name!r} was refused, so there is no scan to open: {row.refused}")
        upload = None
        with suppress(FileNotFoundError, NotADirectoryError):  # deleted between the two calls
            if (path := self.jobs.source(job, row.name)) is not None:
                with path.open("rb") as file:
                    upload = self.save_upload(file, path.name)
        if upload is None:
            raise NotFoundError(
                f"{row.name!r} is not on this server any more; the files of a batch job stay for "
                f"{self.settings.batch_retention_hours:g} hours after its end, {self.settings.batch_retention_mb} MiB "
                "in all. Drop the file on the page to query it again."
            )
        if self.load_scan(upload, frame=0).scan_id != row.outcome.get("scan_id"):
            raise NotFoundError(
                f"{row.name!r} has changed since the job queried it; the row is of the scan that it was. Drop the "
                "file on the page to query it as it is now."
            )
        return upload

    def encode(self, upload: Upload, *, frame: int, crop: Box | None, lesion: Box | None = None) -> EncodedScan:
        """One frame of an upload, preprocessed and run through the network; cached.

        Raises:
            ScanReadError, InvalidValueError: as `read_scan` and `SearchEngine.read`.
        """
        key = f"{upload.upload_id}/{frame}/{crop}/{lesion}"
        cached = self.encoded_scans.find(key)
        if cached is not None:
            return cached
        made = self.engine.read(self.load_scan(upload, frame=frame), crop=crop, lesion=lesion)
        encoded = self.encoded_scans.put(key, made)
        self.check_not_deleted(upload)
        return encoded

    def load_scan(self, upload: Upload, *, frame: int) -> Scan:
        """One frame of an upload, in its own pixels. A file of one frame that cannot be read is deleted.

        Raises:
            NotFoundError: it was deleted meanwhile.
            ScanReadError, InvalidValueError: as `read_scan`.
        """
        try:
            with self._without_folder(upload.path):
                return read_scan(upload.path, frame=frame)
        except NotFoundError:  # the file was deleted, or evicted
            self.uploads.remove(upload.upload_id)
            self.uploads.get(upload.upload_id)
            raise
        except ScanReadError:
            if upload.frames == 1:
                self.uploads.remove(upload.upload_id)
            raise

    def delete_upload(self, upload: Upload) -> None:
        """Delete an upload, and everything computed from it."""
        upload.deleted.set()
        if self.uploads.find(upload.upload_id) is upload:  # not the same scan, sent again meanwhile
            self.uploads.remove(upload.upload_id)
        self.encoded_scans.remove_if(lambda key, _: key.startswith(f"{upload.upload_id}/"))
        self.reports.remove_if(lambda _, cached: any(each.upload_id == upload.upload_id for each in cached.uploads))

    def check_not_deleted(self, *uploads: Upload) -> None:
        """Remove what was just computed from uploads that were deleted meanwhile.

        Raises:
            NotFoundError: one of them was deleted; nothing computed from it is cached.
        """
        for upload in uploads:
            if upload.deleted.is_set():
                self.delete_upload(upload)
                raise NotFoundError(f"{upload.name!r} was deleted while it was read; send it again.")

    def expire(self) -> None:
        """Evict what is past its time from all caches, and sessions that have ended."""
        self.sessions.expire()
        for cache in (self.reports, self.encoded_scans, self.uploads):
            cache.expire()

    @contextmanager
    def _without_folder(self, path: Path) -> Iterator[None]:
        """Count files that cannot be read, and take this machine's folders out of the error's text."""
        try:
            yield
        except SonoseekError as error:
            self.metrics.unread.inc()
            raise type(error)(str(error).replace(f"{path.parent}/", "")) from error

    def without_folders(self, text: str) -> str:
        """An error's text without the folders of the state and of the archive."""
        location = self.gallery.location
        folders: tuple[Path, ...] = () if "://" in location else (Path(location).parent,)
        if self.worklist is not None:
            folders += (self.worklist.folder,)
        return without_folder(text.replace(f"the gallery {location}", "the archive"), self.jobs.folder, *folders)

    def report_id(self, query: Mapping[str, Any], gallery_state: str) -> str:
        """24 hex digits; the same query to the same state of the archive has the same id."""
        key = json.dumps(
            [
                dict(query),
                self.engine.bundle.bundle_id,
                str(self.engine.bundle.calibration),
                self.gallery.gallery_id,
                gallery_state,
            ],
            sort_keys=True,
            default=str,
        )
        return hashlib.sha256(key.encode()).hexdigest()[:24]

    def count_job_bytes(self, job_id: str) -> int:
        """Bytes of a job's files; counted once, then updated by the route that receives more."""
        size = self.job_bytes.get(job_id)
        if size is None:
            size = folder_bytes(self.jobs.files(job_id))
        return self.job_bytes.setdefault(job_id, size)

    def projection(self) -> Projection:
        """The archive's projection; computed again when the archive has changed."""
        gallery_state = self.gallery.state()
        with self._gallery_lock:
            if self._projection is None or self._projection.gallery_state != gallery_state:
                self._projection = project_gallery(self.gallery)
            return self._projection

    def info(self) -> tuple[str, GalleryInfo]:
        """The archive's state and its counts; counted again when it has changed."""
        gallery_state = self.gallery.state()
        with self._gallery_lock:
            if self._info is None or self._info[0] != gallery_state:
                self._info = gallery_state, self.gallery.info()
                self.metrics.scans.set(self._info[1].scans)
            return self._info

    def warm_up(self) -> None:
        """Compute in advance what the first request would otherwise wait for."""
        self.gallery.refresh()
        self.info()
        self.projection()

    def close(self) -> None:
        """Finish what runs, and delete every upload. Closing twice is fine."""
        with self._gallery_lock:
            if self._closed:
                return
            self._closed = True
        self.closing.set()
        self.runner.close()
        self.pool.close()
        for cache in (self.reports, self.encoded_scans, self.uploads):
            cache.clear()
        self.upload_store.close()
        self.jobs.close()
        if self.worklist is not None:
            self.worklist.close()
        self.engine.close()
        self._lock.close()
        if self._temporary is not None:
            self._temporary.cleanup()
