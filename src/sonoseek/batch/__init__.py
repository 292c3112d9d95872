"""Batch jobs on many scans that survive a restart: query, evaluate or index a folder, row by row.

    store = JobStore("state/jobs.sqlite")
    job = store.create("query", title="monday", total=120)
    BatchRunner(store, engine).start()

A job's files, rows and progress lie on disk. A runner that is killed in the middle continues after the last row, and no
row is written twice.
"""

from sonoseek.batch.files import folder_bytes, safe_name, without_folder
from sonoseek.batch.indexing import check_name, check_new
from sonoseek.batch.job import KINDS, Job, JobKind, JobState, Row
from sonoseek.batch.runner import BatchRunner
from sonoseek.batch.store import JobStore

__all__ = [
    "KINDS",
    "BatchRunner",
    "Job",
    "JobKind",
    "JobState",
    "JobStore",
    "Row",
    "check_name",
    "check_new",
    "folder_bytes",
    "safe_name",
    "without_folder",
]
