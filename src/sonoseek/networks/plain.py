"""The single-architecture peer: CNN → evidence map, whose mean is the embedding. No row sees another's depth."""

from __future__ import annotations

from torch import Tensor, nn

from sonoseek.networks.evidence import Backbone, MapNetwork, evidence_layer, needs_backbone


class PlainNetwork(MapNetwork):
    """`HybridNetwork` with the row GRU off: what a backbone reaches alone, behind the same exact explanation.

    A 1 × 1 convolution before the mean over cells is what published classifiers do after it (a linear layer after
    global average pooling), but for the weighting by the share of scan.
    """

    def __init__(self, backbone: Backbone | None, *, classes: int = 3, embedding_dim: int = 256) -> None:
        """Make one around `backbone`; as `HybridNetwork`."""
        given = needs_backbone(backbone, network="plain")
        super().__init__(given)
        self.evidence = evidence_layer(given.channels, embedding_dim)
        self.head = nn.Linear(embedding_dim, classes)

    def from_features(self, features: Tensor, validity: Tensor) -> Tensor:
        """From a backbone's map: (N, channels, h, w) → (N, D, h, w); `validity` is not read."""
        del validity
        evidence: Tensor = self.evidence(features)
        return evidence
