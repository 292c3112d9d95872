"""Shape, orientation and BI-RADS of a lesion as numbers that a side task estimates from the embedding."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sonoseek.training.prepare import PreparedSet

SMALLEST = 60
"""Pixels of a drawn lesion below which its form is not measured: the grid decides it."""
CATEGORIES = {"2": 2.0, "3": 3.0, "4": 4.0, "4A": 3.7, "4B": 4.0, "4C": 4.4, "5": 5.0, "6": 5.0}
"""BI-RADS category → place on the scale of suspicion. 0 and 1 say nothing of a lesion's malignancy."""
NAMES = ("roundness", "solidity", "height_over_width", "birads")
_CENTRE = np.array((0.66, 0.93, -0.42, 3.3), dtype=np.float32)
_SPREAD = np.array((0.12, 0.05, 0.32, 1.0), dtype=np.float32)
"""About the means and standard deviations of the three archives at hand: each estimate then weighs the same."""


def measured_form(lesion: NDArray[np.uint8]) -> tuple[float, float, float]:
    """The form of the largest lesion in a view.

    Args:
        lesion: uint8 (S, S), 128 or more in the lesion.

    Returns:
        Roundness 4π · area / perimeter² (0 … 1, 1 for a circle), solidity area / area of the convex hull (0 … 1, low
        for angular and spiculated margins), and the natural logarithm of height over width (above 0: taller than
        wide). NaN where the view holds no lesion, less than `SMALLEST` pixels of it, or cuts it off.
    """
    drawn = (lesion >= 128).astype(np.uint8)
    contours, _ = cv2.findContours(drawn, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(contours, key=cv2.contourArea, default=None)
    if largest is None or cv2.contourArea(largest) < SMALLEST:
        return math.nan, math.nan, math.nan
    left, top, width, height = cv2.boundingRect(largest)
    if left == 0 or top == 0 or left + width == drawn.shape[1] or top + height == drawn.shape[0]:
        return math.nan, math.nan, math.nan
    area = cv2.contourArea(largest)
    roundness = 4 * math.pi * area / cv2.arcLength(largest, closed=True) ** 2
    return min(roundness, 1.0), area / cv2.contourArea(cv2.convexHull(largest)), math.log(height / width)


def suspicion(source: PreparedSet) -> NDArray[np.float32]:
    """(n,) BI-RADS of each scan's case on the scale of `CATEGORIES`; NaN where the archive has none."""
    of_case = {record.case_id: CATEGORIES.get(record.birads or "", math.nan) for record in source.records}
    return np.array([of_case[str(case_id)] for case_id in source.case_ids], dtype=np.float32)


def descriptor_targets(lesions: Sequence[NDArray[np.uint8]], birads: Sequence[float]) -> NDArray[np.float32]:
    """Targets of a batch.

    Args:
        lesions: each view's, as for `measured_form`.
        birads: each view's, as `suspicion` gives them.

    Returns:
        float32 (n, 4) in the order of `NAMES`, standardised; NaN where something is not known.
    """
    rows = [(*measured_form(lesion), place) for lesion, place in zip(lesions, birads, strict=True)]
    targets: NDArray[np.float32] = (np.array(rows, dtype=np.float32) - _CENTRE) / _SPREAD
    return targets


def descriptor_loss(estimates: Tensor, targets: Tensor) -> Tensor:
    """Smooth L1 between estimates and what is known.

    Args:
        estimates: (n, 4).
        targets: (n, 4), NaN where something is not known.

    Returns:
        Scalar, the mean over what is known; 0 where nothing is.
    """
    known = torch.isfinite(targets)
    each = functional.smooth_l1_loss(estimates, targets.nan_to_num(), reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)
