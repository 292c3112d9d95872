"""Two readings of one scan by one network: the whole scan, and a close-up of the lesion cut from a finer canvas."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonoseek.core import InvalidValueError
from sonoseek.encoder import NO_MARK
from sonoseek.networks.evidence import EvidenceNetwork, NetworkOutput
from sonoseek.networks.many_views import ManyViewNetwork

FINENESS = 2
"""Pixels of the finer canvas per pixel of the network's own, each way."""
SPREAD = 3.0
"""Half the close-up's side in standard deviations of the estimated lesion: 2 would just hold a filled ellipse."""
CONTEXT = 1.75
"""The close-up's side in sides of a lesion box that a reader drew."""
SMALLEST = 0.2
"""The close-up's side is at least this share of the canvas."""
MOSTLY = 0.45
"""A close-up's pixel is scan from this share of scan on; no share that whole numbers give, so that rounding decides
nothing."""
SHARE = 0.5
"""Weight of the close-up in the joint evidence; the whole scan has the rest."""
FINE_CELLS = 4
"""Fine cells of `spatial_weights` per cell, each way."""


class _Read(NamedTuple):
    """One reading, the mean of the canvas and its mirror image: evidence (N, D, h, w), spatial weights (N, h, w)."""

    evidence: Tensor
    lesion: Tensor
    weight: Tensor


class TwoReadings(nn.Module):
    """Evidence of the whole scan and of the lesion's close-up, joined on the whole scan's cells.

    The close-up is a square of the finer canvas around the lesion that the network itself estimates on the whole scan,
    or around a reader's mark, read by the same weights at the same input size. Each of its cells gives its evidence to
    the cells of the whole scan that it covers, in proportion to the area covered, so that sums are kept: the embedding
    is the plain mean of the joint evidence, and the logits are linear in it, as in any `EvidenceNetwork`.
    """

    def __init__(self, network: EvidenceNetwork, *, share: float = SHARE) -> None:
        """Wrap a trained network that estimates a lesion; it is not copied.

        Args:
            network: of the kind "lesion_pooling".
            share: 0 … 1, weight of the close-up.

        Raises:
            InvalidValueError: `share` is out of range.
        """
        super().__init__()
        if not 0 <= share <= 1:
            raise InvalidValueError(f"share is {share}; the close-up's weight lies in 0 … 1. Correct it.")
        self.network = network
        self.share = share
        self.stride = network.stride * FINENESS
        self.fine_stride = self.stride // FINE_CELLS

    @property
    def head(self) -> nn.Linear:
        """The linear map from embedding to logits."""
        return self.network.head

    def forward(self, canvas: Tensor, mark: Tensor | None = None) -> NetworkOutput:
        """Read canvases twice.

        Args:
            canvas: float32 (N, 1, S, S), S a multiple of twice the network's stride; 0 … 1, exactly −1 in padding.
            mark: float32 (N, 4): top, left, bottom, right of the lesion in canvas pixels as a reader drew it;
                `NO_MARK` in all four, or None for all: the network's own estimate is used.

        Returns:
            As `EvidenceNetwork`, with `spatial_weights` at `fine_stride`.
        """
        side = canvas.shape[-1]
        if mark is None:
            mark = canvas.new_full((canvas.shape[0], 4), NO_MARK)
        whole = self._read(smaller(canvas))
        centre, half = self._place(whole.lesion, mark, side=side)
        close = self._read(cut_out(canvas, centre, half, side=side // FINENESS))
        cells = whole.evidence.shape[-1]
        evidence = (1 - self.share) * whole.evidence + self.share * spread_over(
            close.evidence, centre, half, side=side, cells=cells
        )
        fine = cells * FINE_CELLS
        weight = (1 - self.share) * functional.interpolate(
            whole.weight[:, None], (fine, fine), mode="bilinear"
        ) + self.share * spread_over(close.weight[:, None], centre, half, side=side, cells=fine)
        scanned = functional.avg_pool2d((canvas >= 0).to(canvas.dtype), self.fine_stride)
        spatial_weights = (weight * scanned)[:, 0].clamp(min=0)
        spatial_weights = spatial_weights / spatial_weights.mean((1, 2), keepdim=True).clamp(min=1e-6)
        embedding = evidence.mean((2, 3))
        return NetworkOutput(self.head(embedding), embedding, evidence, None, spatial_weights)

    def _read(self, canvas: Tensor) -> _Read:
        count = canvas.shape[0]
        both = torch.cat([canvas, canvas.flip(3)])
        out: NetworkOutput = self.network(both)
        if out.lesion is None:
            raise InvalidValueError(
                f"a {type(self.network).__name__} estimates no lesion, which the close-up is cut around. "
                'Train with network = "lesion_pooling".'
            )
        evidence = (out.evidence[:count] + out.evidence[count:].flip(3)) / 2
        lesion = (torch.sigmoid(out.lesion) * self.network.validity(both))[:, 0]
        lesion = (lesion[:count] + lesion[count:].flip(2)) / 2
        weight = lesion + 0.05 * self.network.validity(canvas)[:, 0]
        return _Read(evidence, lesion, weight / weight.mean((1, 2), keepdim=True).clamp(min=1e-6))

    def _place(self, lesion: Tensor, mark: Tensor, *, side: int) -> tuple[Tensor, Tensor]:
        """Centre (N, 2) and half side (N, 1) of the close-up, canvas pixels: row before column.

        Whole numbers, so that rounding errors, which differ between machines, do not move it.
        """
        cells = lesion.shape[-1]
        weight = lesion.square() + 1e-8
        mass = weight.sum((1, 2))
        at = (torch.arange(cells, dtype=lesion.dtype, device=lesion.device) + 0.5) * (side / cells)
        rows, columns = weight.sum(2) / mass[:, None], weight.sum(1) / mass[:, None]
        middle = torch.stack([(rows * at).sum(1), (columns * at).sum(1)], 1)
        spread = torch.stack(
            [
                (rows * (at - middle[:, :1]).square()).sum(1),
                (columns * (at - middle[:, 1:]).square()).sum(1),
            ],
            1,
        ).sqrt()
        own = SPREAD * spread.amax(1, keepdim=True)
        given = (mark[:, 2:] > mark[:, :2]).all(1, keepdim=True)
        drawn = CONTEXT * (mark[:, 2:] - mark[:, :2]).amax(1, keepdim=True) / 2
        half = torch.where(given, drawn, own).clamp(min=SMALLEST * side / 2, max=side / 2)
        return torch.where(given, (mark[:, :2] + mark[:, 2:]) / 2, middle).round(), half.round()


Served = EvidenceNetwork | ManyViewNetwork | TwoReadings
"""A network in the way in which scans are read: once, in several views, or whole and as a close-up."""


def smaller(canvas: Tensor) -> Tensor:
    """The canvas at half its side: the mean of the scan's pixels; padding where most is padding."""
    scanned = functional.avg_pool2d((canvas >= 0).to(canvas.dtype), FINENESS)
    grey = functional.avg_pool2d(canvas.clamp(min=0), FINENESS) / scanned.clamp(min=0.25)
    return torch.where(scanned >= 0.5, grey.clamp(0, 1), -torch.ones_like(grey))


def cut_out(canvas: Tensor, centre: Tensor, half: Tensor, *, side: int) -> Tensor:
    """Squares of canvases, (N, 1, side, side), bilinear; padding beyond the scan.

    Args:
        canvas: (N, 1, S, S), −1 in padding.
        centre: (N, 2), row and column, canvas pixels.
        half: (N, 1), half the square's side, canvas pixels.
        side: of the result, pixels.
    """
    size = canvas.shape[-1]
    at = (torch.arange(side * FINENESS, dtype=canvas.dtype, device=canvas.device) + 0.5) / (side * FINENESS) * 2 - 1
    rows = (centre[:, :1] + at[None] * half) / size * 2 - 1
    columns = (centre[:, 1:] + at[None] * half) / size * 2 - 1
    count, steps = rows.shape
    grid = torch.stack(
        [columns[:, None, :].expand(count, steps, steps), rows[:, :, None].expand(count, steps, steps)], dim=-1
    )
    layers = torch.cat([canvas.clamp(min=0), (canvas >= 0).to(canvas.dtype)], 1)
    taken = functional.grid_sample(layers, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    taken = functional.avg_pool2d(taken, FINENESS)
    grey, scanned = taken[:, :1], taken[:, 1:]
    grey = (grey / scanned.clamp(min=0.25)).clamp(0, 1)
    return torch.where(scanned >= MOSTLY, grey, -torch.ones_like(grey))


def spread_over(values: Tensor, centre: Tensor, half: Tensor, *, side: int, cells: int) -> Tensor:
    """Give what lies on a close-up's cells to the canvas's cells by the area covered; means times areas are kept.

    Args:
        values: (N, D, h, h), on the close-up's cells.
        centre: of the close-up, as for `cut_out`.
        half: as there.
        side: of the canvas, pixels.
        cells: of the canvas, each way.

    Returns:
        (N, D, cells, cells), with the mean of `values` where cells = h; what lies beyond the canvas goes to its rim.
    """
    count = values.shape[-1]
    edges = torch.arange(count + 1, dtype=values.dtype, device=values.device) / count * 2 - 1
    at = torch.arange(cells + 1, dtype=values.dtype, device=values.device) * (side / cells)
    low, high = at[:-1].clone(), at[1:].clone()
    low[0], high[-1] = -4.0 * side, 5.0 * side

    def covered(middle: Tensor) -> Tensor:
        placed = middle + edges[None] * half
        first, last = placed[:, :-1, None], placed[:, 1:, None]
        inside = (torch.minimum(last, high) - torch.maximum(first, low)).clamp(min=0)
        return inside / inside.sum(2, keepdim=True).clamp(min=1e-6)

    down, across = covered(centre[:, :1]), covered(centre[:, 1:])
    spread = torch.einsum("nir,ndij,njc->ndrc", down, values, across)
    return spread * (cells * cells / (count * count)) if cells != count else spread
