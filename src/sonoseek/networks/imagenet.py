"""What backbones from ImageNet share: how grey becomes their normalised colour, and how their cells come to tile."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonoseek.core import InvalidValueError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class GreyToImageNet(nn.Module):
    """(N, 1, H, W) in 0 … 1 → (N, 3, H, W), normalised as a network from ImageNet expects."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, *, mean: tuple[float, float, float] = MEAN, deviation: tuple[float, float, float] = STD) -> None:
        """Take a network's own figures of its three channels, 0 … 1; ImageNet's by default."""
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Grey as three equal channels."""
        normalised: Tensor = (x - self.mean) / self.deviation
        return normalised


def framed(x: Tensor, *, stride: int) -> Tensor:
    """Black around a canvas, half a stride on each side.

    A network that pads symmetrically looks with cell i at rows around stride · i. After this frame, and with the first
    row and column of cells left out (`inner_cells`), cell i looks at the middle of its own square of the canvas.
    """
    half = stride // 2
    return functional.pad(x, (half, half, half, half))


def inner_cells(features: Tensor) -> Tensor:
    """All but the first row and column of cells."""
    return features[:, :, 1:, 1:]


def load_exactly(module: nn.Module, weights: Mapping[str, Tensor], *, name: str) -> None:
    """Load weights that must fit key by key.

    Raises:
        InvalidValueError: a key or a shape differs.
    """
    try:
        module.load_state_dict(
            {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}
        )
    except RuntimeError as error:
        raise InvalidValueError(f"these are not the weights of {name}: {error}") from error
