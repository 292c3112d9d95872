"""A heatmap over its scan as one PNG with a numbered colour scale, for slides and papers.

Warm is evidence for, cool against; opacity rises with the evidence. Full colour is the strongest place, but at least
a minimum: a scan without evidence looks empty.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sonoseek.core import DISCLAIMER, Contour, Explanation
from sonoseek.reports.phrases import sentence, signed, unit
from sonoseek.reports.pictures import COOL, PARTS, WARM, display_aspect, reference_of, scale_bar

SHORTEST, LONGEST = 420, 1400
"""Pixels of the drawn scan's longer side: smaller ones are enlarged, larger ones shrunk."""
OPACITY = 0.7
"""Of full colour."""
MARGIN, LINE, BAR = 14, 20, 12
"""Pixels: margin, height of a line of text, height of the colour scale."""
BACKGROUND, TEXT, MUTED, OUTLINE = (13, 17, 22), (226, 232, 240), (148, 163, 184), (240, 240, 240)
Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """One scan with its heatmap.

    Attributes:
        pixels: uint8 (H, W), also smaller than the scan: drawn at the heatmap's aspect.
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
    sheet = Image.new("RGB", (max(width, SHORTEST + 2 * MARGIN), MARGIN + LINE + height + MARGIN + foot), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    left = MARGIN
    for panel, picture in zip(panels, drawn, strict=True):
        draw.text((left, MARGIN - 6), _truncate(panel.title, picture.width), fill=TEXT, font=_font(13))
        sheet.paste(picture, (left, MARGIN + LINE))
        left += picture.width + MARGIN
    top = MARGIN + LINE + height + MARGIN
    top = _colour_scale(sheet, draw, top, reference=reference, unit=unit(panels[0].explanation.target))
    for line in lines:
        draw.text(
            (MARGIN, top), _truncate(line.replace("−", "-"), sheet.width - 2 * MARGIN), fill=MUTED, font=_font(12)
        )
        top += LINE
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def draw_panel(panel: Panel, *, reference: float) -> Image.Image:
    """The scan in grey with heatmap, outline and scale bar; isotropic in millimetres where the spacing is known.

    Args:
        panel: to draw, without its title.
        reference: value of full colour, of `pictures.reference_of`.
    """
    height, width = panel.explanation.shape
    aspect = display_aspect((height, width), panel.spacing_mm)
    longest = min(max(max(height, width), SHORTEST), LONGEST)
    size = (longest, max(1, round(longest / aspect))) if aspect >= 1 else (max(1, round(longest * aspect)), longest)
    smaller = size[0] < panel.pixels.shape[1]
    grey = cv2.resize(panel.pixels, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
    density = panel.explanation.heatmap * np.float32(height * width / PARTS)
    share = np.asarray(cv2.resize(density, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR))
    share = np.clip(share / np.float32(reference), -1.0, 1.0)
    base = np.repeat(np.asarray(grey, np.float64)[..., None], 3, axis=2)
    picture = Image.fromarray(coloured(base, share))
    draw = ImageDraw.Draw(picture)
    if panel.contour is not None:
        scale = np.array([size[1] / height, size[0] / width])
        _dashed(draw, panel.contour.points * scale)
    bar = scale_bar(width, panel.spacing_mm)
    if bar is not None:
        right, bottom = size[0] - 10, size[1] - 10
        draw.line([(right - size[0] * bar.share, bottom), (right, bottom)], fill=TEXT, width=2)
        draw.text((right, bottom - 4), bar.label, fill=TEXT, font=_font(12), anchor="rs")
    return picture


def coloured(ground: NDArray[Any], share: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A ground of colours, 0 … 255, under evidence of −1 … 1: uint8, the shape of `share`, and 3."""
    colour = np.where(share[..., None] >= 0, colours(share, WARM), colours(-share, COOL))
    opacity = OPACITY * np.abs(share)[..., None]
    return np.asarray(np.round(ground * (1 - opacity) + colour * opacity).clip(0, 255), np.uint8)


def colours(share: NDArray[np.floating], stops: tuple[Colour, ...]) -> NDArray[np.float64]:
    """The colours of `stops` at shares of 0 … 1, in 0 … 255: the shape of `share`, and 3."""
    place = np.clip(share, 0.0, 1.0) * (len(stops) - 1)
    channels = [np.interp(place, np.arange(len(stops)), channel) for channel in zip(*stops, strict=True)]
    return np.stack(channels, axis=-1)


def _dashed(draw: ImageDraw.ImageDraw, points: NDArray[np.floating]) -> None:
    """A closed line of dashes through (row, column) points."""
    closed = np.concatenate([points, points[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    if along[-1] <= 0:
        return
    for start in np.arange(0.0, along[-1], 9.0):
        at = np.linspace(start, min(start + 5.0, along[-1]), 4)
        rows, columns = (np.interp(at, along, closed[:, axis]) for axis in (0, 1))
        draw.line(list(zip(columns.tolist(), rows.tolist(), strict=True)), fill=OUTLINE, width=1)


def _colour_scale(sheet: Image.Image, draw: ImageDraw.ImageDraw, top: int, *, reference: float, unit: str) -> int:
    """Draw the colour scale with its values; returns the row below it."""
    wide = sheet.width - 2 * MARGIN
    band = coloured(np.asarray(BACKGROUND), np.linspace(-1.0, 1.0, wide))
    sheet.paste(Image.fromarray(np.repeat(band[None], BAR, axis=0)), (MARGIN, top))
    for place, anchor in ((-1.0, "la"), (0.0, "ma"), (1.0, "ra")):
        draw.text(
            (MARGIN + (place + 1) / 2 * wide, top + BAR + 3),
            signed(place * reference, digits=2 if reference < 10 else 1).replace("−", "-"),  # the font has no minus
            fill=TEXT,
            font=_font(12),
            anchor=anchor,
        )
    legend = f"left: against, right: for; {unit} per 1 % of the scan"
    draw.text((MARGIN, top + BAR + LINE + 2), _truncate(legend, wide), fill=MUTED, font=_font(12))
    return top + BAR + 2 * LINE + 4


def _truncate(text: str, width: int) -> str:
    """`text`, cut where it is wider than `width` pixels."""
    font = _font(13)
    while text and font.getlength(text) > width:
        text = text[:-2].rstrip("… ") + "…" if len(text) > 2 else ""
    return text


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
