"""The losses: cross-entropy, contrastive terms, lesion masks, evidence, distillation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def masked_cross_entropy(logits: Tensor, targets: Tensor, known: Tensor, *, smoothing: float) -> Tensor:
    """Cross-entropy among the classes that a scan's archive could have shown.

    Args:
        logits: (N, C).
        targets: (N, C), the share of each class; 0 where it is not known. Rows sum to 1.
        known: bool (N, C).
        smoothing: share of the target spread evenly over the known classes, 0 … 1.

    Returns:
        Scalar, the mean over scans.
    """
    log_p = functional.log_softmax(logits.masked_fill(~known, -1e9), dim=1)
    target = smoothing * known / known.sum(1, keepdim=True) + (1 - smoothing) * targets
    return -(target * log_p.masked_fill(~known, 0.0)).sum(1).mean()


def contrast(embedding: Tensor, same: Tensor, *, temperature: float) -> Tensor:
    """Draw scans that are the same together and all others apart (SupCon, Khosla et al. 2020, arXiv:2004.11362, L_out).

    With `same` for scans of one class it is the supervised term; for views of one scan it is InfoNCE.

    Args:
        embedding: (N, D), not normalised.
        same: bool (N, N), symmetric; its diagonal does not matter.
        temperature: of the cosines.

    Returns:
        Scalar, the mean over scans that have a partner; 0 if none has.
    """
    unit = functional.normalize(embedding, dim=1)
    oneself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    cosines = (unit @ unit.T / temperature).masked_fill(oneself, -1e9)
    log_p = functional.log_softmax(cosines, dim=1)
    partners = same & ~oneself
    count = partners.sum(1)
    per_scan = -(log_p * partners).sum(1) / count.clamp(min=1)
    has_partner = count > 0
    return (per_scan * has_partner).sum() / has_partner.sum().clamp(min=1)


def lesion_loss(lesion: Tensor, share: Tensor, validity: Tensor, drawn: Tensor) -> Tensor:
    """Binary cross-entropy over the cells that hold scan, plus a soft Dice over each scan that holds a lesion.

    Args:
        lesion: (N, 1, h, w), logits.
        share: (N, 1, h, w), share of each cell that is drawn as lesion, 0 … 1.
        validity: (N, 1, h, w), share of scan, 0 … 1.
        drawn: bool (N,): whether the scan is annotated; others add nothing.

    Returns:
        Scalar, the mean over the drawn scans; 0 without any.
    """
    cells = validity * drawn[:, None, None, None]
    per_cell = functional.binary_cross_entropy_with_logits(lesion, share, reduction="none")
    entropy = (per_cell * cells).sum() / cells.sum().clamp(min=1e-6)
    estimate = torch.sigmoid(lesion) * cells
    both, all_of_it = (estimate * share).sum((1, 2, 3)), (estimate + share * cells).sum((1, 2, 3))
    holds = ((share * cells).sum((1, 2, 3)) > 0).to(lesion.dtype)
    dice = ((1 - (2 * both + 0.1) / (all_of_it + 0.1)) * holds).sum() / holds.sum().clamp(min=1)
    return entropy + dice


def distribute_within_cells(cells: Tensor, spatial_weights: Tensor) -> Tensor:
    """Each cell's number distributed over its finer cells, in proportion to the spatial weights.

    Args:
        cells: (N, h, w), signed.
        spatial_weights: (N, f·h, f·w), ≥ 0, as `NetworkOutput.spatial_weights`.

    Returns:
        (N, f·h, f·w); each cell's finer cells sum to it, or to nothing where none weighs anything.
    """
    fine = spatial_weights.shape[1] // cells.shape[1]
    total = functional.avg_pool2d(spatial_weights[:, None], fine) * fine**2
    density = cells[:, None] / total.clamp(min=1e-6)
    spread: Tensor = functional.interpolate(density, scale_factor=float(fine), mode="nearest")[:, 0] * spatial_weights
    return spread


def stray_evidence(for_class: Tensor, share: Tensor) -> Tensor:
    """How far evidence for a scan's own class and its drawn lesion disagree.

    Two shares: of the positive evidence, what lies outside of the lesion and one cell around it; of the evidence within
    the lesion, what is negative. The first alone lets a network put its evidence on a few cells and cancel the rest.

    Args:
        for_class: (N, h, w), each cell's contribution to the logit of the scan's own class.
        share: (N, 1, h, w), share of each cell that is drawn as lesion; scans without any are left out.

    Returns:
        Scalar 0 … 2, the mean over scans; 0 without any.
    """
    near = functional.max_pool2d((share > 0).to(for_class.dtype), 3, stride=1, padding=1)[:, 0]
    positive = for_class.clamp(min=0)
    outside = (positive * (1 - near)).sum((1, 2)) / positive.sum((1, 2)).clamp(min=1e-6)
    inside = share[:, 0].clamp(max=1)
    against = (for_class.clamp(max=0).abs() * inside).sum((1, 2)) / (for_class.abs() * inside).sum((1, 2)).clamp(
        min=1e-6
    )
    holds = (near.sum((1, 2)) > 0).to(for_class.dtype)
    return ((outside + against) * holds).sum() / holds.sum().clamp(min=1)


def distillation(logits: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Kullback–Leibler divergence from the teacher's prediction, times temperature² (arXiv:1503.02531).

    Args:
        logits: (N, C), the student's.
        teacher: (N, C), log-probabilities times the temperature, or logits.
        temperature: of both.
    """
    log_p = functional.log_softmax(logits / temperature, dim=1)
    wanted = functional.log_softmax(teacher / temperature, dim=1)
    return functional.kl_div(log_p, wanted, reduction="batchmean", log_target=True) * temperature**2


def same_similarity(embedding: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference between the student's and the teacher's cosines within a batch (arXiv:1907.09682).

    Args:
        embedding: (N, D), not normalised.
        teacher: (N, N), cosines.
    """
    unit = functional.normalize(embedding, dim=1)
    return (unit @ unit.T - teacher).square().mean()
