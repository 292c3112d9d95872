"""A small convolutional network from scratch: trains in seconds, for tests and for trying recipes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from torch import Tensor, nn

from sonoseek.networks.evidence import refuse_start

STRIDE = 16


class TinyBackbone(nn.Module):
    """Four strided convolutions: (N, 1, S, S) in 0 … 1 → (N, 64, S/16, S/16). About 70,000 weights, random start."""

    channels = 64
    stride = STRIDE

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 16, 32, 48, self.channels)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.GroupNorm(4, after), nn.ReLU()]
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, S, S), S a multiple of 16, → (N, 64, S/16, S/16), ≥ 0."""
        features: Tensor = self.features(x - 0.3)  # 0.3: a scan's usual brightness, so that inputs are centred
        return features

    def load_start(self, weights: Mapping[str, Tensor]) -> None:
        """Refuse: no start weights are published for this network."""
        refuse_start(len(weights), name="the backbone 'tiny'")
