"""The network as it is served: evidence averaged over the scan, its mirror image and, if it can, half-cell shifts."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonoseek.networks.evidence import MIN_VALIDITY, EvidenceNetwork, MapNetwork, NetworkOutput
from sonoseek.networks.squeezenet import ShiftedBackbone

PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))
"""(row, column) shifts in half cells, in the order in which a backbone's `shifted` stacks them."""


class ManyViewNetwork(nn.Module):
    """Eight views of one canvas in one run: mirrored or not, shifted by half a cell or not, down and across.

    Where backbone or network cannot look at half-cell shifts, two views: the scan and its mirror image,
    on the network's own cells.

    A trained network gives slightly different outputs for a scan, of its mirror image and of the same scan a few pixels
    on; none of them is the right one. Each view's evidence is put back in its place, and the mean is taken there: the
    evidence map has twice as many cells each way, the embedding of a scan and of its mirror image are the same, and the
    identities of `EvidenceNetwork` hold as before (mean of the evidence = embedding; logits linear in it). Trained
    weights are used as they are: each view is the very network that was trained.
    """

    def __init__(self, network: EvidenceNetwork) -> None:
        """Wrap a trained network; it is not copied."""
        super().__init__()
        self.network = network
        self.shifts = isinstance(network.backbone, ShiftedBackbone) and isinstance(network, MapNetwork)
        self.coarse = network.stride
        self.stride = network.stride // 2 if self.shifts else network.stride
        self.fine_stride = self.stride if self.shifts else network.fine_stride

    @property
    def head(self) -> nn.Linear:
        """The linear map from embedding to logits."""
        return self.network.head

    def forward(self, canvas: Tensor) -> NetworkOutput:
        """Read canvases.

        Args:
            canvas: float32 (N, 1, S, S), as for `EvidenceNetwork`.

        Returns:
            As `EvidenceNetwork`, with evidence (N, D, 2h, 2w) where there are shifts.
        """
        count = canvas.shape[0]
        both = torch.cat([canvas, canvas.flip(3)])
        spatial_weights = None
        if self.shifts:
            validity = self.validity(both)
            fine = self._shifted(both, validity)
            share = (validity[:count] + validity[count:].flip(3)) / 2
            fine = fine / share.mean((2, 3), keepdim=True).clamp(min=1e-6).repeat(2, 1, 1, 1)
        else:
            out: NetworkOutput = self.network(both)
            fine = out.evidence
            if out.spatial_weights is not None:
                spatial_weights = (out.spatial_weights[:count] + out.spatial_weights[count:].flip(2)) / 2
        evidence = (fine[:count] + fine[count:].flip(3)) / 2
        embedding = evidence.mean((2, 3))
        return NetworkOutput(self.head(embedding), embedding, evidence, spatial_weights=spatial_weights)

    def _shifted(self, both: Tensor, validity: Tensor) -> Tensor:
        """Evidence of four shifts, each weighted and in its place, (N, D, 2h, 2w)."""
        shifted = torch.cat([validity[:, :, row::2, column::2] for row, column in PHASES])
        backbone = cast(ShiftedBackbone, self.network.backbone)
        evidence = cast(MapNetwork, self.network).from_features(backbone.shifted(both.clamp(min=0)), shifted)
        return _interleave(evidence * shifted)

    def validity(self, canvas: Tensor) -> Tensor:
        """Share of scan in the window that each cell looks at, (N, 1, 2h, 2w) or (N, 1, h, w), 0 … 1; slivers are 0."""
        margin = (self.coarse - self.stride) // 2
        scanned = functional.pad((canvas >= 0).to(canvas.dtype), (margin,) * 4)
        share = functional.avg_pool2d(scanned, self.coarse, stride=self.stride)
        return share * (share >= MIN_VALIDITY).to(canvas.dtype)


def _interleave(phases: Tensor) -> Tensor:
    """(4·N, D, h, w), phases stacked in the order of `PHASES`, → (N, D, 2h, 2w)."""
    _, depth, height, width = phases.shape
    apart = phases.reshape(2, 2, -1, depth, height, width)
    return apart.permute(2, 3, 4, 0, 5, 1).reshape(-1, depth, 2 * height, 2 * width)
