"""What methods share that ask a network from outside: no gradient, no look inside, any encoder.

A method changes the canvas, asks again, and judges places by how the score changes. Its map is a judgement, not a sum:
it is no exact split of the score (`Explanation.exact` is False).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Explanation, InvalidValueError
from sonoseek.explain.upsample import plan

if TYPE_CHECKING:
    from sonoseek.preprocessing import CanvasMapping

Canvas = NDArray[np.float32]
Ask = Callable[[NDArray[np.float32]], NDArray[np.floating]]
"""float32 (N, 1, S, S), as the network reads them → (N,), the score that is explained: a logit, or a cosine."""
Progress = Callable[[int, int], None]
CHUNK = 32
"""Canvases per question."""
BLUR = 0.08
"""Standard deviation of the blur that stands for "nothing to be seen", as a share of the canvas' side."""


def blurred(canvas: Canvas) -> Canvas:
    """The scan with nothing to be seen in it: heavily blurred, as bright as before; padding stays −1.

    Padding does not bleed in: each pixel is the mean of the scan's pixels around it.

    Args:
        canvas: float32 (1, S, S), 0 … 1, exactly −1 in padding.
    """
    import cv2  # only those who ask need it

    check_canvas(canvas)
    held = (canvas[0] >= 0).astype(np.float32)
    sigma = BLUR * canvas.shape[-1]
    total, weight = (
        cv2.GaussianBlur(each, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) for each in (canvas[0] * held, held)
    )
    soft = np.asarray(total, np.float32) / np.maximum(np.asarray(weight, np.float32), np.float32(1e-6))
    nothing: Canvas = np.where(held > 0, np.clip(soft, 0, 1), np.float32(-1))[np.newaxis].astype(np.float32)
    return nothing


def check_canvas(canvas: Canvas) -> None:
    """Refuse what no encoder reads.

    Raises:
        InvalidValueError: not float32 (1, S, S), S at least 1, each number 0 … 1 or exactly −1.
    """
    good = (
        canvas.dtype == np.float32 and canvas.ndim == 3 and canvas.shape[0] == 1 and canvas.shape[1] == canvas.shape[2]
    )
    if not good or not canvas.size or not (((canvas >= 0) & (canvas <= 1)) | (canvas == -1)).all():
        raise InvalidValueError(
            f"the canvas is {canvas.dtype} {canvas.shape}; it must be float32 (1, S, S), 0 … 1 and −1 in padding. Pass "
            "to_input's result."
        )


def scores(canvases: NDArray[np.float32], ask: Ask) -> NDArray[np.float64]:
    """Ask about many canvases, some at a time.

    Raises:
        InvalidValueError: the answer is not one finite number each.
    """
    told = [np.asarray(ask(canvases[at : at + CHUNK]), np.float64) for at in range(0, len(canvases), CHUNK)]
    if any(part.ndim != 1 for part in told) or sum(map(len, told)) != len(canvases):
        shapes = [part.shape for part in told]
        raise InvalidValueError(f"asked about {len(canvases)} canvases, got {shapes}; a score is one number a canvas.")
    found = np.concatenate(told) if told else np.zeros(0)
    if not np.isfinite(found).all():
        raise InvalidValueError("a score is NaN or infinite; a network must give finite numbers. Export it again.")
    return found


def windows(side: int, *, window: int, stride: int) -> list[tuple[int, int]]:
    """Top left corners of square windows over a canvas; they reach over its edges: every place is covered alike.

    Raises:
        InvalidValueError: the canvas is no whole number of strides, or the window no whole number of them.
    """
    if stride < 1 or window < stride or side % stride or window % stride:
        raise InvalidValueError(
            f"window {window} and stride {stride} on a canvas of {side}: canvas and window must be whole numbers of "
            "strides, and the window at least one. Take others."
        )
    first = stride - window
    return [(top, left) for top in range(first, side, stride) for left in range(first, side, stride)]


def as_explanation(
    cells: NDArray[np.float32], *, mapping: CanvasMapping, method: str, target: str, value: float
) -> Explanation:
    """A method's cells as an explanation, on the scan's own pixels.

    Args:
        cells: float32 (h, w) over the whole canvas.
        mapping: the scan's way to the canvas and back.
        method: its name.
        target: what was asked for.
        value: the score of the scan as it is.
    """
    return Explanation(
        cells=cells,
        upsampling=plan(mapping, (cells.shape[0], cells.shape[1])),
        method=method,
        target=target,
        value=value,
        bias=value - float(cells.sum(dtype=np.float64)),
        exact=False,
    )


def by_windows(
    canvas: Canvas, ask: Ask, *, window: int, stride: int, positive: bool, on_progress: Progress | None
) -> NDArray[np.float32]:
    """The fall of the score when a window shows nothing, averaged over the windows that cover each cell of one stride.

    Args:
        canvas: float32 (1, S, S).
        ask: the score.
        window: side of a window, pixels.
        stride: pixels from one window to the next.
        positive: count falls alone; a rise counts as 0.
        on_progress: (done, total) windows.

    Returns:
        float32 (S / stride, S / stride); 0 where there is only padding.
    """
    check_canvas(canvas)
    side = canvas.shape[-1]
    nothing = blurred(canvas)
    corners = windows(side, window=window, stride=stride)
    seen = [(top, left) for top, left in corners if (_part(canvas, top, left, window) >= 0).any()]
    whole = float(scores(canvas[np.newaxis], ask)[0])
    total, count = np.zeros((side // stride,) * 2), np.zeros((side // stride,) * 2)
    for at in range(0, len(seen), CHUNK):
        some = seen[at : at + CHUNK]
        canvases = np.repeat(canvas[np.newaxis], len(some), axis=0)
        for changed, (top, left) in zip(canvases, some, strict=True):
            _part(changed, top, left, window)[...] = _part(nothing, top, left, window)
        falls = whole - scores(canvases, ask)
        for fall, (top, left) in zip(falls, some, strict=True):
            covered = _part(total[np.newaxis], top // stride, left // stride, window // stride)
            covered += max(fall, 0.0) if positive else fall
            _part(count[np.newaxis], top // stride, left // stride, window // stride)[...] += 1
        if on_progress is not None:
            on_progress(at + len(some), len(seen))
    held = (canvas[0].reshape(side // stride, stride, side // stride, stride) >= 0).any(axis=(1, 3))
    return np.where(held, total / np.maximum(count, 1), 0.0).astype(np.float32)


def _part(stack: NDArray[np.floating], top: int, left: int, size: int) -> NDArray[np.floating]:
    """A window's view; what reaches over the edges is cut."""
    return stack[0, max(0, top) : max(0, top + size), max(0, left) : max(0, left + size)]
