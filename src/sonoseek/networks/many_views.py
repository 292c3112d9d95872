"""The network as it is served: evidence averaged over the scan, its mirror image, and half-cell shifts."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonoseek.core import InvalidValueError
from sonoseek.networks.hybrid import MIN_VALIDITY, HybridNetwork, NetworkOutput
from sonoseek.networks.squeezenet import ShiftedBackbone

PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))
"""(row, column) shifts in half cells, in the order in which a backbone's `shifted` stacks them."""


class ManyViewNetwork(nn.Module):
    """Eight views of one canvas in one run: mirrored or not, shifted by half a cell or not, down and across.

    A trained network says slightly different things of a scan, of its mirror image and of the same scan a few pixels
    on; none of them is right. Each view's evidence is put back in its place, and the mean is taken there: the evidence
    map has twice as many cells each way, the embedding of a scan and of its mirror image are the same, and the
    identities of `HybridNetwork` hold as before (mean of the evidence = embedding; logits linear in it). Trained
    weights are used as they are: each view is the very network that was trained.
    """

    def __init__(self, network: HybridNetwork) -> None:
        """Wrap a trained network; it is not copied.

        Raises:
            InvalidValueError: its backbone cannot look at half-cell shifts.
        """
        super().__init__()
        if not isinstance(network.backbone, ShiftedBackbone):
            raise InvalidValueError(
                f"a {type(network.backbone).__name__} has no `shifted`; choose another backbone, or views = 1."
            )
        self.network = network
        self.coarse = network.stride
        self.stride = network.stride // 2

    @property
    def head(self) -> nn.Linear:
        """The linear map from embedding to logits."""
        return self.network.head

    def forward(self, canvas: Tensor) -> NetworkOutput:
        """Read canvases.

        Args:
            canvas: float32 (N, 1, S, S), as for `HybridNetwork`.

        Returns:
            As `HybridNetwork`, with evidence (N, D, 2h, 2w).
        """
        count = canvas.shape[0]
        both = torch.cat([canvas, canvas.flip(3)])
        validity = self.validity(both)
        shifted = torch.cat([validity[:, :, row::2, column::2] for row, column in PHASES])
        backbone = cast(ShiftedBackbone, self.network.backbone)
        features = self.network.rows(backbone.shifted(both.clamp(min=0)), shifted)
        fine = _interleave(self.network.evidence(features) * shifted)
        evidence = (fine[:count] + fine[count:].flip(3)) / 2
        share = (validity[:count] + validity[count:].flip(3)) / 2
        evidence = evidence / share.mean((2, 3), keepdim=True).clamp(min=1e-6)
        embedding = evidence.mean((2, 3))
        return NetworkOutput(self.head(embedding), embedding, evidence)

    def validity(self, canvas: Tensor) -> Tensor:
        """Share of scan in the window that each fine cell looks at, (N, 1, 2h, 2w), 0 … 1; slivers are 0."""
        margin = (self.coarse - self.stride) // 2
        scanned = functional.pad((canvas >= 0).to(canvas.dtype), (margin,) * 4)
        share = functional.avg_pool2d(scanned, self.coarse, stride=self.stride)
        return share * (share >= MIN_VALIDITY).to(canvas.dtype)


def _interleave(phases: Tensor) -> Tensor:
    """(4·N, D, h, w), phases stacked in the order of `PHASES`, → (N, D, 2h, 2w)."""
    _, depth, height, width = phases.shape
    apart = phases.reshape(2, 2, -1, depth, height, width)
    return apart.permute(2, 3, 4, 0, 5, 1).reshape(-1, depth, 2 * height, 2 * width)
