"""Whether a scan is a changed copy of one of its best matches: turned, cropped, rescaled, re-saved or mirrored.

The cosine alone does not show it: a copy that was turned by 5 degrees is about as near as the nearest other scan. So
the pictures of the best matches are aligned with the scan, as in the audit of a dataset: local features vote for a map
(RANSAC). The speckle of a copy then agrees with that of the scan. The speckle of another scan, or of another frame of
the same lesion, does not. Features are ORB (Rublee et al., ICCV 2011), a sixth of the time of SIFT. Measured in
docs/results/copies.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Match, Scan
from sonoseek.datasets.audit.alignment import align_points
from sonoseek.datasets.audit.duplicates import MIN_NCC, RESCUED_DETAIL, RESCUED_NCC
from sonoseek.gallery import decode_picture

LOWEST_COSINE = 0.88
"""Matches below this are not compared: 99 of 100 copies turned by 10 degrees lie above."""
MIRRORED_COSINE = 0.95
"""Below this a mirrored copy is not looked for: the network sees hardly a difference between a scan and its mirror."""
LOOKED_AT = 2
"""Matches that are compared, best first; a copy is the best match nearly always."""
WORKING_SIDE = 200
"""Pixels of the longer side of the compared pictures."""
FEATURES = 200
CLOSE = 48
"""Bits of 256 by which two features of one place may differ."""
MIN_DETAIL = 0.68
"""Agreement of the speckle at the working size. Of 1,484 turned, cropped, halved and re-saved copies the least has
0.73; of 811 pairs of different scans of one patient the most has 0.63, two frames of one sweep."""
MIN_PAIRS = 10
"""Pairs of features; two different scans seldom have as many that are this close, so most are separated here."""


def find_copy(scan: Scan, matches: Sequence[Match]) -> int | None:
    """The rank of the best match that shows the same picture as a scan, though its pixels are others.

    Args:
        scan: of the query.
        matches: found for it, best first, with their pictures; those without one are passed over.

    Returns:
        `Match.rank`, or None where none of the `LOOKED_AT` best, of at least `LOWEST_COSINE`, is a copy.

    Raises:
        GalleryError: a kept picture does not decode.
    """
    looked_at = [match for match in matches[:LOOKED_AT] if match.similarity >= LOWEST_COSINE]
    if not looked_at:
        return None
    picture = _Picture(scan.pixels)
    mirrored = _Picture(np.ascontiguousarray(picture.small[:, ::-1]))
    for match in looked_at:
        if match.picture is None:
            continue
        archived = _Picture(_decoded(match.picture))
        if _same_picture(picture, archived):
            return match.rank
        if match.similarity >= MIRRORED_COSINE and _same_picture(mirrored, archived):
            return match.rank
    return None


@dataclass(frozen=True, eq=False)
class _Picture:
    """A scan, uint8 (H, W), and, computed when first used, what is compared of it."""

    pixels: NDArray[np.uint8]

    @cached_property
    def small(self) -> NDArray[np.uint8]:
        """uint8 (h, w), longer side `WORKING_SIDE`."""
        height, width = self.pixels.shape
        scale = WORKING_SIDE / max(height, width)
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(self.pixels, size, interpolation=method), np.uint8)

    @cached_property
    def features(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Points (n, 2) as (x, y) on `small`, and their descriptors (n, 32)."""
        points, descriptors = cv2.ORB.create(
            nfeatures=FEATURES, fastThreshold=5, nlevels=6, edgeThreshold=15, patchSize=21
        ).detectAndCompute(self.small, None)
        if descriptors is None:
            descriptors = np.empty((0, 32), np.uint8)
        places = np.array([point.pt for point in points], np.float32).reshape(-1, 2)
        return places, np.asarray(descriptors, np.uint8)


def _same_picture(a: _Picture, b: _Picture) -> bool:
    """Whether two pictures agree in their speckle once they are aligned, as in the audit."""
    (points_a, features_a), (points_b, features_b) = a.features, b.features
    if min(len(features_a), len(features_b)) < MIN_PAIRS:
        return False
    of_a, of_b = _close_pairs(features_a, features_b)
    if len(of_a) < MIN_PAIRS:
        return False
    laid = align_points(a.small, b.small, points_a[of_a], points_b[of_b])
    if laid is None:
        return False
    alike = laid.ncc >= MIN_NCC and laid.detail >= MIN_DETAIL
    return alike or (laid.ncc >= RESCUED_NCC and laid.detail >= RESCUED_DETAIL)


def _close_pairs(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of `a` and of `b`, descriptors (n, 32), that are each other's nearest and at most `CLOSE` bits apart.

    As `cv2.BFMatcher` with `crossCheck`, in half the time.
    """
    bytes_a, bytes_b = (np.ascontiguousarray(each).view(np.uint64) for each in (a, b))
    bits = np.zeros((len(a), len(b)), np.uint16)
    for column in range(bytes_a.shape[1]):
        bits += np.bitwise_count(bytes_a[:, column, None] ^ bytes_b[:, column])
    rows, nearest = np.arange(len(a)), bits.argmin(axis=1)
    mutual = (bits.argmin(axis=0)[nearest] == rows) & (bits[rows, nearest] <= CLOSE)
    return rows[mutual], np.asarray(nearest[mutual], np.intp)


def _decoded(picture: bytes) -> NDArray[np.uint8]:
    """A kept picture, at half its size where that is enough: a JPEG is decoded so in half the time."""
    half = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_2) if picture else None
    if half is not None and max(half.shape) >= WORKING_SIDE:
        return np.asarray(half, np.uint8)
    return np.asarray(decode_picture(picture), np.uint8)
