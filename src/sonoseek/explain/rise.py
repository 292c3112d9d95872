"""RISE: random masks, and the score of each masked scan (Petsiuk, Das, Saenko 2018, arXiv:1806.07421)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import InvalidValueError
from sonoseek.explain.perturbation import (
    CHUNK,
    Canvas,
    Progress,
    ScoreFunction,
    blurred,
    check_canvas,
    compute_scores,
)


def rise(
    canvas: Canvas,
    score_fn: ScoreFunction,
    *,
    masks: int = 1000,
    grid: int = 8,
    keep: float = 0.5,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> NDArray[np.float32]:
    """How the score varies with what is visible, over random soft masks.

    Two changes to the published method: hidden places are blurred instead of black; the mean score is subtracted, so
    that the map is signed and a constant score gives an empty map.

    Args:
        canvas: float32 (1, S, S), 0 … 1, −1 in padding.
        score_fn: the score of (N, 1, S, S) canvases.
        masks: number of masks.
        grid: cells a side of a mask before smoothing.
        keep: share of cells that stay visible.
        seed: of the masks; the same gives the same map.
        on_progress: (done, total) masks.

    Returns:
        float32 (S / 4, S / 4), signed; the fall of the score per place, on average. 0 in padding.

    Raises:
        InvalidValueError: no such canvas or numbers; a score that is not finite.
    """
    check_canvas(canvas)
    side = canvas.shape[-1]
    if masks < 2 or grid < 2 or not 0 < keep < 1 or side % 4:
        raise InvalidValueError(
            f"masks {masks}, grid {grid}, keep {keep}, canvas {side}: two masks and two cells at least, keep within "
            "0 … 1, a canvas of whole fours. Take others."
        )
    rng = np.random.default_rng(seed)
    hidden = blurred(canvas)
    small = side // 4
    weighted, total, score_sum = np.zeros((small, small)), np.zeros((small, small)), 0.0
    for at in range(0, masks, CHUNK):
        drawn = [_mask(rng, side, grid=grid, keep=keep) for _ in range(min(CHUNK, masks - at))]
        canvases = np.stack([hidden + mask * (canvas - hidden) for mask in drawn]).astype(np.float32)
        canvases[:, canvas < 0] = -1.0
        scores = compute_scores(canvases, score_fn)
        coarse = np.stack([mask.reshape(small, 4, small, 4).mean(axis=(1, 3)) for mask in drawn])
        weighted += np.tensordot(scores, coarse, axes=1)
        total += coarse.sum(axis=0, dtype=np.float64)
        score_sum += float(scores.sum())
        if on_progress is not None:
            on_progress(at + len(drawn), masks)
    centred = (weighted - score_sum / masks * total) / (masks * keep)
    on_scan = (canvas[0].reshape(small, 4, small, 4) >= 0).any(axis=(1, 3))
    return np.where(on_scan, centred, 0.0).astype(np.float32)


def _mask(rng: np.random.Generator, side: int, *, grid: int, keep: float) -> NDArray[np.float32]:
    """A random grid, made smooth by bilinear interpolation, at a random shift: (S, S), 0 … 1."""
    import cv2  # needed by the perturbation methods alone

    cell = -(-side // grid)
    coarse = (rng.random((grid + 1, grid + 1)) < keep).astype(np.float32)
    whole = cv2.resize(coarse, ((grid + 1) * cell,) * 2, interpolation=cv2.INTER_LINEAR)
    top, left = rng.integers(0, cell, 2)
    return np.asarray(whole[top : top + side, left : left + side], np.float32)
