"""What is wrong with a gallery on a Milvus server, and which patients hold most of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from sonoseek.core import SonoseekError
from sonoseek.core.patients import PatientShare, largest_patients
from sonoseek.gallery.filter.milvus import EVERYTHING
from sonoseek.gallery.milvus import rows
from sonoseek.gallery.milvus.search import read_pieces
from sonoseek.gallery.milvus.server import Server
from sonoseek.gallery.sqlite.write import prepare_entries

_MOST = 20
_TOGETHER = 64


def find_largest_patients(server: Server, name: str) -> tuple[PatientShare, ...]:
    """See `Gallery.largest_patients`."""
    rows_there = server.every(name, EVERYTHING, ["case_key", "patient_key"])
    cases = {row["case_key"]: row["patient_key"] for row in rows_there}
    return largest_patients(
        (json.loads(case)[0], json.loads(patient)[1] if patient else None) for case, patient in cases.items()
    )


def find_problems(
    server: Server, name: str, *, dimension: int, on_progress: Callable[[int, int], None] | None
) -> tuple[str, ...]:
    """See `Gallery.verify`: every digest is worked out again, every picture decoded."""
    total = server.count(name, EVERYTHING)
    problems: list[str] = []
    done = 0
    found = server.every(name, EVERYTHING, [*rows.ENTRY_FIELDS, "embedding"])
    while block := list(islice(found, _TOGETHER)):
        kept = read_pieces(server, f"{name}_kept", block, "pe")
        for row in block:
            problems += _about(row, kept.get(rows.owner_of(row)), dimension)
            done += 1
            if on_progress is not None:
                on_progress(done, total)
    if done != total:
        problems.append(f"{done} scans were read, {total} were counted; writers may be at work: try again")
    if len(problems) > _MOST:
        problems = [*problems[:_MOST], f"… and {len(problems) - _MOST} more"]
    return tuple(problems)


def _about(row: dict[str, Any], kept: dict[str, bytes] | None, dimension: int) -> Iterator[str]:
    from sonoseek.encoder import evidence_problem
    from sonoseek.gallery.pictures import picture_problem

    told = f"scan {row['scan_id']}"
    if kept is None:
        yield f"{told}: pieces of its picture or evidence are missing; build its case again"
        return
    try:
        entry = rows.read_entry(row, kept)
        (case,) = (prepared := prepare_entries([entry], dimension=dimension)).cases
        fields = rows.scan_fields(prepared.cases[case], prepared.scans[case][entry.scan_id])
    except (SonoseekError, ValueError) as error:
        yield f"{told}: {error}"
        return
    if (fields["scan_digest"], fields["case_digest"]) != (row["scan_digest"], row["case_digest"]):
        yield f"{told} is not what was written; build its case again"
    if not np.allclose(fields["embedding"], row["embedding"], atol=1e-6):
        yield f"{told}: its vector is not that of its embedding; build its case again"
    problem = "is missing" if entry.picture is None else picture_problem(entry.picture)
    if problem is not None:
        yield f"{told}: its picture {problem}"
    if entry.evidence is not None and (problem := evidence_problem(entry.evidence)) is not None:
        yield f"{told}: its evidence {problem}; build its case again"
