"""The outline: its numbers say what its shape is, and the network's identities hold with it."""

import cv2
import numpy as np
import pytest
import torch

from sonoseek.core import InvalidValueError
from sonoseek.networks.focus import MOMENTS, LesionFocus, shape_moments
from sonoseek.networks.many_views import ManyViewNetwork
from sonoseek.networks.outline import OutlineNetwork
from sonoseek.networks.squeezenet import SqueezeNetBackbone
from sonoseek.networks.tiny import TinyBackbone

SIDE = 56


def drawn(axes, *, angle=0.0, centre=(28, 28), value=1.0):
    picture = np.zeros((SIDE, SIDE), np.float32)
    cv2.ellipse(picture, centre, axes, angle, 0, 360, value, -1)
    return torch.from_numpy(picture)[None, None]


def star(points=9, radius=14, depth=0.45):
    angles = np.linspace(0, 2 * np.pi, 2 * points, endpoint=False)
    radii = radius * np.where(np.arange(2 * points) % 2, 1 - depth, 1)
    corners = np.stack([28 + radii * np.cos(angles), 28 + radii * np.sin(angles)], 1)
    picture = np.zeros((SIDE, SIDE), np.float32)
    cv2.fillPoly(picture, [np.rint(corners).astype(np.int32)], 1.0)
    return torch.from_numpy(picture)[None, None]


def test_each_moment_tells_what_it_is_named_for():
    disc, small = shape_moments(drawn((12, 12)))[0], shape_moments(drawn((6, 6)))[0]
    tall, wide = shape_moments(drawn((8, 16)))[0], shape_moments(drawn((16, 8)))[0]
    spiky, deep = shape_moments(star())[0], shape_moments(drawn((12, 12), centre=(28, 40)))[0]
    assert disc.shape == (MOMENTS,)
    assert disc[0] > small[0]  # size
    assert tall[1] > disc[1] + 0.5
    assert wide[1] < disc[1] - 0.5
    assert tall[3] > disc[3] + 0.5  # long against short axis
    assert spiky[4] > disc[4] + 0.5  # margin
    assert deep[9] > disc[9] + 0.3
    tilted = shape_moments(torch.cat([drawn((16, 8), angle=30), drawn((16, 8), angle=-30)]))
    torch.testing.assert_close(tilted[0, 2], -tilted[1, 2], atol=0.05, rtol=0)


def test_no_lesion_has_finite_moments_and_gradients():
    nothing = torch.zeros(2, 1, SIDE, SIDE, requires_grad=True)
    moments = shape_moments(nothing)
    moments.sum().backward()
    assert torch.isfinite(moments).all()
    assert torch.isfinite(nothing.grad).all()


def test_a_shape_is_spoken_of_only_where_it_lies():
    focus = LesionFocus((8, 8, 8), embedding_dim=6).eval()
    outline = focus.read(torch.zeros(1, 1, SIDE, SIDE), drawn((12, 12)))
    evidence = focus.shape_evidence(outline)
    cells = outline.share[0, 0]
    assert evidence.shape == (1, 6, 14, 14)
    assert torch.all(evidence[0][:, cells == 0] == 0)
    mean = evidence.mean((2, 3))
    wanted = focus.spoken(outline.moments) * cells.mean() / (cells.mean() + 0.01)
    torch.testing.assert_close(mean, wanted, atol=1e-5, rtol=1e-4)
    nothing = focus.shape_evidence(focus.read(torch.zeros(1, 1, SIDE, SIDE), torch.zeros(1, 1, SIDE, SIDE)))
    assert torch.all(nothing == 0)


@pytest.mark.parametrize("wrap", [lambda network: network, ManyViewNetwork])
def test_identities_hold_and_padding_says_nothing(wrap):
    torch.manual_seed(0)
    network = wrap(OutlineNetwork(SqueezeNetBackbone(), embedding_dim=24).eval())
    canvas = torch.rand(2, 1, 96, 96)
    canvas[:, :, :32] = -1
    with torch.inference_mode():
        out = network(canvas)
        torch.testing.assert_close(out.logits, network.head(out.embedding))
    torch.testing.assert_close(out.embedding, out.evidence.mean((2, 3)))
    assert torch.all(out.evidence[:, :, :2] == 0)
    assert out.evidence[:, :, 2:].abs().max() > 0


def test_a_mirror_image_has_the_same_embedding():
    torch.manual_seed(0)
    network = ManyViewNetwork(OutlineNetwork(SqueezeNetBackbone()).eval())
    canvas = torch.rand(1, 1, 96, 96)
    with torch.inference_mode():
        torch.testing.assert_close(network(canvas).embedding, network(canvas.flip(3)).embedding, atol=1e-5, rtol=1e-4)


def test_the_outline_can_be_learnt_and_lies_where_the_lesion_lies():
    """A few steps on a bright disc: cells of the drawing stand over the disc, not beside it."""
    torch.manual_seed(0)
    network = OutlineNetwork(SqueezeNetBackbone(), embedding_dim=16)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    rng = np.random.default_rng(0)

    def batch(count):
        canvas = rng.uniform(0.3, 0.5, (count, 1, 96, 96)).astype(np.float32)
        truth = np.zeros((count, 1, 96, 96), np.float32)
        for i in range(count):
            at = tuple(int(v) for v in rng.integers(24, 72, 2))
            cv2.circle(truth[i, 0], at, 14, 1.0, -1)
        canvas = np.where(truth > 0, canvas * 0.2, canvas)
        return torch.from_numpy(canvas), torch.nn.functional.avg_pool2d(torch.from_numpy(truth), 4)

    for _ in range(40):
        canvas, truth = batch(8)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(canvas).lesion, truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    canvas, truth = batch(8)
    with torch.inference_mode():
        mean = torch.sigmoid(network.eval()(canvas).lesion)
    both = float((mean * truth).sum() * 2 / (mean.sum() + truth.sum()))
    assert both > 0.6
    rows = torch.arange(24).view(1, 1, 24, 1)
    off = (mean * rows).sum((1, 2, 3)) / mean.sum((1, 2, 3)) - (truth * rows).sum((1, 2, 3)) / truth.sum((1, 2, 3))
    assert off.abs().mean() < 0.8


def test_a_backbone_without_finer_maps_is_refused():
    with pytest.raises(InvalidValueError, match="strides 4 and 8"):
        OutlineNetwork(TinyBackbone())
