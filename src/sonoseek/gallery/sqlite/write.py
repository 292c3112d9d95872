"""Entries into rows of the SQLite file: checked and laid out before it is locked, written in few statements."""

# ruff: noqa: S608  # SQL is put together from constants alone; values travel as parameters

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import CaseRecord, InvalidValueError
from sonoseek.gallery.pseudonyms import check_key
from sonoseek.gallery.sqlite.digests import CASE_COLUMNS, SCAN_COLUMNS, case_digest, scan_digest, stored_scan_digest
from sonoseek.gallery.sqlite.rows import SELECT_BY_CASE, SELECT_BY_SCAN, Row
from sonoseek.gallery.values import AddResult, CaseKey, GalleryEntry, RemoveResult

_ENCODED = 4_096
"""Embeddings that are encoded at once."""
_FIND_CASE = f"SELECT case_key, {CASE_COLUMNS} FROM cases WHERE dataset = ? AND case_id = ?"
_ADD_CASE = f"INSERT INTO cases (case_key, {CASE_COLUMNS}, digest) VALUES ({', '.join('?' * 14)})"
_PUT_CASE = f"UPDATE cases SET ({CASE_COLUMNS}, digest) = ({', '.join('?' * 13)}) WHERE case_key = ?"
_FIND_SCANS = "SELECT scan_id, row_id, digest FROM scans WHERE case_key = ?"
_ADD_SCAN = (
    f"INSERT INTO scans (row_id, changed, scan_id, case_key, digest, {SCAN_COLUMNS}) VALUES ({', '.join('?' * 15)})"
)
_PUT_SCAN = f"UPDATE scans SET (changed, digest, {SCAN_COLUMNS}) = ({', '.join('?' * 12)}) WHERE row_id = ?"
_UNKEYED = f"patient_id GLOB 'p-{16 * '[0-9a-f]'}'"
"""A pseudonym from before there was a site key."""
_PUT_PICTURE = "INSERT INTO pictures VALUES (?, ?) ON CONFLICT (row_id) DO UPDATE SET jpeg = excluded.jpeg"
_PUT_EVIDENCE = "INSERT INTO evidence VALUES (?, ?) ON CONFLICT (row_id) DO UPDATE SET packed = excluded.packed"


@dataclass(frozen=True, slots=True)
class PreparedScan:
    """A scan as its row, its picture and its evidence."""

    scan_id: str
    row: Row
    digest: bytes
    picture: bytes | None
    evidence: bytes | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """What one `add` writes.

    Attributes:
        cases: the row of each case.
        scans: of each case, by scan_id; the last one given wins.
        repeated: (unchanged, updated): entries that were given again in the same `add`.
    """

    cases: dict[CaseKey, Row]
    scans: dict[CaseKey, dict[str, PreparedScan]]
    repeated: tuple[int, int]


def prepare_entries(entries: Iterable[GalleryEntry], *, dimension: int) -> Prepared:
    """Check entries and turn them into rows, so that nothing can go wrong once the file is locked.

    Raises:
        InvalidValueError: another dimension; one case with two different records; text that is not Unicode.
    """
    given = list(entries)
    cases: dict[CaseKey, Row] = {}
    records: dict[CaseKey, CaseRecord] = {}
    for entry in given:
        if entry.embedding.shape[0] != dimension:
            raise InvalidValueError(
                f"the embedding has {entry.embedding.shape[0]} numbers, the gallery holds {dimension} per scan. "
                "Add with the bundle that filled the gallery."
            )
        key = (entry.record.dataset, entry.record.case_id)
        if records.get(key) is entry.record:
            continue
        case = _case_row(entry.record)
        if cases.setdefault(key, case) != case:
            raise InvalidValueError(
                f"case {key[1]!r} of {key[0]!r} is given with two different records; scans of one case share one. "
                "Give them the same record, or two case_ids."
            )
        records[key] = entry.record
    scans: dict[CaseKey, dict[str, PreparedScan]] = {key: {} for key in cases}
    unchanged = updated = 0
    for start in range(0, len(given), _ENCODED):
        block = given[start : start + _ENCODED]
        for entry, (blob, exponent) in zip(block, encode_embeddings([e.embedding for e in block]), strict=True):
            scan = _prepare(entry, blob, exponent)
            of_case = scans[entry.record.dataset, entry.record.case_id]
            before = of_case.get(scan.scan_id)
            if before is not None:
                unchanged, updated = (
                    (unchanged + 1, updated) if before.digest == scan.digest else (unchanged, updated + 1)
                )
            of_case[scan.scan_id] = scan
    return Prepared(cases, scans, (unchanged, updated))


def _prepare(entry: GalleryEntry, blob: bytes, exponent: int) -> PreparedScan:
    spacing = entry.spacing_mm
    source = entry.source
    row = (
        blob,
        exponent,
        int(entry.scan_shape[0]),
        int(entry.scan_shape[1]),
        None if spacing is None else float(spacing[0]),
        None if spacing is None else float(spacing[1]),
        entry.laterality,
        entry.view,
        # Odd file names are for people, not keys.
        source if source.isascii() else source.encode("utf-8", "backslashreplace").decode(),
        entry.fingerprint,
    )
    digest = scan_digest(entry.scan_id, row, picture=entry.picture, evidence=entry.evidence)
    return PreparedScan(entry.scan_id, row, digest, entry.picture, entry.evidence)


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


class _Write:
    """One `add` under way, within the caller's transaction: rows are collected, then written by the thousand."""

    def __init__(self, connection: sqlite3.Connection, seq: int) -> None:
        self._connection = connection
        self._seq = seq
        (self._case_key,) = connection.execute("SELECT coalesce(max(case_key), 0) FROM cases").fetchone()
        (self._row_id,) = connection.execute("SELECT coalesce(max(row_id), 0) FROM scans").fetchone()
        self._new_cases: list[Row] = []
        self._new_scans: list[Row] = []
        self._pictures: list[tuple[int, bytes]] = []
        self._evidence: list[tuple[int, bytes]] = []
        self.added = self.updated = self.unchanged = self.removed = 0

    def case(self, row: Row, scans: dict[str, PreparedScan], *, whole: bool) -> None:
        stored = self._connection.execute(_FIND_CASE, row[:2]).fetchone()
        if stored is None:
            self._case_key += 1
            self._new_cases.append((self._case_key, *row, case_digest(row)))
            for scan in scans.values():
                self._add(scan, self._case_key)
            return
        case_key = stored[0]
        known = {
            scan_id: (row_id, digest) for scan_id, row_id, digest in self._connection.execute(_FIND_SCANS, (case_key,))
        }
        if changed := stored[1:] != row:
            self._connection.execute(_PUT_CASE, (*row, case_digest(row), case_key))
            # Whether its other scans pass a filter may have changed with it.
            self._connection.execute("UPDATE scans SET changed = ? WHERE case_key = ?", (self._seq, case_key))
        for scan in scans.values():
            before = known.pop(scan.scan_id, None)
            if before is None:
                self._add(scan, case_key)
            elif not changed and scan.digest == (before[1] or stored_scan_digest(self._connection, before[0])):
                self.unchanged += 1
            else:
                self._put(scan, before[0])
        if whole and known:
            delete_rows(self._connection, [row_id for row_id, _ in known.values()], seq=self._seq)
            self.removed += len(known)

    def _add(self, scan: PreparedScan, case_key: int) -> None:
        self._row_id += 1
        self._new_scans.append((self._row_id, self._seq, scan.scan_id, case_key, scan.digest, *scan.row))
        if scan.picture is not None:
            self._pictures.append((self._row_id, scan.picture))
        if scan.evidence is not None:
            self._evidence.append((self._row_id, scan.evidence))
        self.added += 1

    def _put(self, scan: PreparedScan, row_id: int) -> None:
        self._connection.execute(_PUT_SCAN, (self._seq, scan.digest, *scan.row, row_id))
        for value, table, waiting in (
            (scan.picture, "pictures", self._pictures),
            (scan.evidence, "evidence", self._evidence),
        ):
            if value is None:
                self._connection.execute(f"DELETE FROM {table} WHERE row_id = ?", (row_id,))
            else:
                waiting.append((row_id, value))
        self.updated += 1

    def finish(self) -> None:
        self._connection.executemany(_ADD_CASE, self._new_cases)
        self._connection.executemany(_ADD_SCAN, self._new_scans)
        self._connection.executemany(_PUT_PICTURE, self._pictures)
        self._connection.executemany(_PUT_EVIDENCE, self._evidence)


def write_entries(connection: sqlite3.Connection, prepared: Prepared, *, whole_cases: bool, seq: int) -> AddResult:
    """Add or update rows as the state `seq`, within the caller's transaction."""
    write = _Write(connection, seq)
    for key, row in prepared.cases.items():
        write.case(row, prepared.scans[key], whole=whole_cases)
    write.finish()
    unchanged, updated = prepared.repeated
    return AddResult(
        added=write.added,
        updated=write.updated + updated,
        unchanged=write.unchanged + unchanged,
        removed=write.removed,
    )


def remove_rows(
    connection: sqlite3.Connection, *, scan_ids: Sequence[str], cases: Sequence[CaseKey], seq: int
) -> RemoveResult:
    """Remove scans, and the cases that are left without any, as the state `seq`, within the caller's transaction."""
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
    delete_rows(connection, [row_id for row_id, _ in gone], seq=seq)
    connection.executemany(
        "DELETE FROM cases WHERE case_key = ?1 AND NOT EXISTS (SELECT 1 FROM scans WHERE case_key = ?1)",
        [(case_key,) for case_key in {case_key for _, case_key in gone}],
    )
    return RemoveResult(removed=len(gone), missing_scan_ids=missing_scans, missing_cases=missing_cases)


def store_site_key(connection: sqlite3.Connection, fingerprint: str, *, location: str) -> None:
    """Note the site key in the gallery's description, within the caller's transaction.

    Raises:
        SiteKeyError: another one is noted there.
    """
    stored = connection.execute("SELECT value FROM meta WHERE key = 'site_key'").fetchone()
    check_key(location, None if stored is None else str(stored[0])[:80], fingerprint)
    if stored is None:
        connection.execute("INSERT INTO meta VALUES ('site_key', ?)", (fingerprint,))


def count_unkeyed(connection: sqlite3.Connection) -> int:
    """Cases with a pseudonym from before there was a site key."""
    (cases,) = connection.execute(f"SELECT count(*) FROM cases WHERE {_UNKEYED}").fetchone()
    return int(cases)


def replace_unkeyed(connection: sqlite3.Connection, keyed: Callable[[str], str], *, seq: int) -> int:
    """Key such pseudonyms as the state `seq`, within the caller's transaction; how many cases changed."""
    cases = connection.execute(f"SELECT case_key, {CASE_COLUMNS} FROM cases WHERE {_UNKEYED}").fetchall()
    for case_key, *row in cases:
        row[3] = keyed(row[3])  # patient_id; see `CASE_COLUMNS`
        connection.execute(_PUT_CASE, (*row, case_digest(row), case_key))
        connection.execute("UPDATE scans SET changed = ? WHERE case_key = ?", (seq, case_key))
    return len(cases)


def delete_rows(connection: sqlite3.Connection, row_ids: Sequence[int], *, seq: int) -> None:
    """Delete scans and note, for caches of earlier states, that they went."""
    connection.executemany("DELETE FROM scans WHERE row_id = ?", [(row_id,) for row_id in row_ids])
    connection.executemany("INSERT INTO removals VALUES (?, ?)", [(seq, row_id) for row_id in row_ids])


def encode_embeddings(embeddings: Sequence[NDArray[np.float32]]) -> list[tuple[bytes, int]]:
    """Vectors as little-endian float16 and the power of two that brings their largest number into 0.5 … 1.

    The power keeps any finite vector inside float16's narrow range, and costs no digit.
    """
    if not embeddings:
        return []
    wide = np.stack(embeddings).astype(np.float64)
    _, exponents = np.frexp(np.abs(wide).max(axis=1))
    blobs = np.ldexp(wide, -exponents[:, None]).astype("<f2")
    return [(row.tobytes(), int(exponent)) for row, exponent in zip(blobs, exponents, strict=True)]
