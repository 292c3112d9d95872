"""The paper's RNN branch alone: an LSTM down the raw pixel rows; sizes are our choice, see `pixel_rows`."""

from __future__ import annotations

from torch import Tensor, nn

from sonoseek.networks.evidence import Backbone, CellNetwork, brings_its_own
from sonoseek.networks.pixel_rows import PixelRows


class RNNOnlyNetwork(CellNetwork):
    """The evidence of a row is spread evenly over its cells: a row has no left and right to an RNN.

    So its heatmap is exact as every other's, and shows depths, not places.
    """

    def __init__(self, backbone: Backbone | None = None, *, classes: int = 3, embedding_dim: int = 256) -> None:
        """Make one.

        Args:
            backbone: none: it brings its own.
            classes: C.
            embedding_dim: D.

        Raises:
            InvalidValueError: a backbone is given.
        """
        brings_its_own(backbone, network="rnn_only")
        rows = PixelRows()
        super().__init__(rows)
        self.evidence = nn.Linear(rows.channels, embedding_dim)
        self.head = nn.Linear(embedding_dim, classes)

    def raw(self, canvas: Tensor, validity: Tensor) -> Tensor:
        """Through the LSTM and evidence, the same for each cell of a row."""
        evidence: Tensor = self.evidence(self.backbone(canvas).transpose(1, 2))  # (N, h, D)
        return evidence.transpose(1, 2).unsqueeze(3).expand(-1, -1, -1, validity.shape[3])
