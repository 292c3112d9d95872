"""What each row was when it was written: sixteen bytes that damage, or a hand in the file, would have to match."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

CASE_COLUMNS = (
    'dataset, case_id, pathology, patient_id, "group", birads, histology, device, age_years, acquired, licence, '
    "descriptors"
)
SCAN_COLUMNS = "embedding, exponent, height, width, spacing_row, spacing_column, laterality, view, source, fingerprint"
"""All of a scan but its keys."""
CASE_NAMES = [name.strip(' "') for name in CASE_COLUMNS.split(",")]
"""As `CaseRecord` has them."""
_SIZE = 16
_STORED = f"""SELECT s.row_id, s.digest, s.scan_id,
    (SELECT jpeg FROM pictures p WHERE p.row_id = s.row_id),
    (SELECT packed FROM evidence e WHERE e.row_id = s.row_id), {SCAN_COLUMNS} FROM scans s"""  # noqa: S608  # constants
_ENCODE = msgspec.msgpack.Encoder().encode


def case_digest(row: Sequence[Any]) -> bytes:
    """Of a case, its values in the order of `CASE_COLUMNS`: 16 bytes."""
    return blake2b(_ENCODE(tuple(row)), digest_size=_SIZE).digest()


def scan_digest(scan_id: str, row: Sequence[Any], *, picture: bytes | None, evidence: bytes | None) -> bytes:
    """Of a scan, its values in the order of `SCAN_COLUMNS`, with its picture and evidence: 16 bytes."""
    digest = blake2b(_ENCODE((scan_id, *row, len(picture or b""), len(evidence or b""))), digest_size=_SIZE)
    digest.update(picture or b"")
    digest.update(evidence or b"")
    return digest.digest()


def stored_scan_digest(connection: sqlite3.Connection, row_id: int) -> bytes:
    """The digest of what the file holds for a scan, computed now."""
    stored = connection.execute(f"{_STORED} WHERE s.row_id = ?", (row_id,)).fetchone()
    _, _, scan_id, picture, evidence, *row = stored
    return scan_digest(scan_id, row, picture=picture, evidence=evidence)


def differing(connection: sqlite3.Connection) -> Iterator[str]:
    """Sentences about cases and scans that are no longer what was written."""
    for key, digest, *row in connection.execute(f"SELECT case_key, digest, {CASE_COLUMNS} FROM cases"):  # noqa: S608
        if digest != case_digest(row):
            yield f"case {row[1]!r} of {row[0]!r} (row {key}) is not what was written; add the case again"
    for _, digest, scan_id, picture, evidence, *row in connection.execute(_STORED):
        if digest != scan_digest(scan_id, row, picture=picture, evidence=evidence):
            yield f"scan {scan_id}: its row, picture or evidence is not what was written; build its case again"
