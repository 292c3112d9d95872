"""Cards of a PDF report: an image, a class and a few lines; two to a row, never split by a page break."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Table

from sonoseek.reports.pdf import drawing, layout

GAP = 4 * mm
WIDTH = (layout.WIDTH - GAP) / 2
"""Width of a card, in points."""
PAD = 4.0
NUMBER = 20.0
TEXT = WIDTH - NUMBER - drawing.THUMBNAIL[0] - 3 * PAD
"""In points: the padding of a card, and the widths of its number and of its text; the image is between them."""
LONGEST_LINE = 84
"""Characters of a line at most: a card must fit on a page, whatever the archive's texts."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Card:
    """Content of a card; empty texts are left out.

    Attributes:
        number: a rank, or the number of a view.
        picture: within `drawing.THUMBNAIL`.
        display_class: the class, whose symbol is drawn.
        title: in bold beside the symbol.
        similarity: drawn as a bar, 0 … 1, or None.
        lines, muted_lines: untrusted texts, cut at `LONGEST_LINE` characters; the second ones in grey.
    """

    number: int
    picture: Flowable
    display_class: str
    title: str
    similarity: float | None = None
    lines: tuple[str, ...] = ()
    muted_lines: tuple[str, ...] = ()


def card_grid(cards: Sequence[Card]) -> list[Flowable]:
    """Rows of two cards; page breaks lie between rows."""
    rows: list[Flowable] = []
    for start in range(0, len(cards), 2):
        drawn = [_draw(card) for card in cards[start : start + 2]]
        row = Table([[drawn[0], "", drawn[1] if len(drawn) > 1 else ""]], colWidths=[WIDTH, GAP, WIDTH])
        boxed = [("BOX", (column, 0), (column, 0), 0.5, layout.RULE) for column in (0, 2)[: len(drawn)]]
        padding = [(f"{side}PADDING", (0, 0), (-1, -1), 0) for side in ("LEFT", "RIGHT", "TOP", "BOTTOM")]
        row.setStyle([*boxed, *padding, ("VALIGN", (0, 0), (-1, -1), "TOP")])
        row.spaceAfter = 5
        rows.append(row)
    return rows


def _draw(card: Card) -> Table:
    text: list[Flowable] = [_title(card)]
    if card.similarity is not None:
        text.append(drawing.similarity_bar(card.similarity, width=TEXT))
    text += [layout.paragraph(line, layout.SMALL, widest=LONGEST_LINE) for line in card.lines if line]
    text += [layout.paragraph(line, layout.SMALL_MUTED, widest=LONGEST_LINE) for line in card.muted_lines if line]
    number = layout.paragraph(str(card.number), layout.BODY, bold=True)
    drawn = Table([[number, card.picture, text]], colWidths=[NUMBER, drawing.THUMBNAIL[0] + PAD, TEXT + 2 * PAD])
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
    """The symbol, and the title in bold."""
    cells = [
        drawing.class_symbol(card.display_class, 8.5),
        layout.paragraph(card.title, layout.BODY, widest=60, bold=True),
    ]
    title = Table([cells], colWidths=[13, TEXT - 13])
    title.hAlign = "LEFT"
    padding = [(f"{side}PADDING", (0, 0), (-1, -1), 0) for side in ("LEFT", "RIGHT", "TOP", "BOTTOM")]
    title.setStyle([*padding, ("VALIGN", (0, 0), (-1, -1), "TOP"), ("TOPPADDING", (0, 0), (0, 0), 1.6)])
    return title
