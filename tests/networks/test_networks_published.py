"""Start weights as published: the network gives what the published one gives, and takes its file as it is."""

import os
from pathlib import Path

import pytest
import torch

from sonoseek.core import InvalidValueError
from sonoseek.networks import BACKBONES
from sonoseek.networks.start_weights import load_start_weights

PUBLISHED = {
    # file; channel → value at row 3, column 2 of the picture below; deviation over the whole map
    "efficientnet-b4": (
        "efficientnet_b4_stride16.safetensors",
        {0: -0.1045, 160: -0.2654, 320: -0.2449, 480: 0.3677, 640: -0.1598, 800: -0.2672},
        0.6084,
    ),
    "mobilenet-edgetpu": ("mobilenet_edgetpu_1.0_features.safetensors", {0: 0.0373, 128: 0.0, 384: 0.8942}, 0.7922),
    "resnet50-v2-slim": (
        "resnet50v2_slim_block3_q8.safetensors",
        {0: 0.0, 55: 0.6689, 56: 1.2469, 89: 1.6102, 192: 1.2022},
        0.2642,
    ),
}
"""What the networks as published, with these weights, make of one picture."""


@pytest.mark.data
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_give_what_the_published_network_gives(name, real_data):
    file, values, deviation = PUBLISHED[name]
    path = Path(os.environ.get("SONOSEEK_WEIGHTS") or real_data.parent / "weights") / file
    if not path.is_file():
        pytest.skip(f"no {file}")
    backbone = BACKBONES.load(name)()
    backbone.load_start(load_start_weights(path))
    backbone.eval()
    grey = (torch.arange(96 * 96).reshape(1, 1, 96, 96) * 37 % 251) / 250
    with torch.no_grad():
        features = backbone.features(backbone.normalise(grey))
    assert features.shape == (1, backbone.channels, 6, 6)
    found = {channel: float(features[0, channel, 3, 2]) for channel in values}
    assert found == pytest.approx(values, abs=2e-3)
    assert float(features.std()) == pytest.approx(deviation, abs=1e-3)


def test_layers_beyond_stride_16_are_not_read():
    backbone = BACKBONES.load("mobilenet-edgetpu")()
    weights = {key: torch.randn(value.shape).half() for key, value in backbone.state_dict().items()}
    beyond = ("head.weight", "blocks.16.dw.weight", "blocks.16.project.bias", "blocks.20.expand.weight")
    backbone.load_start({**weights, **{key: torch.zeros(1) for key in beyond}})
    torch.testing.assert_close(backbone.blocks[16].expand.weight, weights["blocks.16.expand.weight"].float())


def test_weights_of_eight_bits_are_brought_back_by_their_scale():
    backbone = BACKBONES.load("resnet50-v2-slim")()
    weights = {key: torch.randn(value.shape) for key, value in backbone.state_dict().items()}
    whole = weights.pop("units.3.conv2.weight")
    scale = whole.abs().amax((1, 2, 3)) / 127
    weights["units.3.conv2.weight.q8"] = (whole / scale[:, None, None, None]).round().to(torch.int8)
    weights["units.3.conv2.weight.scale"] = scale
    beyond = ("mul", "add", "units.12.conv1.bias", "units.12.conv2.weight.q8", "units.12.conv2.weight.scale")
    backbone.load_start({**weights, **{key: torch.zeros(1) for key in beyond}})
    difference = (backbone.units[3].conv2.weight - whole).abs().amax((1, 2, 3))
    assert torch.all(difference <= scale * 0.51)


@pytest.mark.parametrize("name", PUBLISHED)
def test_other_weights_are_refused(name):
    with pytest.raises(InvalidValueError, match="these are not the weights of"):
        BACKBONES.load(name)().load_start({"conv1.weight": torch.zeros(1)})
