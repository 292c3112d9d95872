"""The network as it is served: a scan and its mirror image, averaged in their place."""

from __future__ import annotations

from torch import Tensor, nn

from sonoseek.networks.hybrid import HybridNetwork, NetworkOutput


class MirroredNetwork(nn.Module):
    """Two views of one canvas in one run: as it is, and mirrored left–right.

    The mirror image's evidence is put back in its place and the mean is taken there, so that a scan and its mirror
    image have the same embedding, and the identities of `HybridNetwork` hold as before (mean of the evidence =
    embedding; logits linear in it). Works for every network of the table.
    """

    def __init__(self, network: HybridNetwork) -> None:
        """Wrap a trained network; it is not copied."""
        super().__init__()
        self.network = network
        self.stride = network.stride

    @property
    def head(self) -> nn.Linear:
        """The linear map from embedding to logits."""
        return self.network.head

    def forward(self, canvas: Tensor) -> NetworkOutput:
        """Read canvases: float32 (N, 1, S, S), as for `HybridNetwork`."""
        evidence = (self.network(canvas).evidence + self.network(canvas.flip(3)).evidence.flip(3)) / 2
        embedding = evidence.mean((2, 3))
        return NetworkOutput(self.head(embedding), embedding, evidence)
