"""The corruption sheet: one phantom under each corruption."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sonoseek.core import Scan
from sonoseek.core.files import open_atomically
from sonoseek.datasets.phantom import make_phantom
from sonoseek.evaluate.corruptions import CORRUPTIONS, UNCHANGED

TILE = (200, 200)
COLUMNS = 5
LABEL = 24


def draw_corruption_sheet(path: Path) -> None:
    """One phantom with a lesion, as it is and under each corruption, with names; WebP, replaced in one step."""
    scan = make_phantom(21, pathology="malignant").scans[0]
    named: list[tuple[str, Scan]] = [(UNCHANGED, scan), *((c.name, c.apply(scan)) for c in CORRUPTIONS)]
    tiles = [_tile(name, each.pixels) for name, each in named]
    rows = [np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)]
    with open_atomically(path) as file:
        Image.fromarray(np.vstack(rows)).save(file, "WEBP", quality=75, method=6)


def _tile(name: str, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scale = min(TILE[0] / pixels.shape[0], TILE[1] / pixels.shape[1])
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    tile = np.zeros((TILE[0] + LABEL, TILE[1]), np.uint8)
    top, left = (TILE[0] - small.shape[0]) // 2, (TILE[1] - small.shape[1]) // 2
    tile[LABEL + top : LABEL + top + small.shape[0], left : left + small.shape[1]] = small
    cv2.putText(tile, name, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 220, 1, cv2.LINE_AA)
    return tile
