"""A preprocessed scan as the network wants it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sonoseek.preprocessing import PreprocessedScan

PADDING = -1.0
"""The value of padding. Never a grey value, so that the network can tell padding from black."""


def to_input(preprocessed: PreprocessedScan) -> NDArray[np.float32]:
    """Make the network's input.

    Returns:
        float32 (1, S, S): 0 … 1 inside the content, exactly −1 in padding.
    """
    return canvas_to_input(
        preprocessed.canvas,
        top=int(preprocessed.content.top),
        left=int(preprocessed.content.left),
        bottom=int(preprocessed.content.bottom),
        right=int(preprocessed.content.right),
    )


def canvas_to_input(canvas: NDArray[np.uint8], *, top: int, left: int, bottom: int, right: int) -> NDArray[np.float32]:
    """The same from a uint8 (S, S) canvas and the edges of its content: half-open, in canvas pixels."""
    inside = (slice(top, bottom), slice(left, right))
    result = np.full((1, *canvas.shape), PADDING, dtype=np.float32)
    np.multiply(canvas[inside], np.float32(1 / 255), out=result[0][inside])
    return result
