"""Start weights: from a file, by hash, folded exactly."""

import hashlib

import pytest
import torch
from safetensors.torch import save_file

from sonoseek.core import InvalidValueError, NotFoundError
from sonoseek.networks import BACKBONES, NETWORKS
from sonoseek.networks.imagenet import MEAN, STD
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
    rgb = (grey - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
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


KNOWN = {
    # keys and shapes as torchvision publishes them, written down by hand
    "vgg16": (
        {"features.0.weight": (64, 3, 3, 3), "features.28.weight": (512, 512, 3, 3), "features.28.bias": (512,)},
        {"classifier.0.weight": (2, 2), "classifier.6.bias": (1000,)},
        32 - 6,
    ),
    "resnet50": (
        {
            "conv1.weight": (64, 3, 7, 7),
            "layer1.0.downsample.0.weight": (256, 64, 1, 1),
            "layer2.0.conv2.weight": (128, 128, 3, 3),
            "layer4.2.bn3.running_var": (2048,),
        },
        {"fc.weight": (1000, 2048), "fc.bias": (1000,)},
        320 - 2,
    ),
    "densenet121": (
        {
            "features.conv0.weight": (64, 3, 7, 7),
            "features.denseblock4.denselayer16.conv2.weight": (32, 128, 3, 3),
            "features.transition3.conv.weight": (512, 1024, 1, 1),
            "features.norm5.running_mean": (1024,),
        },
        {"classifier.weight": (1000, 1024), "classifier.bias": (1000,)},
        727 - 2,
    ),
    "inception-v3": (
        {
            "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
            "Mixed_6b.branch7x7dbl_4.conv.weight": (128, 128, 7, 1),
            "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
            "Mixed_7c.branch_pool.bn.running_mean": (192,),
        },
        {"AuxLogits.conv0.conv.weight": (2, 2), "AuxLogits.fc.bias": (1000,), "fc.weight": (1000, 2048)},
        None,
    ),
}


def as_torchvision(backbone):
    """A backbone's own weights under torchvision's keys."""
    return {key.removeprefix("net.").replace(".layers.", "."): value for key, value in backbone.state_dict().items()}


def other(weights):
    return {key: torch.rand(value.shape).to(value.dtype) for key, value in weights.items()}


@pytest.mark.parametrize("name", KNOWN)
def test_torchvision_weights_fit_without_their_classifier(name):
    known, left_out, count = KNOWN[name]
    backbone = BACKBONES.load(name)()
    weights = other(as_torchvision(backbone))
    assert {key: tuple(weights[key].shape) for key in known} == known
    assert count in (None, len(weights))
    backbone.load_start(weights | {key: torch.zeros(shape) for key, shape in left_out.items()})
    taken = as_torchvision(backbone)
    for key in known:
        assert taken[key].equal(weights[key])
    del weights[next(iter(known))]
    with pytest.raises(InvalidValueError, match="torchvision"):
        backbone.load_start(weights)


def test_densenets_older_files_fit_too():
    backbone = BACKBONES.load("densenet121")()
    weights = other(as_torchvision(backbone))
    older = {key.replace(".norm1.", ".norm.1.").replace(".conv1.", ".conv.1."): value for key, value in weights.items()}
    assert older.keys() != weights.keys()
    backbone.load_start(older)
    key = "features.denseblock2.denselayer3.layers.conv1.weight"
    assert backbone.state_dict()[key].equal(weights[key.replace(".layers", "")])


@pytest.mark.parametrize(
    ("network", "backbone", "remedy"),
    [
        ("plain", "efficientnet-b0", "timm:efficientnet_b0"),
        ("plain", "paper-cnn", "Leave 'weights' out"),
        ("cnn_only", None, "Leave 'weights' out"),
        ("rnn_only", None, "Leave 'weights' out"),
        ("paper_hybrid", None, "Leave 'weights' out"),
    ],
)
def test_where_nobody_publishes_weights_none_are_taken(network, backbone, remedy, published):
    built = NETWORKS.load(network)(backbone and BACKBONES.load(backbone)())
    with pytest.raises(InvalidValueError, match=remedy):
        built.backbone.load_start(published)
