"""A heatmap over its scan as one PNG, with a scale that has numbers: for slides, papers and a second look.

Warm is evidence for, cool against; opacity rises with the evidence. Full colour is the strongest place, but never
less than a floor: a scan without evidence looks empty, not stretched.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sonoseek.core import DISCLAIMER, Contour, Explanation
from sonoseek.reports.phrases import sentence, signed
from sonoseek.reports.pictures import COOL, PARTS, WARM, reference_of

SHORTEST, LONGEST = 420, 1400
"""Pixels of the drawn scan's longer side: smaller ones are enlarged, larger ones shrunk."""
OPACITY = 0.7
"""Of full colour."""
MARGIN, LINE, BAR = 14, 20, 12
"""Pixels: around everything, of a line of text, of the scale's height."""
PAPER, INK, QUIET, OUTLINE = (13, 17, 22), (226, 232, 240), (148, 163, 184), (240, 240, 240)
Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """One scan with its heatmap.

    Attributes:
        pixels: uint8 (H, W). A smaller picture of the scan will do: it is drawn at the heatmap's aspect.
        explanation: on the scan's grid.
        title: above it. contour: to draw, or None.
        spacing_mm: (row, column) of the heatmap's grid, or None.
    """

    pixels: NDArray[np.uint8]
    explanation: Explanation
    title: str
    contour: Contour | None = None
    spacing_mm: tuple[float, float] | None = None


def overlay_png(*panels: Panel, caption: str = "") -> bytes:
    """Draw scans with their heatmaps side by side, on one scale of colours.

    Args:
        panels: one or more.
        caption: a line below the scale.

    Returns:
        PNG, RGB.
    """
    reference = max(reference_of(panel.explanation) for panel in panels)
    drawn = [draw_panel(panel, reference=reference) for panel in panels]
    height = max(picture.height for picture in drawn)
    width = sum(picture.width for picture in drawn) + MARGIN * (len(drawn) + 1)
    lines = [line for line in (caption, sentence(DISCLAIMER)) if line]
    foot = BAR + 2 * LINE + 4 + LINE * len(lines) + 4
    sheet = Image.new("RGB", (max(width, SHORTEST + 2 * MARGIN), MARGIN + LINE + height + MARGIN + foot), PAPER)
    pen = ImageDraw.Draw(sheet)
    left = MARGIN
    for panel, picture in zip(panels, drawn, strict=True):
        pen.text((left, MARGIN - 6), _fitting(panel.title, picture.width), fill=INK, font=_font(13))
        sheet.paste(picture, (left, MARGIN + LINE))
        left += picture.width + MARGIN
    top = MARGIN + LINE + height + MARGIN
    top = _scale(sheet, pen, top, reference=reference, unit=_unit(panels[0].explanation))
    for line in lines:
        pen.text((MARGIN, top), _fitting(line.replace("−", "-"), sheet.width - 2 * MARGIN), fill=QUIET, font=_font(12))
        top += LINE
    held = io.BytesIO()
    sheet.save(held, "PNG")
    return held.getvalue()


def draw_panel(panel: Panel, *, reference: float) -> Image.Image:
    """The scan in grey, the heatmap over it, outline and length; true in aspect where the spacing is known.

    Args:
        panel: what to draw; its title is not.
        reference: what full colour stands for, as `pictures.reference_of` gives it.
    """
    height, width = panel.explanation.shape
    row_mm, column_mm = panel.spacing_mm or (1.0, 1.0)
    slim = min(max(height * row_mm / (width * column_mm), 0.1), 10.0)  # a broken spacing must not break the picture
    longest = min(max(max(height, width), SHORTEST), LONGEST)
    size = (longest, max(1, round(longest * slim))) if slim <= 1 else (max(1, round(longest / slim)), longest)
    smaller = size[0] < panel.pixels.shape[1]
    grey = cv2.resize(panel.pixels, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
    density = panel.explanation.heatmap * np.float32(height * width / PARTS)
    share = np.asarray(cv2.resize(density, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR))
    share = np.clip(share / np.float32(reference), -1.0, 1.0)
    base = np.repeat(np.asarray(grey, np.float64)[..., None], 3, axis=2)
    colour = np.where(share[..., None] >= 0, colours(share, WARM), colours(-share, COOL))
    opacity = OPACITY * np.abs(share)[..., None]
    picture = Image.fromarray(np.round(base * (1 - opacity) + colour * opacity).clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    if panel.contour is not None:
        scale = np.array([size[1] / height, size[0] / width])
        _dashed(pen, panel.contour.points * scale)
    if panel.spacing_mm is not None:
        _length(pen, size, mm=width * column_mm)
    return picture


def colours(share: NDArray[np.floating], stops: tuple[Colour, ...]) -> NDArray[np.float64]:
    """The colours of `stops` at shares of 0 … 1, in 0 … 255: the shape of `share`, and 3."""
    place = np.clip(share, 0.0, 1.0) * (len(stops) - 1)
    channels = [np.interp(place, np.arange(len(stops)), channel) for channel in zip(*stops, strict=True)]
    return np.stack(channels, axis=-1)


def _dashed(pen: ImageDraw.ImageDraw, points: NDArray[np.floating]) -> None:
    """A closed line of dashes through (row, column) points."""
    closed = np.concatenate([points, points[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    if along[-1] <= 0:
        return
    for start in np.arange(0.0, along[-1], 9.0):
        at = np.linspace(start, min(start + 5.0, along[-1]), 4)
        rows, columns = (np.interp(at, along, closed[:, axis]) for axis in (0, 1))
        pen.line(list(zip(columns.tolist(), rows.tolist(), strict=True)), fill=OUTLINE, width=1)


def _length(pen: ImageDraw.ImageDraw, size: tuple[int, int], *, mm: float) -> None:
    """A bar of a round number of millimetres at the lower right."""
    fitting = [length for length in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200) if length <= mm / 3]
    if not fitting:
        return
    long = size[0] * fitting[-1] / mm
    right, bottom = size[0] - 10, size[1] - 10
    pen.line([(right - long, bottom), (right, bottom)], fill=INK, width=2)
    pen.text((right, bottom - 4), f"{fitting[-1]:g} mm", fill=INK, font=_font(12), anchor="rs")


def _scale(sheet: Image.Image, pen: ImageDraw.ImageDraw, top: int, *, reference: float, unit: str) -> int:
    """The colours with their values; returns where to go on."""
    wide = sheet.width - 2 * MARGIN
    share = np.linspace(-1.0, 1.0, wide)
    colour = np.where(share[:, None] >= 0, colours(share, WARM), colours(-share, COOL))
    opacity = OPACITY * np.abs(share)[:, None]
    band = np.round(np.asarray(PAPER) * (1 - opacity) + colour * opacity).astype(np.uint8)
    sheet.paste(Image.fromarray(np.repeat(band[None], BAR, axis=0)), (MARGIN, top))
    for place, anchor in ((-1.0, "la"), (0.0, "ma"), (1.0, "ra")):
        pen.text(
            (MARGIN + (place + 1) / 2 * wide, top + BAR + 3),
            signed(place * reference, digits=2 if reference < 10 else 1).replace("−", "-"),  # the font has no minus
            fill=INK,
            font=_font(12),
            anchor=anchor,
        )
    said = f"left: against, right: for; {unit} per 1 % of the scan"
    pen.text((MARGIN, top + BAR + LINE + 2), _fitting(said, wide), fill=QUIET, font=_font(12))
    return top + BAR + 2 * LINE + 4


def _unit(explanation: Explanation) -> str:
    if ":" in explanation.target:
        return "cosine similarity"
    return f"logit of {explanation.target}"


def _fitting(text: str, width: int) -> str:
    """`text`, cut where it is wider than `width` pixels."""
    font = _font(13)
    while text and font.getlength(text) > width:
        text = text[:-2].rstrip("… ") + "…" if len(text) > 2 else ""
    return text


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
