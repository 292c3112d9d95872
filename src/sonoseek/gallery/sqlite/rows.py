"""From rows of the SQLite file to entries and matches."""

# ruff: noqa: S608  # SQL is put together from the constants of this file alone; values travel as parameters

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sonoseek.core import DESCRIPTORS, CaseRecord, ExcludedCounts, GalleryError, InvalidValueError, Match
from sonoseek.gallery.sqlite.digests import CASE_COLUMNS, CASE_NAMES, SCAN_COLUMNS
from sonoseek.gallery.sqlite.versions import count_rows
from sonoseek.gallery.values import LARGEST_EVIDENCE, LARGEST_PICTURE, MAX_DIMENSION, Exclusion, GalleryEntry

Row = tuple[Any, ...]
LONGEST_DESCRIPTORS = 1 << 16
"""Characters of a case's descriptors as JSON; a case has some hundred."""
# Of a value that no gallery holds, the length comes instead, and `bounded` refuses it: it never stands in memory.
_SELECT_PICTURE = f"""(SELECT iif(length(jpeg) <= {LARGEST_PICTURE}, jpeg, length(jpeg))
    FROM pictures p WHERE p.row_id = s.row_id)"""
_SELECT_EVIDENCE = f"""(SELECT iif(length(packed) <= {LARGEST_EVIDENCE}, packed, length(packed))
    FROM evidence e WHERE e.row_id = s.row_id)"""
_CASE_COLUMNS = CASE_COLUMNS.replace("descriptors", f"substr(descriptors, 1, {LONGEST_DESCRIPTORS + 1})")
_ENTRY_COLUMNS = SCAN_COLUMNS.replace(
    "embedding", f"iif(length(embedding) <= {2 * MAX_DIMENSION}, embedding, length(embedding))"
)


def select_entries(*, pictures: bool = True, evidence: bool = True) -> str:
    """SQL for entries; pictures and evidence are read only where they are wanted."""
    jpeg = _SELECT_PICTURE if pictures else "NULL"
    packed = _SELECT_EVIDENCE if evidence else "NULL"
    columns = f"{_CASE_COLUMNS}, s.scan_id, {_ENTRY_COLUMNS}, {jpeg}, {packed}"
    return f"SELECT {columns} FROM scans s JOIN cases c USING (case_key)"


ENTRY_ORDER = "ORDER BY c.dataset, c.case_id, s.scan_id"
SELECT_BY_SCAN = "SELECT s.row_id FROM scans s WHERE s.scan_id IN (SELECT value FROM json_each(?))"
SELECT_BY_CASE = """SELECT s.row_id FROM json_each(?) j
    JOIN cases c ON c.dataset = j.value ->> 0 AND c.case_id = j.value ->> 1 JOIN scans s USING (case_key)"""
SELECT_BY_PATIENT = """SELECT s.row_id FROM json_each(?) j
    JOIN cases c ON c.dataset = j.value ->> 0 AND c.patient_id = j.value ->> 1 JOIN scans s USING (case_key)"""
SELECT_BY_GROUP = """SELECT s.row_id FROM json_each(?) j
    JOIN cases c ON c.dataset = j.value ->> 0 AND c."group" = j.value ->> 1 JOIN scans s USING (case_key)"""
_MATCHED = ("case_id", "scan_id", "label", "dataset", "birads", "histology", "device", "patient_id", "group")
"""What `_SELECT_MATCHES` gives first of a match, and `Match` calls so."""
_SELECT_MATCHES = f"""SELECT s.row_id, substr(c.descriptors, 1, {LONGEST_DESCRIPTORS + 1}),
    CASE WHEN ? THEN {_SELECT_PICTURE} END, c.case_id, s.scan_id, c.pathology, c.dataset, c.birads, c.histology,
    c.device, c.patient_id, c."group"
    FROM json_each(?) j CROSS JOIN scans s ON s.row_id = j.value CROSS JOIN cases c USING (case_key)"""


def entry_from_row(row: Row) -> GalleryEntry:
    """An entry from a row of `select_entries`.

    Raises:
        GalleryError: the row holds what no entry can hold: it is damaged.
    """
    case, (scan_id, *scan, jpeg, packed) = row[: len(CASE_NAMES)], row[len(CASE_NAMES) :]
    try:
        picture = None if jpeg is None else bounded(jpeg, "picture", LARGEST_PICTURE)
        evidence = None if packed is None else bounded(packed, "evidence", LARGEST_EVIDENCE)
        return make_entry(case, scan, scan_id=scan_id, picture=picture, evidence=evidence)
    except (TypeError, ValueError) as error:
        raise _unreadable(row[1], row[0], error) from error


def make_entry(
    case: Sequence[Any], scan: Sequence[Any], *, scan_id: str, picture: bytes | None, evidence: bytes | None
) -> GalleryEntry:
    """An entry from stored values, its case's and its scan's in the order of `CASE_COLUMNS` and `SCAN_COLUMNS`.

    Raises:
        TypeError, ValueError: they are what no entry can hold.
    """
    record = dict(zip(CASE_NAMES, case, strict=True))
    if record["acquired"] is not None:
        record["acquired"] = date.fromisoformat(record["acquired"])
    record["descriptors"] = read_descriptors(record["descriptors"])
    blob, exponent, height, width, spacing_row, spacing_column, laterality, view, source, fingerprint = scan
    return GalleryEntry(
        record=CaseRecord(**record),
        scan_id=scan_id,
        embedding=decode_embedding(bounded(blob, "embedding", 2 * MAX_DIMENSION), exponent),
        picture=picture,
        evidence=evidence,
        scan_shape=(height, width),
        spacing_mm=None if spacing_row is None else (spacing_row, spacing_column),
        laterality=laterality,
        view=view,
        source=source,
        fingerprint=fingerprint,
    )


def read_matches(
    connection: sqlite3.Connection,
    row_ids: Sequence[int],
    similarities: Sequence[float],
    *,
    pictures: bool,
    dependent: Sequence[tuple[int, int]] | None = None,
) -> tuple[Match, ...]:
    """Matches in the order given; `dependent`: near-duplicates of each, and other scans of its patient."""
    matches = []
    counts = dependent or [(0, 0)] * len(row_ids)
    columns = {row[0]: row[1:] for row in connection.execute(_SELECT_MATCHES, (pictures, json.dumps(list(row_ids))))}
    if not columns.keys() >= set(row_ids):
        raise GalleryError(
            "a scan, or the case it belongs to, is not where an index says; the gallery is damaged. Run `sonoseek "
            "index verify` on it, and restore it from a copy."
        )
    for rank, (row_id, similarity, count) in enumerate(zip(row_ids, similarities, counts, strict=True), start=1):
        listed, picture, *stored = columns[row_id]
        fields = dict(zip(_MATCHED, stored, strict=True))
        try:
            picture = None if picture is None else bounded(picture, "picture", LARGEST_PICTURE)
        except InvalidValueError as error:
            raise _unreadable(fields["case_id"], fields["dataset"], error) from error
        matches.append(
            Match(
                rank=rank,
                similarity=similarity,
                descriptors=read_descriptors(listed),
                picture=picture,
                near_duplicates=count[0],
                same_patient=count[1],
                **fields,
            )
        )
    return tuple(matches)


def select_excluded(exclude: Exclusion) -> Iterator[tuple[str, str]]:
    """SQL for the row ids that an exclusion leaves out, with its parameter: by scan, by patient, by group."""
    yield SELECT_BY_SCAN, json.dumps(exclude.scan_ids)
    yield SELECT_BY_PATIENT, json.dumps(exclude.patients)
    yield SELECT_BY_GROUP, json.dumps(exclude.groups)


def count_excluded(connection: sqlite3.Connection, exclude: Exclusion) -> ExcludedCounts:
    """See `Gallery.count_excluded`."""
    scans = count_rows(connection)
    seen: set[int] = set()
    counts = []
    for sql, names in select_excluded(exclude):
        before = len(seen)
        seen.update(row_id for (row_id,) in connection.execute(sql, (names,)))
        counts.append(len(seen) - before)
    return ExcludedCounts(scans=scans, same_scan=counts[0], same_patient=counts[1], same_group=counts[2])


def count_descriptors(connection: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """See `Gallery.descriptor_counts`."""
    counts: dict[str, dict[str, int]] = {}
    for text, scans in connection.execute(
        """SELECT c.descriptors, count(*) FROM scans s JOIN cases c USING (case_key)
        WHERE c.descriptors IS NOT NULL GROUP BY c.descriptors"""
    ):
        pairs = read_descriptors(text)
        for feature in {feature for feature, _ in pairs}:
            per_descriptor = counts.setdefault(feature, {"": 0})
            per_descriptor[""] += scans
        for feature, descriptor in set(pairs):
            counts[feature][descriptor] = counts[feature].get(descriptor, 0) + scans
    return counts


def bounded(value: bytes | int, name: str, largest: int) -> bytes:
    """A stored value, which a query gave as its length where it was too long.

    Raises:
        InvalidValueError: it was.
    """
    if isinstance(value, int):
        raise InvalidValueError(f"its {name} has {value:,} bytes; at most {largest:,} are read")
    return value


def _unreadable(case_id: object, dataset: object, error: Exception) -> GalleryError:
    return GalleryError(
        f"case {case_id!r} of {dataset!r} does not read ({error}); the gallery is damaged. Run `sonoseek index "
        "verify` on it, and restore it from a copy."
    )


def read_descriptors(text: str | None) -> tuple[tuple[str, str], ...]:
    """(feature, word) pairs from their JSON.

    Raises:
        GalleryError: it holds something else, or more than 65,536 characters.
    """
    if text is None:
        return ()
    pairs = None
    try:
        if len(text) <= LONGEST_DESCRIPTORS:
            pairs = msgspec.json.decode(text, type=list[tuple[str, str]])  # another nesting ends at its first bracket
    except (ValueError, RecursionError):
        pass
    if pairs is None or not all(feature in DESCRIPTORS and word for feature, word in pairs):
        shown = repr(text) if len(text) <= 200 else f"{text[:100]!r}…"
        raise GalleryError(
            f"descriptors are {shown}; they are pairs of a feature ({', '.join(DESCRIPTORS)}) and a word, together "
            f"at most {LONGEST_DESCRIPTORS:,} characters. The gallery is damaged: run `sonoseek index verify`, then "
            "add the case again."
        )
    return tuple(pairs)


def decode_embedding(blob: bytes, exponent: int) -> NDArray[np.float32]:
    """The other way: float32 (D,)."""
    with np.errstate(over="ignore", invalid="ignore"):  # of a damaged one: whoever takes it looks whether it is finite
        return np.ldexp(np.frombuffer(blob, "<f2").astype(np.float64), exponent).astype(np.float32)
