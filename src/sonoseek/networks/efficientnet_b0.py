"""EfficientNet-B0 as a backbone (Tan & Le 2019, arXiv:1905.11946), built by MONAI."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from sonoseek.core import InvalidValueError
from sonoseek.networks.coarse import STRIDE, filled_up, finer
from sonoseek.networks.imagenet import GreyToImageNet


class EfficientNetB0Backbone(nn.Module):
    """Stem, blocks and last convolution: (N, 1, S, S) in 0 … 1 → (N, 1280, S/16, S/16), blocks of 32 pixels.

    Where it halves, it pads below and to the right only ("same" of its origin): cell i looks at rows around 32·i + 31.
    Sixteen zeros above and to the left make that 32·i + 15, and the cells tile the canvas.
    """

    channels = 1280
    stride = STRIDE

    def __init__(self) -> None:
        super().__init__()
        # Here, not above: the table may be listed, and other backbones used, where MONAI is not installed.
        from monai.networks.nets.efficientnet import EfficientNetBN

        self.normalise = GreyToImageNet()
        # MONAI's momentum, 0.01, remembers the random start for hundreds of steps: longer than an ultrasound archive
        # trains. torch's own is 0.1.
        net = EfficientNetBN(
            "efficientnet-b0",
            pretrained=False,
            spatial_dims=2,
            in_channels=3,
            num_classes=1,
            norm=("batch", {"eps": 1e-3, "momentum": 0.1}),
        )
        net.set_swish(memory_efficient=False)  # the other is a function of its own that does not export
        self.stem = nn.Sequential(net._conv_stem_padding, net._conv_stem, net._bn0, net._swish)
        self.blocks = net._blocks
        self.last = nn.Sequential(net._conv_head, net._bn1, net._swish)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, S, S), S a multiple of 16, → (N, 1280, S/16, S/16)."""
        framed = functional.pad(filled_up(self.normalise(x), multiple=2 * STRIDE), (STRIDE, 0, STRIDE, 0))
        return finer(self.last(self.blocks(self.stem(framed))), cells=x.shape[-1] // STRIDE)

    def load_start(self, weights: Mapping[str, Tensor]) -> None:
        """Refuse: published files name and pad its layers in other ways."""
        raise InvalidValueError(
            f"{len(weights)} start weights given; the backbone 'efficientnet-b0' starts at random. Leave 'weights' "
            "out, or take backbone = 'timm:efficientnet_b0', which takes timm's."
        )
