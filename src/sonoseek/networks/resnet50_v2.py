"""ResNet-50 v2 up to its third stage as a backbone (He et al. 2016, arXiv:1603.05027)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from sonoseek.networks.imagenet import GreyToImageNet, framed, inner_cells, load_exactly

_STAGES = ((256, 3, 1), (512, 4, 2), (1024, 6, 2))
"""(channels, blocks, stride)."""


class _Bottleneck(nn.Module):
    """Norm and activation before each convolution; the first block of a stage projects its input."""

    def __init__(self, channels: int, out: int, *, stride: int, projects: bool) -> None:
        super().__init__()
        middle = out // 4
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, middle, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, out, 1, bias=False)
        self.down = nn.Conv2d(channels, out, 1, stride, bias=False) if projects else None

    def forward(self, x: Tensor) -> Tensor:
        active = functional.relu(self.bn1(x))
        features = self.conv1(active)
        features = self.conv2(functional.relu(self.bn2(features)))
        features = self.conv3(functional.relu(self.bn3(features)))
        return cast(Tensor, features + (x if self.down is None else self.down(active)))


class ResNet50V2Backbone(nn.Module):
    """Feature map of ResNet-50 v2 after stage 3: (N, 1, S, S) in 0 … 1 → (N, 1024, S/16, S/16)."""

    channels = 1024
    stride = 16
    pyramid_channels = (256, 512, 1024)

    def __init__(self) -> None:
        super().__init__()
        self.normalise = GreyToImageNet()
        self.bn0 = nn.BatchNorm2d(3)
        self.conv0 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        stages: list[nn.Module] = []
        before = 64
        for channels, blocks, stride in _STAGES:
            made = []
            for block in range(blocks):
                first = block == 0
                made.append(_Bottleneck(before, channels, stride=stride if first else 1, projects=first))
                before = channels
            stages.append(nn.Sequential(*made))
        self.stages = nn.ModuleList(stages)
        self.bn_out = nn.BatchNorm2d(self.channels)

    @property
    def early(self) -> tuple[nn.Module, ...]:
        """Layers whose output still shows more of the scanner than of the breast."""
        return (self.conv0, self.stages[0])

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, S, S), S a multiple of 16, → (N, 1024, S/16, S/16), ≥ 0."""
        return self.pyramid(x)[-1]

    def pyramid(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 1, S, S) → (N, 256, S/4, S/4), (N, 512, S/8, S/8), (N, 1024, S/16, S/16)."""
        features = self.conv0(self.bn0(self.normalise(framed(x, stride=self.stride))))
        features = functional.max_pool2d(functional.relu(self.bn1(features)), 3, 2, 1)
        fine = self.stages[0](features)
        middle = self.stages[1](fine)
        coarse = inner_cells(functional.relu(self.bn_out(self.stages[2](middle))))
        # the frame is 8 pixels: two fine cells on each side, and one middle cell, whose tiles lie between neighbours
        between = functional.avg_pool2d(middle[:, :, 1:, 1:], 2, stride=1)
        return functional.relu(fine[:, :, 2:-2, 2:-2]), functional.relu(between), coarse

    def load_start(self, weights: Mapping[str, Tensor]) -> None:
        """Take ImageNet weights, keys `conv0.weight`, `stages.0.0.bn1.weight`, …; half precision is widened.

        Raises:
            InvalidValueError: keys or shapes are not its own.
        """
        load_exactly(self, weights, name="ResNet-50 v2 up to stage 3")
