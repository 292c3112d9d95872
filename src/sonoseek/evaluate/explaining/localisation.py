"""Does a map lie on the lesion? Every figure compares a signed map on the scan's grid with a drawn mask.

Sources: pointing game, Zhang et al. 2018 (doi:10.1007/s11263-017-1059-x); share of mass in a mask ("energy-based
pointing game"), Wang et al. 2020 (arXiv:1910.01279).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.floating]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Localisation:
    """How one map lies on one lesion.

    Attributes:
        inside: share of the map's positive evidence within the mask, 0 … 1; 0 without positive evidence.
        with_shadow: the same within the mask and what lies straight below it, as deep again as the lesion is high.
        pointing: whether the largest value lies within the mask.
        iou: intersection over union of the mask with the map's largest values, as many pixels as the mask has.
    """

    inside: float
    with_shadow: float
    pointing: bool
    iou: float


def localise(heatmap: Map, mask: Mask) -> Localisation:
    """Compare a map with a mask that holds at least one pixel.

    Equal values are taken in the order of pixels, from the top left: a constant map points nowhere in particular.
    """
    positive = np.clip(heatmap, 0.0, None).astype(np.float64)
    total = float(positive.sum())
    area = int(mask.sum())
    top = _largest(heatmap, area)
    both = int((top & mask).sum())
    row, column = np.unravel_index(int(heatmap.argmax()), heatmap.shape)
    return Localisation(
        inside=float(positive[mask].sum()) / total if total > 0 else 0.0,
        with_shadow=float(positive[mask | shadow(mask)].sum()) / total if total > 0 else 0.0,
        pointing=bool(mask[row, column]) and total > 0,
        iou=both / (2 * area - both),
    )


def shadow(mask: Mask) -> Mask:
    """What lies straight below a lesion, as deep again as the lesion is high: where it shadows or enhances.

    Depth runs downwards; each column begins below the mask's lowest pixel in it.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    height = int(rows[-1] - rows[0] + 1)
    lowest = mask.shape[0] - 1 - mask[::-1].argmax(axis=0)
    row = np.arange(mask.shape[0])[:, None]
    below: Mask = (row > lowest) & (row <= lowest + height) & mask.any(axis=0)
    return below & ~mask


def _largest(heatmap: Map, count: int) -> Mask:
    chosen = np.zeros(heatmap.size, np.bool_)
    flat = heatmap.ravel()
    least = np.partition(flat, flat.size - count)[flat.size - count]
    above = np.flatnonzero(flat > least)
    chosen[above] = True
    chosen[np.flatnonzero(flat == least)[: count - above.size]] = True
    return chosen.reshape(heatmap.shape)
