"""Similarity-based saliency maps (SBSM): why two scans match, by perturbation.

The idea of SBSM (Dong, Woodward, Fu, … Hoogs et al. 2019, "Explainability for content-based image retrieval", CVPR
Workshops): cover a window of one image; the fall of the similarity is the window's importance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sonoseek.explain.perturbation import Canvas, Progress, ScoreFunction, occlude_windows


def sbsm(
    canvas: Canvas, score_fn: ScoreFunction, *, window: int = 32, stride: int = 16, on_progress: Progress | None = None
) -> NDArray[np.float32]:
    """By how much two scans become less similar when a place of one is covered.

    Args:
        canvas: float32 (1, S, S) of the scan that is covered, 0 … 1, −1 in padding; S a multiple of `stride`.
        score_fn: the cosine of (N, 1, S, S) canvases with the other scan.
        window: side of the covered square, pixels; a multiple of `stride`.
        stride: pixels.
        on_progress: (done, total) windows.

    Returns:
        float32 (S / stride, S / stride), ≥ 0: as in the paper, a window that makes the two more similar when
        covered counts as 0. Each cell is the mean over the windows that cover it. 0 in padding.

    Raises:
        InvalidValueError: no such canvas, window or stride; a score that is not finite.
    """
    return occlude_windows(canvas, score_fn, window=window, stride=stride, positive=True, on_progress=on_progress)
