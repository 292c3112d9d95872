"""A perceptual hash of a scan: signs of low frequencies, which hardly change by re-saving and rescaling.

The hash is that of pHash (Zauner 2010, "Implementation and benchmarking of perceptual image hash functions"): the scan
is scaled to a small square, and each bit is the sign of one coefficient of its discrete cosine transform. Two things
are added.

Crops: a stored hash is taken of the middle of a scan, without 5 % on each side. A query is hashed under all crops of 0
or 5 % on each side. So a copy that was cropped by 5 % is found as well as an uncropped one. All crops together are two
matrix products, because the transform is separable.

Mirror images: mirroring changes the sign of every odd horizontal frequency, so the mirrored scan's hash follows by an
exclusive or.

The libraries ImageHash and PDQ find re-saved and rescaled copies as well. But they find only 54 % and 21 % of the scans
that are cropped on all sides, and 22 % and 25 % of those with a border (docs/results/training-overlap.md).

Nothing here depends on `preprocessing`: a change there leaves stored hashes valid.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

FORMAT = 1
"""Version of the hash. Hashes of two versions cannot be compared."""
FREQUENCIES = 16
"""Vertical, and horizontal ones; a hash has one bit for each pair."""
BITS = FREQUENCIES**2
BYTES = BITS // 8
SAME_WITHIN = 60
"""Bits of 256 in which two hashes of one scan differ at most: chosen on half of the groups of BUSI and BUS-BRA, and
confirmed on the other half (docs/results/training-overlap.md)."""
MARGIN = 0.05
"""Share of the width, or height, that a crop may take from each side."""

_SIDE = 64
"""Pixels of the small square."""
_ANALYSIS_SIDE = 256
"""Pixels: longest side of the copy on which uniform borders are sought."""
_FLAT = 16
"""Grey levels between the darkest and the brightest pixel of a row, or column, up to which it counts as border."""
_MOST_TRIMMED = 1 / 3
"""Share of the height, or width, that is taken from one side as border at most."""
_LEAST_TRIMMED = 0.01
"""Share of the height, or width, below which a border changes no hash."""
_LEAST_CONTRAST = 1.0
"""Grey levels: standard deviation of the small square below which there is nothing to hash."""

Hashes = NDArray[np.uint8]
"""uint8 (n, `BYTES`), one hash a row."""


def stored_hashes(pixels: NDArray[np.uint8]) -> Hashes:
    """Hashes to store of a scan: of the whole picture and, where it has uniform borders, of what lies within them.

    Args:
        pixels: uint8 (H, W).

    Returns:
        (1, 32) or (2, 32); (0, 32) for a picture without contrast, which is like every other such picture.
    """
    return _hashed(pixels, _stored_window())


def query_hashes(pixels: NDArray[np.uint8]) -> Hashes:
    """Hashes to compare with stored ones: crops of 0 or 5 % on each side, mirrored or not, with borders or not.

    Args:
        pixels: uint8 (H, W).

    Returns:
        (32, 32) or (64, 32); (0, 32) for a picture without contrast.
    """
    hashes = _hashed(pixels, _query_windows())
    return np.concatenate([hashes, hashes ^ _mirror_mask()])


def nearest_distance(queries: Hashes, stored: Hashes, *, within: int = SAME_WITHIN) -> int:
    """Bits in which the two nearest hashes differ.

    Args:
        queries: (q, 32), of one scan.
        stored: (n, 32), of all scans that it is compared with.
        within: largest distance that matters, at most 192; a smaller one is quicker.

    Returns:
        0 … `within`, or `BITS` where no two are as near as that.
    """
    query_words, stored_words = (np.ascontiguousarray(each).view(np.uint64) for each in (queries, stored))
    # of three words of four: at most 192, so that it fits
    first = np.zeros((len(query_words), len(stored_words)), np.uint8)
    for word in range(query_words.shape[1] - 1):
        first += np.bitwise_count(query_words[:, word, None] ^ stored_words[:, word])
    rows, columns = np.nonzero(first <= within)
    last = np.bitwise_count(query_words[rows, -1] ^ stored_words[columns, -1])
    nearest = int((first[rows, columns].astype(np.int64) + last).min(initial=BITS))
    return nearest if nearest <= within else BITS


def _hashed(pixels: NDArray[np.uint8], windows: NDArray[np.float32]) -> Hashes:
    """Hashes of all pictures of a scan under all windows: (pictures · windows², 32)."""
    pictures = [square for each in _pictures(pixels) if (square := _square(each)).std() >= _LEAST_CONTRAST]
    count = len(windows) // FREQUENCIES
    hashes = []
    for square in pictures:
        spectra = (windows @ square @ windows.T).reshape(count, FREQUENCIES, count, FREQUENCIES)
        hashes.append(np.packbits(spectra.transpose(0, 2, 1, 3).reshape(-1, BITS) > 0, axis=1))
    return np.concatenate(hashes) if hashes else np.zeros((0, BYTES), np.uint8)


def _pictures(pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The whole picture, small enough for a fast search, and what lies within its uniform borders if it has any."""
    height, width = pixels.shape
    scale = _ANALYSIS_SIDE / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    (top, bottom), (left, right) = _within_borders(pixels, axis=1), _within_borders(pixels, axis=0)
    height, width = pixels.shape
    inner_share = min((bottom - top) / height, (right - left) / width)
    return [pixels] if inner_share >= 1 - _LEAST_TRIMMED else [pixels, pixels[top:bottom, left:right]]


def _within_borders(pixels: NDArray[np.uint8], *, axis: int) -> tuple[int, int]:
    """First row, or column, that is no border, and the one after the last; `axis` is the one to look along."""
    count = pixels.shape[1 - axis]
    textured = np.flatnonzero(pixels.max(axis) - pixels.min(axis) > _FLAT)
    if not len(textured):
        return 0, count
    most = int(count * _MOST_TRIMMED)
    return min(int(textured[0]), most), max(int(textured[-1]) + 1, count - most)


def _square(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 (64, 64)."""
    shrinks = min(pixels.shape) >= _SIDE
    small = cv2.resize(pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return small.astype(np.float32)


@lru_cache(maxsize=1)
def _stored_window() -> NDArray[np.float32]:
    return _cosines(MARGIN, 1 - MARGIN)


@lru_cache(maxsize=1)
def _query_windows() -> NDArray[np.float32]:
    """Where the middle of the scan lies in a picture from which `before` and `after` were cut."""
    cuts = product((0.0, MARGIN), repeat=2)
    windows = [
        _cosines((MARGIN - before) / (1 - before - after), (1 - MARGIN - before) / (1 - before - after))
        for before, after in cuts
    ]
    return np.concatenate(windows)


def _cosines(start: float, end: float) -> NDArray[np.float32]:
    """float32 (16, 64): the transform along one axis of what lies between two shares of the square's side.

    Pixels that lie partly between them count in part. All rows but the first have sum 0, so that brightness changes no
    coefficient but the first.
    """
    edges = np.clip(np.arange(_SIDE + 1) / _SIDE, start, end)
    weights = np.diff(edges)
    centres = ((edges[:-1] + edges[1:]) / 2 - start) / (end - start)
    basis = np.cos(np.pi * np.arange(FREQUENCIES)[:, None] * centres) * weights
    basis[1:] -= basis[1:].sum(axis=1, keepdims=True) * weights / weights.sum()
    return basis.astype(np.float32)


@lru_cache(maxsize=1)
def _mirror_mask() -> Hashes:
    odd = np.zeros((FREQUENCIES, FREQUENCIES), np.bool_)
    odd[:, 1::2] = True
    return np.packbits(odd)
