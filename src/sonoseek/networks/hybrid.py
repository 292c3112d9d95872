"""The hybrid of the design: CNN → row GRU down the depth → evidence map, whose mean is the embedding."""

from __future__ import annotations

from typing import NamedTuple, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonoseek.core import InvalidValueError
from sonoseek.networks.focus import FLOOR, SHAPE_CHANNELS, LesionFocus, Outline
from sonoseek.networks.row_context import RowContext

MIN_VALIDITY = 0.02
"""Cells with a smaller share of scan count as padding: nothing should rest on a sliver."""


class Backbone(Protocol):
    """What a feature extractor offers beside being a module."""

    channels: int
    stride: int

    def __call__(self, x: Tensor) -> Tensor:
        """(N, 1, S, S) in 0 … 1 → (N, channels, S/stride, S/stride); cells tile the canvas."""
        ...


@runtime_checkable
class PyramidBackbone(Protocol):
    """A backbone that also shows its finer maps."""

    pyramid_channels: tuple[int, int, int]

    def pyramid(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 1, S, S) → maps of S/4, S/8 and S/16 cells a side; the last is what calling the backbone gives."""
        ...


class NetworkOutput(NamedTuple):
    """logits (N, C); embedding (N, D), not normalised; evidence (N, D, h, w), exactly 0 in padding.

    lesion: (N, 1, S/4, S/4), logits of each small cell's share of lesion, for losses; None without a focus.
    """

    logits: Tensor
    embedding: Tensor
    evidence: Tensor
    lesion: Tensor | None = None


class HybridNetwork(nn.Module):
    """Explanation by construction: embedding = mean of the evidence over cells, logits = W · embedding + b.

    So each logit is the mean over cells of W · evidence[:, row, column], plus b: the class heatmap is exact and costs
    nothing. Padding carries no evidence: each cell's evidence is weighted by its share of scan, scaled so that the
    plain mean over all cells is the weighted mean over the scan. With `focus`, the network draws the lesion's outline
    first: cells inside weigh more, and the shape of the outline is evidence too, laid on the cells that make it.
    """

    def __init__(self, backbone: Backbone, *, classes: int = 3, embedding_dim: int = 256, focus: bool = False) -> None:
        """Make one around `backbone`.

        Args:
            backbone: a module of the table `BACKBONES`.
            classes: C.
            embedding_dim: D.
            focus: draw an outline and rest on it (`LesionFocus`).

        Raises:
            InvalidValueError: `focus`, and the backbone shows no finer maps.
        """
        super().__init__()
        self.focus: LesionFocus | None = None
        channels = backbone.channels
        if focus:
            if not isinstance(backbone, PyramidBackbone):
                raise InvalidValueError(
                    f"a {type(backbone).__name__} shows no maps at strides 4 and 8, from which an outline is drawn. "
                    "Set focus = false, or choose another backbone."
                )
            self.focus = LesionFocus(backbone.pyramid_channels, embedding_dim)
            channels += SHAPE_CHANNELS
        self.stride = backbone.stride
        self.backbone = cast(nn.Module, backbone)
        self.rows = RowContext(channels)
        self.evidence = nn.Conv2d(channels, embedding_dim, 1)
        self.head = nn.Linear(embedding_dim, classes)
        nn.init.normal_(self.evidence.weight, std=channels**-0.5)
        nn.init.zeros_(self.evidence.bias)  # type: ignore[arg-type]  # it has one

    def validity(self, canvas: Tensor) -> Tensor:
        """Share of scan per cell, (N, 1, h, w), 0 … 1; slivers are 0."""
        share = functional.avg_pool2d((canvas >= 0).to(canvas.dtype), self.stride)
        return share * (share >= MIN_VALIDITY).to(canvas.dtype)

    def forward(self, canvas: Tensor) -> NetworkOutput:
        """Read canvases.

        Args:
            canvas: float32 (N, 1, S, S), S a multiple of the stride; 0 … 1, exactly −1 in padding.

        Returns:
            Finite for every input, a canvas of nothing but padding included (its embedding is 0).
        """
        if not torch.compiler.is_exporting() and canvas.shape[-1] % self.stride:
            raise InvalidValueError(
                f"the canvas is {canvas.shape[-1]} pixels wide; it must be a multiple of {self.stride}. "
                "Choose another canvas_size in the recipe."
            )
        validity = self.validity(canvas)
        grey = canvas.clamp(min=0)
        if self.focus is None:
            return self._said(self.backbone(grey), validity, validity, None)
        maps = cast(PyramidBackbone, self.backbone).pyramid(grey)
        outline = self.focus(maps, functional.avg_pool2d((canvas >= 0).to(canvas.dtype), 4))
        weight = validity * (FLOOR + outline.share)
        return self._said(torch.cat([maps[-1], outline.features], dim=1), validity, weight, outline)

    def _said(self, features: Tensor, validity: Tensor, weight: Tensor, outline: Outline | None) -> NetworkOutput:
        spoken = self.evidence(self.rows(features, validity)) * weight
        evidence = spoken / weight.mean((2, 3), keepdim=True).clamp(min=1e-6)
        if self.focus is not None and outline is not None:
            evidence = evidence + self.focus.word(outline) * (validity > 0)
        embedding = evidence.mean((2, 3))
        return NetworkOutput(self.head(embedding), embedding, evidence, None if outline is None else outline.logits)
