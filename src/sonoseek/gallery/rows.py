"""Between values and rows of the SQLite file: entries in, entries and matches out."""

# ruff: noqa: S608  # SQL is put together from the constants of this file alone; values travel as parameters

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import DESCRIPTORS, CaseRecord, GalleryError, InvalidValueError, Match
from sonoseek.gallery.contract import AddResult, CaseKey, GalleryEntry, RemoveResult, check_embedding

Row = tuple[Any, ...]

_CASE = (
    'dataset, case_id, pathology, patient_id, "group", birads, histology, device, age_years, acquired, licence, '
    "descriptors"
)
_SCAN = (
    "embedding, exponent, height, width, spacing_row, spacing_column, laterality, source, fingerprint"  # after the keys
)
_FIND_CASE = f"SELECT case_key, {_CASE} FROM cases WHERE dataset = ? AND case_id = ?"
_ADD_CASE = f"INSERT INTO cases ({_CASE}) VALUES ({', '.join('?' * 12)})"
_PUT_CASE = f"UPDATE cases SET ({_CASE}) = ({', '.join('?' * 12)}) WHERE case_key = ?"
_FIND_SCAN = f"""SELECT row_id, (SELECT jpeg FROM pictures p WHERE p.row_id = s.row_id),
    (SELECT packed FROM evidence e WHERE e.row_id = s.row_id), {_SCAN}
    FROM scans s WHERE scan_id = ? AND case_key = ?"""
_ADD_SCAN = f"INSERT INTO scans (scan_id, case_key, {_SCAN}) VALUES ({', '.join('?' * 11)})"
_PUT_SCAN = f"UPDATE scans SET ({_SCAN}) = ({', '.join('?' * 9)}) WHERE row_id = ?"
_PUT_PICTURE = "INSERT INTO pictures VALUES (?, ?) ON CONFLICT (row_id) DO UPDATE SET jpeg = excluded.jpeg"
_PUT_EVIDENCE = "INSERT INTO evidence VALUES (?, ?) ON CONFLICT (row_id) DO UPDATE SET packed = excluded.packed"


def select_entries(*, pictures: bool = True, evidence: bool = True) -> str:
    """SQL for entries; pictures and evidence are read only where they are wanted."""
    jpeg = "(SELECT jpeg FROM pictures p WHERE p.row_id = s.row_id)" if pictures else "NULL"
    packed = "(SELECT packed FROM evidence e WHERE e.row_id = s.row_id)" if evidence else "NULL"
    return f"SELECT {_CASE}, s.scan_id, {_SCAN}, {jpeg}, {packed} FROM scans s JOIN cases c USING (case_key)"


ENTRY_ORDER = "ORDER BY c.dataset, c.case_id, s.scan_id"
SELECT_BY_SCAN = "SELECT s.row_id FROM scans s WHERE s.scan_id IN (SELECT value FROM json_each(?))"
SELECT_BY_CASE = """SELECT s.row_id FROM json_each(?) j
    JOIN cases c ON c.dataset = j.value ->> 0 AND c.case_id = j.value ->> 1 JOIN scans s USING (case_key)"""
SELECT_BY_PATIENT = """SELECT s.row_id FROM json_each(?) j
    JOIN cases c ON c.dataset = j.value ->> 0 AND c.patient_id = j.value ->> 1 JOIN scans s USING (case_key)"""
SELECT_BY_GROUP = """SELECT s.row_id FROM json_each(?) j
    JOIN cases c ON c.dataset = j.value ->> 0 AND c."group" = j.value ->> 1 JOIN scans s USING (case_key)"""
_SELECT_MATCH = """SELECT c.case_id, s.scan_id, c.pathology, c.dataset, c.birads, c.histology, c.device, c.patient_id,
    c."group", c.descriptors, CASE WHEN ? THEN (SELECT jpeg FROM pictures p WHERE p.row_id = s.row_id) END
    FROM scans s JOIN cases c USING (case_key) WHERE s.row_id = ?"""


@dataclass(frozen=True)
class PreparedEntry:
    """An entry as the two rows and the picture that keep it."""

    case: Row
    scan_id: str
    scan: Row
    picture: bytes | None
    evidence: bytes | None


def prepare_entries(entries: Iterable[GalleryEntry], *, dimension: int) -> list[PreparedEntry]:
    """Check entries and turn them into rows, so that nothing can go wrong once the file is locked.

    Raises:
        InvalidValueError: another dimension; one case with two different records; text that is not Unicode.
    """
    prepared: list[PreparedEntry] = []
    cases: dict[CaseKey, Row] = {}
    for entry in entries:
        check_embedding(entry.embedding, dimension=dimension)
        case = _case_row(entry.record)
        key = (entry.record.dataset, entry.record.case_id)
        if cases.setdefault(key, case) != case:
            raise InvalidValueError(
                f"case {key[1]!r} of {key[0]!r} is given with two different records; scans of one case share one. "
                "Give them the same record, or two case_ids."
            )
        blob, exponent = encode_embedding(entry.embedding)
        spacing = entry.spacing_mm
        scan = (
            blob,
            exponent,
            int(entry.scan_shape[0]),
            int(entry.scan_shape[1]),
            None if spacing is None else float(spacing[0]),
            None if spacing is None else float(spacing[1]),
            entry.laterality,
            entry.source.encode("utf-8", "backslashreplace").decode(),  # odd file names are for people, not keys
            entry.fingerprint,
        )
        prepared.append(PreparedEntry(case, entry.scan_id, scan, entry.picture, entry.evidence))
    return prepared


def _case_row(record: CaseRecord) -> Row:
    age = record.age_years
    row = (
        record.dataset,
        record.case_id,
        record.pathology,
        record.patient_id,
        record.group,
        record.birads,
        record.histology,
        record.device,
        None if age is None or math.isnan(age) else float(age),
        None if record.acquired is None else date.isoformat(record.acquired),
        record.licence,
        json.dumps(record.descriptors, ensure_ascii=False) if record.descriptors else None,
    )
    for value in row:
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise InvalidValueError(
                    f"case {record.case_id!r} of {record.dataset!r}: {value!r} is not valid Unicode text. "
                    "Rename the file, or correct the table that it came from."
                ) from None
    return row


def write_entries(connection: sqlite3.Connection, prepared: Sequence[PreparedEntry], *, whole_cases: bool) -> AddResult:
    """Add or update rows, within the caller's transaction."""
    added = updated = unchanged = removed = 0
    keys: dict[CaseKey, int] = {}
    given: dict[int, set[str]] = {}
    changed_cases: set[int] = set()
    new_cases: set[int] = set()
    for item in prepared:
        key = (item.case[0], item.case[1])
        case_key = keys.get(key)
        if case_key is None:
            case_key, state = _write_case(connection, item.case)
            keys[key] = case_key
            given[case_key] = set()
            (new_cases if state == "new" else changed_cases if state == "changed" else set()).add(case_key)
        known = None
        if case_key not in new_cases or item.scan_id in given[case_key]:
            known = connection.execute(_FIND_SCAN, (item.scan_id, case_key)).fetchone()
        given[case_key].add(item.scan_id)
        if known is None:
            cursor = connection.execute(_ADD_SCAN, (item.scan_id, case_key, *item.scan))
            if item.picture is not None:
                connection.execute(_PUT_PICTURE, (cursor.lastrowid, item.picture))
            if item.evidence is not None:
                connection.execute(_PUT_EVIDENCE, (cursor.lastrowid, item.evidence))
            added += 1
        elif known[1:] == (item.picture, item.evidence, *item.scan) and case_key not in changed_cases:
            unchanged += 1
        else:
            connection.execute(_PUT_SCAN, (*item.scan, known[0]))
            if item.picture is None:
                connection.execute("DELETE FROM pictures WHERE row_id = ?", (known[0],))
            elif item.picture != known[1]:
                connection.execute(_PUT_PICTURE, (known[0], item.picture))
            if item.evidence is None:
                connection.execute("DELETE FROM evidence WHERE row_id = ?", (known[0],))
            elif item.evidence != known[2]:
                connection.execute(_PUT_EVIDENCE, (known[0], item.evidence))
            updated += 1
    if whole_cases:
        for case_key in given.keys() - new_cases:
            removed += connection.execute(
                "DELETE FROM scans WHERE case_key = ? AND scan_id NOT IN (SELECT value FROM json_each(?))",
                (case_key, json.dumps(sorted(given[case_key]))),
            ).rowcount
    return AddResult(added=added, updated=updated, unchanged=unchanged, removed=removed)


def _write_case(connection: sqlite3.Connection, case: Row) -> tuple[int, str]:
    known = connection.execute(_FIND_CASE, case[:2]).fetchone()
    if known is None:
        case_key = connection.execute(_ADD_CASE, case).lastrowid
        return int(case_key or 0), "new"
    if known[1:] == case:
        return known[0], "same"
    connection.execute(_PUT_CASE, (*case, known[0]))
    return known[0], "changed"


def remove_rows(connection: sqlite3.Connection, *, scan_ids: Sequence[str], cases: Sequence[CaseKey]) -> RemoveResult:
    """Remove scans and the cases that are left without any, within the caller's transaction."""
    missing_scans = tuple(
        scan_id
        for scan_id in scan_ids
        if connection.execute("SELECT 1 FROM scans WHERE scan_id = ?", (scan_id,)).fetchone() is None
    )
    missing_cases = tuple(
        case for case in cases if connection.execute(_FIND_CASE, (str(case[0]), str(case[1]))).fetchone() is None
    )
    gone = connection.execute(
        f"SELECT row_id, case_key FROM scans WHERE row_id IN ({SELECT_BY_SCAN} UNION {SELECT_BY_CASE})",
        (json.dumps(scan_ids), json.dumps(cases)),
    ).fetchall()
    connection.executemany("DELETE FROM scans WHERE row_id = ?", [(row_id,) for row_id, _ in gone])
    connection.executemany(
        "DELETE FROM cases WHERE case_key = ?1 AND NOT EXISTS (SELECT 1 FROM scans WHERE case_key = ?1)",
        [(case_key,) for case_key in {case_key for _, case_key in gone}],
    )
    return RemoveResult(removed=len(gone), missing_scan_ids=missing_scans, missing_cases=missing_cases)


def read_entry(row: Row) -> GalleryEntry:
    """An entry from a row of `select_entries`."""
    dataset, case_id, pathology, patient_id, group, birads, histology, device, age, acquired, licence, told = row[:12]
    scan_id, blob, exponent, height, width, spacing_row, spacing_column, laterality, source, fingerprint = row[12:22]
    jpeg, packed = row[22:]
    return GalleryEntry(
        record=CaseRecord(
            case_id=case_id,
            dataset=dataset,
            pathology=pathology,
            patient_id=patient_id,
            group=group,
            birads=birads,
            histology=histology,
            device=device,
            age_years=age,
            acquired=None if acquired is None else date.fromisoformat(acquired),
            licence=licence,
            descriptors=read_descriptors(told),
        ),
        scan_id=scan_id,
        embedding=decode_embedding(blob, exponent),
        picture=jpeg,
        evidence=packed,
        scan_shape=(height, width),
        spacing_mm=None if spacing_row is None else (spacing_row, spacing_column),
        laterality=laterality,
        source=source,
        fingerprint=fingerprint,
    )


def read_matches(
    connection: sqlite3.Connection, row_ids: Sequence[int], similarities: Sequence[float], *, pictures: bool
) -> tuple[Match, ...]:
    """Matches in the order given."""
    matches = []
    for rank, (row_id, similarity) in enumerate(zip(row_ids, similarities, strict=True), start=1):
        row = connection.execute(_SELECT_MATCH, (pictures, row_id)).fetchone()
        case_id, scan_id, label, dataset, birads, histology, device, patient_id, group, told, picture = row
        matches.append(
            Match(
                rank=rank,
                case_id=case_id,
                scan_id=scan_id,
                similarity=similarity,
                label=label,
                dataset=dataset,
                birads=birads,
                histology=histology,
                device=device,
                patient_id=patient_id,
                group=group,
                descriptors=read_descriptors(told),
                picture=picture,
            )
        )
    return tuple(matches)


def count_words(connection: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """See `Gallery.words`."""
    counts: dict[str, dict[str, int]] = {}
    for told, scans in connection.execute(
        """SELECT c.descriptors, count(*) FROM scans s JOIN cases c USING (case_key)
        WHERE c.descriptors IS NOT NULL GROUP BY c.descriptors"""
    ):
        pairs = read_descriptors(told)
        for feature in {feature for feature, _ in pairs}:
            held = counts.setdefault(feature, {"": 0})
            held[""] += scans
        for feature, word in set(pairs):
            counts[feature][word] = counts[feature].get(word, 0) + scans
    return counts


def read_descriptors(told: str | None) -> tuple[tuple[str, str], ...]:
    """(feature, word) pairs from their JSON.

    Raises:
        GalleryError: it holds something else.
    """
    try:
        pairs = () if told is None else tuple((feature, word) for feature, word in json.loads(told))
    except (ValueError, TypeError):
        pairs = ((told, ""),)
    if not all(feature in DESCRIPTORS and isinstance(word, str) and word for feature, word in pairs):
        raise GalleryError(
            f"descriptors are {told!r}; they are pairs of a feature ({', '.join(DESCRIPTORS)}) and a word. The gallery "
            "is damaged: run `sonoseek index verify`, then add the case again."
        )
    return pairs


def encode_embedding(embedding: NDArray[np.float32]) -> tuple[bytes, int]:
    """A vector as little-endian float16 and the power of two that brings its largest number into 0.5 … 1.

    The power keeps any finite vector inside float16's narrow range, and costs no digit.
    """
    _, exponent = math.frexp(float(np.abs(embedding).max()))
    return np.ldexp(embedding.astype(np.float64), -exponent).astype("<f2").tobytes(), exponent


def decode_embedding(blob: bytes, exponent: int) -> NDArray[np.float32]:
    """The other way: float32 (D,)."""
    return np.ldexp(np.frombuffer(blob, "<f2").astype(np.float64), exponent).astype(np.float32)
