"""A preprocessed scan as the network wants it."""

from __future__ import annotations

import cv2
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


def reduce_input(canvases: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Canvases for a network that reads smaller ones: means of the scan's pixels; padding where most is padding.

    Args:
        canvases: float32 (N, 1, S, S) of `to_input`.
        side: of the result, pixels, at most S.

    Returns:
        float32 (N, 1, side, side), −1 in padding; `canvases` itself where S = side.
    """
    if canvases.shape[-1] == side:
        return canvases
    reduced = np.empty((len(canvases), 1, side, side), np.float32)
    for canvas, target in zip(canvases[:, 0], reduced[:, 0], strict=True):
        scanned = canvas >= 0
        share = cv2.resize(scanned.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
        grey = cv2.resize(np.where(scanned, canvas, np.float32(0)), (side, side), interpolation=cv2.INTER_AREA)
        target[:] = np.where(share > 0.5, np.clip(grey / np.maximum(share, 0.5), 0, 1), PADDING)
    return reduced
