"""The table that a split needs: which cases must never part."""

from __future__ import annotations

import csv
from collections import Counter
from io import StringIO
from pathlib import Path

from sonoseek.core.csv_cells import csv_cell
from sonoseek.core.files import PRIVATE, write_atomically
from sonoseek.datasets.audit.result import AuditResult, DuplicatePair

COLUMNS = ("case_id", "pathology", "group", "group_size", "cross_label", "same_scan_group", "max_ncc", "evidence")
RANK = ("exact", "near", "frame")


def write_groups_csv(result: AuditResult, path: Path | str) -> None:
    """Write one row per case, UTF-8, in the order of the dataset.

    `group` ("G0001" …) is what a split must keep together: stated groups and patients, copies and neighbouring frames.
    `cross_label` is 1 where the same picture has two labels. `same_scan_group` ("S0001" …) holds copies only; it is
    empty for a scan without any. `max_ncc` is the best correlation with another case, empty for none. `evidence` is
    "exact", "near" or "frame" (found by the audit), "stated" (by the dataset alone) or "single".

    Args:
        result: of an audit.
        path: replaced if it exists; a new file is for its owner alone.
    """
    write_atomically(path, groups_csv(result), mode=PRIVATE)


def groups_csv(result: AuditResult) -> str:
    """The table as text; see `write_groups_csv`."""
    group = {case_id: number for number, ids in enumerate(result.keep_together, 1) for case_id in ids}
    copies = {case_id: number for number, item in enumerate(result.groups, 1) for case_id in item.case_ids}
    conflict = {case_id for item in result.cross_label_groups for case_id in item.case_ids}
    best = _best(result)
    sizes = Counter(group.values())
    stream = StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for record in result.records:
        pair = best.get(record.case_id)
        size = sizes[group[record.case_id]]
        writer.writerow(
            (
                csv_cell(record.case_id),
                record.pathology,
                f"G{group[record.case_id]:04d}",
                size,
                int(record.case_id in conflict),
                f"S{copies[record.case_id]:04d}" if record.case_id in copies else "",
                "" if pair is None else f"{pair.ncc:.3f}",
                pair.kind if pair is not None else "stated" if size > 1 else "single",
            )
        )
    return stream.getvalue()


def _best(result: AuditResult) -> dict[str, DuplicatePair]:
    """case_id → its strongest pair."""
    best: dict[str, DuplicatePair] = {}
    for pair in (*result.pairs, *result.related):
        for case_id in (pair.a, pair.b):
            known = best.get(case_id)
            if known is None or (RANK.index(pair.kind), -pair.ncc) < (RANK.index(known.kind), -known.ncc):
                best[case_id] = pair
    return best
