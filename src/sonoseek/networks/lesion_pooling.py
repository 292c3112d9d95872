"""CNN → evidence map, pooled by a lesion probability that the network estimates from the same features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sonoseek.networks.evidence import Backbone, EvidenceNetwork, NetworkOutput, evidence_layer, needs_backbone

FLOOR = 0.05
"""Weight of a cell that holds no lesion at all, beside 1 for one full of it: a normal scan is read from everywhere."""
RARE = -2.0
"""Lesion logit at the start: most cells hold none."""


class LesionPoolingNetwork(EvidenceNetwork):
    """Evidence and a lesion logit per cell, both 1 × 1 convolutions; the embedding is the mean weighted by the latter.

    The weights are folded into the evidence, so that its plain mean over cells is the embedding and the class heatmap
    stays exact. Masks teach the lesion logits in the loss; the network reads none.
    """

    def __init__(self, backbone: Backbone | None, *, classes: int = 3, embedding_dim: int = 256) -> None:
        """Make one around `backbone`; as `PlainNetwork`."""
        given = needs_backbone(backbone, network="lesion_pooling")
        super().__init__(given)
        self.evidence = evidence_layer(given.channels, embedding_dim)
        self.lesion = nn.Conv2d(given.channels, 1, 1)
        nn.init.normal_(self.lesion.weight, std=0.1 * given.channels**-0.5)
        nn.init.constant_(self.lesion.bias, RARE)  # type: ignore[arg-type]  # it has one
        self.head = nn.Linear(embedding_dim, classes)

    def forward(self, canvas: Tensor) -> NetworkOutput:
        """Read canvases, as `EvidenceNetwork`; the output's `lesion` is (N, 1, S/16, S/16)."""
        self.check_side(canvas)
        validity = self.validity(canvas)
        features = self.backbone(canvas.clamp(min=0))
        lesion = self.lesion(features)
        weight = validity * (FLOOR + torch.sigmoid(lesion))
        evidence = self.evidence(features) * (weight / weight.mean((2, 3), keepdim=True).clamp(min=1e-6))
        embedding = evidence.mean((2, 3))
        return NetworkOutput(self.head(embedding), embedding, evidence, lesion)
