"""What a query says, for a program (json), a terminal or log (text), or a reader (html). One format per file."""

from __future__ import annotations

from pathlib import Path

from sonoseek.core import InvalidValueError, LazyTable, NotFoundError, Report
from sonoseek.reports.atomic import write_atomically
from sonoseek.reports.index import IndexEntry, write_index_page
from sonoseek.reports.json import SCHEMA_VERSION, decode_cells, decode_heatmap, render_json, report_schema

REPORTS = LazyTable(
    "report format",
    {
        "json": "sonoseek.reports.json:render_json",
        "html": "sonoseek.reports.html:render_html",
        "text": "sonoseek.reports.text:render_text",
    },
)
"""Name → function from a Report to a str."""

SUFFIXES = {".json": "json", ".html": "html", ".txt": "text"}
"""File name suffix → name of the format."""


def render(report: Report, format: str) -> str:  # noqa: A002  # the word that every user looks for
    """Write `report` out as one string.

    Args:
        report: of `SearchEngine.query`.
        format: one of `REPORTS`: "json", "html" or "text".

    Raises:
        NotFoundError: no such format; the message lists them.
        InvalidValueError: the report holds a number that is not finite.
    """
    written: str = REPORTS.load(format)(report)
    return written


def write_report(report: Report, path: Path | str, *, heatmaps: bool = False) -> Path:
    """Write `report` to a file whose suffix names the format: .json, .html or .txt.

    The file is there whole or not at all: written beside its place, then moved into it.

    Args:
        report: of `SearchEngine.query`.
        path: in a folder that exists; a file already there is replaced.
        heatmaps: also put each heatmap's pixels into the JSON (`decode_heatmap` reads them); HTML always draws them.

    Returns:
        The path written.

    Raises:
        InvalidValueError: the suffix names no format; the message lists them.
        NotFoundError: the folder does not exist.
    """
    path = Path(path)
    name = SUFFIXES.get(path.suffix.lower())
    if name is None:
        raise InvalidValueError(
            f"{path.name!r} ends in {path.suffix!r}; the suffix says the format: {', '.join(SUFFIXES)}. "
            "Rename the file."
        )
    if not path.parent.is_dir():
        raise NotFoundError(f"{str(path.parent)!r} is no folder; a report is written into one. Make it first.")
    text = render_json(report, heatmaps=heatmaps) if name == "json" else render(report, name)
    return write_atomically(path, text)


__all__ = [
    "REPORTS",
    "SUFFIXES",
    "render",
    "write_report",
    "IndexEntry",
    "write_index_page",
    "SCHEMA_VERSION",
    "report_schema",
    "render_json",
    "decode_heatmap",
    "decode_cells",
]
