"""Does the prediction rest where a map says? Pixels are removed or restored in the map's order, and scored.

Sources: insertion and deletion, Petsiuk et al. 2018 (arXiv:1806.07421), here with a blurred scan as "nothing" both
ways; ROAD, Rong et al. 2022 (arXiv:2202.00449): removed pixels are filled by noisy linear imputation, so that the shape
of what was removed carries no information.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import spsolve

Canvas = NDArray[np.float32]
ScoreFn = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""(N, 1, S, S) canvases → (N,) score."""
STEPS = 25
"""Steps of insertion and of deletion: each changes 4 % of the scan."""
REMOVED = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Shares that ROAD removes."""
NOISE = 0.01
"""Standard deviation of ROAD's noise, in grey values 0 … 1, as its authors' code has it."""


def curves(canvas: Canvas, nothing: Canvas, order: NDArray[np.intp], score_fn: ScoreFn) -> tuple[float, float]:
    """Areas under the insertion and the deletion curve.

    Args:
        canvas: (1, S, S).
        nothing: the same scan without what could be seen (blurred), padding as it was.
        order: flat indices of the pixels that hold scan, the most important first.
        score_fn: what is scored, a probability.

    Returns:
        (insertion, deletion), each the mean score by the trapezoid rule over the share of pixels, 0 … 1.
    """
    canvases = np.empty((2 * (STEPS + 1), *canvas.shape), np.float32)
    for step in range(STEPS + 1):
        chosen = order[: round(order.size * step / STEPS)]
        canvases[step], canvases[STEPS + 1 + step] = nothing, canvas
        canvases[step].reshape(-1)[chosen] = canvas.reshape(-1)[chosen]
        canvases[STEPS + 1 + step].reshape(-1)[chosen] = nothing.reshape(-1)[chosen]
    scores = np.asarray(score_fn(canvases), np.float64)
    insertion, deletion = scores[: STEPS + 1], scores[STEPS + 1 :]
    return float(np.trapezoid(insertion, dx=1 / STEPS)), float(np.trapezoid(deletion, dx=1 / STEPS))


def road(canvas: Canvas, order: NDArray[np.intp], score_fn: ScoreFn, *, rng: np.random.Generator) -> float:
    """Score that is left when the most important pixels are gone, minus that when the least important ones are.

    The mean over `REMOVED`: ROAD's combined score, with its sign turned so that lower is better (a good map's most
    important pixels cost the score, its least important ones do not).

    Args:
        canvas: (1, S, S).
        order: flat indices of the pixels that hold scan, the most important first.
        score_fn: what is scored, a probability.
        rng: of the noise.
    """
    canvases = np.empty((2 * len(REMOVED), *canvas.shape), np.float32)
    for number, share in enumerate(REMOVED):
        count = max(1, round(order.size * share))
        canvases[2 * number] = impute(canvas, order[:count], rng=rng)
        canvases[2 * number + 1] = impute(canvas, order[-count:], rng=rng)
    scores = np.asarray(score_fn(canvases), np.float64)
    return float((scores[::2] - scores[1::2]).mean())


def impute(canvas: Canvas, removed: NDArray[np.intp], *, rng: np.random.Generator) -> Canvas:
    """Fill pixels by noisy linear imputation: the mean of eight neighbours, weighted 1/6 and 1/12, plus noise.

    Padding (−1) and what lies beyond the canvas are no neighbours; weights are scaled to sum to 1.

    Args:
        canvas: (1, S, S).
        removed: flat indices of pixels that hold scan.
        rng: of the noise.
    """
    side = canvas.shape[-1]
    grey = canvas.reshape(side, side).astype(np.float64)
    gone = np.zeros((side, side), np.bool_)
    gone.reshape(-1)[removed] = True
    place = np.full((side, side), -1)
    place[gone] = np.arange(removed.size)
    rows, columns = np.nonzero(gone)
    here = place[rows, columns]
    weights = np.zeros(removed.size)
    known = np.zeros(removed.size)
    entries: list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]] = []
    for down in (-1, 0, 1):
        for across in (-1, 0, 1):
            if (down, across) == (0, 0):
                continue
            weight = 1 / 6 if down == 0 or across == 0 else 1 / 12
            row, column = rows + down, columns + across
            inside = (row >= 0) & (row < side) & (column >= 0) & (column < side)
            row, column = np.clip(row, 0, side - 1), np.clip(column, 0, side - 1)
            counts = inside & (grey[row, column] >= 0)
            weights += weight * counts
            hidden = counts & gone[row, column]
            visible = counts & ~gone[row, column]
            known += weight * np.where(visible, grey[row, column], 0.0)
            entries.append((here[hidden], place[row, column][hidden], np.full(int(hidden.sum()), -weight)))
    alone = weights == 0
    weights[alone] = 1.0
    known[alone] = 0.5
    entries.append((here, here, weights))
    i, j, values = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    matrix = sparse.csc_matrix((values, (i, j)), shape=(removed.size, removed.size))
    left = bool(((grey >= 0) & ~gone).any())
    filled = spsolve(matrix, known) if left else np.full(removed.size, 0.5)
    changed = canvas.copy()
    noisy = np.clip(filled + rng.normal(0.0, NOISE, removed.size), 0.0, 1.0)
    changed.reshape(side, side)[rows, columns] = noisy[here].astype(np.float32)
    return changed


def similarity_drops(
    canvas: Canvas,
    nothing: Canvas,
    blocks: NDArray[np.floating],
    share: float,
    score_fn: ScoreFn,
    *,
    draws: int,
    seed: int,
) -> tuple[float, float]:
    """How far a similarity falls when a map's strongest cells are blurred away, and when as many random cells are.

    Args:
        canvas: (1, S, S).
        nothing: the same scan without what could be seen.
        score_fn: what is scored, a cosine.
        blocks: (h, w) map on cells that tile the canvas.
        share: of the cells that hold scan, 0 … 1.
        draws: random choices, of which the mean is taken.
        seed: of them.

    Returns:
        (drop by the map's choice, mean drop by chance), in cosine.
    """
    side = canvas.shape[-1]
    height, width = blocks.shape
    down, across = side // height, side // width
    scanned = (canvas.reshape(height, down, width, across) >= 0).mean(axis=(1, 3)) >= 0.5
    scan_cells = np.flatnonzero(scanned)
    count = max(1, round(scan_cells.size * share))
    rng = np.random.default_rng(seed)
    choices = [scan_cells[np.argsort(-blocks.ravel()[scan_cells], kind="stable")[:count]]]
    choices += [rng.choice(scan_cells, count, replace=False) for _ in range(draws)]
    canvases = np.repeat(canvas[None], len(choices) + 1, axis=0)
    for number, cells in enumerate(choices):
        chosen = np.zeros(height * width, np.bool_)
        chosen[cells] = True
        pixels = chosen.reshape(height, width).repeat(down, 0).repeat(across, 1)
        canvases[number, 0][pixels] = nothing[0][pixels]
    scores = np.asarray(score_fn(canvases), np.float64)
    return float(scores[-1] - scores[0]), float(scores[-1] - scores[1:-1].mean())
