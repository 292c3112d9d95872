"""What is kept of a scan: nothing from outside, and no letter that can be read."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from drawn_screens import screen

from sonoseek.core import Scan
from sonoseek.gallery import decode_picture
from sonoseek.indexing.kept_picture import kept_picture
from sonoseek.preprocessing import preprocess
from sonoseek.preprocessing.blanking import text_boxes, without_annotations

NAME, FONT = "MUELLER ANNA", cv2.FONT_HERSHEY_SIMPLEX


def with_name(sector: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A screen with a name within its scan area: (pixels, pixels without the name, area)."""
    drawn = screen(sector=sector, seed=4, marks=False)
    rows, columns = np.nonzero(drawn.area)
    place = int(columns.mean()) - 70, int(rows.mean())
    pixels = drawn.pixels.copy()
    cv2.putText(pixels, NAME, place, FONT, 0.6, 245, 1, cv2.LINE_AA)
    return pixels, drawn.pixels, drawn.area


@pytest.mark.parametrize("sector", [False, True])
def test_nothing_from_outside_stays_and_the_name_is_gone(sector: bool) -> None:
    pixels, clean, _ = with_name(sector)
    found = preprocess(Scan(pixels=pixels))
    assert found.annotations is not None
    kept = without_annotations(pixels, area=found.area, annotations=found.annotations)
    assert kept.shape == pixels.shape
    assert not kept[~found.area].any()
    ink = pixels.astype(int) - clean > 60
    assert ink.sum() > 200
    # The letters are not to be seen: within their box, ink is no brighter and no darker than what is beside it.
    rows, columns = np.nonzero(ink)
    box = np.zeros_like(ink)
    box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    step = abs(kept[ink].mean() - kept[box & ~ink].mean())
    assert step < 10 < abs(pixels[ink].mean() - pixels[box & ~ink].mean())


def test_a_line_of_letters_becomes_one_box_and_a_tall_line_stays_strokes() -> None:
    strokes = np.zeros((400, 512), np.uint8)
    cv2.putText(strokes, NAME, (100, 100), FONT, 0.5, 255, 1)
    cv2.line(strokes, (50, 350), (400, 150), 255, 2)
    cv2.line(strokes, (200, 180), (290, 150), 255, 1)  # a measured line, with a cross at either end
    for place in ((200, 180), (290, 150)):
        cv2.drawMarker(strokes, place, 255, cv2.MARKER_CROSS, 13, 2)
    letters = strokes[:120] > 0
    grown = text_boxes(strokes > 0)
    rows, columns = np.nonzero(letters)
    assert grown[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()
    assert (grown >= (strokes > 0)).all()
    assert grown[140:].sum() < 3 * (strokes[140:] > 0).sum()
    assert grown[140:190, 190:300].mean() < 0.4
    nothing = np.zeros((40, 50), np.bool_)
    assert not text_boxes(nothing).any()


def test_the_kept_picture_has_the_scan_s_grid_and_no_margin() -> None:
    pixels, _, _ = with_name()
    cv2.putText(pixels, NAME, (5, 20), FONT, 0.5, 255, 1)
    scan = Scan(pixels=pixels)
    kept = decode_picture(kept_picture(scan), shape=scan.shape)
    assert kept.shape == scan.shape
    outside = cv2.erode((~preprocess(scan).area).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    assert kept[outside].max() <= 8  # JPEG
    assert pixels[outside].max() == 255
