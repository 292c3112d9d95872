"""What is wrong with a gallery on a Milvus server, and which patients hold most of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any

import numpy as np

from sonoseek.core import BIRADS_CATEGORIES, SonoseekError
from sonoseek.core.patients import PatientShare, largest_patients
from sonoseek.gallery.filter.milvus import EVERYTHING
from sonoseek.gallery.milvus import rows
from sonoseek.gallery.milvus.collections import GRAPH, read_meta
from sonoseek.gallery.milvus.search import read_pieces
from sonoseek.gallery.milvus.server import Server
from sonoseek.gallery.sqlite.write import prepare_entries
from sonoseek.gallery.values import UNKNOWN, GalleryInfo

_MOST = 20
_TOGETHER = 64


def describe(server: Server, name: str, *, location: str) -> GalleryInfo:
    """See `Gallery.info`."""
    meta = read_meta(server, name)
    fields = ["case_key", "pathology", "dataset", "device", "birads", "content"]
    tallies: list[Counter[str]] = [Counter(), Counter(), Counter(), Counter()]
    cases: set[str] = set()
    texts = 0
    for row in server.every(name, EVERYTHING, fields):
        cases.add(row["case_key"])
        texts += len(row["content"])
        for tally, field in zip(tallies, fields[1:5], strict=True):
            tally[row[field][1:] or UNKNOWN] += 1
    by_label, by_dataset, by_device, by_birads = tallies
    scans = by_label.total()
    return GalleryInfo(
        gallery_id=meta["gallery_id"],
        engine="milvus",
        location=location,
        bundle_id=meta["bundle_id"],
        dimension=meta["dimension"],
        scans=scans,
        cases=len(cases),
        by_label=dict(by_label.most_common()),
        by_dataset=dict(by_dataset.most_common()),
        by_device=dict(by_device.most_common()),
        by_birads={name: by_birads[name] for name in (*BIRADS_CATEGORIES, UNKNOWN) if by_birads[name]},
        bytes=scans * (4 * meta["dimension"] + 8 * GRAPH["M"]) + texts,
        cache_bytes=0,
        index=f"HNSW of the server (M {GRAPH['M']}), best hits ranked again exactly; strong consistency",
        schema_version=int(meta["schema"]),
        sonoseek_version=str(meta["sonoseek_version"]),
        created=datetime.fromisoformat(meta["created"]),
    )


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
    """See `Gallery.verify`: every digest is computed again, every picture decoded."""
    total = server.count(name, EVERYTHING)
    problems: list[str] = []
    done = 0
    stored = server.every(name, EVERYTHING, [*rows.ENTRY_FIELDS, "embedding"])
    while block := list(islice(stored, _TOGETHER)):
        pieces = read_pieces(server, f"{name}_kept", block, "pe")
        for row in block:
            problems += _about(row, pieces.get(rows.owner_of(row)), dimension)
            done += 1
            if on_progress is not None:
                on_progress(done, total)
    if done != total:
        problems.append(f"{done} scans were read, {total} were counted; writers may be at work: try again")
    if len(problems) > _MOST:
        problems = [*problems[:_MOST], f"… and {len(problems) - _MOST} more"]
    return tuple(problems)


def _about(row: dict[str, Any], pieces: dict[str, bytes] | None, dimension: int) -> Iterator[str]:
    from sonoseek.encoder import evidence_problem
    from sonoseek.gallery.pictures import picture_problem

    scan = f"scan {row['scan_id']}"
    if pieces is None:
        yield f"{scan}: pieces of its picture or evidence are missing; build its case again"
        return
    try:
        entry = rows.entry_from_row(row, pieces)
        (case,) = (prepared := prepare_entries([entry], dimension=dimension)).cases
        fields = rows.scan_fields(prepared.cases[case], prepared.scans[case][entry.scan_id])
    except (SonoseekError, ValueError) as error:
        yield f"{scan}: {error}"
        return
    if (fields["scan_digest"], fields["case_digest"]) != (row["scan_digest"], row["case_digest"]):
        yield f"{scan} is not what was written; build its case again"
    if not np.allclose(fields["embedding"], row["embedding"], atol=1e-6):
        yield f"{scan}: its vector is not that of its embedding; build its case again"
    problem = "is missing" if entry.picture is None else picture_problem(entry.picture)
    if problem is not None:
        yield f"{scan}: its picture {problem}"
    if entry.evidence is not None and (problem := evidence_problem(entry.evidence)) is not None:
        yield f"{scan}: its evidence {problem}; build its case again"
