"""Small pictures for the page: JPEG in data URIs, so that the page is one file."""

from __future__ import annotations

import base64
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Scan, SonoseekError
from sonoseek.datasets.audit.features import chain, inverse
from sonoseek.datasets.audit.result import DuplicatePair
from sonoseek.datasets.base import Dataset

THUMBNAIL = 240
"""Pixels of the longer side."""
JPEG_QUALITY = 75
KEPT = 64
"""Cases in memory while pairs are drawn."""


class Pictures:
    """Thumbnails of one dataset's scans."""

    def __init__(self, dataset: Dataset) -> None:
        @lru_cache(maxsize=KEPT)
        def scans(case_id: str) -> tuple[Scan, ...]:
            try:
                return dataset.load(case_id).scans
            except (SonoseekError, OSError):  # it was there when the audit ran; the page does without it
                return ()

        self._scans = scans

    def single(self, case_id: str) -> str | None:
        """Data URI of a case's first scan, or None where it cannot be read."""
        scan = self._scan(case_id, 0)
        if scan is None:
            return None
        scale = _scale(scan)
        return _data_uri(_shrunk(scan.pixels, scale))

    def pair(self, pair: DuplicatePair) -> tuple[str, str, float] | None:
        """Data URIs of `a` and of `b` aligned with `a`, on one grid, and its width / height; None where unreadable."""
        a, b = self._scan(pair.a, pair.scan_a), self._scan(pair.b, pair.scan_b)
        if a is None or b is None:
            return None
        scale = _scale(a)
        left = _shrunk(a.pixels, scale)
        per_pixel = float(np.sqrt(abs(np.linalg.det(pair.transform[:, :2]))))
        scale_b = min(scale * per_pixel, 1.0)  # shrink first: warping alone would alias
        small = _shrunk(b.pixels, scale_b)
        to_left = chain(_resizing(scale), chain(pair.transform, inverse(_resizing(scale_b))))
        right = cv2.warpAffine(small, to_left, (left.shape[1], left.shape[0]), flags=cv2.INTER_LINEAR)
        return _data_uri(left), _data_uri(np.asarray(right, np.uint8)), left.shape[1] / left.shape[0]

    def _scan(self, case_id: str, index: int) -> Scan | None:
        scans = self._scans(case_id)
        return scans[index] if index < len(scans) else None


def _scale(scan: Scan) -> float:
    return min(THUMBNAIL / max(scan.shape), 1.0)


def _shrunk(pixels: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    height, width = (max(round(side * scale), 1) for side in pixels.shape)
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _resizing(scale: float) -> NDArray[np.float64]:
    """Pixel centres of the scan → pixel centres of the thumbnail."""
    return np.array([[scale, 0.0, (scale - 1) / 2], [0.0, scale, (scale - 1) / 2]])


def _data_uri(picture: NDArray[np.uint8]) -> str:
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
