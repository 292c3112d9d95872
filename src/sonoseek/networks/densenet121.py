"""DenseNet-121 as a backbone (Huang et al. 2017, arXiv:1608.06993), built by MONAI."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from sonoseek.networks.coarse import STRIDE, filled_up, finer
from sonoseek.networks.imagenet import GreyToImageNet, load_exactly

_LAYER = re.compile(r"^(denseblock\d+\.denselayer\d+)\.(norm|conv)\.?(\d)\.")
"""torchvision's files say `norm1` or, the older ones, `norm.1`; MONAI puts `layers` before it."""


class DenseNet121Backbone(nn.Module):
    """The four dense blocks of DenseNet-121: (N, 1, S, S) in 0 … 1 → (N, 1024, S/16, S/16), blocks of 32 pixels.

    Its averages over 2 × 2 leave cell i looking at rows around 32·i + 14: the cells tile the canvas as they are.
    """

    channels = 1024
    stride = STRIDE

    def __init__(self) -> None:
        super().__init__()
        # Here, not above: the table may be listed, and other backbones used, where MONAI is not installed.
        from monai.networks.nets.densenet import DenseNet121

        self.normalise = GreyToImageNet()
        self.features = DenseNet121(spatial_dims=2, in_channels=3, out_channels=1, pretrained=False).features

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, S, S), S a multiple of 16, → (N, 1024, S/16, S/16), ≥ 0."""
        features = functional.relu(self.features(filled_up(self.normalise(x), multiple=2 * STRIDE)))
        return finer(features, cells=x.shape[-1] // STRIDE)

    def load_start(self, weights: Mapping[str, Tensor]) -> None:
        """Take ImageNet weights in torchvision's layout, keys `features.denseblock1.denselayer1.norm1.weight`, ….

        Raises:
            InvalidValueError: keys or shapes are not DenseNet-121's.
        """
        inner = {key.removeprefix("features."): value for key, value in weights.items() if key[:11] != "classifier."}
        renamed = {_LAYER.sub(r"\1.layers.\2\3.", key): value for key, value in inner.items()}
        load_exactly(self.features, renamed, name="DenseNet-121 in torchvision's layout")
