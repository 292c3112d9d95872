"""MobileNet-EdgeTPU 1.0 up to stride 16 as a backbone (Gupta and Akin 2020, arXiv:2003.02838)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from sonoseek.networks.imagenet import GreyToImageNet, load_exactly
from sonoseek.networks.same_padding import SamePadConv, framed_above

HALF = (0.5, 0.5, 0.5)
_BLOCKS = (
    # (channels, out, kernel, stride, width, fused, residual)
    (16, 32, 3, 2, 128, True, False),
    *[(32, 32, 3, 1, 128, True, True)] * 3,
    (32, 48, 3, 2, 256, True, False),
    *[(48, 48, 3, 1, 192, True, True)] * 3,
    (48, 96, 3, 2, 384, False, False),
    *[(96, 96, 3, 1, 384, False, True)] * 3,
    (96, 96, 3, 1, 768, False, False),
    *[(96, 96, 3, 1, 384, False, True)] * 3,
)
_FIRST_LEFT_OUT = len(_BLOCKS)
"""Of this block only the expansion is kept: it opens stride 32."""
_LATER = ("head.", f"blocks.{_FIRST_LEFT_OUT}.dw.", f"blocks.{_FIRST_LEFT_OUT}.project.")


class _Block(nn.Module):
    """Expand (and filter at once where it is fused), filter each channel, project; no norms, they are folded."""

    def __init__(
        self, channels: int, out: int, kernel: int, stride: int, width: int, fused: bool, residual: bool
    ) -> None:
        super().__init__()
        self.expand = SamePadConv(channels, width, kernel if fused else 1, stride if fused else 1, bias=True)
        self.dw = None if fused else SamePadConv(width, width, kernel, stride, groups=width, bias=True)
        self.project = SamePadConv(width, out, 1, bias=True)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        wide = functional.relu(self.expand(x))
        if self.dw is not None:
            wide = functional.relu(self.dw(wide))
        out = self.project(wide)
        return cast(Tensor, x + out if self.residual else out)


class _Expansion(nn.Module):
    """The first layer of the block that opens the next stage."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.expand = SamePadConv(channels, out, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.expand(x))


class MobileNetEdgeTPUBackbone(nn.Module):
    """Feature map at stride 16, expanded as the next stage begins: (N, 1, S, S) in 0 … 1 → (N, 768, S/16, S/16).

    Its batch norms are folded into its convolutions. Cells tile the canvas as in `EfficientNetB4Backbone`.
    """

    channels = 768
    stride = 16

    def __init__(self) -> None:
        super().__init__()
        self.normalise = GreyToImageNet(mean=HALF, deviation=HALF)
        self.stem = SamePadConv(3, 32, 3, 2, bias=True)
        self.proj0 = SamePadConv(32, 16, 1, bias=True)
        self.blocks = nn.ModuleList([*(_Block(*block) for block in _BLOCKS), _Expansion(96, self.channels)])

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, S, S), S a multiple of 16, → (N, 768, S/16, S/16), ≥ 0."""
        return self.features(self.normalise(framed_above(x, stride=self.stride)))

    def features(self, colours: Tensor) -> Tensor:
        """The published layers: (N, 3, H, W), normalised, → (N, 768, H/16, W/16)."""
        features: Tensor = self.proj0(functional.relu(self.stem(colours)))
        for block in self.blocks:
            features = block(features)
        return features

    def load_start(self, weights: Mapping[str, Tensor]) -> None:
        """Take ImageNet weights, keys `stem.weight`, `blocks.0.expand.weight`, …; layers beyond stride 16 are not read.

        Raises:
            InvalidValueError: keys or shapes are not its own.
        """
        own = {key: value for key, value in weights.items() if not key.startswith(_LATER) and not _beyond(key)}
        load_exactly(self, own, name="MobileNet-EdgeTPU 1.0")


def _beyond(key: str) -> bool:
    """Whether a weight belongs to a block after the first one that is left out."""
    parts = key.split(".")
    return parts[0] == "blocks" and parts[1].isdecimal() and int(parts[1]) > _FIRST_LEFT_OUT
