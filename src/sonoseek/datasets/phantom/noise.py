"""Smooth random fields: coarse Gaussian noise, enlarged."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]


def floats(values: ArrayLike) -> Floats:
    """The same numbers as a float32 array, without a copy where they are one: OpenCV's stubs know no dtype."""
    return np.asarray(values, np.float32)


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], *, cells: tuple[float, float]) -> Floats:
    """Random field of mean 0 and standard deviation about 1, float32 `shape`.

    Args:
        rng: drawn from in order, so that the same state gives the same field.
        shape: rows, columns.
        cells: rows and columns from one independent value to the next.
    """
    coarse = (max(int(shape[0] / cells[0]) + 2, 2), max(int(shape[1] / cells[1]) + 2, 2))
    values = rng.standard_normal(coarse, dtype=np.float32)
    return _enlarge(values, shape)


def smooth_line(rng: np.random.Generator, length: int, *, cell: float) -> Floats:
    """Random curve of mean 0 and standard deviation about 1, float32 (1, length)."""
    values = rng.standard_normal((1, max(int(length / cell) + 2, 4)), dtype=np.float32)
    return _enlarge(values, (1, length))


def _enlarge(values: Floats, shape: tuple[int, int]) -> Floats:
    # Cubic interpolation lowers the variance between nodes; 1.25 restores it on average.
    values *= np.float32(1.25)
    return floats(cv2.resize(values, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC))


def ramp(values: Floats, start: float, stop: float) -> Floats:
    """0 below `start`, 1 above `stop`, straight between."""
    return floats(np.clip((values - np.float32(start)) * np.float32(1 / (stop - start)), 0, 1))
