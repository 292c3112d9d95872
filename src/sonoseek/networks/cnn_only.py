"""The paper's CNN branch alone; sizes are our choice, see `paper_cnn`."""

from __future__ import annotations

from sonoseek.networks.evidence import Backbone, brings_its_own
from sonoseek.networks.paper_cnn import PaperCNNBackbone
from sonoseek.networks.plain import PlainNetwork


def cnn_only(backbone: Backbone | None = None, *, classes: int = 3, embedding_dim: int = 256) -> PlainNetwork:
    """What `PaperHybridNetwork` is without its LSTM: `plain` on the backbone `paper-cnn`.

    Args:
        backbone: none: it brings its own.
        classes: C.
        embedding_dim: D.

    Raises:
        InvalidValueError: a backbone is given.
    """
    brings_its_own(backbone, network="cnn_only")
    return PlainNetwork(PaperCNNBackbone(), classes=classes, embedding_dim=embedding_dim)
