"""What training minimises: to name the class, to draw like to like, and still to know each scan again."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def masked_cross_entropy(logits: Tensor, labels: Tensor, known: Tensor, *, smoothing: float) -> Tensor:
    """Cross-entropy among the classes that a scan's archive could have shown.

    Args:
        logits: (N, C).
        labels: int64 (N,), each a known class.
        known: bool (N, C).
        smoothing: share of the target spread evenly over the known classes, 0 … 1.

    Returns:
        Scalar, the mean over scans.
    """
    log_p = functional.log_softmax(logits.masked_fill(~known, -1e9), dim=1)
    target = smoothing * known / known.sum(1, keepdim=True)
    target = target + (1 - smoothing) * functional.one_hot(labels, logits.shape[1])
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
