"""Start weights: from a file, by hash, folded exactly."""

import hashlib

import pytest
import torch
from safetensors.torch import save_file

from sonoseek.core import InvalidValueError, NotFoundError
from sonoseek.networks import BACKBONES
from sonoseek.networks.squeezenet import IMAGENET_MEAN, IMAGENET_STD
from sonoseek.networks.start_weights import load_start_weights


@pytest.fixture
def published():
    """Random weights in the layout in which SqueezeNet 1.1 is published."""
    generator = torch.Generator().manual_seed(0)
    state = BACKBONES.load("squeezenet")().state_dict()
    weights = {key: torch.randn(value.shape, generator=generator) * 0.1 for key, value in state.items()}
    weights["features.0.weight"] = torch.randn(64, 3, 3, 3, generator=generator)
    weights["classifier.weight"] = torch.zeros(1000, 512, 1, 1)
    weights["classifier.bias"] = torch.zeros(1000)
    return weights


def test_the_normalisation_is_folded_exactly(published):
    backbone = BACKBONES.load("squeezenet")()
    backbone.load_start(published)
    grey = torch.rand(1, 1, 20, 20)
    rgb = (grey - torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)) / torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    wanted = torch.nn.functional.conv2d(rgb, published["features.0.weight"], published["features.0.bias"], stride=2)
    with torch.no_grad():
        torch.testing.assert_close(backbone.features[0](grey), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(backbone.features[12].e3.weight, published["features.12.e3.weight"])


def test_other_weights_are_refused(published):
    backbone = BACKBONES.load("squeezenet")()
    with pytest.raises(InvalidValueError, match="SqueezeNet"):
        backbone.load_start({"features.0.weight": torch.zeros(1)})
    del published["features.12.e3.weight"]
    with pytest.raises(InvalidValueError, match=r"features\.12\.e3\.weight"):
        backbone.load_start(published)
    with pytest.raises(InvalidValueError, match="random"):
        BACKBONES.load("tiny")().load_start(published)


def test_a_file_is_checked_before_it_is_read(tmp_path):
    file = tmp_path / "start.safetensors"
    with pytest.raises(NotFoundError, match="no start weights"):
        load_start_weights(file)
    save_file({"a": torch.ones(2)}, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert load_start_weights(file, sha256=digest.upper())["a"].tolist() == [1, 1]
    with pytest.raises(InvalidValueError, match="sha256"):
        load_start_weights(file, sha256="0" * 64)
    file.write_bytes(b"not safetensors")
    with pytest.raises(InvalidValueError, match="safetensors file"):
        load_start_weights(file)
