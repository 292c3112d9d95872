"""Work on many scans that outlives the process which began it: ask, evaluate or index a folder, row by row.

    store = JobStore("state/jobs.sqlite")
    job = store.create("query", title="monday", total=120)
    BatchRunner(store, engine).start()

A job's files, its rows and how far it is lie on disk; a runner that is killed in the middle goes on where the last row
was written, and no row is written twice.
"""

from sonoseek.batch.files import safe_name, without_folder
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
    "safe_name",
    "without_folder",
]
