"""A page that lists several reports."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sonoseek.core import DISCLAIMER, InvalidValueError, NotFoundError, Report
from sonoseek.core.files import PRIVATE, write_atomically
from sonoseek.reports import phrases


@dataclass(frozen=True, kw_only=True)
class IndexEntry:
    """One report on the page.

    Attributes:
        report: with the scan and the prediction to show.
        href: the report's own page, relative to the index page ("query-01.html").
        truth: the reference standard, or None.
        title: empty: the scan's source.
    """

    report: Report
    href: str
    truth: str | None = None
    title: str = ""

    def __post_init__(self) -> None:
        if not self.href or posixpath.isabs(self.href) or "\\" in self.href or ":" in self.href.split("/")[0]:
            raise InvalidValueError(
                f"href is {self.href!r}; it must be a path relative to the index page, such as 'query-01.html'."
            )


def write_index_page(entries: Sequence[IndexEntry], path: Path | str, *, title: str = "Reports") -> Path:
    """Write a dark page with a thumbnail, the headline, the reference standard if known, and a link per report.

    Args:
        entries: in order.
        path: of the page, in a folder that exists; a file there is replaced atomically.
        title: heading.

    Returns:
        The path written.

    Raises:
        NotFoundError: the folder does not exist.
    """
    from sonoseek.reports import html, pictures  # the template engine is loaded on first use

    path = Path(path)
    if not path.parent.is_dir():
        raise NotFoundError(f"{str(path.parent)!r} is no folder; the page is written into one. Make it first.")
    shown = [
        {
            "href": quote(entry.href),
            "title": entry.title or phrases.name(entry.report.scan),
            "url": pictures.thumbnail_url(entry.report.scan),
            "display_class": phrases.display_class(entry.report.prediction),
            "headline": phrases.headline(entry.report.prediction),
            "likeliest": phrases.likeliest(entry.report.prediction),
            "similar_cases": phrases.similar_cases(entry.report),
            "truth": entry.truth,
        }
        for entry in entries
    ]
    known = [entry for entry in entries if entry.truth is not None]
    correct = sum(entry.report.prediction.label == entry.truth for entry in known)
    unsure = sum(entry.report.prediction.label is None for entry in known)
    summary = (
        f"The given class is the reference standard in {correct} of {len(known)}; {unsure} not sure." if known else ""
    )
    page = html.render_page(
        "index.html.j2",
        values={"entries": shown, "title": title, "summary": summary, "disclaimer": phrases.sentence(DISCLAIMER)},
    )
    return write_atomically(path, page, mode=PRIVATE)
