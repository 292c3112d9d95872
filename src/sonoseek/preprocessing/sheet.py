"""A contact sheet: scans before and after preprocessing, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.core import InvalidValueError, Scan
from sonoseek.preprocessing.model_input import DEFAULT_RECIPE, PreprocessedScan, preprocess
from sonoseek.preprocessing.recipe import PreprocessingRecipe

Picture = NDArray[np.uint8]

TILE = 224
"""Pixels: side of each of the two pictures of a pair."""
CAPTION = 20
GAP = 8
PAPER = (24, 26, 30)
INK = (205, 210, 216)
OUTLINE = (64, 200, 120)
MARK = (255, 72, 72)


def contact_sheet(
    scans: Sequence[tuple[str, Scan]], recipe: PreprocessingRecipe = DEFAULT_RECIPE, *, columns: int = 4
) -> Picture:
    """Draw each scan with its area outlined and its annotations coloured, and beside it the canvas.

    Args:
        scans: (caption, scan), in reading order; at least one.
        recipe: how to preprocess.
        columns: pairs side by side, at least one.

    Returns:
        uint8 (H, W, 3), RGB, dark.

    Raises:
        InvalidValueError: no scans, or columns < 1.
    """
    if not scans or columns < 1:
        raise InvalidValueError(
            f"{len(scans)} scans in {columns} columns; a contact sheet needs at least one of each. Name some scans."
        )
    columns = min(columns, len(scans))
    rows = -(-len(scans) // columns)
    cell_rows, cell_cols = CAPTION + TILE + GAP, 2 * TILE + 2 * GAP
    sheet = np.empty((rows * cell_rows + GAP, columns * cell_cols + GAP, 3), np.uint8)
    sheet[:] = PAPER
    for index, (caption, scan) in enumerate(scans):
        top, left = GAP + index // columns * cell_rows, GAP + index % columns * cell_cols
        preprocessed = preprocess(scan, recipe)
        _write(sheet, caption, (top, left), warned=bool(preprocessed.warnings))
        for side, picture in enumerate((_before(scan, preprocessed), _after(preprocessed))):
            at_row, at_col = top + CAPTION, left + side * (TILE + GAP // 2)
            sheet[at_row : at_row + TILE, at_col : at_col + TILE] = picture
    return sheet


def _before(scan: Scan, preprocessed: PreprocessedScan) -> Picture:
    """The scan with its area outlined and its annotations coloured, (TILE, TILE, 3)."""
    height, width = scan.shape
    zoom = TILE / max(height, width)
    size = (max(round(width * zoom), 1), max(round(height * zoom), 1))
    way = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    picture = cv2.cvtColor(cv2.resize(scan.pixels, size, interpolation=way), cv2.COLOR_GRAY2RGB)
    if preprocessed.annotations is not None:
        share = cv2.resize(preprocessed.annotations.astype(np.uint8) * 255, size, interpolation=way)
        picture[share > 60] = MARK
    area = cv2.resize(preprocessed.area.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    contours = cv2.findContours(area, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    cv2.drawContours(picture, contours, -1, OUTLINE, 1)
    return _centre(np.asarray(picture, np.uint8))


def _after(preprocessed: PreprocessedScan) -> Picture:
    """The canvas, (TILE, TILE, 3)."""
    way = cv2.INTER_AREA if preprocessed.canvas.shape[0] > TILE else cv2.INTER_LINEAR
    return np.asarray(
        cv2.cvtColor(cv2.resize(preprocessed.canvas, (TILE, TILE), interpolation=way), cv2.COLOR_GRAY2RGB), np.uint8
    )


def _centre(picture: Picture) -> Picture:
    tile = np.zeros((TILE, TILE, 3), np.uint8)
    top, left = (TILE - picture.shape[0]) // 2, (TILE - picture.shape[1]) // 2
    tile[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return tile


def _write(sheet: Picture, caption: str, at: tuple[int, int], *, warned: bool) -> None:
    """Write a caption in one line, shortened from the left: a file's name differs at its end."""
    text = caption.encode("ascii", "replace").decode()
    text = text if len(text) <= 58 else "..." + text[-55:]
    colour = MARK if warned else INK
    cv2.putText(sheet, text, (at[1], at[0] + 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)
