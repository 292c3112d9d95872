"""A sheet of paper for reports: fonts, styles, text that is safe to set, and the frame that every page carries."""

from __future__ import annotations

import html
import io
import unicodedata
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import reportlab
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import BaseDocTemplate, Flowable, Frame, PageTemplate, Paragraph

SIDE, TOP, BOTTOM = 18 * mm, 21 * mm, 24 * mm
"""Margins, in points."""
WIDTH = A4[0] - 2 * SIDE
"""Of the text, in points."""

INK, QUIET, LINE, TRACK, ACCENT = (HexColor(c) for c in ("#14181c", "#4a545e", "#c9ced4", "#e6e9ec", "#1f4f99"))
TONES = {"normal": HexColor("#5b6b7c"), "benign": HexColor("#0d7f78"), "malignant": HexColor("#c25700")}
"""One colour per diagnosis, as the HTML report has them on paper; any other name is drawn in `INK`."""

SANS, BOLD = "sonoseek-sans", "sonoseek-bold"
"""Bitstream Vera, which comes with reportlab: embedded, so that every reader shows the same page."""


def _register() -> frozenset[int]:
    """Make the fonts known to reportlab; returns the characters that both have."""
    # By its place, not by its name: a machine's own Vera.ttf would be found first, and may be another version.
    folder = Path(reportlab.__file__).parent / "fonts"
    fonts = [TTFont(name, str(folder / file)) for name, file in ((SANS, "Vera.ttf"), (BOLD, "VeraBd.ttf"))]
    for font in fonts:
        pdfmetrics.registerFont(font)
    pdfmetrics.registerFontFamily(SANS, normal=SANS, bold=BOLD, italic=SANS, boldItalic=BOLD)
    return frozenset(fonts[0].face.charToGlyph) & frozenset(fonts[1].face.charToGlyph)


_GLYPHS = _register()


def _style(name: str, size: float, *, lead: float, color: HexColor = INK, **more: Any) -> ParagraphStyle:
    return ParagraphStyle(name, fontName=SANS, fontSize=size, leading=lead, textColor=color, **more)


HEADLINE = _style("headline", 17, lead=21)
HEADING = _style("heading", 9.6, lead=12.5, spaceBefore=10, spaceAfter=5, keepWithNext=1)
BODY = _style("body", 8.4, lead=11.6)
DIM = _style("dim", 8.4, lead=11.6, color=QUIET)
SMALL = _style("small", 7.2, lead=9.4)
SMALL_DIM = _style("small-dim", 7.2, lead=9.4, color=QUIET)
FINE = _style("fine", 6.6, lead=9, color=QUIET)


def clean(text: str, *, widest: int = 200) -> str:
    """`text` on one line, in letters that the font has; what it lacks, and what steers a reader, becomes "?".

    Args:
        text: from anywhere.
        widest: characters that are kept; longer ones end in "…".
    """
    kept = unicodedata.normalize("NFC", text[: 4 * widest])  # combining marks shrink here, so cut with room to spare
    shown = "".join(" " if c.isspace() else c if _has(c) else "?" for c in kept)
    return shown if len(shown) <= widest else shown[: widest - 1].rstrip() + "…"


def _has(letter: str) -> bool:
    return letter.isprintable() and ord(letter) in _GLYPHS


def lacks(text: str) -> bool:
    """Whether `clean` shows some character of `text` as "?"."""
    return any(not (c.isspace() or _has(c)) for c in unicodedata.normalize("NFC", text))


def said(text: str, style: ParagraphStyle = BODY, *, widest: int = 200, bold: bool = False) -> Paragraph:
    """A paragraph of text from anywhere: preprocessed, and no markup whatever it holds."""
    escaped = html.escape(clean(text, widest=widest), quote=False)
    escaped = escaped.replace(" %", "\u00a0%")  # a number and its percent sign stay on one line
    return Paragraph(f"<b>{escaped}</b>" if bold else escaped, style)


def heading(text: str, *, aside: str = "") -> Paragraph:
    """A heading that stays with what follows it; `aside` stands smaller behind it."""
    first, second = (html.escape(clean(part, widest=160), quote=False) for part in (text, aside))
    return Paragraph(f'<b>{first}</b> &nbsp;<font size="7.2" color="{QUIET.hexval()}">{second}</font>', HEADING)


def fitting(text: str, *, font: str, size: float, width: float) -> str:
    """Clean `text`, cut where it is wider than `width` points."""
    shown = clean(text, widest=300)
    while shown not in ("", "…") and pdfmetrics.stringWidth(shown, font, size) > width:
        shown = shown[:-2].rstrip("… ") + "…"
    return shown


def bind(
    story: Sequence[Flowable], *, title: str, author: str, subject: str, head: str, foot: tuple[str, str]
) -> bytes:
    """Set `story` on A4 pages.

    Args:
        story: what the pages hold, in order.
        title: of the file's metadata, which holds these three and nothing else.
        author: the same.
        subject: the same.
        head: at the upper right of every page.
        foot: two lines at the foot of every page, beside its number; the first one in bold.

    Returns:
        PDF. The same arguments give the same bytes: no clock is read.
    """
    held = io.BytesIO()
    document = BaseDocTemplate(
        held,
        pagesize=A4,
        title=clean(title),
        author=clean(author),
        subject=clean(subject),
        creator="sonoseek",
        lang="en",
        displayDocTitle=1,
        invariant=1,
        initialFontName=SANS,
    )
    frame = Frame(SIDE, BOTTOM, WIDTH, A4[1] - TOP - BOTTOM, leftPadding=0, rightPadding=0, topPadding=0)
    document.addPageTemplates(PageTemplate(frames=[frame], onPage=partial(_surround, head=head, foot=foot)))
    document.build(list(story), canvasmaker=_NumberedCanvas)
    return held.getvalue()


def _surround(canvas: Canvas, _document: BaseDocTemplate, *, head: str, foot: tuple[str, str]) -> None:
    """Draw what stands around the text of every page."""
    right, high, low = A4[0] - SIDE, A4[1] - 14 * mm, 15 * mm
    canvas.setStrokeColor(LINE)
    canvas.setLineWidth(0.6)
    canvas.line(SIDE, high - 6, right, high - 6)
    canvas.line(SIDE, low + 12, right, low + 12)
    canvas.setFillColor(INK)
    canvas.setFont(BOLD, 10)
    canvas.drawString(SIDE, high, "sonoseek")
    canvas.setFont(BOLD, 7.6)
    canvas.drawString(SIDE, low, fitting(foot[0], font=BOLD, size=7.6, width=WIDTH - 60))
    canvas.setFillColor(QUIET)
    canvas.setFont(SANS, 7.6)
    canvas.drawRightString(right, high, fitting(head, font=SANS, size=7.6, width=WIDTH - 80))
    canvas.setFont(SANS, 6.6)
    canvas.drawString(SIDE, low - 11, fitting(foot[1], font=SANS, size=6.6, width=WIDTH))


class _NumberedCanvas(Canvas):  # type: ignore[misc]  # reportlab publishes no types
    """Holds every page back until the last one is known, so that each can say "page 2 of 5"."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._held: list[dict[str, Any]] = []

    def showPage(self) -> None:  # noqa: N802  # reportlab's name
        self._held.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        for number, state in enumerate(self._held, start=1):
            self.__dict__.update(state)
            self.setFillColor(QUIET)
            self.setFont(SANS, 7.6)
            self.drawRightString(A4[0] - SIDE, 15 * mm, f"page {number} of {len(self._held)}")
            super().showPage()
        super().save()
