"""The audit as one HTML file: figures first, then the pairs side by side."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path

import jinja2
import numpy as np

from sonoseek.core import DISCLAIMER, PATHOLOGIES
from sonoseek.core.files import PRIVATE, write_atomically
from sonoseek.datasets.audit.groups_csv import groups_csv
from sonoseek.datasets.audit.pictures import Pictures
from sonoseek.datasets.audit.result import AuditResult, DuplicateGroup, DuplicatePair
from sonoseek.datasets.base import Dataset

MAX_PAIRS = 300
"""Pairs drawn per section; the table and the JSON summary hold all."""
MAX_ROWS = 500
MOST_MARKED = 12


@dataclass(frozen=True, kw_only=True)
class PairView:
    """One pair, as the page shows it."""

    pair: DuplicatePair
    label_a: str
    label_b: str
    pictures: tuple[str, str, float] | None
    relation: str

    @property
    def conflict(self) -> bool:
        """Whether the two have different labels."""
        return self.label_a != self.label_b


def write_audit_page(result: AuditResult, dataset: Dataset, path: Path | str) -> None:
    """Write the audit as one self-contained HTML page: no script, nothing is loaded from elsewhere.

    The page shows scans of the dataset, as thumbnails: it may be passed on as far as the dataset's licence allows.

    Args:
        result: of an audit of `dataset`.
        dataset: is read again for the pictures; a scan that no longer reads leaves a gap.
        path: replaced if it exists; a new file is for its owner alone.
    """
    write_atomically(path, audit_page(result, dataset), mode=PRIVATE)


def audit_page(result: AuditResult, dataset: Dataset) -> str:
    """The page as text; see `write_audit_page`."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = package_files("sonoseek.datasets.audit").joinpath("page.html.j2").read_text(encoding="utf-8")
    pictures = Pictures(dataset)
    labels = {record.case_id: record.pathology for record in result.records}
    table = base64.b64encode(groups_csv(result).encode()).decode("ascii")
    read = Counter(labels[r.case_id] for r in result.records if r.case_id not in {u.case_id for u in result.unreadable})
    marked = Counter(labels[case_id] for case_id in result.marked)
    inside = Counter(labels[case_id] for case_id in result.marked_inside)
    most = sorted(result.marked, key=lambda case_id: -result.marked[case_id])[:MOST_MARKED]
    unstated = {(pair.a, pair.b) for pair in result.unstated}
    conflicts = {case_id for group in result.cross_label_groups for case_id in group.case_ids}
    return environment.from_string(source).render(
        result=result,
        counts=result.counts(),
        licence=dataset.licence,
        citation=dataset.citation,
        disclaimer=DISCLAIMER,
        composition=[(label, count) for label in PATHOLOGIES if (count := Counter(labels.values())[label])],
        conflicts=[(group, _group_pairs(group, result, labels, pictures)) for group in result.cross_label_groups],
        exact=_section((p for p in result.pairs if p.kind == "exact" and p.a not in conflicts), labels, pictures),
        near=_section((p for p in result.pairs if p.kind == "near" and p.a not in conflicts), labels, pictures),
        related=_section(result.related, labels, pictures),
        unstated=unstated,
        crossing=result.crossing[:MAX_ROWS],
        crossing_counts=Counter((item.fold, item.reason) for item in result.crossing),
        mark_rows=[
            {"label": name, "marked": marked[name], "inside": inside[name], "read": read[name]}
            for name in PATHOLOGIES
            if read[name]
        ],
        most_marked=[(case_id, labels[case_id], result.marked[case_id], pictures.single(case_id)) for case_id in most],
        groups_uri=f"data:text/csv;charset=utf-8;base64,{table}",
        max_rows=MAX_ROWS,
    )


def _section(pairs: Iterable[DuplicatePair], labels: dict[str, str], pictures: Pictures) -> dict[str, object]:
    """The pairs that need eyes first, the least certain, and how many more are not drawn."""
    ordered = sorted(pairs, key=lambda pair: (pair.detail, pair.ncc))
    return {"pairs": _views(ordered[:MAX_PAIRS], labels, pictures), "hidden": max(len(ordered) - MAX_PAIRS, 0)}


def _group_pairs(
    group: DuplicateGroup, result: AuditResult, labels: dict[str, str], pictures: Pictures
) -> tuple[PairView, ...]:
    """A group's pairs, those with two labels first."""
    members = set(group.case_ids)
    inside = [pair for pair in result.pairs if pair.a in members]
    inside.sort(key=lambda pair: labels[pair.a] == labels[pair.b])
    return _views(inside[:MAX_PAIRS], labels, pictures)


def _views(pairs: Sequence[DuplicatePair], labels: dict[str, str], pictures: Pictures) -> tuple[PairView, ...]:
    return tuple(
        PairView(
            pair=pair,
            label_a=labels[pair.a],
            label_b=labels[pair.b],
            pictures=pictures.pair(pair),
            relation=describe_transform(pair),
        )
        for pair in pairs
    )


def describe_transform(pair: DuplicatePair) -> str:
    """How `b` must be moved to lie on `a`, in words."""
    if pair.kind == "exact":
        return "identical pixels"
    linear = pair.transform[:, :2]
    unflipped = linear @ np.diag([-1.0, 1.0]) if pair.mirrored else linear
    large, small = np.linalg.svd(linear, compute_uv=False)
    scale = math.sqrt(large * small)
    turn = math.degrees(math.atan2(unflipped[1, 0] - unflipped[0, 1], unflipped[0, 0] + unflipped[1, 1]))
    words = ["mirrored"] if pair.mirrored else []
    if abs(scale - 1) >= 0.01:
        words.append(f"scaled × {scale:.2f}")
    if large / small >= 1.03:
        words.append(f"squeezed {100 * (large / small - 1):.0f} %")
    if abs(turn) >= 1:
        words.append(f"turned {_signed(turn)}°")
    if not pair.mirrored and abs(turn) < 45:
        across, down = pair.transform[:, 2]
        if max(abs(across), abs(down)) >= 2:
            words.append(f"moved {_signed(across)} / {_signed(down)} px")
    return ", ".join(words) or "same place, same size"


def _signed(value: float) -> str:
    return f"{round(value):+d}".replace("-", "−") if round(value) else "0"
