"""What a batch job is, and what it says of each file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from sonoseek.core import InvalidValueError

JobKind = Literal["query", "evaluate", "index"]
KINDS: tuple[str, ...] = get_args(JobKind)
JobState = Literal["receiving", "waiting", "running", "done", "stopped", "failed"]
ENDED: tuple[JobState, ...] = ("done", "stopped", "failed")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A piece of work on many files, as it stands.

    Attributes:
        job_id: 16 hex digits, drawn.
        kind: "query": every file is asked; "evaluate": the same, scored against the reference
            standard that the folders' names state; "index": the folder goes into the gallery.
        state: "receiving" files, "waiting" for its turn, "running"; "done", "stopped" by a person, "failed" as a whole.
        title: as the person named it; an index job's dataset.
        folder: on this machine, when the files were not sent; None: they were.
        options: what the work needs to know: k, where, per_patient, deduplicate; of an index job, extend.
        total: files in all; 0 until it is known.
        done: files that are finished, refused ones among them.
        refused: files that could not be read or kept.
        created, started, finished: UTC; None: not yet.
        error: why it failed; "" otherwise.
        summary: what came out of the whole: counts, and for "evaluate" the figures.
    """

    job_id: str
    kind: JobKind
    state: JobState
    title: str
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
    """What came of one file.

    Attributes:
        number: in the order in which they were finished, from 1.
        name: of the file, within its folder.
        refused: why it was left out, or None.
        outcome: what was said of it; empty when it was refused.
    """

    number: int
    name: str
    refused: str | None = None
    outcome: Mapping[str, Any] = field(default_factory=dict)


def check_kind(kind: str) -> JobKind:
    """One of `KINDS`.

    Raises:
        InvalidValueError: another word.
    """
    if kind not in KINDS:
        raise InvalidValueError(f"kind is {kind!r}; a batch job is one of {', '.join(KINDS)}.")
    found: JobKind = kind  # type: ignore[assignment]  # it is among them
    return found
