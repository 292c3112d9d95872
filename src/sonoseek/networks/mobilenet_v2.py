"""MobileNetV2 1.0 as a backbone (Sandler et al. 2018, arXiv:1801.04381), dilated to stride 16."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from sonoseek.networks.imagenet import GreyToImageNet, framed, inner_cells, load_exactly

_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""(expansion, channels, blocks, stride) as published."""
_LAST_STRIDED = 5
"""Stage whose stride is traded for dilation, so that a lesion is many cells; the weights are the same."""


def _convolution(
    channels: int,
    out: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
    active: bool = True,
) -> nn.Sequential:
    padding = dilation * (kernel - 1) // 2
    layers: list[nn.Module] = [
        nn.Conv2d(channels, out, kernel, stride, padding, groups=groups, dilation=dilation, bias=False),
        nn.BatchNorm2d(out),
    ]
    return nn.Sequential(*layers, *([nn.ReLU6()] if active else []))


class _InvertedResidual(nn.Module):
    """Expand, filter each channel, project; GluonCV's variant expands in the first block too."""

    def __init__(self, channels: int, out: int, *, stride: int, expansion: int, dilation: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.conv = nn.Sequential(
            _convolution(channels, hidden),
            _convolution(hidden, hidden, kernel=3, stride=stride, groups=hidden, dilation=dilation),
            _convolution(hidden, out, active=False),
        )
        self.skips = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return x + out if self.skips else out


class MobileNetV2Backbone(nn.Module):
    """Feature map of MobileNetV2: (N, 1, S, S) in 0 … 1 → (N, 1280, S/16, S/16)."""

    channels = 1280
    stride = 16

    def __init__(self) -> None:
        super().__init__()
        self.normalise = GreyToImageNet()
        layers: list[nn.Module] = [_convolution(3, 32, kernel=3, stride=2)]
        before = 32
        for stage, (expansion, channels, blocks, stride) in enumerate(_STAGES):
            for block in range(blocks):
                strided = block == 0 and stage != _LAST_STRIDED
                # the strided block filters as published; what follows it looks twice as far apart
                dilation = 2 if stage > _LAST_STRIDED or (stage == _LAST_STRIDED and block > 0) else 1
                layers.append(
                    _InvertedResidual(
                        before, channels, stride=stride if strided else 1, expansion=expansion, dilation=dilation
                    )
                )
                before = channels
        self.features = nn.Sequential(*layers, _convolution(before, self.channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, S, S), S a multiple of 16, → (N, 1280, S/16, S/16), 0 … 6."""
        return inner_cells(self.features(self.normalise(framed(x, stride=self.stride))))

    def load_start(self, weights: Mapping[str, Tensor]) -> None:
        """Take ImageNet weights, keys `features.N.…`, batch norm kept (the GluonCV variant).

        Raises:
            InvalidValueError: keys or shapes are not its own.
        """
        load_exactly(self, weights, name="MobileNetV2 1.0 with batch norm, GluonCV's variant")
