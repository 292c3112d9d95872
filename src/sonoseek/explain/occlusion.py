"""Occlusion: cover a window, ask again (Zeiler & Fergus 2014, doi:10.1007/978-3-319-10590-1_53)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sonoseek.explain.perturbation import Ask, Canvas, Progress, by_windows


def occlusion(
    canvas: Canvas, ask: Ask, *, window: int = 32, stride: int = 16, on_progress: Progress | None = None
) -> NDArray[np.float32]:
    """By how much the score falls when a place is covered.

    The paper's grey square is a blurred scan here: a square edge would be a finding of its own.

    Args:
        canvas: float32 (1, S, S), 0 … 1, −1 in padding; S a multiple of `stride`.
        ask: the score, of (N, 1, S, S) canvases.
        window: side of the covered square, pixels; a multiple of `stride`.
        stride: pixels.
        on_progress: (done, total) windows.

    Returns:
        float32 (S / stride, S / stride), signed: positive where covering costs the score; the mean over the windows
        that cover a cell. 0 in padding.

    Raises:
        InvalidValueError: no such canvas, window or stride; a score that is not finite.
    """
    return by_windows(canvas, ask, window=window, stride=stride, positive=False, on_progress=on_progress)
