"""Shared parts of the perturbation methods: black box, no gradient, any encoder.

A method changes the canvas and rates each place by the change of the score. Its map is an estimate: it does not sum to
the score (`Explanation.exact` is False).
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
ScoreFunction = Callable[[NDArray[np.float32]], NDArray[np.floating]]
"""float32 (N, 1, S, S), model inputs → (N,), the score to explain: a logit, or a cosine."""
Progress = Callable[[int, int], None]
CHUNK = 32
"""Canvases per call of a score function."""
BLUR = 0.08
"""Standard deviation of the blur that hides content, as a share of the canvas' side."""


def blurred(canvas: Canvas) -> Canvas:
    """The scan with its content hidden: heavily blurred, as bright as before; padding stays −1.

    Padding does not bleed in: each pixel is the mean of the scan's pixels around it.

    Args:
        canvas: float32 (1, S, S), 0 … 1, exactly −1 in padding.
    """
    import cv2  # needed by the perturbation methods alone

    check_canvas(canvas)
    on_scan = (canvas[0] >= 0).astype(np.float32)
    sigma = BLUR * canvas.shape[-1]
    total, weight = (
        cv2.GaussianBlur(each, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) for each in (canvas[0] * on_scan, on_scan)
    )
    soft = np.asarray(total, np.float32) / np.maximum(np.asarray(weight, np.float32), np.float32(1e-6))
    hidden: Canvas = np.where(on_scan > 0, np.clip(soft, 0, 1), np.float32(-1))[np.newaxis].astype(np.float32)
    return hidden


def check_canvas(canvas: Canvas) -> None:
    """Refuse an array that is no model input.

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


def compute_scores(canvases: NDArray[np.float32], score_fn: ScoreFunction) -> NDArray[np.float64]:
    """Scores of many canvases, computed in batches of `CHUNK`.

    Raises:
        InvalidValueError: the score function does not return one finite number for each.
    """
    batches = [np.asarray(score_fn(canvases[at : at + CHUNK]), np.float64) for at in range(0, len(canvases), CHUNK)]
    if any(batch.ndim != 1 for batch in batches) or sum(map(len, batches)) != len(canvases):
        shapes = [batch.shape for batch in batches]
        raise InvalidValueError(f"{len(canvases)} canvases gave scores {shapes}; a score is one number a canvas.")
    scores = np.concatenate(batches) if batches else np.zeros(0)
    if not np.isfinite(scores).all():
        raise InvalidValueError("a score is NaN or infinite; a network must give finite numbers. Export it again.")
    return scores


def windows(side: int, *, window: int, stride: int) -> list[tuple[int, int]]:
    """Top left corners of square windows over a canvas.

    Windows reach over its edges, so that every place is covered equally often.

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
    evidence_map: NDArray[np.float32], *, mapping: CanvasMapping, method: str, target: str, value: float
) -> Explanation:
    """A method's result as an explanation, on the scan's own pixels.

    Args:
        evidence_map: float32 (h, w) over the whole canvas.
        mapping: between scan and canvas coordinates.
        method: its name.
        target: as in `Explanation`.
        value: the score of the unchanged scan.
    """
    return Explanation(
        evidence_map=evidence_map,
        upsampling=plan(mapping, (evidence_map.shape[0], evidence_map.shape[1])),
        method=method,
        target=target,
        value=value,
        bias=value - float(evidence_map.sum(dtype=np.float64)),
        exact=False,
    )


def occlude_windows(
    canvas: Canvas, score_fn: ScoreFunction, *, window: int, stride: int, positive: bool, on_progress: Progress | None
) -> NDArray[np.float32]:
    """The fall of the score when a window is hidden, averaged over the windows that cover each cell of one stride.

    Args:
        canvas: float32 (1, S, S).
        score_fn: the score of (N, 1, S, S) canvases.
        window: side of a window, pixels.
        stride: pixels from one window to the next.
        positive: whether a rise of the score counts as 0.
        on_progress: (done, total) windows.

    Returns:
        float32 (S / stride, S / stride); 0 where there is only padding.
    """
    check_canvas(canvas)
    side = canvas.shape[-1]
    hidden = blurred(canvas)
    corners = windows(side, window=window, stride=stride)
    on_scan = [(top, left) for top, left in corners if (_part(canvas, top, left, window) >= 0).any()]
    whole = float(compute_scores(canvas[np.newaxis], score_fn)[0])
    total, count = np.zeros((side // stride,) * 2), np.zeros((side // stride,) * 2)
    for at in range(0, len(on_scan), CHUNK):
        some = on_scan[at : at + CHUNK]
        canvases = np.repeat(canvas[np.newaxis], len(some), axis=0)
        for changed, (top, left) in zip(canvases, some, strict=True):
            _part(changed, top, left, window)[...] = _part(hidden, top, left, window)
        falls = whole - compute_scores(canvases, score_fn)
        for fall, (top, left) in zip(falls, some, strict=True):
            covered = _part(total[np.newaxis], top // stride, left // stride, window // stride)
            covered += max(fall, 0.0) if positive else fall
            _part(count[np.newaxis], top // stride, left // stride, window // stride)[...] += 1
        if on_progress is not None:
            on_progress(at + len(some), len(on_scan))
    has_scan = (canvas[0].reshape(side // stride, stride, side // stride, stride) >= 0).any(axis=(1, 3))
    return np.where(has_scan, total / np.maximum(count, 1), 0.0).astype(np.float32)


def _part(stack: NDArray[np.floating], top: int, left: int, size: int) -> NDArray[np.floating]:
    """A view of the window, cut at the canvas' edges."""
    return stack[0, max(0, top) : max(0, top + size), max(0, left) : max(0, left + size)]
