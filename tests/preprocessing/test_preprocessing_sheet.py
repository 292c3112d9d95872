"""The contact sheet."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_screens import screen

from sonoseek.core import InvalidValueError, Scan
from sonoseek.preprocessing import PreprocessingRecipe, contact_sheet
from sonoseek.preprocessing.sheet import CAPTION, GAP, MARK, OUTLINE, TILE


def test_a_sheet_shows_every_pair_with_outline_marks_and_caption():
    scan = Scan(pixels=screen(sector=False, seed=1).pixels)
    sheet = contact_sheet([(f"hospital B/scan {n} é.png", scan) for n in range(5)], PreprocessingRecipe(), columns=2)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (3 * (CAPTION + TILE + GAP) + GAP, 2 * (2 * TILE + 2 * GAP) + GAP, 3)
    assert sheet.mean() < 110
    before = sheet[GAP + CAPTION : GAP + CAPTION + TILE, GAP : GAP + TILE]
    assert (before == OUTLINE).all(axis=2).sum() > 200
    assert (before == MARK).all(axis=2).sum() > 50
    caption = sheet[GAP : GAP + CAPTION, GAP : GAP + TILE]
    assert caption.max() > 180
    after = sheet[GAP + CAPTION : GAP + CAPTION + TILE, GAP + TILE + GAP // 2 :][:, :TILE]
    assert (np.ptp(after.astype(int), axis=2) == 0).all()
    last = sheet[-(TILE + GAP) : -GAP, -(2 * TILE + GAP) : -GAP]
    assert (last == last[0, 0]).all()  # five scans: the sixth place stays empty


def test_a_sheet_of_nothing_is_refused():
    with pytest.raises(InvalidValueError, match="at least one"):
        contact_sheet([])
    with pytest.raises(InvalidValueError, match="columns"):
        contact_sheet([("a", Scan(pixels=np.zeros((8, 8), np.uint8)))], columns=0)
