"""The paper's hybrid as we read it: a CNN and an LSTM over raw pixel rows side by side, fused (Fawzy et al. 2026).

Only the paper's abstract and a summary are at hand: two branches and a fingerprint from the last layer but one are the
paper's; kinds, sizes and the linear fusion are our choice.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sonoseek.networks.evidence import Backbone, CellNetwork, brings_its_own, evidence_layer, refuse_start
from sonoseek.networks.paper_cnn import PaperCNNBackbone
from sonoseek.networks.pixel_rows import PixelRows


class PaperHybridNetwork(CellNetwork):
    """Both branches' evidence, concatenated cell by cell and fused linearly.

    The fusion is linear, so fusing cells and then taking the mean is the same as fusing the branches' embeddings: the
    explanation stays exact. The fused embedding, the last layer but one, is the fingerprint.
    """

    def __init__(self, backbone: Backbone | None = None, *, classes: int = 3, embedding_dim: int = 256) -> None:
        """Make one.

        Args:
            backbone: none: it brings its own.
            classes: C.
            embedding_dim: D, of each branch and of their fusion.

        Raises:
            InvalidValueError: a backbone is given.
        """
        brings_its_own(backbone, network="paper_hybrid")
        branches = _Branches()
        super().__init__(branches)
        self.seen = evidence_layer(branches.cnn.channels, embedding_dim)
        self.heard = nn.Linear(branches.rows.channels, embedding_dim)
        self.fusion = evidence_layer(2 * embedding_dim, embedding_dim)
        self.head = nn.Linear(embedding_dim, classes)

    def raw(self, canvas: Tensor, validity: Tensor) -> Tensor:
        """Through both branches and their fusion."""
        features, rows = self.backbone(canvas)
        heard = self.heard(rows.transpose(1, 2)).transpose(1, 2).unsqueeze(3).expand(-1, -1, -1, validity.shape[3])
        evidence: Tensor = self.fusion(torch.cat([self.seen(features), heard], dim=1))
        return evidence


class _Branches(nn.Module):
    """Both readers of pixels, as one part with one learning rate."""

    stride = PixelRows.stride

    def __init__(self) -> None:
        super().__init__()
        self.cnn = PaperCNNBackbone()
        self.rows = PixelRows()
        self.channels = self.cnn.channels + self.rows.channels

    def forward(self, canvas: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1, S, S) → (N, 256, S/16, S/16) of the CNN and (N, 256, S/16) of the LSTM."""
        return self.cnn(canvas.clamp(min=0)), self.rows(canvas)

    def load_start(self, weights: Mapping[str, Tensor]) -> None:
        """Refuse: nobody publishes start weights for it."""
        refuse_start(len(weights), name="the paper's hybrid")
