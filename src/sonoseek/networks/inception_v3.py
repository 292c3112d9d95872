"""Inception v3 as a backbone (Szegedy et al. 2016, arXiv:1512.00567), without its auxiliary head."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonoseek.networks.coarse import STRIDE, finer
from sonoseek.networks.imagenet import load_exactly

_BEFORE = 22
"""Pixels put before the canvas: nothing pads inside, and cell i looks at rows around 32·i + 37."""
_SMALLEST = 43
"""Pixels beside 32 · n that give n cells: what the convolutions that do not pad eat up."""

Size = int | tuple[int, int]


class _Convolution(nn.Module):
    """Convolution, batch norm with the published epsilon, ReLU."""

    def __init__(self, channels: int, out: int, kernel: Size, *, stride: int = 1, padding: Size = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


class _Cells35(nn.Module):
    """Figure 5 of the paper: 1 × 1, 5 × 5, two 3 × 3, pooling, side by side."""

    def __init__(self, channels: int, *, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = _Convolution(channels, 64, 1)
        self.branch5x5_1 = _Convolution(channels, 48, 1)
        self.branch5x5_2 = _Convolution(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = _Convolution(channels, 64, 1)
        self.branch3x3dbl_2 = _Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Convolution(96, 96, 3, padding=1)
        self.branch_pool = _Convolution(channels, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(_smooth(x))], 1)


class _To17(nn.Module):
    """Halve: strided convolutions beside a strided pooling."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3 = _Convolution(channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = _Convolution(channels, 64, 1)
        self.branch3x3dbl_2 = _Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Convolution(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), three, functional.max_pool2d(x, 3, 2)], 1)


class _Cells17(nn.Module):
    """Figure 6: 7 × 7 as 1 × 7 and 7 × 1, once and twice."""

    def __init__(self, channels: int, *, middle: int) -> None:
        super().__init__()
        across: tuple[Size, Size] = ((1, 7), (0, 3))
        down: tuple[Size, Size] = ((7, 1), (3, 0))
        self.branch1x1 = _Convolution(channels, 192, 1)
        self.branch7x7_1 = _Convolution(channels, middle, 1)
        self.branch7x7_2 = _Convolution(middle, middle, across[0], padding=across[1])
        self.branch7x7_3 = _Convolution(middle, 192, down[0], padding=down[1])
        self.branch7x7dbl_1 = _Convolution(channels, middle, 1)
        self.branch7x7dbl_2 = _Convolution(middle, middle, down[0], padding=down[1])
        self.branch7x7dbl_3 = _Convolution(middle, middle, across[0], padding=across[1])
        self.branch7x7dbl_4 = _Convolution(middle, middle, down[0], padding=down[1])
        self.branch7x7dbl_5 = _Convolution(middle, 192, across[0], padding=across[1])
        self.branch_pool = _Convolution(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return torch.cat([self.branch1x1(x), once, twice, self.branch_pool(_smooth(x))], 1)


class _To8(nn.Module):
    """Halve again."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3_1 = _Convolution(channels, 192, 1)
        self.branch3x3_2 = _Convolution(192, 320, 3, stride=2)
        self.branch7x7x3_1 = _Convolution(channels, 192, 1)
        self.branch7x7x3_2 = _Convolution(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = _Convolution(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = _Convolution(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([three, seven, functional.max_pool2d(x, 3, 2)], 1)


class _Cells8(nn.Module):
    """Figure 7: 3 × 3 split into 1 × 3 beside 3 × 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch1x1 = _Convolution(channels, 320, 1)
        self.branch3x3_1 = _Convolution(channels, 384, 1)
        self.branch3x3_2a = _Convolution(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = _Convolution(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = _Convolution(channels, 448, 1)
        self.branch3x3dbl_2 = _Convolution(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = _Convolution(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = _Convolution(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = _Convolution(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        split = [self.branch3x3_2a(once), self.branch3x3_2b(once)]
        split += [self.branch3x3dbl_3a(twice), self.branch3x3dbl_3b(twice)]
        return torch.cat([self.branch1x1(x), *split, self.branch_pool(_smooth(x))], 1)


class InceptionV3Backbone(nn.Module):
    """Feature map of Inception v3: (N, 1, S, S) in 0 … 1 → (N, 2048, S/16, S/16), blocks of 32 pixels.

    Names of its parts are torchvision's, so that its files fit. They expect −1 … 1, not ImageNet's mean and deviation.
    """

    channels = 2048
    stride = STRIDE

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = _Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = _Convolution(80, 192, 3)
        self.Mixed_5b = _Cells35(192, pooled=32)
        self.Mixed_5c = _Cells35(256, pooled=64)
        self.Mixed_5d = _Cells35(288, pooled=64)
        self.Mixed_6a = _To17(288)
        self.Mixed_6b = _Cells17(768, middle=128)
        self.Mixed_6c = _Cells17(768, middle=160)
        self.Mixed_6d = _Cells17(768, middle=160)
        self.Mixed_6e = _Cells17(768, middle=192)
        self.Mixed_7a = _To8(768)
        self.Mixed_7b = _Cells8(1280)
        self.Mixed_7c = _Cells8(2048)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, S, S), S a multiple of 16, → (N, 2048, S/16, S/16), ≥ 0."""
        size = x.shape[-1]
        coarse = 2 * STRIDE
        after = coarse * -(-size // coarse) + _SMALLEST - _BEFORE - size
        features = functional.pad(2 * x - 1, (_BEFORE, after, _BEFORE, after)).expand(-1, 3, -1, -1)
        features = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(features)))
        features = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(functional.max_pool2d(features, 3, 2)))
        features = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(functional.max_pool2d(features, 3, 2))))
        features = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(features)))))
        features = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(features)))
        return finer(features, cells=size // STRIDE)

    def load_start(self, weights: Mapping[str, Tensor]) -> None:
        """Take ImageNet weights in torchvision's layout, keys `Mixed_5b.branch1x1.conv.weight`, ….

        The auxiliary head and the classifier among them are left out.

        Raises:
            InvalidValueError: keys or shapes are not Inception v3's.
        """
        own = {key: value for key, value in weights.items() if not key.startswith(("AuxLogits.", "fc."))}
        load_exactly(self, own, name="Inception v3 in torchvision's layout")


def _smooth(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, 3, stride=1, padding=1)
