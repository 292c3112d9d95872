"""ResNet-50 as a backbone (He et al. 2016, arXiv:1512.03385), built by MONAI."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from sonoseek.networks.coarse import STRIDE, finer_from_the_edge
from sonoseek.networks.imagenet import GreyToImageNet, load_exactly


class ResNet50Backbone(nn.Module):
    """All four stages of ResNet-50: (N, 1, S, S) in 0 … 1 → (N, 2048, S/16, S/16), blocks of 32 pixels."""

    channels = 2048
    stride = STRIDE

    def __init__(self) -> None:
        super().__init__()
        # Here, not above: the table may be listed, and other backbones used, where MONAI is not installed.
        from monai.networks.nets.resnet import resnet50

        self.normalise = GreyToImageNet()
        # MONAI's defaults are those of 3-D scans: a stem of stride 1, four times the work, and a bias before each norm.
        self.net = resnet50(
            pretrained=False,
            spatial_dims=2,
            n_input_channels=3,
            conv1_t_size=7,
            conv1_t_stride=2,
            no_max_pool=False,
            bias_downsample=False,
            feed_forward=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, S, S), S a multiple of 16, → (N, 2048, S/16, S/16), ≥ 0."""
        net, cells = self.net, x.shape[-1] // STRIDE
        features = net.maxpool(net.act(net.bn1(net.conv1(_room_for_the_last_cell(self.normalise(x))))))
        features = net.layer4(net.layer3(net.layer2(net.layer1(features))))
        return finer_from_the_edge(features, cells=cells)

    def load_start(self, weights: Mapping[str, Tensor]) -> None:
        """Take ImageNet weights in torchvision's layout, keys `layer1.0.conv1.weight`, …; `fc` is left out.

        Raises:
            InvalidValueError: keys or shapes are not ResNet-50's.
        """
        load_exactly(
            self.net,
            {key: value for key, value in weights.items() if not key.startswith("fc.")},
            name="ResNet-50 in torchvision's layout",
        )


def _room_for_the_last_cell(x: Tensor) -> Tensor:
    """16 more zeros below and to the right where S is a multiple of 32: its cells look at 0, 32, …, S."""
    return nn.functional.pad(x, (0, STRIDE, 0, STRIDE)) if x.shape[-1] % (2 * STRIDE) == 0 else x
