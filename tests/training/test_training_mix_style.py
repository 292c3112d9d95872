"""MixStyle trades statistics between scans of a batch, in training alone, the same for the same step."""

import pytest
import torch
from torch import nn

from sonoseek.core import InvalidValueError
from sonoseek.networks.squeezenet import SqueezeNetBackbone
from sonoseek.training.building import build_network
from sonoseek.training.mix_style import MixStyle, early_layers
from sonoseek.training.module import TrainingModule
from sonoseek.training.recipe import parse_recipe

RECIPE = """
name = "mixed"
network = "outline"
embedding_dim = 16
[[datasets]]
name = "phantom"
[augmentation]
mix_style = 1.0
"""


def mixed(features, *, step, probability=1.0, training=True):
    mix = MixStyle(probability=probability)
    mix.seed(step)
    layer = nn.Identity().train(training)
    return mix(layer, (), features)


def test_statistics_are_traded_and_content_is_kept():
    features = torch.randn(6, 4, 8, 8) * torch.arange(1, 7).view(6, 1, 1, 1) + torch.arange(6).view(6, 1, 1, 1)
    told = mixed(features, step=3)
    means = told.mean((2, 3))
    assert not torch.allclose(means, features.mean((2, 3)), atol=0.1)
    assert means.min() >= features.mean((2, 3)).min() - 1e-4
    assert means.max() <= features.mean((2, 3)).max() + 1e-4

    def normalised(x):
        return (x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), keepdim=True)

    torch.testing.assert_close(normalised(told), normalised(features), atol=1e-3, rtol=1e-3)


def test_the_same_step_mixes_the_same_and_others_differ():
    features = torch.randn(6, 4, 8, 8)
    assert torch.equal(mixed(features, step=5), mixed(features, step=5))
    assert not torch.equal(mixed(features, step=5), mixed(features, step=6))


def test_nothing_is_mixed_outside_of_training_or_with_probability_0():
    features = torch.randn(4, 3, 6, 6)
    assert torch.equal(mixed(features, step=1, training=False), features)
    assert torch.equal(mixed(features, step=1, probability=0.0), features)


def test_the_running_mean_is_never_mixed_and_the_trained_network_is():
    recipe = parse_recipe(RECIPE)
    module = TrainingModule(build_network(recipe), recipe, steps=10)
    hooks = [len(layer._forward_hooks) for layer in early_layers(module.network.backbone)]
    assert hooks == [1, 1]
    averaged = module.averaged
    assert all(len(layer._forward_hooks) == 0 for layer in early_layers(averaged.backbone))
    torch.testing.assert_close(averaged.backbone.features[0].weight, module.network.backbone.features[0].weight)


def test_a_backbone_without_early_layers_is_refused():
    assert len(early_layers(SqueezeNetBackbone())) == 2
    with pytest.raises(InvalidValueError, match="mix_style = 0"):
        early_layers(nn.Identity())
