"""EfficientNet-B4 up to stride 16 as a backbone (Tan and Le 2019, arXiv:1905.11946)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonoseek.core import InvalidValueError
from sonoseek.networks.imagenet import GreyToImageNet, load_exactly
from sonoseek.networks.same_padding import SamePadConv, framed_above

STEM = 48
_STAGES = ((2, 3, 1, 1, 24), (4, 3, 2, 6, 32), (4, 5, 2, 6, 56), (6, 3, 2, 6, 112), (6, 5, 1, 6, 160))
"""(blocks, kernel, stride of the first, expansion, channels) of the published stages 1 … 5."""
_EXPANSION = 6
_SHRINK = 4
"""A block's squeeze-and-excite layer has the block's input channels over this."""
EPSILON = 1e-3
MOMENTUM = 0.02
"""Of the batch norms' running statistics: small batches of several archives move them little."""


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPSILON, momentum=MOMENTUM)


class _Block(nn.Module):
    """Expand, filter each channel, squeeze and excite, project (MBConv); the names are those of the weights' file."""

    def __init__(self, channels: int, out: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        if expansion > 1:
            self.expand_conv = nn.Conv2d(channels, wide, 1, bias=False)
            self.bn0 = _norm(wide)
        self.depthwise = SamePadConv(wide, wide, kernel, stride, groups=wide)
        self.bn1 = _norm(wide)
        self.se_reduce = nn.Conv2d(wide, channels // _SHRINK, 1)
        self.se_expand = nn.Conv2d(channels // _SHRINK, wide, 1)
        self.project_conv = nn.Conv2d(wide, out, 1, bias=False)
        self.bn2 = _norm(out)
        self.expands, self.residual = expansion > 1, stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        wide = functional.silu(self.bn0(self.expand_conv(x))) if self.expands else x
        wide = functional.silu(self.bn1(self.depthwise(wide)))
        gate = self.se_expand(functional.silu(self.se_reduce(wide.mean((2, 3), keepdim=True))))
        out = self.bn2(self.project_conv(wide * torch.sigmoid(gate)))
        return cast(Tensor, x + out if self.residual else out)


class _Expansion(nn.Module):
    """The first layer of the block that opens the next stage."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.expand_conv = nn.Conv2d(channels, out, 1, bias=False)
        self.bn0 = _norm(out)

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(self.bn0(self.expand_conv(x)))


class EfficientNetB4Backbone(nn.Module):
    """Feature map at stride 16, expanded as the next stage begins: (N, 1, S, S) in 0 … 1 → (N, 960, S/16, S/16).

    3.8 million weights. Where the published network halves, it pads one pixel more below and to the right: its cell i
    looks at rows around 16·i + 15. Eight rows of black above and eight columns to the left make that 16·i + 7, so that
    the cells tile the canvas.
    """

    channels = 160 * _EXPANSION
    stride = 16

    def __init__(self) -> None:
        super().__init__()
        self.normalise = GreyToImageNet()
        self.conv1 = SamePadConv(3, STEM, 3, 2)
        self.bn1 = _norm(STEM)
        blocks: list[nn.Module] = []
        before = STEM
        for count, kernel, stride, expansion, channels in _STAGES:
            for number in range(count):
                first = stride if number == 0 else 1
                blocks.append(_Block(before, channels, kernel=kernel, stride=first, expansion=expansion))
                before = channels
        self.blocks = nn.ModuleList([*blocks, _Expansion(before, self.channels)])
        self._frozen: tuple[nn.Module, ...] = ()

    def freeze(self, count: int) -> None:
        """Keep the weights and the batch norms' statistics of the stem and the first `count` blocks as they are.

        Raises:
            InvalidValueError: `count` is not 1 … 23.
        """
        if not 1 <= count <= len(self.blocks):
            raise InvalidValueError(
                f"{count} blocks are to be frozen; EfficientNet-B4 has 1 … {len(self.blocks)} up to stride 16. "
                "Correct start.frozen."
            )
        self._frozen = (self.conv1, self.bn1, *self.blocks[:count])
        for part in self._frozen:
            part.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> EfficientNetB4Backbone:
        """As of any module; frozen parts stay in evaluation mode."""
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    @property
    def early(self) -> tuple[nn.Module, ...]:
        """Layers whose output still shows more of the scanner than of the breast."""
        return (self.bn1, self.blocks[1])

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, S, S), S a multiple of 16, → (N, 960, S/16, S/16)."""
        return self.features(self.normalise(framed_above(x, stride=self.stride)))

    def features(self, colours: Tensor) -> Tensor:
        """The published layers: (N, 3, H, W), normalised, → (N, 960, H/16, W/16)."""
        features = functional.silu(self.bn1(self.conv1(colours)))
        for block in self.blocks:
            features = block(features)
        return features

    def load_start(self, weights: Mapping[str, Tensor]) -> None:
        """Take ImageNet weights, keys `conv1.weight`, `blocks.0.depthwise.weight`, …; half precision is widened.

        Raises:
            InvalidValueError: keys or shapes are not its own.
        """
        load_exactly(self, weights, name="EfficientNet-B4 up to stride 16")
