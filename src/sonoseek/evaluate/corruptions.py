"""Corruptions of a scan, under which the same test folds are scored again."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Scan

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """One way to change a scan before it is read; the same scan is changed in the same way every time.

    Attributes:
        name: in the tables. description: how strongly, for people.
        change: uint8 (H, W) → uint8 (H′, W′).
    """

    name: str
    description: str
    change: Callable[[Pixels, np.random.Generator], Pixels]

    def apply(self, scan: Scan) -> Scan:
        """The changed scan; its spacing is dropped, because some corruptions change it."""
        rng = np.random.default_rng((zlib.crc32(self.name.encode()), int(scan.scan_id[:8], 16)))
        pixels = np.ascontiguousarray(self.change(scan.pixels, rng), dtype=np.uint8)
        return Scan(
            pixels=pixels,
            patient_id=scan.patient_id,
            laterality=scan.laterality,
            view=scan.view,
            source=scan.source,
        )


def _gain(pixels: Pixels, _rng: np.random.Generator, *, factor: float, around: float = 0.0) -> Pixels:
    changed: Pixels = np.clip((pixels.astype(np.float32) - around) * factor + around + 0.5, 0, 255).astype(np.uint8)
    return changed


def _contrast(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return _gain(pixels, rng, factor=0.6, around=float(pixels.mean()))


def _blur(pixels: Pixels, _rng: np.random.Generator) -> Pixels:
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), max(pixels.shape) / 250), dtype=np.uint8)


def _speckle(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    small = (max(2, pixels.shape[0] // 2), max(2, pixels.shape[1] // 2))
    grain = cv2.resize(rng.standard_normal(small, dtype=np.float32), pixels.shape[::-1])
    return np.clip(pixels * (1 + 0.3 * np.asarray(grain)) + 0.5, 0, 255).astype(np.uint8)


def _jpeg(pixels: Pixels, _rng: np.random.Generator) -> Pixels:
    _, code = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 20])
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE), dtype=np.uint8)


def _caliper(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Two crosses and the dots between them, anywhere: not necessarily on the lesion."""
    marked = pixels.copy()
    height, width = pixels.shape
    arm = max(3, min(height, width) // 50)
    start = np.array([rng.uniform(0.2, 0.5) * width, rng.uniform(0.25, 0.75) * height])
    end = start + np.array([rng.uniform(0.15, 0.3) * width, rng.uniform(-0.1, 0.1) * height])
    for x, y in (start, end):
        cv2.drawMarker(marked, (int(x), int(y)), 255, cv2.MARKER_CROSS, 2 * arm, max(1, arm // 4))
    for x, y in np.linspace(start, end, 14)[1:-1]:
        cv2.circle(marked, (int(x), int(y)), 1, 230, -1)
    return marked


def _crop(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    height, width = pixels.shape
    top, bottom = (int(rng.uniform(0.05, 0.12) * height) for _ in range(2))
    left, right = (int(rng.uniform(0.05, 0.12) * width) for _ in range(2))
    return pixels[top : height - bottom, left : width - right]


def _aspect(pixels: Pixels, _rng: np.random.Generator) -> Pixels:
    height, width = pixels.shape
    return np.asarray(cv2.resize(pixels, (round(1.25 * width), height)), dtype=np.uint8)


CORRUPTIONS = (
    Corruption(name="gain-up", description="brighter by 40 %", change=partial(_gain, factor=1.4)),
    Corruption(name="gain-down", description="darker by 40 %", change=partial(_gain, factor=0.6)),
    Corruption(name="contrast", description="contrast lower by 40 %", change=_contrast),
    Corruption(name="blur", description="Gaussian blur, deviation 1/250 of the longer side", change=_blur),
    Corruption(name="speckle", description="multiplied noise, deviation 30 %, grain of 2 pixels", change=_speckle),
    Corruption(name="jpeg", description="saved as JPEG of quality 20", change=_jpeg),
    Corruption(name="caliper", description="a caliper burned in at a random place", change=_caliper),
    Corruption(name="crop", description="5–12 % cut off each edge", change=_crop),
    Corruption(name="aspect", description="wider by 25 %", change=_aspect),
)
"""In the order of the tables."""
UNCHANGED = "unchanged"
