"""What every network shares: evidence weighted by the share of scan, its mean as the embedding, a linear head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonoseek.core import InvalidValueError

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
    """logits (N, C); embedding (N, D), not normalised; evidence (N, D, h, w), exactly 0 in padding.

    lesion: (N, 1, S/f, S/f), logits of each (small) cell's share of lesion, for losses; None where none is estimated.
    spatial_weights: (N, S/f, S/f), f the network's `fine_stride`: relative weights, ≥ 0, of mean 1: a cell's
        evidence is distributed within the cell in this proportion; None where there are none.
    """

    logits: Tensor
    embedding: Tensor
    evidence: Tensor
    lesion: Tensor | None = None
    spatial_weights: Tensor | None = None


class EvidenceNetwork(nn.Module, ABC):
    """Explanation by construction: embedding = mean of the evidence over cells, logits = W · embedding + b.

    So each logit is the mean over cells of W · evidence[:, row, column], plus b: the class heatmap is exact and costs
    nothing. Padding carries no evidence: each cell's evidence is weighted by its share of scan, scaled so that the
    plain mean over all cells is the weighted mean over the scan.

    Attributes:
        backbone: the part that reads pixels; has `load_start`, and its own learning rate in a recipe.
        stride: pixels per cell.
        fine_stride: pixels per finer cell of `NetworkOutput.spatial_weights`; `stride` where there is none.
        head: D → C.
    """

    head: nn.Linear

    def __init__(self, backbone: Backbone) -> None:
        """Keep `backbone`; a network makes its other parts after it, and its `head`."""
        super().__init__()
        self.stride = self.fine_stride = backbone.stride
        self.backbone = cast(nn.Module, backbone)

    def check_side(self, canvas: Tensor) -> None:
        """Refuse a canvas whose side is not a multiple of the stride.

        Raises:
            InvalidValueError: it is not.
        """
        if not torch.compiler.is_exporting() and canvas.shape[-1] % self.stride:
            raise InvalidValueError(
                f"the canvas is {canvas.shape[-1]} pixels wide; it must be a multiple of {self.stride}. "
                "Choose another canvas_size in the recipe."
            )

    def validity(self, canvas: Tensor) -> Tensor:
        """Share of scan per cell, (N, 1, h, w), 0 … 1; slivers are 0."""
        share = functional.avg_pool2d((canvas >= 0).to(canvas.dtype), self.stride)
        return share * (share >= MIN_VALIDITY).to(canvas.dtype)

    @abstractmethod
    def forward(self, canvas: Tensor) -> NetworkOutput:
        """Read canvases.

        Args:
            canvas: float32 (N, 1, S, S), S a multiple of the stride; 0 … 1, exactly −1 in padding.

        Returns:
            Finite for every input, a canvas of nothing but padding included (its embedding is 0).

        Raises:
            InvalidValueError: S is not a multiple of the stride.
        """


class CellNetwork(EvidenceNetwork):
    """A network that gives the evidence of its cells, which is then weighted by their share of scan."""

    @abstractmethod
    def raw(self, canvas: Tensor, validity: Tensor) -> Tensor:
        """Evidence of each cell, not yet weighted by its share of scan.

        Args:
            canvas: float32 (N, 1, S, S); 0 … 1, exactly −1 in padding.
            validity: (N, 1, h, w), as `validity` gives it.

        Returns:
            (N, D, h, w).
        """

    def forward(self, canvas: Tensor) -> NetworkOutput:
        """As `EvidenceNetwork`."""
        self.check_side(canvas)
        validity = self.validity(canvas)
        weight = validity / validity.mean((2, 3), keepdim=True).clamp(min=1e-6)
        evidence = self.raw(canvas, validity) * weight
        embedding = evidence.mean((2, 3))
        return NetworkOutput(self.head(embedding), embedding, evidence)


class MapNetwork(CellNetwork):
    """A network whose evidence comes from a backbone's map, wherever that map comes from."""

    @abstractmethod
    def from_features(self, features: Tensor, validity: Tensor) -> Tensor:
        """(N, channels, h, w) and (N, 1, h, w) → evidence of each cell, (N, D, h, w)."""

    def raw(self, canvas: Tensor, validity: Tensor) -> Tensor:
        """Through the backbone."""
        return self.from_features(self.backbone(canvas.clamp(min=0)), validity)


def needs_backbone(backbone: Backbone | None, *, network: str) -> Backbone:
    """`backbone`, where there is one.

    Raises:
        InvalidValueError: there is none, and `network` brings none of its own.
    """
    if backbone is None:
        raise InvalidValueError(
            f'the network {network!r} reads through a backbone, and the recipe says backbone = "none". '
            "Name one of the table, such as 'squeezenet'."
        )
    return backbone


def brings_its_own(backbone: Backbone | None, *, network: str) -> None:
    """Let nobody believe that a backbone is used where it is not.

    Raises:
        InvalidValueError: one is given.
    """
    if backbone is not None:
        raise InvalidValueError(
            f"a {type(backbone).__name__} is given; the network {network!r} reads pixels its own way and takes no "
            'backbone. Write backbone = "none" in the recipe.'
        )


def evidence_layer(channels: int, embedding_dim: int) -> nn.Conv2d:
    """1 × 1 convolution from a map to evidence, at a start that keeps the scale and adds no bias."""
    layer = nn.Conv2d(channels, embedding_dim, 1)
    nn.init.normal_(layer.weight, std=channels**-0.5)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # it has one
    return layer


def refuse_start(count: int, *, name: str) -> None:
    """Say that a part for which nobody publishes weights takes none.

    Raises:
        InvalidValueError: always.
    """
    raise InvalidValueError(f"{count} start weights given; {name} starts at random. Leave 'weights' out.")
