"""SqueezeNet 1.1 as a backbone for one grey channel (Iandola et al. 2016, arXiv:1602.07360)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonoseek.core import InvalidValueError
from sonoseek.networks.imagenet import MEAN, STD, load_exactly

STRIDE = 16
_LAST_POOLING = 8
"""Its place in `features`; before it, half a cell is one pixel of the map."""
_FIRES = {
    # position in the published sequence: (in, squeeze, expand); 2, 5 and 8 are poolings
    3: (64, 16, 64),
    4: (128, 16, 64),
    6: (128, 32, 128),
    7: (256, 32, 128),
    9: (256, 48, 192),
    10: (384, 48, 192),
    11: (384, 64, 256),
    12: (512, 64, 256),
}


@runtime_checkable
class ShiftedBackbone(Protocol):
    """A backbone that can look at a canvas half a cell on, cheaper than four times over."""

    def shifted(self, x: Tensor) -> Tensor:
        """(N, 1, S, S) → (4·N, channels, S/stride, S/stride), phase by phase as `many_views.PHASES` orders them."""
        ...


class _Fire(nn.Module):
    """Squeeze to few channels, expand with 1×1 and 3×3 side by side."""

    def __init__(self, channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.e1 = nn.Conv2d(squeeze, expand, 1)
        self.e3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.squeeze(x))
        return torch.cat([functional.relu(self.e1(x)), functional.relu(self.e3(x))], dim=1)


class SqueezeNetBackbone(nn.Module):
    """Feature map of SqueezeNet 1.1: (N, 1, S, S) in 0 … 1 → (N, 512, S/16, S/16).

    The published network pads nothing: its cell i looks at rows around 16·i + 15. Here the canvas gets a black frame of
    8 (top, left) and 7 (bottom, right) pixels, so that cell i looks at 16·i + 7: cells tile the canvas, and a heatmap
    needs no shift. The start weights' normalisation is folded into the first convolution, which sees grey: exact, for
    black is 0.
    """

    channels = 512
    stride = STRIDE
    pyramid_channels = (128, 256, 512)

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, 64, 3, stride=2), nn.ReLU()]
        layers += [_Fire(*_FIRES[n]) if n in _FIRES else nn.MaxPool2d(3, 2) for n in range(2, 13)]
        self.features = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # every convolution here has one

    @property
    def early(self) -> tuple[nn.Module, ...]:
        """Layers whose output still shows more of the scanner than of the breast."""
        return (self.features[2], self.features[5])

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, S, S), S a multiple of 16, → (N, 512, S/16, S/16), ≥ 0."""
        features: Tensor = self.features(functional.pad(x, (8, 7, 8, 7)))
        return features

    def pyramid(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 1, S, S) → (N, 128, S/4, S/4), (N, 256, S/8, S/8), (N, 512, S/16, S/16); the last as `forward` has it.

        The finer maps have cells between the tiles of the canvas; the mean of neighbours stands in their middle.
        """
        fine = self.features[:5](functional.pad(x, (8, 7, 8, 7)))
        middle = self.features[5:_LAST_POOLING](fine)
        coarse = self.features[_LAST_POOLING:](middle)
        between = functional.avg_pool2d(fine[:, :, 1:-1, 1:-1], 2, stride=1)
        return between, functional.avg_pool2d(middle, 2, stride=1), coarse

    def shifted(self, x: Tensor) -> Tensor:
        """What `forward` would give for four canvases, each half a cell on: up–left, right, down, right and down.

        Everything up to the last pooling is the same for all four and computed once.

        Returns:
            (4·N, 512, S/16, S/16), shift by shift. With the canvas framed by 12 and 11 pixels, the fine cells that the
            four make together tile the canvas: fine cell j looks at rows around 8·j + 3.
        """
        early: Tensor = self.features[:_LAST_POOLING](functional.pad(x, (12, 11, 12, 11)))
        side = early.shape[2] - 1
        views = [early[:, :, row : row + side, column : column + side] for row in (0, 1) for column in (0, 1)]
        late: Tensor = self.features[_LAST_POOLING:](torch.cat(views))
        return late

    def load_start(self, weights: Mapping[str, Tensor]) -> None:
        """Take ImageNet weights, keys `features.N.…` as published; a classifier among them is left out.

        Args:
            weights: the first convolution is (64, 3, 3, 3) over RGB normalised by ImageNet's mean and deviation.

        Raises:
            InvalidValueError: keys or shapes are not SqueezeNet 1.1's.
        """
        state = {key: value for key, value in weights.items() if not key.startswith("classifier.")}
        first = state.get("features.0.weight")
        bias = state.get("features.0.bias")
        if first is None or bias is None or first.shape != (64, 3, 3, 3):
            shape = None if first is None else tuple(first.shape)
            raise InvalidValueError(
                f"features.0.weight is {shape}; SqueezeNet 1.1 starts with (64, 3, 3, 3). Give its weights, or none."
            )
        deviation = torch.tensor(STD).view(1, 3, 1, 1)
        mean = torch.tensor(MEAN).view(1, 3, 1, 1)
        scaled = first / deviation
        state["features.0.weight"] = scaled.sum(1, keepdim=True)
        state["features.0.bias"] = bias - (scaled * mean).sum((1, 2, 3))
        load_exactly(self, state, name="SqueezeNet 1.1")
