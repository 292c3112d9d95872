"""The hybrid of the design: CNN → row GRU down the depth → evidence map, whose mean is the embedding."""

from __future__ import annotations

from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonoseek.core import InvalidValueError
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


class NetworkOutput(NamedTuple):
    """logits (N, C); embedding (N, D), not normalised; evidence (N, D, h, w), exactly 0 in padding."""

    logits: Tensor
    embedding: Tensor
    evidence: Tensor


class HybridNetwork(nn.Module):
    """Explanation by construction: embedding = mean of the evidence over cells, logits = W · embedding + b.

    So each logit is the mean over cells of W · evidence[:, row, column], plus b: the class heatmap is exact and costs
    nothing. Padding carries no evidence: each cell's evidence is weighted by its share of scan, scaled so that the
    plain mean over all cells is the weighted mean over the scan.
    """

    def __init__(self, backbone: Backbone, *, classes: int = 3, embedding_dim: int = 256) -> None:
        """Make one around `backbone`.

        Args:
            backbone: a module of the table `BACKBONES`.
            classes: C.
            embedding_dim: D.
        """
        super().__init__()
        self.stride = backbone.stride
        self.backbone = cast(nn.Module, backbone)
        self.rows = RowContext(backbone.channels)
        self.evidence = nn.Conv2d(backbone.channels, embedding_dim, 1)
        self.head = nn.Linear(embedding_dim, classes)
        nn.init.normal_(self.evidence.weight, std=backbone.channels**-0.5)
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
        features = self.rows(self.backbone(canvas.clamp(min=0)), validity)
        weight = validity / validity.mean((2, 3), keepdim=True).clamp(min=1e-6)
        evidence = self.evidence(features) * weight
        embedding = evidence.mean((2, 3))
        return NetworkOutput(self.head(embedding), embedding, evidence)
