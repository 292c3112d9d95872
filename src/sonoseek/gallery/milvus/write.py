"""Entries onto a Milvus server: pictures first, then scans, then what they replace is deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sonoseek.gallery.milvus import rows
from sonoseek.gallery.milvus.server import Server
from sonoseek.gallery.sqlite.digests import case_digest
from sonoseek.gallery.sqlite.rows import Row
from sonoseek.gallery.sqlite.write import Prepared
from sonoseek.gallery.values import AddResult, CaseKey, RemoveResult

_KNOWN = ["key", "scan_id", "case_key", "scan_digest", "case_digest"]


def write_entries(server: Server, name: str, prepared: Prepared, *, whole_cases: bool) -> AddResult:
    """Add or update entries.

    Raises:
        InvalidValueError: a text is longer than Milvus keeps; nothing was written.
    """
    known: dict[str, dict[str, dict[str, Any]]] = {}
    cases = [rows.pair(dataset, case_id) for dataset, case_id in prepared.cases]
    for row in server.among(name, "case_key", cases, _KNOWN):
        known.setdefault(row["case_key"], {})[row["scan_id"]] = row
    added = updated = unchanged = 0
    scans: list[rows.Fields] = []
    pieces: list[rows.Fields] = []
    replaced: list[str] = []
    corrected: dict[str, Row] = {}
    gone: list[dict[str, Any]] = []
    for key, case in prepared.cases.items():
        stored = known.get(rows.pair(*key), {})
        digest = case_digest(case).hex()
        other = any(row["case_digest"] != digest for row in stored.values())
        for scan_id, scan in prepared.scans[key].items():
            before = stored.pop(scan_id, None)
            if before is not None and before["scan_digest"] == scan.digest.hex() and not other:
                unchanged += 1
                continue
            fields = rows.scan_fields(case, scan)
            scans.append(fields)
            if before is None:
                added += 1
            else:
                updated += 1
            if before is None or before["scan_digest"] != fields["scan_digest"]:
                pieces += rows.pieces(fields["key"], scan)
                replaced += [] if before is None else [rows.owner_of(before)]
        if whole_cases:
            gone += stored.values()
        elif other:
            corrected |= {row["key"]: case for row in stored.values()}
    # The case's other scans have its record too.
    others = server.among(name, "key", corrected, rows.ENTRY_FIELDS)
    scans.extend(rows.with_case(row, corrected[row["key"]]) for row in others)
    server.upsert(f"{name}_kept", pieces)
    server.upsert(name, scans)
    _delete(server, name, gone)
    server.delete(f"{name}_kept", "owner", replaced)
    repeated_unchanged, repeated_updated = prepared.repeated
    return AddResult(
        added=added, updated=updated + repeated_updated, unchanged=unchanged + repeated_unchanged, removed=len(gone)
    )


def remove_rows(server: Server, name: str, *, scan_ids: Sequence[str], cases: Sequence[CaseKey]) -> RemoveResult:
    """Remove scans, and whole cases."""
    wanted = {rows.pair(dataset, case_id): (dataset, case_id) for dataset, case_id in cases}
    by_scan = {row["key"]: row for row in server.among(name, "scan_id", scan_ids, _KNOWN)}
    by_case = {row["key"]: row for row in server.among(name, "case_key", wanted, _KNOWN)}
    found_scans = {row["scan_id"] for row in by_scan.values()}
    found_cases = {row["case_key"] for row in by_case.values()}
    gone = by_scan | by_case
    _delete(server, name, list(gone.values()))
    return RemoveResult(
        removed=len(gone),
        missing_scan_ids=tuple(scan_id for scan_id in scan_ids if scan_id not in found_scans),
        missing_cases=tuple(case for key, case in wanted.items() if key not in found_cases),
    )


def _delete(server: Server, name: str, gone: Sequence[dict[str, Any]]) -> None:
    """Scans first: what is left of their pictures, should the server be lost in between, is in nobody's way."""
    server.delete(name, "key", [row["key"] for row in gone])
    server.delete(f"{name}_kept", "owner", [rows.owner_of(row) for row in gone])
