"""Drawings of a PDF report: symbols of the classes, bars, scales and images, as flowables of reportlab."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from reportlab.graphics.shapes import Circle, Drawing, Line, Polygon, Rect, String
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Image, Table

from sonoseek.core import Box, Contour, Explanation, Prediction
from sonoseek.reports import phrases
from sonoseek.reports.overlay import Panel, coloured, draw_panel
from sonoseek.reports.pdf import layout
from sonoseek.reports.pictures import shrunk

Pixels = NDArray[np.uint8]
PRINTED_SIDE = 900
"""Pixels of a large image's longer side: about 270 to the inch in print."""
THUMBNAIL_SIDE = 420
REGION_COLOUR, LESION_COLOUR = (255, 255, 255), (138, 180, 248)
"""Of the search region and of the reader's mark, on the scan."""
SCALE_BACKGROUND = (42, 45, 49)
"""Background of the colour scale: dark as a scan, so that weak evidence looks the same on both."""


def class_symbol(name: str, size: float) -> Drawing:
    """The symbol of a class: ring (normal), square (benign), triangle (malignant); otherwise an open diamond.

    Args:
        name: of the class.
        size: of a side, in points.
    """
    drawing, s = Drawing(size, size), size / 20
    colour = layout.CLASS_COLOURS.get(name, layout.TEXT)
    if name == "normal":
        shape = Circle(10 * s, 10 * s, 7.4 * s, fillColor=None, strokeColor=colour, strokeWidth=3.2 * s)
    elif name == "benign":
        shape = Rect(2.5 * s, 2.5 * s, 15 * s, 15 * s, fillColor=colour, strokeColor=None)
    elif name == "malignant":
        shape = Polygon([10 * s, 18.5 * s, 19 * s, 1.5 * s, s, 1.5 * s], fillColor=colour, strokeColor=None)
    else:
        points = [10 * s, 18 * s, 18 * s, 10 * s, 10 * s, 2 * s, 2 * s, 10 * s]
        shape = Polygon(points, fillColor=None, strokeColor=colour, strokeWidth=2.6 * s)
    drawing.add(shape)
    return drawing


def probability_bars(prediction: Prediction, *, width: float) -> Drawing:
    """One bar per class, with its symbol, name and percentage; the likeliest in bold.

    Args:
        prediction: with the probabilities to draw.
        width: in points.
    """
    step, left, right = 15.0, 84.0, 42.0
    drawing = Drawing(width, step * len(prediction.probabilities))
    track = width - left - right
    top = prediction.likeliest
    for number, (name, value) in enumerate(prediction.probabilities.items(), start=1):
        base = drawing.height - step * number + 4
        font = layout.BOLD if name == top else layout.SANS
        shape = class_symbol(name, 8)
        shape.translate(0, base - 0.5)
        drawing.add(shape)
        label = layout.truncate(name, font=font, size=8.4, width=left - 18)
        drawing.add(String(13, base, label, fontName=font, fontSize=8.4, fillColor=layout.TEXT))
        drawing.add(Rect(left, base - 0.5, track, 7.5, fillColor=layout.TRACK, strokeColor=None))
        colour = layout.CLASS_COLOURS.get(name, layout.TEXT)
        drawing.add(Rect(left, base - 0.5, track * value, 7.5, fillColor=colour, strokeColor=None))
        share = phrases.percent(value)
        drawing.add(String(width, base, share, fontName=font, fontSize=8.4, fillColor=layout.TEXT, textAnchor="end"))
    return drawing


def likelihood_scale(scale: Mapping[str, Any], *, width: float) -> Drawing:
    """The likelihood of malignancy on a line from 0 to 100 %, with the operating points listed below.

    Args:
        scale: of `html.likelihood_scale`.
        width: in points.
    """
    points, step, tall = scale["points"], 9.5, 9.0
    drawing = Drawing(width, step * len(points) + tall + 12)
    base = drawing.height - tall - 6
    drawing.add(Rect(0, base, width, 7, fillColor=layout.TRACK, strokeColor=None))
    drawing.add(Rect(0, base, width * scale["rule_out"] / 100, 7, fillColor=layout.RULE, strokeColor=None))
    for number, point in enumerate(points, start=1):
        colour = layout.CLASS_COLOURS["malignant"] if point["reached"] else layout.MUTED
        place = width * point["place"] / 100
        drawing.add(Line(place, base - 2, place, base + 9, strokeColor=colour, strokeWidth=1.2))
        sign = "≥" if point["reached"] else "<"
        label = f"{sign} {point['name']} threshold, {point['text']}"
        drawing.add(
            String(0, base - 4 - step * number, label, fontName=layout.SANS, fontSize=7.4, fillColor=layout.TEXT)
        )
    at = width * scale["place"] / 100
    needle = [at - 3.6, base + 14, at + 3.6, base + 14, at, base + 8]
    drawing.add(Polygon(needle, fillColor=layout.TEXT, strokeColor=None))
    drawing.add(Line(at, base, at, base + 9, strokeColor=layout.TEXT, strokeWidth=1.4))
    return drawing


def similarity_bar(share: float, *, width: float) -> Drawing:
    """A thin bar, full at 1; `width` in points."""
    drawing = Drawing(width, 4)
    drawing.add(Rect(0, 1, width, 2, fillColor=layout.TRACK, strokeColor=None))
    drawing.add(Rect(0, 1, width * min(max(share, 0.0), 1.0), 2, fillColor=layout.MUTED, strokeColor=None))
    return drawing


def scale_bar(label: str, *, length: float) -> Drawing:
    """A scale bar below an image, `length` points long, with its label."""
    drawing = Drawing(length + 40, 10)
    for ends in ((0.4, 5, length - 0.4, 5), (0.4, 2.5, 0.4, 7.5), (length - 0.4, 2.5, length - 0.4, 7.5)):
        drawing.add(Line(*ends, strokeColor=layout.TEXT, strokeWidth=0.8))
    drawing.add(String(length + 4, 2.4, label, fontName=layout.SANS, fontSize=7.2, fillColor=layout.TEXT))
    drawing.hAlign = "LEFT"
    return drawing


def colour_scale(*, reference: float, unit: str, width: float) -> list[Flowable]:
    """The heatmap's colours over a dark ground, with numbers.

    Args:
        reference: value of full colour, of `pictures.reference_of`.
        unit: of the explained number, per 1 % of the scan.
        width: in points.
    """
    band = coloured(np.asarray(SCALE_BACKGROUND), np.linspace(-1.0, 1.0, 721))
    buffer = io.BytesIO()
    Picture.fromarray(np.repeat(band[None], 2, axis=0)).save(buffer, "PNG")
    numbers = Drawing(width, 10)
    digits = 2 if reference < 10 else 1
    for place, anchor in ((0.0, "start"), (0.25, "middle"), (0.5, "middle"), (0.75, "middle"), (1.0, "end")):
        value = phrases.signed((2 * place - 1) * reference, digits=digits)
        label = {0.0: f"{value} against", 1.0: f"for {value}"}.get(place, "0" if place == 0.5 else value)
        text = String(place * width, 2, label, fontName=layout.SANS, fontSize=7.2, fillColor=layout.TEXT)
        text.textAnchor = anchor
        numbers.add(text)
    return [
        Image(buffer, width=width, height=7),
        numbers,
        layout.paragraph(f"{unit} per 1 % of the scan", layout.FINE_PRINT),
    ]


def heatmap_overlay(
    pixels: Pixels, explanation: Explanation, *, reference: float, contour: Contour | None = None
) -> Pixels:
    """The scan with its heatmap: uint8 (H, W, 3), on square pixels, whatever the scan's spacing.

    Args:
        pixels: of the scan, uint8 (H, W).
        explanation: on the scan's grid.
        reference: value of full colour.
        contour: to draw, or None.
    """
    # Without a spacing the panel draws no scale bar: it would be too small to read in print.
    panel = draw_panel(Panel(pixels=pixels, explanation=explanation, title="", contour=contour), reference=reference)
    return np.asarray(panel)


def draw_boxes(pixels: Pixels, boxes: Sequence[tuple[Box, tuple[int, int, int]]]) -> Pixels:
    """`pixels` in colour, uint8 (H, W, 3), with boxes drawn on them, each in its own colour."""
    height, width = pixels.shape
    drawn = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    thick = max(1, round(max(height, width) / 250))
    for box, colour in boxes:
        near = (round(max(box.left, 0.0)), round(max(box.top, 0.0)))
        far = (round(min(box.right, width - 1)), round(min(box.bottom, height - 1)))
        cv2.rectangle(drawn, near, far, (0, 0, 0), 3 * thick)
        cv2.rectangle(drawn, near, far, colour, thick)
    return np.asarray(drawn, np.uint8)


def picture(pixels: Pixels, *, aspect: float, size: tuple[float, float], longest: int) -> Image:
    """An image for print, as JPEG.

    Args:
        pixels: uint8, (H, W) or (H, W, 3).
        aspect: width by height on the page.
        size: largest width and height, in points.
        longest: pixels of its longer side at most.
    """
    width, height = min(size[0], size[1] * aspect), min(size[1], size[0] / aspect)
    planes = [pixels] if pixels.ndim == 2 else list(np.moveaxis(pixels, -1, 0))
    small = [shrunk(plane, longest=longest) for plane in planes]
    buffer = io.BytesIO()
    Picture.fromarray(small[0] if len(small) == 1 else np.stack(small, axis=-1)).save(buffer, "JPEG", quality=86)
    return Image(buffer, width=width, height=height, hAlign="LEFT")


MOST_PIXELS = 4096 * 4096
"""Stored images have at most 512 × 512; larger ones are not decoded."""


def decode_grey(picture: bytes | None) -> Pixels | None:
    """A match's JPEG as uint8 (H, W); None where there is none, or where it cannot be decoded."""
    if picture is None:
        return None
    try:
        with Picture.open(io.BytesIO(picture), formats=("JPEG",)) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                return None
            return np.asarray(opened.convert("L"))
    except (OSError, ValueError, SyntaxError, Picture.DecompressionBombError, Picture.DecompressionBombWarning):
        return None  # a damaged thumbnail must not fail the report


def placeholder(text: str, *, size: tuple[float, float]) -> Table:
    """A grey field of `size` points in place of a missing image, with the reason."""
    field = Table([[layout.paragraph(text, layout.SMALL_MUTED)]], colWidths=[size[0]], rowHeights=[size[1]])
    field.setStyle([("BACKGROUND", (0, 0), (-1, -1), layout.TRACK), ("VALIGN", (0, 0), (-1, -1), "MIDDLE")])
    field.hAlign = "LEFT"
    return field


THUMBNAIL = (31 * mm, 24.5 * mm)
"""Largest size of a card's image, in points."""
