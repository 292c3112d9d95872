"""Up-sampling that conserves the sum: from the network's grid to the scan's own pixels.

The map is separable: ``heatmap = A_y @ evidence_map @ A_x.T``. Column j of ``A_y`` (H × h) spreads row j of the grid
over the scan's rows, and sums to 1. So ``heatmap.sum() == evidence_map.sum()``.

The weights are those of bilinear interpolation between cell centres (constant beyond the outermost ones). They are
integrated over each pixel's extent rather than sampled at its centre. Where cells are many pixels wide this is the same
heatmap; it is still right where a tiny scan has cells finer than pixels. Outside the network's crop the heatmap is
exactly 0.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import InvalidValueError, Upsampling

if TYPE_CHECKING:  # for annotations alone: this package imports nothing but numpy
    from sonoseek.preprocessing import CanvasMapping


@lru_cache(maxsize=64)
def plan(mapping: CanvasMapping, grid_shape: tuple[int, int]) -> Upsampling:
    """Compute the up-sampling of one scan: the same for all of its maps, cached for the last 64 scans.

    Args:
        mapping: between scan and canvas coordinates, from preprocessing.
        grid_shape: (h, w) of the network's evidence, which covers the whole canvas.

    Raises:
        InvalidValueError: the grid is empty.
    """
    if min(grid_shape) < 1:
        raise InvalidValueError(f"grid_shape is {grid_shape}; an evidence map has at least one cell a side.")
    crop = mapping.crop
    top, bottom = round(crop.top), round(crop.bottom)
    left, right = round(crop.left), round(crop.right)
    rows, columns = np.arange(top, bottom + 1.0), np.arange(left, right + 1.0)
    canvas_rows, _ = mapping.to_canvas(rows, np.full_like(rows, left))
    _, canvas_columns = mapping.to_canvas(np.full_like(columns, top), columns)
    return Upsampling(
        rows=axis_weights(canvas_rows * (grid_shape[0] / mapping.canvas_size), grid_shape[0]),
        columns=axis_weights(canvas_columns * (grid_shape[1] / mapping.canvas_size), grid_shape[1]),
        top=top,
        left=left,
        scan_shape=mapping.scan_shape,
    )


def axis_weights(edges: NDArray[np.floating], count: int) -> NDArray[np.float32]:
    """Weights of one axis.

    Args:
        edges: (n + 1,), rising: the n pixels' edges in units of cells; cell j covers j … j + 1.
        count: number of cells.

    Returns:
        float32 (n, count); columns sum to 1 within 1e-6. A cell with no part inside the pixels gives all it has to the
        nearest one that has.
    """
    edges = np.asarray(edges, np.float64)
    tolerance = 1e-6  # of a cell: rounding in the mapping must not make a cell at the border count as inside
    first = int(np.clip(np.floor(edges[0] + tolerance), 0, count - 1))
    last = int(np.clip(np.ceil(edges[-1] - tolerance) - 1, first, count - 1))
    inside = np.arange(first, last + 1)
    # A cell's hat rises over one cell to its centre and falls over the next; these are the integrals of both halves.
    offset = edges[:, None] - (inside + 0.5)
    rise = np.square(np.clip(offset, -1.0, 0.0) + 1.0) * 0.5
    fall = np.clip(offset, 0.0, 1.0)
    fall -= np.square(fall) * 0.5
    # Beyond the outermost centres, bilinear interpolation repeats the outermost cell: its outer half is flat instead.
    reach = edges[-1] - edges[0] + count
    rise[:, 0] = np.clip(offset[:, 0], -reach, 0.0)
    fall[:, -1] = np.clip(offset[:, -1], 0.0, reach)
    integral = rise + fall
    weights = np.diff(integral, axis=0)
    weights /= weights.sum(axis=0)
    spread: NDArray[np.float32] = weights.astype(np.float32)[:, np.clip(np.arange(count), first, last) - first]
    spread.flags.writeable = False  # shared by every map of the scan
    return spread
