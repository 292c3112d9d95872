"""One contract over every backbone and every network of the tables."""

import subprocess
import sys

import pytest
import torch

from sonoseek.core import InvalidValueError, NotFoundError
from sonoseek.networks import BACKBONES, NETWORKS

SIZE = 96


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def make(network, backbone):
    built = NETWORKS.load(network)(BACKBONES.load(backbone)(), classes=3, embedding_dim=24).eval()
    # as after training: the row context speaks, and no bias is zero
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.abs().max() == 0:
                parameter.normal_(std=0.1)
    return built


PAIRS = [(n, b) for n in NETWORKS for b in BACKBONES]


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_cells_tile_the_canvas(name):
    backbone = BACKBONES.load(name)().eval()
    size = 8 * backbone.stride
    with torch.no_grad():
        blank = backbone(torch.zeros(1, 1, size, size))
        assert blank.shape == (1, backbone.channels, 8, 8)
        dot = torch.zeros(1, 1, size, size)
        middle = int(3.5 * backbone.stride)  # the middle of cell 3
        dot[..., middle - 3 : middle + 3, middle - 3 : middle + 3] = 1.0
        heat = (backbone(dot) - blank).abs().sum((0, 1))
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    centre = ((heat * rows).sum() / heat.sum(), (heat * columns).sum() / heat.sum())
    assert abs(centre[0] - 3) < 0.4
    assert abs(centre[1] - 3) < 0.4


@pytest.mark.parametrize(("network", "backbone"), PAIRS)
def test_the_explanation_is_exact(network, backbone):
    built = make(network, backbone)
    canvas = torch.rand(3, 1, SIZE, SIZE)
    canvas[1, :, :30] = -1
    canvas[2, :, :, 70:] = -1
    with torch.no_grad():
        out = built(canvas)
    assert out.logits.shape == (3, 3)
    assert out.embedding.shape == (3, 24)
    assert out.evidence.shape == (3, 24, SIZE // 16, SIZE // 16)
    torch.testing.assert_close(out.evidence.mean((2, 3)), out.embedding, rtol=0, atol=1e-4)
    heat = torch.einsum("cd,ndhw->nchw", built.head.weight, out.evidence) / (SIZE // 16) ** 2
    torch.testing.assert_close(heat.sum((2, 3)) + built.head.bias, out.logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("network", "backbone"), PAIRS)
def test_padding_carries_no_evidence_and_its_amount_is_not_read(network, backbone):
    built = make(network, backbone)
    canvas = torch.rand(1, 1, SIZE, SIZE)
    canvas[:, :, :33] = -1  # two rows of cells, and a sliver of one pixel row in the third
    with torch.no_grad():
        out = built(canvas)
        all_padding = built(torch.full((1, 1, SIZE, SIZE), -1.0))
    assert torch.all(out.evidence[:, :, :2] == 0)
    assert torch.all(out.evidence[:, :, 2:].abs().sum(1) > 0)
    assert torch.all(all_padding.evidence == 0)
    torch.testing.assert_close(all_padding.logits[0], built.head.bias)


def test_black_and_padding_differ():
    built = make("hybrid", "tiny")
    black = torch.rand(1, 1, SIZE, SIZE)
    black[:, :, :32] = 0
    padded = black.clone()
    padded[:, :, :32] = -1
    with torch.no_grad():
        assert (built(black).embedding - built(padded).embedding).abs().max() > 1e-3


def test_the_row_context_starts_as_the_identity_and_reads_depth_once_trained():
    from sonoseek.networks.row_context import RowContext

    context = RowContext(8).eval()
    features, validity = torch.rand(2, 8, 6, 6), torch.ones(2, 1, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(context(features, validity), features)
        context.speak.weight.normal_()
        below = features.clone()
        below[:, :, 5] += 1.0
        changed = (context(below, validity) - context(features, validity)).abs().amax((0, 1, 3))
    assert torch.all(changed[:5] > 1e-6)  # every row hears of what lies below it


@pytest.mark.parametrize("name", ["hybrid"])
def test_a_canvas_that_does_not_fit_is_refused(name):
    with pytest.raises(InvalidValueError, match="multiple of 16"):
        make(name, "tiny")(torch.rand(1, 1, 100, 100))


def test_unknown_names_say_what_there_is():
    with pytest.raises(NotFoundError, match="Did you mean 'squeezenet'"):
        BACKBONES.load("sqeezenet")


def test_listing_the_tables_imports_no_torch():
    code = "import sys, sonoseek.networks as n; list(n.NETWORKS), list(n.BACKBONES); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_many_views_keep_the_identities_and_forget_the_mirror():
    from sonoseek.networks.many_views import ManyViewNetwork

    served = ManyViewNetwork(make("hybrid", "squeezenet")).eval()
    canvas = torch.rand(2, 1, SIZE, SIZE)
    canvas[:, :, :32] = -1
    canvas[1, :, :, 50:] = -1
    with torch.no_grad():
        out, mirrored = served(canvas), served(canvas.flip(3))
    assert out.evidence.shape == (2, 24, SIZE // 8, SIZE // 8)
    torch.testing.assert_close(out.evidence.mean((2, 3)), out.embedding, rtol=0, atol=1e-4)
    torch.testing.assert_close(out.embedding @ served.head.weight.T + served.head.bias, out.logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(mirrored.embedding, out.embedding, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mirrored.evidence, out.evidence.flip(3), rtol=1e-4, atol=1e-3)
    with torch.no_grad():
        assert torch.all(served(torch.full((1, 1, SIZE, SIZE), -1.0)).evidence == 0)


def test_many_views_refuse_a_backbone_that_cannot_shift():
    from sonoseek.networks.many_views import ManyViewNetwork

    with pytest.raises(InvalidValueError, match="TinyBackbone"):
        ManyViewNetwork(make("hybrid", "tiny"))
