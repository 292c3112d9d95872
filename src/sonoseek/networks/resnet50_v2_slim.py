"""ResNet-50 v2 as TensorFlow-slim trained it, up to stride 16 as a backbone (He et al. 2016, arXiv:1603.05027)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonoseek.networks.imagenet import GreyToImageNet, inner_cells, load_exactly

HALF = (0.5, 0.5, 0.5)
_BLOCKS = ((256, 3), (512, 4), (1024, 6))
"""(channels, units); a block halves in its last unit, but for the last block, whose last unit is left out."""
_FRAME = (11, 5)
"""Pixels of black above and to the left, and below and to the right; see the class."""


class _FoldedNorm(nn.Module):
    """Scale, shift and activation, channel by channel: all that is kept of the unit that halves to stride 32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mul, self.add = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x * self.mul[:, None, None] + self.add[:, None, None])


class _Unit(_FoldedNorm):
    """A folded norm, then three convolutions beside a shortcut."""

    def __init__(self, channels: int, out: int, *, stride: int, projects: bool) -> None:
        super().__init__(channels)
        middle = out // 4
        self.stride = stride
        self.conv1 = nn.Conv2d(channels, middle, 1)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, 1)
        self.conv3 = nn.Conv2d(middle, out, 1)
        self.shortcut = nn.Conv2d(channels, out, 1) if projects else None

    def forward(self, x: Tensor) -> Tensor:
        active = super().forward(x)
        beside = x[:, :, :: self.stride, :: self.stride] if self.shortcut is None else self.shortcut(active)
        inner = functional.relu(self.conv2(functional.relu(self.conv1(active))))
        return cast(Tensor, beside + self.conv3(inner))


class ResNet50V2SlimBackbone(nn.Module):
    """Feature map before block 3's last unit: (N, 1, S, S) in 0 … 1 → (N, 1024, S/16, S/16).

    Cell i of the published network looks at rows around 16·i + 2. After eleven rows of black above, and without the
    first row of cells, cell i looks at 16·i + 7: the cells tile the canvas.
    """

    channels = 1024
    stride = 16

    def __init__(self) -> None:
        super().__init__()
        self.normalise = GreyToImageNet(mean=HALF, deviation=HALF)
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        units: list[nn.Module] = []
        before = 64
        for channels, count in _BLOCKS:
            for number in range(count):
                last = number == count - 1
                if last and channels == self.channels:
                    units.append(_FoldedNorm(channels))
                    break
                units.append(_Unit(before, channels, stride=2 if last else 1, projects=number == 0))
                before = channels
        self.units = nn.ModuleList(units)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, S, S), S a multiple of 16, → (N, 1024, S/16, S/16), ≥ 0."""
        before, after = _FRAME
        return inner_cells(self.features(self.normalise(functional.pad(x, (before, after, before, after)))))

    def features(self, colours: Tensor) -> Tensor:
        """The published layers: (N, 3, H, W), normalised, → (N, 1024, H/16, W/16)."""
        features = functional.pad(self.conv1(colours), (0, 1, 0, 1), value=float("-inf"))
        features = functional.max_pool2d(features, 3, 2)
        for unit in self.units:
            features = unit(features)
        return features

    def load_start(self, weights: Mapping[str, Tensor]) -> None:
        """Take ImageNet weights, keys `conv1.weight`, `units.0.mul`, …; layers beyond stride 16 are not read.

        A convolution may come as int8 `NAME.q8` with a float `NAME.scale` per output channel.

        Raises:
            InvalidValueError: keys or shapes are not its own.
        """
        last = f"units.{len(self.units) - 1}."
        own: dict[str, Tensor] = {}
        for key, value in weights.items():
            name = key.removesuffix(".q8")
            beyond = key in ("mul", "add") or (key.startswith(last) and name.removeprefix(last) not in ("mul", "add"))
            if beyond or key.endswith(".scale"):
                continue
            own[name] = value if name == key else value.float() * weights[f"{name}.scale"][:, None, None, None]
        load_exactly(self, own, name="ResNet-50 v2 of TensorFlow-slim")
