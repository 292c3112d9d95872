"""What the tests of queries share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sonoseek.core import (
    CaseRecord,
    Report,
    Scan,
)
from sonoseek.engine import SearchEngine
from sonoseek.gallery import Gallery
from sonoseek.indexing.build import make_entry

MakeScan = Callable[..., Scan]
EVERY_SCAN: dict[str, Any] = {"per_patient": False, "deduplicate": False}


def said(report: Report, words: str) -> bool:
    return any(words in warning.text for warning in report.warnings)


def fill(gallery: Gallery, encoder: Any, rows: list[tuple[Scan, str, str | None]], *, dataset: str = "first") -> None:
    """Add one case per scan, label and group, of no known patient."""
    gallery.add(
        make_entry(scan, CaseRecord(case_id=f"case {i}", dataset=dataset, pathology=pathology, group=group), encoder)
        for i, (scan, pathology, group) in enumerate(rows)
    )


def top_and_other(encoder: Any, scan: Scan) -> tuple[str, str]:
    """The class that the network finds likeliest, and another one."""
    top = SearchEngine(encoder).query(scan).explanations[0].target
    return top, next(name for name in encoder.bundle.classes if name != top)
