"""The hybrid of the design: CNN → row GRU down the depth → evidence map, whose mean is the embedding."""

from __future__ import annotations

from torch import Tensor, nn

from sonoseek.networks.evidence import Backbone, MapNetwork, needs_backbone
from sonoseek.networks.row_context import RowContext


class HybridNetwork(MapNetwork):
    """A backbone's map, each row gated and shifted by a GRU over the depth, turned into evidence."""

    def __init__(self, backbone: Backbone | None, *, classes: int = 3, embedding_dim: int = 256) -> None:
        """Make one around `backbone`.

        Args:
            backbone: a module of the table `BACKBONES`.
            classes: C.
            embedding_dim: D.

        Raises:
            InvalidValueError: no backbone is given.
        """
        given = needs_backbone(backbone, network="hybrid")
        super().__init__(given)
        # In this order, or the same seed would give another start than that of the bundles already trained.
        self.rows = RowContext(given.channels)
        self.evidence = nn.Conv2d(given.channels, embedding_dim, 1)
        self.head = nn.Linear(embedding_dim, classes)
        nn.init.normal_(self.evidence.weight, std=given.channels**-0.5)
        nn.init.zeros_(self.evidence.bias)  # type: ignore[arg-type]  # it has one

    def from_features(self, features: Tensor, validity: Tensor) -> Tensor:
        """From a backbone's map: (N, channels, h, w) and (N, 1, h, w) → (N, D, h, w)."""
        evidence: Tensor = self.evidence(self.rows(features, validity))
        return evidence
