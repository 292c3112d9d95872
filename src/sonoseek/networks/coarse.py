"""Published networks whose cells are 32 pixels wide, read at 16: half-cell geometry shared by the peers.

Every network of the tables has cells of 16 pixels, so that canvases of 112, 144, 160 or 224 pixels hold a whole number
of them. A network published with stride 32 keeps its layers as published; each of its cells is repeated on the four
finer cells that it looks at. Nothing is interpolated: what looks like blocks of 32 pixels is what was computed.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

STRIDE = 16
"""Pixels per cell of every network."""


def filled_up(x: Tensor, *, multiple: int) -> Tensor:
    """(N, C, S, S) with zeros below and to the right until S is a multiple."""
    missing = -x.shape[-1] % multiple
    return functional.pad(x, (0, missing, 0, missing)) if missing else x


def finer(features: Tensor, *, cells: int, times: int = 2) -> Tensor:
    """Each cell repeated on `times` × `times` finer ones; the first `cells` each way.

    For a network whose cell i looks at rows around (i + ½) · `times` · 16, as those that halve without overlap do.
    """
    fine = functional.interpolate(features, scale_factor=float(times), mode="nearest") if times > 1 else features
    return fine[:, :, :cells, :cells]


def finer_from_the_edge(features: Tensor, *, cells: int) -> Tensor:
    """The same for a network whose cell i looks at rows around 32 · i, as those that pad symmetrically do.

    Its first cell looks at the canvas's edge: half of it lies outside and is left out. So 1 + S // 32 cells are needed
    for a canvas of S pixels; where S is a multiple of 32, fill up by 16 first.
    """
    fine = functional.interpolate(features, scale_factor=2.0, mode="nearest")
    return fine[:, :, 1 : 1 + cells, 1 : 1 + cells]
