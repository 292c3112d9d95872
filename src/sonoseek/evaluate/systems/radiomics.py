"""Radiomics-style features of the whole scan (no mask): intensity, texture, change with depth.

Sources: Haralick et al. 1973 (co-occurrence); Ojala et al. 2002 (local binary patterns); computed by scikit-image.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Scan, from_extra
from sonoseek.evaluate.systems.linear import LinearSystem
from sonoseek.preprocessing import preprocess

LEVELS = 32
DISTANCES = (1, 2, 4, 8)
ANGLES = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
PROPERTIES = ("contrast", "dissimilarity", "homogeneity", "energy", "correlation")
PATTERNS = ((8, 1), (16, 2), (24, 3))
"""(points, radius) of the local binary patterns."""
STRIPS = 8


def describe(scan: Scan) -> NDArray[np.float32]:
    """Of the preprocessed scan: float32 (D,), finite.

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    with from_extra("evaluate"):
        from skimage.feature import graycomatrix, graycoprops, local_binary_pattern
    preprocessed = preprocess(scan)
    box = preprocessed.content
    content = preprocessed.canvas[int(box.top) : int(box.bottom), int(box.left) : int(box.right)]
    pairs = graycomatrix(content // (256 // LEVELS), DISTANCES, ANGLES, levels=LEVELS, symmetric=True, normed=True)
    texture = []
    for name in PROPERTIES:
        values = graycoprops(pairs, name)
        texture += [values.mean(axis=1), np.ptp(values, axis=1)]
    patterns = []
    for points, radius in PATTERNS:
        codes = local_binary_pattern(content, points, radius, method="uniform")
        patterns.append(np.bincount(codes.astype(int).ravel(), minlength=points + 2) / codes.size)
    features = np.concatenate([_intensity(content), *texture, *patterns, _depth(content)])
    finite: NDArray[np.float32] = np.nan_to_num(features).astype(np.float32)
    return finite


def _intensity(content: NDArray[np.uint8]) -> NDArray[np.float64]:
    values = content.astype(np.float64).ravel()
    mean, deviation = values.mean(), values.std() + 1e-6
    unit = (values - mean) / deviation
    shares = np.bincount(content.ravel(), minlength=256) / content.size
    entropy = -np.sum(shares[shares > 0] * np.log2(shares[shares > 0]))
    quantiles = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
    rows, columns = np.gradient(content.astype(np.float64))
    edges = np.hypot(rows, columns)
    return np.array(
        [mean, deviation, (unit**3).mean(), (unit**4).mean(), entropy, *quantiles, edges.mean(), edges.std()]
    )


def _depth(content: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean and deviation of strips from skin to depth, and of strips from left to right."""
    strips = []
    for axis in (0, 1):
        for part in np.array_split(content.astype(np.float64), STRIPS, axis=axis):
            strips += [part.mean(), part.std()]
    return np.array(strips)


def radiomics(*, cache: Path | None = None) -> LinearSystem:
    """The system: these features, standardised, and a logistic regression; `cache` as in `LinearSystem`."""
    return LinearSystem(
        describe,
        name="radiomics",
        title="radiomics-style + regression",
        description="Intensity, co-occurrence, binary patterns and depth strips of the preprocessed scan, no mask.",
        identity="radiomics-1",
        standardise=True,
        cache=cache,
    )
