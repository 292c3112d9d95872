"""Lay one scan over another and measure how far they agree.

Matched features vote for a similarity transform (RANSAC), or an affine one where a copy was squeezed. Intensities
refine it (ECC, Evangelidis & Psarakis, PAMI 30:1858, 2008). Two correlations over the overlap then distinguish copies
from similar scans.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.datasets.audit.features import Fingerprint, inverse, unit_descriptors

Transform = NDArray[np.float64]
Image = NDArray[np.uint8]

MATCH_RATIO = 0.85
"""A feature matches when its best partner is nearer than this share of the distance to the second best."""
MIN_INLIERS = 5
SQUEEZE_INLIERS = 7
"""With fewer, an affine map, which bends to any three points, is not tried."""
REACH = 3.0
"""Pixels of the working picture by which an inlier may be off."""
MAX_SCALE = 5.0
MAX_SQUEEZE = 2.5
DARK = 6
"""Grey levels: what is darker in both scans is background, and agrees in any two scans."""
TILE = 32
MIN_TILES = 4
PROMISING_NCC = 0.5
"""Below this no refinement makes a copy of it."""
SURE_DETAIL = 0.85
"""Above this nothing is left to refine."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Alignment:
    """One scan aligned with another.

    Attributes:
        transform: float64 (2, 3), working picture of `b` → working picture of `a`.
        inliers: matched features that agree on it.
        ncc, detail, overlap: as in `DuplicatePair`.
    """

    transform: Transform
    inliers: int
    ncc: float
    detail: float
    overlap: float


def align(a: Fingerprint, b: Fingerprint) -> Alignment | None:
    """Lay `b` over `a`, or None where their features agree on nothing plausible."""
    points_a, points_b = match(a, b)
    return align_points(a.image, b.image, points_a, points_b)


def align_points(a: Image, b: Image, points_a: NDArray[np.float32], points_b: NDArray[np.float32]) -> Alignment | None:
    """Lay picture `b` over picture `a` by pairs of points that may show the same place.

    Args:
        a: uint8 (H, W).
        b: uint8 (H, W), of a size of its own.
        points_a: float32 (n, 2), (x, y) on `a`; some of the pairs may be wrong.
        points_b: float32 (n, 2), (x, y) on `b`, in the same order.

    Returns:
        None where fewer than `MIN_INLIERS` pairs agree on one plausible map.
    """
    if len(points_a) < MIN_INLIERS:
        return None
    transform, inliers = _vote(points_a, points_b, squeeze=False)
    if transform is None or inliers < MIN_INLIERS:
        return None
    best = _measured(a, b, transform, inliers=inliers)
    if best is not None and best.detail >= SURE_DETAIL:
        return best
    if inliers >= SQUEEZE_INLIERS:
        transform, more = _vote(points_a, points_b, squeeze=True)
        if transform is not None and more > inliers:
            best = _better(best, _measured(a, b, transform, inliers=more))
    if best is None or best.ncc < PROMISING_NCC or best.detail >= SURE_DETAIL:
        return best
    return _refined(a, b, best)


def _vote(
    points_a: NDArray[np.float32], points_b: NDArray[np.float32], *, squeeze: bool
) -> tuple[Transform | None, int]:
    """The map `b` → `a` that most matches agree on, and how many do."""
    found: Any  # None where nothing fits, which the stubs do not say
    fit = cv2.estimateAffine2D if squeeze else cv2.estimateAffinePartial2D
    found, inliers = fit(
        points_b, points_a, method=cv2.RANSAC, ransacReprojThreshold=REACH, maxIters=1000, confidence=0.99
    )
    return (None, 0) if found is None else (np.asarray(found, np.float64), int(inliers.sum()))


def match(a: Fingerprint, b: Fingerprint) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Points (n, 2) of `a` and of `b` whose features are each other's best, clearly ahead of the second best."""
    none = np.empty((0, 2), np.float32)
    if min(len(a.points), len(b.points)) < MIN_INLIERS:
        return none, none
    # cv2.gemm, not @: products this small, by the thousand and in several threads, make a threaded BLAS spin.
    of_a, of_b = unit_descriptors(a.descriptors), unit_descriptors(b.descriptors)
    nothing = np.empty((0, 0), np.float32)
    likeness = np.asarray(cv2.gemm(of_a, of_b, 1.0, nothing, 0.0, flags=cv2.GEMM_2_T), np.float32)
    rows = np.arange(len(likeness))
    best = likeness.argmax(axis=1)
    mutual = likeness.argmax(axis=0)[best] == rows
    first = likeness[rows, best].copy()
    likeness[rows, best] = -1.0
    second = likeness.max(axis=1)
    clear = (2 - 2 * first) < MATCH_RATIO**2 * (2 - 2 * second)
    keep = mutual & clear
    return a.points[keep], b.points[best[keep]]


def measure(a: Image, b: Image, transform: Transform) -> tuple[float, float, float]:
    """Agreement of `a` with `b` aligned to it.

    Args:
        a: uint8, working picture.
        b: uint8, working picture.
        transform: (2, 3), `b` → `a`.

    Returns:
        ncc, detail, overlap as in `DuplicatePair`; (−1, −1, overlap) where too little is left to compare.
    """
    scale = float(np.sqrt(abs(np.linalg.det(transform[:, :2]))))
    if scale > 1.0:  # compare on the coarser of the two: detail cannot be invented, only dropped
        a, b, transform, scale = b, a, inverse(transform), 1 / scale
    height, width = a.shape
    finer = cv2.GaussianBlur(b, (0, 0), 0.29 * np.sqrt(scale**-2 - 1)) if scale < 0.95 else b
    laid = cv2.warpAffine(finer, transform, (width, height), flags=cv2.INTER_LINEAR)
    inside = cv2.warpAffine(np.full(b.shape, 255, np.uint8), transform, (width, height), flags=cv2.INTER_NEAREST)
    inside = cv2.erode(inside, np.ones((3, 3), np.uint8))
    overlap = min(cv2.countNonZero(inside) / min(a.size, b.size * scale**2), 1.0)
    smooth_a, smooth_b = (_smooth(image.astype(np.float32), 1.0) for image in (a, laid))
    where = (inside > 0) & (cv2.max(smooth_a, smooth_b) > DARK)
    if int(where.sum()) < MIN_TILES * TILE**2:
        return -1.0, -1.0, overlap
    fine_a, fine_b = (image - _smooth(image, 4.0) for image in (smooth_a, smooth_b))
    return _correlation(smooth_a[where], smooth_b[where]), _tile_correlation(fine_a, fine_b, where), overlap


def _smooth(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-6))


def _tile_correlation(a: NDArray[np.float32], b: NDArray[np.float32], where: NDArray[np.bool_]) -> float:
    """Median over tiles of the correlation within a tile.

    The median, so that neither a caliper on one of two copies, nor the same words on two different scans, decides.
    """
    shown = _tiles(where).astype(np.float32)
    size = shown.sum(axis=1)
    covered = size > TILE**2 / 2
    shown, size = shown[covered], size[covered]
    a, b = (_centred(_tiles(image)[covered], shown, size) for image in (a, b))
    spread_a, spread_b = (np.sqrt((image * image).sum(axis=1) / size) for image in (a, b))
    textured = (spread_a > 1.0) | (spread_b > 1.0)  # flatter than a grey level is noise of rounding
    if int(textured.sum()) < MIN_TILES:
        return -1.0
    product = (a * b).sum(axis=1) / np.maximum(spread_a * spread_b * size, 1e-6)
    return float(np.median(product[textured]))


def _tiles(image: NDArray[Any]) -> NDArray[Any]:
    rows, columns = (side // TILE for side in image.shape)
    cut = image[: rows * TILE, : columns * TILE].reshape(rows, TILE, columns, TILE)
    return cut.swapaxes(1, 2).reshape(-1, TILE**2)


def _centred(tiles: NDArray[np.float32], shown: NDArray[np.float32], size: NDArray[np.float32]) -> NDArray[np.float32]:
    mean = (tiles * shown).sum(axis=1) / size
    return np.asarray((tiles - mean[:, None]) * shown, np.float32)


def _measured(a: Image, b: Image, transform: Transform, *, inliers: int) -> Alignment | None:
    if not _plausible(transform):
        return None
    ncc, detail, overlap = measure(a, b, transform)
    return Alignment(transform=transform, inliers=inliers, ncc=ncc, detail=detail, overlap=overlap)


def _plausible(transform: Transform) -> bool:
    if not np.isfinite(transform).all() or np.linalg.det(transform[:, :2]) <= 0:
        return False
    large, small = np.linalg.svd(transform[:, :2], compute_uv=False)
    return bool(small > 1 / MAX_SCALE and large < MAX_SCALE and large / small < MAX_SQUEEZE)


def _better(one: Alignment | None, other: Alignment | None) -> Alignment | None:
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda item: item.ncc + item.detail)


def _refined(a: Image, b: Image, start: Alignment) -> Alignment:
    """Fit the affine map to the intensities; used only if they then agree better."""
    guess = inverse(start.transform).astype(np.float32)
    everywhere = np.full(b.shape, 255, np.uint8)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 15, 1e-4)
    try:
        _, found = cv2.findTransformECC(a, b, guess, cv2.MOTION_AFFINE, stop, everywhere, 5)
    except cv2.error:  # it did not converge: the overlap is flat or too small
        return start
    if not _plausible(found.astype(np.float64)):
        return start
    refined = _measured(a, b, inverse(found.astype(np.float64)), inliers=start.inliers)
    return _better(start, refined) or start
