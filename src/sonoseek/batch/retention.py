"""How long the files of an ended job are kept, so that a row of its table opens the scan it is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sonoseek.batch.files import folder_bytes, remove_folder
from sonoseek.batch.store import JobStore


def delete_expired_files(store: JobStore, *, retention: timedelta, max_bytes: int) -> None:
    """Delete the files of ended jobs that are past the retention time or beyond the size limit.

    Files of an index job, and of a job without a row to open, are deleted at once. Of the others those of the jobs that
    ended last are kept.

    Args:
        store: of the jobs.
        retention: time after the end of a job; zero keeps nothing.
        max_bytes: of all kept files together.
    """
    now, left = datetime.now(UTC), max_bytes
    ended = [job for job in store.list() if job.ended and store.files(job.job_id).is_dir()]
    for job in sorted(ended, key=lambda job: job.finished or job.created, reverse=True):
        folder = store.files(job.job_id)
        size = folder_bytes(folder)
        has_rows_to_open = job.kind != "index" and job.done > job.refused
        if not has_rows_to_open or now - (job.finished or job.created) >= retention or size > left:
            remove_folder(folder)
        else:
            left -= size
