"""VGG-16 as a backbone (Simonyan & Zisserman 2015, arXiv:1409.1556, configuration D), without its last pooling."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from sonoseek.networks.imagenet import GreyToImageNet, load_exactly

_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""(channels, convolutions); a pooling stands between blocks."""


class VGG16Backbone(nn.Module):
    """The thirteen convolutions of VGG-16: (N, 1, S, S) in 0 … 1 → (N, 512, S/16, S/16).

    The fifth pooling, after the last convolution, is left out: it has no weights, and cells of 16 pixels are finer. So
    are the three layers of 4096, which the mean over cells replaces.
    """

    channels = 512
    stride = 16

    def __init__(self) -> None:
        super().__init__()
        self.normalise = GreyToImageNet()
        layers: list[nn.Module] = []
        before = 3
        for block, (channels, convolutions) in enumerate(_BLOCKS):
            if block:
                layers.append(nn.MaxPool2d(2))
            for _ in range(convolutions):
                layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU()]
                before = channels
        self.features = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # every convolution here has one

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, S, S), S a multiple of 16, → (N, 512, S/16, S/16), ≥ 0."""
        features: Tensor = self.features(self.normalise(x))
        return features

    def load_start(self, weights: Mapping[str, Tensor]) -> None:
        """Take ImageNet weights in torchvision's layout, keys `features.N.…`; a classifier among them is left out.

        Raises:
            InvalidValueError: keys or shapes are not VGG-16's.
        """
        load_exactly(
            self,
            {key: value for key, value in weights.items() if not key.startswith("classifier.")},
            name="VGG-16 in torchvision's layout",
        )
