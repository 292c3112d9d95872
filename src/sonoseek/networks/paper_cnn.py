"""The paper's CNN branch as we read it: four blocks from scratch (Fawzy et al. 2026, doi:10.1038/s41598-026-38218-y).

Only the paper's abstract and a summary are at hand: that there is a convolutional branch is the paper's, its depth and
widths are our choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from torch import Tensor, nn

from sonoseek.networks.evidence import refuse_start

_WIDTHS = (1, 32, 64, 128, 256)


class PaperCNNBackbone(nn.Module):
    """Convolution 3 × 3, batch norm, ReLU, halving, four times: (N, 1, S, S) in 0 … 1 → (N, 256, S/16, S/16).

    About 390,000 weights, random start.
    """

    channels = _WIDTHS[-1]
    stride = 2 ** (len(_WIDTHS) - 1)

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise(_WIDTHS):
            # no bias: the norm has one
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, S, S), S a multiple of 16, → (N, 256, S/16, S/16), ≥ 0."""
        features: Tensor = self.features(x)
        return features

    def load_start(self, weights: Mapping[str, Tensor]) -> None:
        """Refuse: nobody publishes start weights for it."""
        refuse_start(len(weights), name="the paper's CNN branch")
