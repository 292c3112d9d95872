"""Page layout of PDF reports: fonts, styles, sanitized text, and each page's header and footer."""

from __future__ import annotations

import html
import io
import unicodedata
from collections.abc import Sequence
from functools import cache, partial
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

TEXT, MUTED, RULE, TRACK, ACCENT = (HexColor(c) for c in ("#14181c", "#4a545e", "#c9ced4", "#e6e9ec", "#1f4f99"))
CLASS_COLOURS = {"normal": HexColor("#5b6b7c"), "benign": HexColor("#0d7f78"), "malignant": HexColor("#c25700")}
"""One colour per class, as in the printed HTML report; any other class has `TEXT`."""

SANS, BOLD = "sonoseek-sans", "sonoseek-bold"
"""Bitstream Vera, which comes with reportlab; embedded, so that every viewer shows the same page."""


@cache
def _glyphs() -> frozenset[int]:
    """Register the fonts with reportlab, once; returns the characters that both have."""
    # By path, not by name: another Vera.ttf of the machine would be found first.
    folder = Path(reportlab.__file__).parent / "fonts"
    fonts = [TTFont(name, str(folder / file)) for name, file in ((SANS, "Vera.ttf"), (BOLD, "VeraBd.ttf"))]
    for font in fonts:
        pdfmetrics.registerFont(font)
    pdfmetrics.registerFontFamily(SANS, normal=SANS, bold=BOLD, italic=SANS, boldItalic=BOLD)
    return frozenset(fonts[0].face.charToGlyph) & frozenset(fonts[1].face.charToGlyph)


def _style(name: str, size: float, *, lead: float, color: HexColor = TEXT, **more: Any) -> ParagraphStyle:
    return ParagraphStyle(name, fontName=SANS, fontSize=size, leading=lead, textColor=color, **more)


HEADLINE = _style("headline", 17, lead=21)
HEADING = _style("heading", 9.6, lead=12.5, spaceBefore=10, spaceAfter=5, keepWithNext=1)
BODY = _style("body", 8.4, lead=11.6)
BODY_MUTED = _style("body-muted", 8.4, lead=11.6, color=MUTED)
SMALL = _style("small", 7.2, lead=9.4)
SMALL_MUTED = _style("small-muted", 7.2, lead=9.4, color=MUTED)
FINE_PRINT = _style("fine-print", 6.6, lead=9, color=MUTED)


def sanitize(text: str, *, widest: int = 200) -> str:
    """`text` on one line, in characters that the font has; missing and control characters become "?".

    Args:
        text: untrusted.
        widest: characters at most; longer texts end in "…".
    """
    normalized = unicodedata.normalize("NFC", text[: 4 * widest])  # NFC joins combining marks: cut with a margin
    glyphs = _glyphs()
    shown = "".join(" " if c.isspace() else c if c.isprintable() and ord(c) in glyphs else "?" for c in normalized)
    return shown if len(shown) <= widest else shown[: widest - 1].rstrip() + "…"


def has_missing_glyphs(text: str) -> bool:
    """Whether `sanitize` replaces a character of `text` by "?"."""
    glyphs = _glyphs()
    return any(not (c.isspace() or (c.isprintable() and ord(c) in glyphs)) for c in unicodedata.normalize("NFC", text))


def paragraph(text: str, style: ParagraphStyle = BODY, *, widest: int = 200, bold: bool = False) -> Paragraph:
    """A paragraph of untrusted text: sanitized, markup escaped."""
    escaped = html.escape(sanitize(text, widest=widest), quote=False)
    escaped = escaped.replace(" %", "\u00a0%")  # a number and its percent sign stay on one line
    return Paragraph(f"<b>{escaped}</b>" if bold else escaped, style)


def heading(text: str, *, aside: str = "") -> Paragraph:
    """A heading that stays with the next flowable; `aside` follows in smaller type."""
    first, second = (html.escape(sanitize(part, widest=160), quote=False) for part in (text, aside))
    return Paragraph(f'<b>{first}</b> &nbsp;<font size="7.2" color="{MUTED.hexval()}">{second}</font>', HEADING)


def truncate(text: str, *, font: str, size: float, width: float) -> str:
    """Sanitized `text`, cut where it is wider than `width` points."""
    shown = sanitize(text, widest=300)
    while shown not in ("", "…") and pdfmetrics.stringWidth(shown, font, size) > width:
        shown = shown[:-2].rstrip("… ") + "…"
    return shown


def build_document(
    story: Sequence[Flowable], *, title: str, author: str, subject: str, head: str, foot: tuple[str, str]
) -> bytes:
    """Set `story` on A4 pages.

    Args:
        story: content of the pages, in order.
        title: of the file's metadata, which have these three and nothing else.
        author: the same.
        subject: the same.
        head: at the upper right of every page.
        foot: two lines at the foot of every page, beside its number; the first one in bold.

    Returns:
        PDF. The same arguments give the same bytes: no date is written.
    """
    buffer = io.BytesIO()
    document = BaseDocTemplate(
        buffer,
        pagesize=A4,
        title=sanitize(title),
        author=sanitize(author),
        subject=sanitize(subject),
        creator="sonoseek",
        lang="en",
        displayDocTitle=1,
        invariant=1,
        initialFontName=SANS,
    )
    frame = Frame(SIDE, BOTTOM, WIDTH, A4[1] - TOP - BOTTOM, leftPadding=0, rightPadding=0, topPadding=0)
    document.addPageTemplates(PageTemplate(frames=[frame], onPage=partial(_draw_frame, head=head, foot=foot)))
    document.build(list(story), canvasmaker=_NumberedCanvas)
    return buffer.getvalue()


def _draw_frame(canvas: Canvas, _document: BaseDocTemplate, *, head: str, foot: tuple[str, str]) -> None:
    """Draw header and footer of a page."""
    right, high, low = A4[0] - SIDE, A4[1] - 14 * mm, 15 * mm
    canvas.setStrokeColor(RULE)
    canvas.setLineWidth(0.6)
    canvas.line(SIDE, high - 6, right, high - 6)
    canvas.line(SIDE, low + 12, right, low + 12)
    canvas.setFillColor(TEXT)
    canvas.setFont(BOLD, 10)
    canvas.drawString(SIDE, high, "sonoseek")
    canvas.setFont(BOLD, 7.6)
    canvas.drawString(SIDE, low, truncate(foot[0], font=BOLD, size=7.6, width=WIDTH - 60))
    canvas.setFillColor(MUTED)
    canvas.setFont(SANS, 7.6)
    canvas.drawRightString(right, high, truncate(head, font=SANS, size=7.6, width=WIDTH - 80))
    canvas.setFont(SANS, 6.6)
    canvas.drawString(SIDE, low - 11, truncate(foot[1], font=SANS, size=6.6, width=WIDTH))


class _NumberedCanvas(Canvas):  # type: ignore[misc]  # reportlab publishes no types
    """Delays all pages until their number is known, for "page 2 of 5"."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pages: list[dict[str, Any]] = []

    def showPage(self) -> None:  # noqa: N802  # reportlab's name
        self._pages.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        for number, state in enumerate(self._pages, start=1):
            self.__dict__.update(state)
            self.setFillColor(MUTED)
            self.setFont(SANS, 7.6)
            self.drawRightString(A4[0] - SIDE, 15 * mm, f"page {number} of {len(self._pages)}")
            super().showPage()
        super().save()
