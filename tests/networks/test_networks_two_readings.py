"""The whole scan and the lesion's close-up on one map: sums are kept, and a mark moves the close-up."""

import numpy as np
import pytest
import torch
from networks_made import lived_in, make

from sonoseek.core import InvalidValueError
from sonoseek.encoder import NO_MARK
from sonoseek.networks.lesion_pooling import LesionPoolingNetwork
from sonoseek.networks.tiny import TinyBackbone
from sonoseek.networks.two_readings import FINE_CELLS, SMALLEST, TwoReadings, cut_out, smaller, spread_over

SIDE = 192
"""Of the finer canvas: the network reads 96 pixels, 6 cells."""


@pytest.fixture
def network():
    return TwoReadings(lived_in(LesionPoolingNetwork(TinyBackbone(), embedding_dim=12))).eval()


def canvases(count=3):
    """Noise; the second has padding above and below, the third beside."""
    made = torch.rand(count, 1, SIDE, SIDE)
    made[1, :, :40], made[1, :, -40:] = -1, -1
    made[2, :, :, :32], made[2, :, :, -32:] = -1, -1
    return made


def marks(*boxes):
    return torch.tensor([(NO_MARK,) * 4 if box is None else box for box in boxes], dtype=torch.float32)


@pytest.mark.parametrize("given", [None, marks((20, 30, 70, 90), None, (80, 60, 150, 120))])
def test_the_embedding_is_the_mean_of_the_evidence_and_the_logits_are_linear_in_it(network, given):
    with torch.no_grad():
        out = network(canvases(), given)
    assert out.evidence.shape == (3, 12, 6, 6)
    torch.testing.assert_close(out.embedding, out.evidence.mean((2, 3)), atol=1e-6, rtol=1e-5)
    wanted = out.embedding @ network.head.weight.T + network.head.bias
    torch.testing.assert_close(out.logits, wanted, atol=1e-6, rtol=1e-5)
    assert out.spatial_weights.shape == (3, 6 * FINE_CELLS, 6 * FINE_CELLS)
    assert out.spatial_weights.min() >= 0
    torch.testing.assert_close(out.spatial_weights.mean((1, 2)), torch.ones(3))
    assert (out.spatial_weights[1, :5] == 0).all()  # 40 pixels of padding: five fine rows of eight
    assert (out.spatial_weights[1, 5:19] > 0).all()


def test_with_a_share_of_none_it_is_the_plain_network_on_the_smaller_canvas(network):
    alone = TwoReadings(network.network, share=0.0).eval()
    with torch.no_grad():
        given = canvases()
        own = [network.network(smaller(each)) for each in (given, given.flip(3))]
        torch.testing.assert_close(alone(given).embedding, (own[0].embedding + own[1].embedding) / 2)


def test_a_mirrored_scan_and_mark_give_the_same_embedding_and_a_mirrored_map(network):
    given = canvases()
    boxes = marks((20, 30, 70, 90), None, (80, 60, 150, 120))
    mirrored = marks((20, SIDE - 90, 70, SIDE - 30), None, (80, SIDE - 120, 150, SIDE - 60))
    with torch.no_grad():
        one, other = network(given, boxes), network(given.flip(3), mirrored)
    torch.testing.assert_close(one.embedding, other.embedding, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(one.evidence, other.evidence.flip(3), atol=1e-5, rtol=1e-4)


def test_no_mark_and_a_mark_of_minus_ones_are_the_same(network):
    given = canvases()
    with torch.no_grad():
        one, other = network(given), network(given, marks(None, None, None))
    torch.testing.assert_close(one.embedding, other.embedding)


def test_a_scan_is_read_alike_whatever_else_is_marked_in_its_batch(network):
    given = canvases()
    with torch.no_grad():
        together = network(given, marks((20, 30, 70, 90), None, (80, 60, 150, 120)))
        for row, box in enumerate(((20, 30, 70, 90), None, (80, 60, 150, 120))):
            alone = network(given[row : row + 1], marks(box))
            torch.testing.assert_close(alone.embedding[0], together.embedding[row], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("corner", [(10, 10), (10, 140), (140, 10), (140, 140)])
def test_a_mark_moves_the_close_up_and_the_evidence_with_it(network, corner):
    top, left = corner
    given = torch.rand(1, 1, SIDE, SIDE)
    inside = np.s_[0, :, 3 * (top > 90) : 3 * (top > 90) + 3, 3 * (left > 90) : 3 * (left > 90) + 3]

    def share(out):
        return float(out.evidence[inside].abs().sum() / out.evidence.abs().sum())

    with torch.no_grad():
        without, marked = network(given), network(given, marks((top, left, top + 40, left + 40)))
    assert share(marked) > share(without) + 0.15
    fine = marked.spatial_weights[0]
    assert fine[12 * (top > 90) :, 12 * (left > 90) :][:12, :12].mean() > 1.5 * fine.mean()


def test_the_close_up_lies_around_the_mark_and_is_a_fifth_of_the_canvas_at_least(network):
    lesion = torch.rand(1, 6, 6)
    for box, half in (
        ((90, 90, 91, 91), SMALLEST * SIDE / 2),
        ((20, 40, 60, 72), 1.75 * 40 / 2),
        ((0, 0, SIDE, SIDE), SIDE / 2),
    ):
        centre, found = network._place(lesion, marks(box), side=SIDE)
        assert float(found) == pytest.approx(half, abs=0.5)
        assert centre[0].tolist() == pytest.approx([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], abs=0.5)
        assert torch.equal(torch.cat([centre, found], 1), torch.cat([centre, found], 1).round())  # whole pixels


def test_the_own_close_up_lies_where_the_lesion_is_estimated(network):
    lesion = torch.zeros(1, 6, 6)
    lesion[0, 1, 4] = 1
    centre, half = network._place(lesion, marks(None), side=SIDE)
    assert centre[0].tolist() == pytest.approx([1.5 * SIDE / 6, 4.5 * SIDE / 6], abs=1)
    assert float(half) == pytest.approx(SMALLEST * SIDE / 2, rel=0.05)


def test_a_canvas_of_nothing_but_padding_is_finite(network):
    with torch.no_grad():
        out = network(torch.full((2, 1, SIDE, SIDE), -1.0), marks(None, (20, 30, 70, 90)))
    for field in (out.logits, out.embedding, out.evidence, out.spatial_weights):
        assert torch.isfinite(field).all()
    assert (out.embedding == 0).all()


def test_the_whole_canvas_cut_out_is_the_smaller_one():
    given = canvases()
    centre, half = torch.full((3, 2), SIDE / 2), torch.full((3, 1), SIDE / 2)
    torch.testing.assert_close(cut_out(given, centre, half, side=SIDE // 2), smaller(given), atol=1e-5, rtol=1e-5)


def test_a_cut_beyond_the_rim_is_padding_there():
    given = torch.rand(1, 1, SIDE, SIDE)
    cut = cut_out(given, torch.tensor([[0.0, SIDE / 2]]), torch.tensor([[SIDE / 4]]), side=96)[0, 0]
    assert (cut[:47] == -1).all()
    assert (cut[49:] >= 0).all()


def test_means_are_kept_wherever_the_close_up_lies():
    values = torch.randn(4, 5, 6, 6)
    centre = torch.tensor([[96.0, 96.0], [10.0, 180.0], [0.0, 0.0], [130.0, 55.0]])
    half = torch.tensor([[96.0], [40.0], [96.0], [20.0]])
    same = spread_over(values, centre, half, side=SIDE, cells=6)
    torch.testing.assert_close(same.mean((2, 3)), values.mean((2, 3)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(same[0], values[0], atol=1e-5, rtol=1e-4)  # all of the canvas: cell by cell
    finer = spread_over(values, centre, half, side=SIDE, cells=24)
    torch.testing.assert_close(finer.sum((2, 3)) / 16, values.sum((2, 3)), atol=1e-4, rtol=1e-4)
    inside = finer[3].abs().sum((1, 2)), finer[3][:, 13:19, 4:10].abs().sum((1, 2))
    torch.testing.assert_close(*inside)  # half 20 around (130, 55): rows 110 … 150, columns 35 … 75, of 8 pixels


def test_what_estimates_no_lesion_has_no_close_up():
    with pytest.raises(InvalidValueError, match='network = "lesion_pooling"'):
        TwoReadings(make("plain", "tiny"))(torch.rand(1, 1, SIDE, SIDE))
    with pytest.raises(InvalidValueError, match=r"share is 1\.2"):
        TwoReadings(make("plain", "tiny"), share=1.2)
