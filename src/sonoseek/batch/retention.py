"""How long the files of a job that has ended stay: a row of its table opens the very scan that was asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from sonoseek.batch.files import remove_folder
from sonoseek.batch.job import Job
from sonoseek.batch.store import JobStore


def let_go(store: JobStore, *, keep: timedelta, most: int) -> None:
    """Take off the disk the files of ended jobs that are past their time or beyond the room for them.

    Files of an index job, and of a job without a row to open, go at once. Of the others those of the jobs that ended
    last are kept.

    Args:
        store: of the jobs.
        keep: after the end of a job; zero keeps nothing.
        most: bytes of all kept files together.
    """
    now, left = datetime.now(UTC), most
    ended = [job for job in store.list() if job.ended and store.files(job.job_id).is_dir()]
    for job in sorted(ended, key=lambda job: job.finished or job.created, reverse=True):
        folder = store.files(job.job_id)
        size = _bytes(folder)
        if not _opens(job) or now - (job.finished or job.created) >= keep or size > left:
            remove_folder(folder)
        else:
            left -= size


def _opens(job: Job) -> bool:
    return job.kind != "index" and job.done > job.refused


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
