"""A batch job, and its row for each file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, cast, get_args

from sonoseek.core import InvalidValueError

JobKind = Literal["query", "evaluate", "index"]
KINDS: tuple[str, ...] = get_args(JobKind)
JobState = Literal["receiving", "waiting", "running", "done", "stopped", "failed"]
ENDED: tuple[JobState, ...] = ("done", "stopped", "failed")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job on many files, and its progress.

    Attributes:
        job_id: 16 random hex digits.
        kind: "query": every file is queried; "evaluate": the same, scored against the reference
            standard that the folders' names state; "index": the folder is indexed into the gallery.
        state: "receiving" files, "waiting" for its turn, "running"; "done", "stopped" by a user, "failed" as a whole.
        title: as the user named it; the dataset of an index job.
        owner: who created it, a hash; "": everybody.
        folder: on this machine, where the files were not uploaded; None: they were.
        options: of the queries: k, where, per_patient, deduplicate; of an index job, extend.
        total: files in all; 0 until it is known.
        done: files that are finished, refused ones among them.
        refused: files that could not be read or kept.
        created, started, finished: UTC; None: not yet.
        error: why it failed; "" otherwise.
        summary: counts, and for "evaluate" the metrics.
    """

    job_id: str
    kind: JobKind
    state: JobState
    title: str
    owner: str = ""
    folder: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    total: int = 0
    done: int = 0
    refused: int = 0
    created: datetime
    started: datetime | None = None
    finished: datetime | None = None
    error: str = ""
    summary: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ENDED


@dataclass(frozen=True, kw_only=True)
class Row:
    """The result for one file.

    Attributes:
        number: in the order in which they were finished, from 1.
        name: of the file, within its folder.
        refused: why it was left out, or None.
        outcome: its prediction and first match, see `batch.query.describe`; empty where it was refused.
    """

    number: int
    name: str
    refused: str | None = None
    outcome: Mapping[str, Any] = field(default_factory=dict)


def check_kind(kind: str) -> JobKind:
    """One of `KINDS`.

    Raises:
        InvalidValueError: another kind.
    """
    if kind not in KINDS:
        raise InvalidValueError(f"kind is {kind!r}; a batch job is one of {', '.join(KINDS)}.")
    return cast(JobKind, kind)
