"""Similarity-based saliency: why two scans match, asked from outside.

The idea of SBSM (Dong, Woodward, Fu, … Hoogs et al. 2019, "Explainability for content-based image retrieval", CVPR
Workshops): cover a window of one image; what the similarity loses is the window's importance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sonoseek.explain.perturbation import Ask, Canvas, Progress, by_windows


def sbsm(
    canvas: Canvas, ask: Ask, *, window: int = 32, stride: int = 16, on_progress: Progress | None = None
) -> NDArray[np.float32]:
    """By how much two scans become less alike when a place of one is covered.

    Args:
        canvas: float32 (1, S, S) of the scan that is covered, 0 … 1, −1 in padding; S a multiple of `stride`.
        ask: the cosine with the other scan, of (N, 1, S, S) canvases.
        window: side of the covered square, pixels; a multiple of `stride`.
        stride: pixels.
        on_progress: (done, total) windows.

    Returns:
        float32 (S / stride, S / stride), ≥ 0: as in the paper, a window that makes the two more alike when covered
        counts as 0. Each cell is the mean over the windows that cover it. 0 in padding.

    Raises:
        InvalidValueError: no such canvas, window or stride; a score that is not finite.
    """
    return by_windows(canvas, ask, window=window, stride=stride, positive=True, on_progress=on_progress)
