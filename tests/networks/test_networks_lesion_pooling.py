"""Pooling by an estimated lesion probability: where it lies, and that masks teach it."""

import torch
from networks_made import make
from torch.nn import functional

from sonoseek.networks.lesion_pooling import FLOOR, LesionPoolingNetwork
from sonoseek.networks.tiny import TinyBackbone
from sonoseek.training.losses import lesion_loss


def test_a_cells_weight_is_its_lesion_probability_above_a_floor():
    network = make("lesion_pooling", "tiny")
    canvas = torch.rand(2, 1, 96, 96)
    with torch.no_grad():
        out = network(canvas)
        features = network.evidence(network.backbone(canvas))
        weight = FLOOR + torch.sigmoid(out.lesion)
    assert out.lesion.shape == (2, 1, 6, 6)
    wanted = (features * weight).sum((2, 3)) / weight.sum((2, 3))
    torch.testing.assert_close(out.embedding, wanted, rtol=1e-4, atol=1e-4)


def test_at_the_start_no_cell_is_preferred():
    torch.manual_seed(0)
    network = LesionPoolingNetwork(TinyBackbone()).eval()
    with torch.no_grad():
        weight = torch.sigmoid(network(torch.rand(1, 1, 96, 96)).lesion)
    assert float(weight.max() / weight.min()) < 2
    assert float(weight.mean()) < 0.3


def test_masks_teach_where_the_evidence_lies():
    """A bright square is the lesion; after a few steps most of the weight lies on it."""
    torch.manual_seed(0)
    network = LesionPoolingNetwork(TinyBackbone(), embedding_dim=8).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    canvas = torch.rand(8, 1, 96, 96) * 0.2
    mask = torch.zeros(8, 1, 96, 96)
    for i in range(8):
        top, left = 16 * (i % 4), 16 * (i // 2 % 4)
        canvas[i, :, top : top + 32, left : left + 32] += 0.7
        mask[i, :, top : top + 32, left : left + 32] = 1
    share, everywhere = functional.avg_pool2d(mask, 16), torch.ones(8, 1, 6, 6)
    for _ in range(60):
        loss = lesion_loss(network(canvas).lesion, share, everywhere, torch.ones(8, dtype=torch.bool))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        weight = FLOOR + torch.sigmoid(network.eval()(canvas).lesion)
    assert float((weight * share).sum() / weight.sum()) > 0.5
