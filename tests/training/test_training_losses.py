"""Losses against their definitions, and against torch where torch has them."""

import pytest
import torch
from torch.nn import functional
from torch.nn.functional import one_hot

from sonoseek.training.losses import contrast, masked_cross_entropy

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(6, 3, generator=GENERATOR)
LABELS = torch.tensor([0, 1, 2, 2, 1, 1])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_with_all_classes_known_it_is_cross_entropy(smoothing):
    known = torch.ones(6, 3, dtype=torch.bool)
    wanted = functional.cross_entropy(LOGITS, LABELS, label_smoothing=smoothing)
    torch.testing.assert_close(masked_cross_entropy(LOGITS, one_hot(LABELS, 3), known, smoothing=smoothing), wanted)


def test_an_archive_without_normals_teaches_nothing_about_them():
    logits = LOGITS.clone().requires_grad_()
    known = torch.tensor([[False, True, True]]).repeat(6, 1)
    labels = LABELS.clamp(min=1)
    loss = masked_cross_entropy(logits, one_hot(labels, 3), known, smoothing=0.1)
    loss.backward()
    assert torch.all(logits.grad[:, 0] == 0)
    assert torch.all(logits.grad[:, 1:].abs().sum(1) > 0)
    wanted = functional.cross_entropy(LOGITS[:, 1:], labels - 1, label_smoothing=0.1)
    torch.testing.assert_close(loss.detach(), wanted)


def test_contrast_is_infonce_for_pairs():
    embedding = torch.randn(8, 5, generator=GENERATOR)
    scans = torch.arange(4).repeat(2)
    got = contrast(embedding, scans[:, None] == scans[None], temperature=0.2)
    unit = functional.normalize(embedding, dim=1)
    cosines = unit @ unit.T / 0.2
    cosines.fill_diagonal_(-float("inf"))
    wanted = functional.cross_entropy(cosines, torch.arange(8).roll(4))
    torch.testing.assert_close(got, wanted)


def test_contrast_falls_when_likes_come_together_and_minds_the_lonely():
    labels = torch.tensor([0, 0, 1, 1, 2])  # the last has no partner
    same = labels[:, None] == labels[None]
    apart = torch.randn(5, 4, generator=GENERATOR)
    together = functional.one_hot(labels, 4).float()
    assert contrast(together, same, temperature=0.1) < contrast(apart, same, temperature=0.1)
    assert contrast(apart, torch.eye(5, dtype=torch.bool), temperature=0.1) == 0
