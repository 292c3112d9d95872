"""Reports of a query: for a program (json), a terminal or log (text), a reader (html), print (pdf), a PACS (dicom).

One format per file. The first three are text: `render` gives a str. A PDF is bytes: `render_pdf`. A DICOM structured
report too: `render_sr`; `sonoseek.reports.dicom` has further DICOM objects. `write_report` writes any of the five.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from sonoseek.core import InvalidValueError, LazyTable, NotFoundError, Report
from sonoseek.core.files import PRIVATE, write_atomically
from sonoseek.reports.index import IndexEntry, write_index_page
from sonoseek.reports.json import SCHEMA_VERSION, decode_evidence_map, decode_heatmap, render_json, report_schema

REPORTS = LazyTable(
    "report format",
    {
        "json": "sonoseek.reports.json:render_json",
        "html": "sonoseek.reports.html:render_html",
        "text": "sonoseek.reports.text:render_text",
    },
)
"""Name → function from a Report to a str. A PDF is none: see `render_pdf`."""

SUFFIXES = {".json": "json", ".html": "html", ".txt": "text", ".pdf": "pdf", ".dcm": "dicom"}
"""File name suffix → name of the format."""


def render(report: Report, format: str) -> str:  # noqa: A002
    """Write `report` as one string; `render_pdf` gives a PDF, which is bytes.

    Args:
        report: of `SearchEngine.query`.
        format: one of `REPORTS`: "json", "html" or "text".

    Raises:
        NotFoundError: no such format of text; the message lists them.
        InvalidValueError: the report holds a number that is not finite.
    """
    if format in ("pdf", "dicom"):
        other = "render_pdf" if format == "pdf" else "render_sr"
        raise NotFoundError(f"{format!r} is no text format: {', '.join(REPORTS)}. It is bytes: call {other}.")
    text: str = REPORTS.load(format)(report)
    return text


def render_pdf(report: Report, *, rank: int | None = None) -> bytes:
    """Draw `report` on A4 pages.

    Args:
        report: of `SearchEngine.query`.
        rank: of a match, 1-based: adds the evidence for its similarity, on both images. None adds nothing.

    Returns:
        PDF. The same report gives the same bytes.

    Raises:
        InvalidValueError: no match has this rank.
    """
    from sonoseek.reports.pdf import report as pdf  # reportlab takes a fifth of a second: loaded on first use

    return pdf.render_pdf(report, rank=rank)


def render_sr(report: Report, source: Path | str) -> bytes:
    """Write `report` as a DICOM structured report of the study of its source; see `sonoseek.reports.dicom`.

    Args:
        report: of `SearchEngine.query`.
        source: the DICOM file that was queried; of several views the first.

    Returns:
        A whole file (PS3.10). The same report gives the same bytes.

    Raises:
        MissingExtraError: the extra `pacs` is not installed.
        NotFoundError: no such file.
        ScanReadError: the source is no DICOM file.
        InvalidValueError: the source is another image than the report's, or lacks its UIDs.
    """
    from sonoseek.io import read_source_header
    from sonoseek.reports.dicom import render_dicom

    header = read_source_header(source)
    key = hashlib.sha256(header.sop_instance_uid.encode("utf-8")).hexdigest()
    (result,) = render_dicom(report, header, kinds=("sr",), study_key=key)
    return result.content


def write_report(report: Report, path: Path | str, *, heatmaps: bool = False, source: Path | str | None = None) -> Path:
    """Write `report` to a file whose suffix names the format: .json, .html, .txt, .pdf or .dcm.

    The file is written atomically: beside its place, then moved into it.

    Args:
        report: of `SearchEngine.query`.
        path: in a folder that exists; a file already there is replaced.
        heatmaps: add each heatmap's pixels to a JSON report (`decode_heatmap` reads them).
        source: of a .dcm report: the DICOM file that was queried; see `render_sr`.

    Returns:
        The path written.

    Raises:
        InvalidValueError: the suffix names no format, and the message lists them; or a .dcm report without `source`.
        NotFoundError: the folder does not exist.
        MissingExtraError, ScanReadError: of a .dcm report, as `render_sr`.
    """
    path = Path(path)
    name = SUFFIXES.get(path.suffix.lower())
    if name is None:
        raise InvalidValueError(
            f"{path.name!r} ends in {path.suffix!r}; the suffix gives the format: {', '.join(SUFFIXES)}. "
            "Rename the file."
        )
    if not path.parent.is_dir():
        raise NotFoundError(f"{str(path.parent)!r} is no folder; a report is written into one. Make it first.")
    content: str | bytes
    if name == "dicom":
        if source is None:
            raise InvalidValueError(
                f"{path.name!r} is a DICOM report, which is filed under the patient and the study of its source; "
                "source is None. Pass source=, the DICOM file that was queried."
            )
        content = render_sr(report, source)
    elif name == "json":
        content = render_json(report, heatmaps=heatmaps)
    else:
        content = render_pdf(report) if name == "pdf" else render(report, name)
    return write_atomically(path, content, mode=PRIVATE)


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
    "render_pdf",
    "render_sr",
    "decode_heatmap",
    "decode_evidence_map",
]
