"""Gradient methods of others: at their place, signed, and checked against a second way of working them out."""

import importlib.util

import numpy as np
import pytest
import torch

from sonoseek.core import NotFoundError
from sonoseek.encoder import open_encoder
from sonoseek.explain.grid import project
from sonoseek.networks import NETWORKS
from sonoseek.networks.many_views import ManyViewNetwork
from sonoseek.networks.tiny import TinyBackbone
from sonoseek.training.saliency import GRADIENT_METHODS, NetworkEncoder, _explained

pytestmark = pytest.mark.skipif(importlib.util.find_spec("captum") is None, reason="captum is not installed")
SIDE = 64


def network(*, many_views: bool = False):
    torch.manual_seed(3)
    made = NETWORKS.load("plain")(TinyBackbone(), classes=3, embedding_dim=16).eval()
    return ManyViewNetwork(made).eval() if many_views else made


def canvas():
    drawn = np.random.default_rng(1).uniform(0, 1, (1, SIDE, SIDE)).astype(np.float32)
    drawn[:, :, :8] = -1
    return drawn


def nothing():
    return np.where(canvas() >= 0, np.float32(0.5), canvas())


@pytest.mark.parametrize("name", GRADIENT_METHODS)
@pytest.mark.parametrize("many_views", [False, True])
def test_a_map_is_finite_signed_and_another_for_another_class(name, many_views):
    served = network(many_views=many_views)
    maps = [_explained(served, name, canvas(), target, nothing=nothing()) for target in range(3)]
    for told in maps:
        assert told.dtype == np.float32
        assert told.shape in ((SIDE // 16, SIDE // 16), (SIDE, SIDE))
        assert np.isfinite(told).all()
        assert told.min() < told.max()
    assert not np.allclose(maps[0], maps[1])


def test_hirescam_of_a_network_that_is_linear_after_its_backbone_is_the_exact_split():
    """Behind the plain network's last map everything is linear: gradient × activation is the class evidence itself."""
    served = network()
    told = _explained(served, "hirescam", canvas(), 2, nothing=nothing())
    with torch.no_grad():
        said = served(torch.from_numpy(canvas()[None]))
    weight = served.head.weight[2].detach().numpy()
    assert told == pytest.approx(project(said.evidence[0].numpy(), weight), abs=1e-6)
    assert told.sum() + served.head.bias[2].item() == pytest.approx(said.logits[0, 2].item(), abs=1e-5)


def test_integrated_gradients_add_up_to_the_difference_of_logits():
    served = network()
    told = _explained(served, "integrated-gradients", canvas(), 1, nothing=nothing())
    with torch.no_grad():
        logits = [served(torch.from_numpy(each[None])).logits[0, 1].item() for each in (canvas(), nothing())]
    assert told.sum() == pytest.approx(logits[0] - logits[1], rel=0.1, abs=0.02)
    assert np.abs(told[:, :8]).max() == 0.0  # padding is the same in both


def test_an_unknown_method_names_the_known():
    with pytest.raises(NotFoundError, match="hirescam"):
        _explained(network(), "grad-cam++", canvas(), 0, nothing=nothing())


def test_a_network_stands_in_for_an_encoder():
    bundle = open_encoder().bundle
    side = bundle.recipe.canvas_size
    torch.manual_seed(0)
    made = NETWORKS.load("plain")(TinyBackbone(), classes=3, embedding_dim=bundle.embedding_dim).eval()
    encoder = NetworkEncoder(made, bundle)
    said = encoder.encode(np.random.default_rng(0).random((2, 1, side, side), dtype=np.float32))
    again = said.embedding @ encoder.bundle.head_weight.T + encoder.bundle.head_bias
    assert said.logits == pytest.approx(again, abs=1e-5)
    assert said.evidence.mean((2, 3)) == pytest.approx(said.embedding, abs=1e-5)
