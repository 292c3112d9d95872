"""Occlusion: cover a window, score again (Zeiler & Fergus 2014, doi:10.1007/978-3-319-10590-1_53)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sonoseek.explain.perturbation import Canvas, Progress, ScoreFunction, occlude_windows


def occlusion(
    canvas: Canvas, score_fn: ScoreFunction, *, window: int = 32, stride: int = 16, on_progress: Progress | None = None
) -> NDArray[np.float32]:
    """By how much the score falls when a place is covered.

    The window shows the blurred scan instead of the paper's grey square, whose edges would be a finding of their own.

    Args:
        canvas: float32 (1, S, S), 0 … 1, −1 in padding; S a multiple of `stride`.
        score_fn: the score of (N, 1, S, S) canvases.
        window: side of the covered square, pixels; a multiple of `stride`.
        stride: pixels.
        on_progress: (done, total) windows.

    Returns:
        float32 (S / stride, S / stride), signed: positive where covering lowers the score; the mean over the windows
        that cover a cell. 0 in padding.

    Raises:
        InvalidValueError: no such canvas, window or stride; a score that is not finite.
    """
    return occlude_windows(canvas, score_fn, window=window, stride=stride, positive=False, on_progress=on_progress)
