"""What a gallery file holds, and what is wrong with it."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import BIRADS_CATEGORIES, GalleryError
from sonoseek.core.patients import PatientShare
from sonoseek.gallery.sqlite.database import SCHEMA_VERSION
from sonoseek.gallery.sqlite.digests import differing
from sonoseek.gallery.sqlite.index import kind_for
from sonoseek.gallery.sqlite.index_files import SearchIndex, cache_files, damaged_block, load_index
from sonoseek.gallery.sqlite.rows import read_descriptors
from sonoseek.gallery.sqlite.versions import (
    column,
    count_changes,
    count_rows,
    current_state,
    is_remembered,
    read_embeddings,
    read_meta,
)
from sonoseek.gallery.values import UNKNOWN, GalleryInfo, Index

_MOST = 20
"""Sentences of one kind that are listed; the rest are counted."""


def describe(connection: sqlite3.Connection, path: Path, *, index: Index) -> GalleryInfo:
    """See `Gallery.info`."""
    meta = read_meta(connection)
    if lost := [key for key in ("sonoseek_version", "created") if not isinstance(meta.get(key), str)]:
        raise GalleryError(f"{path} has lost its {', '.join(lost)}; it is damaged. Restore it from a copy.")
    tallies: list[Counter[str]] = [Counter(), Counter(), Counter(), Counter()]
    for *values, scans in connection.execute(
        """SELECT pathology, dataset, device, birads, count(*) FROM scans JOIN cases USING (case_key)
        GROUP BY pathology, dataset, device, birads"""
    ):
        for tally, value in zip(tallies, values, strict=True):
            tally[UNKNOWN if value is None else value] += scans
    by_label, by_dataset, by_device, by_birads = tallies
    scans = count_rows(connection)
    cases = count_rows(connection, "cases")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return GalleryInfo(
        gallery_id=meta["gallery_id"],
        engine="sqlite",
        location=str(path),
        bundle_id=meta["bundle_id"],
        dimension=meta["dimension"],
        scans=scans,
        cases=cases,
        by_label=dict(by_label.most_common()),
        by_dataset=dict(by_dataset.most_common()),
        by_device=dict(by_device.most_common()),
        by_birads={name: by_birads[name] for name in (*BIRADS_CATEGORIES, UNKNOWN) if by_birads[name]},
        bytes=sum(map(_size, (path, path.with_name(path.name + "-wal")))),
        cache_bytes=sum(map(_size, cache_files(path))),
        index=_index_in_words(connection, path, meta, index=index, scans=scans),
        schema_version=version,
        sonoseek_version=meta["sonoseek_version"],
        created=datetime.fromisoformat(meta["created"]),
    )


def largest_patients(connection: sqlite3.Connection) -> tuple[PatientShare, ...]:
    """See `Gallery.largest_patients`."""
    totals = dict(connection.execute("SELECT dataset, count(*) FROM cases GROUP BY dataset"))
    largest = connection.execute(  # with max(), SQLite takes the other columns from the row that has it
        """SELECT dataset, patient_id, max(owned) FROM (
            SELECT dataset, patient_id, count(*) AS owned FROM cases
            WHERE patient_id IS NOT NULL GROUP BY patient_id, dataset
        ) GROUP BY dataset ORDER BY max(owned) DESC"""
    )
    return tuple(
        PatientShare(dataset=dataset, patient_id=patient_id, cases=owned, total=totals[dataset])
        for dataset, patient_id, owned in largest
    )


def _index_in_words(
    connection: sqlite3.Connection, path: Path, meta: dict[str, Any], *, index: Index, scans: int
) -> str:
    kind = kind_for(index, scans)
    cached = load_index(path, gallery_id=meta["gallery_id"], dimension=meta["dimension"])
    if cached is None or cached.kind != kind or not is_remembered(connection, cached.state):
        return f"{kind}; its cache is made with the next search"
    behind = count_changes(connection, cached.state)
    since = f"; {behind:,} changes since are compared exactly" if behind else ""
    if cached.inverted is None:
        return f"exact: a product with every scan{since}"
    return (
        f"ivf: {cached.inverted.nprobe} of {cached.inverted.lists} lists looked into, 8 bits a number, best hits "
        f"ranked again exactly; recall@10 {cached.recall:.3f} on its own scans{since}"
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def find_problems(
    connection: sqlite3.Connection, path: Path, *, on_progress: Callable[[int, int], None] | None
) -> tuple[str, ...]:
    """See `Gallery.verify`. Each check stands alone: damage that stops one is listed, and the next one runs."""
    checks = (
        _structure(connection, path),
        _references(connection),
        _descriptors(connection),
        _meta(connection),
        _states(connection),
        _embeddings(connection),
        differing(connection),
        _cache(connection, path),
        _evidence(connection),
        _pictures(connection, on_progress),
    )
    problems: list[str] = []
    for check in checks:
        sentences: list[str] = []
        try:
            sentences.extend(check)
        except (sqlite3.Error, GalleryError, ValueError, KeyError, TypeError) as error:
            sentences.append(f"a check could not be finished: {error}")
        problems += sentences[:_MOST]
        if len(sentences) > _MOST:
            problems.append(f"… and {len(sentences) - _MOST} more of this kind")
    return tuple(dict.fromkeys(problems))


def _structure(connection: sqlite3.Connection, path: Path) -> Iterator[str]:
    for (line,) in connection.execute("PRAGMA integrity_check"):
        if line != "ok":
            yield f"structure of {path.name}: {line}"
    (needed,) = connection.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").fetchone()
    if _size(path) < needed and not _size(path.with_name(path.name + "-wal")):  # SQLite itself forgives half a page
        yield f"{path.name} has {_size(path)} bytes, its pages need {needed}: it was cut short"


def _references(connection: sqlite3.Connection) -> Iterator[str]:
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        yield f"row {row} of {table} points to a row of {parent} that is not there"
    for dataset, case_id in connection.execute(
        "SELECT dataset, case_id FROM cases WHERE case_key NOT IN (SELECT case_key FROM scans)"
    ):
        yield f"case {case_id!r} of {dataset!r} has no scans"


def _descriptors(connection: sqlite3.Connection) -> Iterator[str]:
    for dataset, case_id, text in connection.execute(
        "SELECT dataset, case_id, descriptors FROM cases WHERE descriptors IS NOT NULL"
    ):
        try:
            read_descriptors(text)
        except GalleryError as error:
            yield f"case {case_id!r} of {dataset!r}: {error}"


def _meta(connection: sqlite3.Connection) -> Iterator[str]:
    meta = read_meta(connection)
    for key, kind in (
        ("gallery_id", str),
        ("bundle_id", str),
        ("created", str),
        ("sonoseek_version", str),
        ("dimension", int),
    ):
        if not isinstance(meta.get(key), kind):
            yield f"meta: {key} is {meta.get(key)!r}, expected {kind.__name__}"
    threshold = meta.get("duplicate_threshold")
    if threshold is not None and not (isinstance(threshold, float) and 0.0 < threshold <= 1.0):
        yield f"meta: duplicate_threshold is {threshold!r}, expected a cosine above 0 and at most 1"
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != SCHEMA_VERSION:
        yield f"schema version is {version}, expected {SCHEMA_VERSION}"


def _embeddings(connection: sqlite3.Connection) -> Iterator[str]:
    (dimension,) = connection.execute("SELECT value FROM meta WHERE key = 'dimension'").fetchone()
    for scan_id, blob in connection.execute("SELECT scan_id, embedding FROM scans"):
        if len(blob) != 2 * dimension:
            yield f"scan {scan_id}: its embedding has {len(blob)} bytes, expected {2 * dimension}"
            continue
        stored = np.frombuffer(blob, "<f2")
        if not np.isfinite(stored).all():
            yield f"scan {scan_id}: its embedding holds NaN or infinity"
        elif not stored.any():
            yield f"scan {scan_id}: its embedding is all zero"


def _states(connection: sqlite3.Connection) -> Iterator[str]:
    now = current_state(connection)
    (latest,) = connection.execute("SELECT coalesce(max(changed), 0) FROM scans").fetchone()
    if latest > now.seq:
        yield f"a scan was changed in state {latest}, the gallery is in state {now.seq}; `sonoseek index optimise` it"


def _cache(connection: sqlite3.Connection, path: Path) -> Iterator[str]:
    """A cache of another state, or none, is no problem: the next search makes a new one."""
    meta = read_meta(connection)
    cached = load_index(path, gallery_id=meta["gallery_id"], dimension=meta["dimension"])
    if cached is None or not is_remembered(connection, cached.state):
        return
    remedy = "`sonoseek index optimise` makes it again"
    if (block := damaged_block(path)) is not None:
        yield f"block {block} of the search cache is damaged; {remedy}"
        return
    fresh = cached.row_ids[:0] if cached.state == current_state(connection) else _fresh(connection, cached)
    seen = 0
    for row_ids, unit in read_embeddings(connection, dimension=meta["dimension"]):
        old = ~np.isin(row_ids, fresh)
        places = cached.places_of(row_ids[old])
        seen += places.size
        if places.size != old.sum():
            yield f"the search cache lacks scans; {remedy}"
            return
        if cached.unit is not None and not np.array_equal(cached.unit[places], unit[old]):
            yield f"the search cache disagrees with the embeddings; {remedy}"
            return
    (gone,) = connection.execute(
        "SELECT count(DISTINCT row_id) FROM removals WHERE changed > ?", (cached.state.seq,)
    ).fetchone()
    if seen + gone + fresh.size < cached.row_ids.size:
        yield f"the search cache holds scans that are gone; {remedy}"


def _fresh(connection: sqlite3.Connection, cached: SearchIndex) -> NDArray[np.int64]:
    return column(connection.execute("SELECT row_id FROM scans WHERE changed > ?", (cached.state.seq,)))


def _evidence(connection: sqlite3.Connection) -> Iterator[str]:
    """Scans without evidence, of galleries of an earlier schema, are no problem: their maps are left out."""
    from sonoseek.encoder import evidence_problem  # only a check needs the encoder's room

    for scan_id, packed in connection.execute("SELECT s.scan_id, e.packed FROM evidence e JOIN scans s USING (row_id)"):
        if (problem := evidence_problem(packed)) is not None:
            yield f"scan {scan_id}: its evidence {problem}; build its case again"


def _pictures(connection: sqlite3.Connection, on_progress: Callable[[int, int], None] | None) -> Iterator[str]:
    from sonoseek.gallery.pictures import picture_problem  # OpenCV is loaded only here

    total = count_rows(connection)
    pictures = connection.execute("SELECT s.scan_id, p.jpeg FROM scans s LEFT JOIN pictures p USING (row_id)")
    for done, (scan_id, jpeg) in enumerate(pictures, start=1):
        problem = "is missing" if jpeg is None else picture_problem(jpeg)
        if problem is not None:
            yield f"scan {scan_id}: its picture {problem}"
        if on_progress is not None:
            on_progress(done, total)
