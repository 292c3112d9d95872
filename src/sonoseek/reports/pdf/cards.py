"""Cards of a printed report: a picture, a diagnosis and a few lines, two to a row, never parted by a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Table

from sonoseek.reports.pdf import drawing, layout

GAP = 4 * mm
WIDTH = (layout.WIDTH - GAP) / 2
"""Of a card, in points."""
PAD = 4.0
NUMBER = 20.0
TEXT = WIDTH - NUMBER - drawing.THUMB[0] - 3 * PAD
"""In points: the padding of a card, and the widths of its number and of its text; the picture stands between them."""
WIDEST = 84
"""Characters of a line's text at most: a card must fit on a page whatever the archive says."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Card:
    """What a card shows; empty texts are left out.

    Attributes:
        number: a rank, or the number of a view.
        picture: within `drawing.THUMB`.
        tone: the diagnosis, whose shape is drawn.
        title: in bold beside the shape.
        share: drawn as a meter, 0 … 1, or None.
        lines, quiet: texts from anywhere, cut at `WIDEST` characters; the second ones in grey.
    """

    number: int
    picture: Flowable
    tone: str
    title: str
    share: float | None = None
    lines: tuple[str, ...] = ()
    quiet: tuple[str, ...] = ()


def grid(cards: Sequence[Card]) -> list[Flowable]:
    """Rows of two cards, each one whole: a page ends between rows alone."""
    rows: list[Flowable] = []
    for start in range(0, len(cards), 2):
        drawn = [_draw(card) for card in cards[start : start + 2]]
        row = Table([[drawn[0], "", drawn[1] if len(drawn) > 1 else ""]], colWidths=[WIDTH, GAP, WIDTH])
        boxed = [("BOX", (column, 0), (column, 0), 0.5, layout.LINE) for column in (0, 2)[: len(drawn)]]
        padding = [(f"{side}PADDING", (0, 0), (-1, -1), 0) for side in ("LEFT", "RIGHT", "TOP", "BOTTOM")]
        row.setStyle([*boxed, *padding, ("VALIGN", (0, 0), (-1, -1), "TOP")])
        row.spaceAfter = 5
        rows.append(row)
    return rows


def _draw(card: Card) -> Table:
    text: list[Flowable] = [_title(card)]
    if card.share is not None:
        text.append(drawing.meter(card.share, width=TEXT))
    text += [layout.said(line, layout.SMALL, widest=WIDEST) for line in card.lines if line]
    text += [layout.said(line, layout.SMALL_DIM, widest=WIDEST) for line in card.quiet if line]
    number = layout.said(str(card.number), layout.BODY, bold=True)
    drawn = Table([[number, card.picture, text]], colWidths=[NUMBER, drawing.THUMB[0] + PAD, TEXT + 2 * PAD])
    drawn.setStyle(
        [
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LEFTPADDING", (0, 0), (-1, -1), PAD),
            ("LEFTPADDING", (1, 0), (1, 0), 0),
            ("RIGHTPADDING", (0, 0), (-1, -1), 0),
            ("RIGHTPADDING", (2, 0), (2, 0), PAD),
            ("TOPPADDING", (0, 0), (-1, -1), PAD),
            ("BOTTOMPADDING", (0, 0), (-1, -1), PAD),
        ]
    )
    return drawn


def _title(card: Card) -> Table:
    """The shape, and the diagnosis in bold."""
    cells = [drawing.mark(card.tone, 8.5), layout.said(card.title, layout.BODY, widest=60, bold=True)]
    title = Table([cells], colWidths=[13, TEXT - 13])
    title.hAlign = "LEFT"
    padding = [(f"{side}PADDING", (0, 0), (-1, -1), 0) for side in ("LEFT", "RIGHT", "TOP", "BOTTOM")]
    title.setStyle([*padding, ("VALIGN", (0, 0), (-1, -1), "TOP"), ("TOPPADDING", (0, 0), (0, 0), 1.6)])
    return title
