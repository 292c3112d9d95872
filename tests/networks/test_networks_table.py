"""One contract over every backbone and every network of the tables."""

import subprocess
import sys

import pytest
import torch
from networks_made import FEW, PAIRS, lived_in, make, usual_backbone

from sonoseek.core import InvalidValueError, NotFoundError
from sonoseek.networks import BACKBONES, NETWORKS, OWN_READERS

SIZE = 96
CELLS = SIZE // 16


def close(found, wanted, *, to=1e-5):
    """To that share of the largest value."""
    torch.testing.assert_close(found, wanted, rtol=0, atol=to * max(1.0, float(wanted.abs().max())))


def averaging(backbone):
    """The same layers with every convolution a mean, so that nothing but their geometry says where a dot is seen."""
    with torch.no_grad():
        for module in backbone.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.weight.fill_(1 / module.weight[0].numel())
                if module.bias is not None:
                    module.bias.zero_()
        if hasattr(backbone, "normalise"):
            backbone.normalise.mean.zero_()  # black stays 0
    return backbone.eval()


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_cells_tile_the_canvas(name):
    backbone = averaging(BACKBONES.load(name)())
    dot = torch.zeros(1, 1, 224, 224)
    dot[..., 96:128, 96:128] = 1.0  # cells 6 and 7 of 16 pixels, cell 3 of 32
    with torch.no_grad():
        heat = (backbone(dot) - backbone(torch.zeros_like(dot))).abs().sum((0, 1)) ** 2
    assert heat.shape == (14, 14)
    for axis in (0, 1):
        centre = float((heat.sum(1 - axis) * torch.arange(14.0)).sum() / heat.sum())
        assert centre == pytest.approx(6.5, abs=0.15)  # two pixels


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_read_every_multiple_of_their_stride(name):
    backbone = lived_in(BACKBONES.load(name)())
    for size in (112, 144, 160, 224):
        with torch.no_grad():
            features = backbone(torch.rand(1, 1, size, size))
        assert features.shape == (1, backbone.channels, size // backbone.stride, size // backbone.stride)
        assert features.isfinite().all()


@pytest.mark.parametrize(("network", "backbone"), PAIRS)
def test_the_explanation_is_exact(network, backbone):
    built = make(network, backbone)
    canvas = torch.rand(3, 1, SIZE, SIZE)
    canvas[1, :, :30] = -1
    canvas[2, :, :, 70:] = -1
    with torch.no_grad():
        out = built(canvas)
        alone = built(canvas[1:2])
    assert built.stride == 16
    assert isinstance(built.head, torch.nn.Linear)
    assert out.logits.shape == (3, 3)
    assert out.embedding.shape == (3, 24)
    assert out.evidence.shape == (3, 24, CELLS, CELLS)
    close(out.evidence.mean((2, 3)), out.embedding)
    heat = torch.einsum("cd,ndhw->nchw", built.head.weight, out.evidence) / CELLS**2
    close(heat.sum((2, 3)) + built.head.bias, out.logits)
    # who else is in the batch tells nothing (but other kernels, which round otherwise)
    close(alone.embedding[0], out.embedding[1], to=1e-4)
    close(alone.evidence[0], out.evidence[1], to=1e-4)


@pytest.mark.parametrize(("network", "backbone"), FEW)
def test_padding_carries_no_evidence_and_its_amount_is_not_read(network, backbone):
    built = make(network, backbone)
    canvas = torch.rand(1, 1, SIZE, SIZE)
    canvas[:, :, :33] = -1  # two rows of cells, and a sliver of one pixel row in the third
    canvas[:, :, :, 80:] = -1
    with torch.no_grad():
        out = built(canvas)
        all_padding = built(torch.full((1, 1, SIZE, SIZE), -1.0))
    assert torch.all(out.evidence[:, :, :2] == 0)
    assert torch.all(out.evidence[:, :, :, 5:] == 0)
    assert torch.all(out.evidence[:, :, 2:, :5].abs().sum(1) > 0)
    assert torch.all(all_padding.evidence == 0)
    torch.testing.assert_close(all_padding.logits[0], built.head.bias)


@pytest.mark.parametrize(("network", "backbone"), FEW)
def test_every_weight_learns(network, backbone):
    built = make(network, backbone).train()
    out = built(torch.rand(4, 1, 64, 64))
    torch.nn.functional.cross_entropy(out.logits, torch.tensor([0, 1, 2, 0])).backward()
    idle = [name for name, p in built.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    idle += [name for name, p in built.named_parameters() if p.grad is not None and p.grad.abs().max() == 0]
    assert not idle


@pytest.mark.parametrize("network", NETWORKS)
def test_black_and_padding_differ(network):
    built = make(network, usual_backbone(network))
    black = torch.rand(1, 1, SIZE, SIZE)
    black[:, :, :32] = 0
    padded = black.clone()
    padded[:, :, :32] = -1
    with torch.no_grad():
        assert (built(black).embedding - built(padded).embedding).abs().max() > 1e-3


@pytest.mark.parametrize("network", NETWORKS)
def test_a_canvas_that_does_not_fit_is_refused(network):
    with pytest.raises(InvalidValueError, match="multiple of 16"):
        make(network, usual_backbone(network))(torch.rand(1, 1, 100, 100))


@pytest.mark.parametrize("network", NETWORKS)
def test_a_backbone_is_named_where_and_only_where_it_is_used(network):
    if network in OWN_READERS:
        with pytest.raises(InvalidValueError, match=r'TinyBackbone.*backbone = "none"'):
            NETWORKS.load(network)(BACKBONES.load("tiny")())
    else:
        with pytest.raises(InvalidValueError, match="Name one of the table"):
            NETWORKS.load(network)(None)


def test_a_recipe_may_say_none():
    from sonoseek.training.building import build_network
    from sonoseek.training.recipe import parse_recipe

    text = 'name = "x"\nnetwork = "{}"\nbackbone = "{}"\nembedding_dim = 8\n[[datasets]]\nname = "phantom"\n'
    assert build_network(parse_recipe(text.format("rnn_only", "none"))).head.in_features == 8
    with pytest.raises(InvalidValueError, match="none"):
        build_network(parse_recipe(text.format("hybrid", "none")))
    with pytest.raises(InvalidValueError, match="none"):
        build_network(parse_recipe(text.format("paper_hybrid", "tiny")))


def test_unknown_names_say_what_there_is():
    with pytest.raises(NotFoundError, match=r"timm:….*Did you mean 'squeezenet'"):
        BACKBONES.load("sqeezenet")
    with pytest.raises(NotFoundError, match="backbone"):
        BACKBONES.load("timm:")


def test_listing_the_tables_imports_no_torch():
    code = "import sys, sonoseek.networks as n; list(n.NETWORKS), list(n.BACKBONES); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("network", NETWORKS)
def test_many_views_keep_the_identities_and_forget_the_mirror(network):
    from sonoseek.networks.many_views import ManyViewNetwork

    # squeezenet looks at half-cell shifts; networks that bring their own reader, or say where a lesion lies, do not
    served = ManyViewNetwork(make(network, "none" if network in OWN_READERS else "squeezenet")).eval()
    cells = CELLS if network in (*OWN_READERS, "outline", "lesion_pooling") else 2 * CELLS
    canvas = torch.rand(2, 1, SIZE, SIZE)
    canvas[:, :, :32] = -1
    canvas[1, :, :, 50:] = -1
    with torch.no_grad():
        out, mirrored = served(canvas), served(canvas.flip(3))
    assert out.evidence.shape == (2, 24, cells, cells)
    assert served.stride == SIZE // cells
    close(out.evidence.mean((2, 3)), out.embedding)
    close(out.embedding @ served.head.weight.T + served.head.bias, out.logits)
    torch.testing.assert_close(mirrored.embedding, out.embedding, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mirrored.evidence, out.evidence.flip(3), rtol=1e-4, atol=1e-3)
    with torch.no_grad():
        assert torch.all(served(torch.full((1, 1, SIZE, SIZE), -1.0)).evidence == 0)


def test_two_views_are_the_mean_of_the_scan_and_its_mirror_image():
    from sonoseek.networks.many_views import ManyViewNetwork

    network = make("plain", "tiny")
    canvas = torch.rand(1, 1, SIZE, SIZE)
    with torch.no_grad():
        both = network(torch.cat([canvas, canvas.flip(3)]))
        close(ManyViewNetwork(network)(canvas).evidence[0], (both.evidence[0] + both.evidence[1].flip(2)) / 2)
