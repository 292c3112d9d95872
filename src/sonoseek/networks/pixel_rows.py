"""The paper's RNN branch as we read it: an LSTM down the raw pixel rows (Fawzy et al. 2026).

The paper treats rows of pixels as an ordered signal; which recurrent cell, how wide and in which direction is not known
to us. Kind, sizes and both directions are our choice.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonoseek.networks.evidence import refuse_start
from sonoseek.networks.recurrence import both_ways

WIDTH = 112
"""Numbers per pixel row. A wider or narrower row is averaged onto as many, so that one network reads any canvas."""
HIDDEN = 128
"""State per direction."""
_CENTRE = 0.3
"""A scan's usual brightness."""
_REMEMBER = 2.0
"""Forget gate's bias at the start: a row is half forgotten after five more, not after one (Jozefowicz et al. 2015)."""


class DepthLSTM(nn.Module):
    """A bidirectional LSTM over (N, steps, features) that exports as one ONNX operator."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.cell = nn.LSTM(features, hidden, batch_first=True, bidirectional=True)
        for name, bias in self.cell.named_parameters():
            if name.startswith("bias_ih"):
                bias.detach()[hidden : 2 * hidden] = _REMEMBER

    def forward(self, rows: Tensor) -> Tensor:
        """(N, steps, features) → (N, steps, 2 × hidden): first downwards, then upwards."""
        # torch: input, forget, cell, output; ONNX (LSTM-14): input, output, forget, cell
        return both_ways(self.cell, rows, operator="LSTM", gates=(0, 3, 1, 2), options={})


class PixelRows(nn.Module):
    """Every pixel row of a canvas is one step; the states of 16 rows are averaged to one row of cells."""

    stride = 16
    channels = 2 * HIDDEN

    def __init__(self) -> None:
        super().__init__()
        self.lstm = DepthLSTM(WIDTH + 1, HIDDEN)

    def forward(self, canvas: Tensor) -> Tensor:
        """Read rows.

        Args:
            canvas: float32 (N, 1, S, S), S a multiple of 16; 0 … 1, exactly −1 in padding. It needs to know padding
                from black, so unlike a backbone it gets the canvas as it is.

        Returns:
            (N, channels, S/16): one column per row of cells, −1 … 1.
        """
        valid = (canvas >= 0).to(canvas.dtype)
        pixels = ((canvas - _CENTRE) * valid).squeeze(1)  # (N, S, S), padding as 0
        rows = pixels @ averaging(canvas.shape[-1], WIDTH).to(pixels)
        states = self.lstm(torch.cat([rows, valid.squeeze(1).mean(2, keepdim=True)], dim=2))
        return functional.avg_pool1d(states.transpose(1, 2), self.stride)

    def load_start(self, weights: Mapping[str, Tensor]) -> None:
        """Refuse: nobody publishes start weights for it."""
        refuse_start(len(weights), name="an LSTM over pixel rows")


def averaging(size: int, width: int) -> Tensor:
    """(size, width): `row @ averaging` is the row averaged onto `width` numbers, each pixel by its overlap.

    Columns sum to 1. With `size` = `width` it is the identity.
    """
    edges = torch.arange(size + 1, dtype=torch.float64)
    bins = torch.arange(width + 1, dtype=torch.float64) * (size / width)
    overlap = torch.minimum(edges[1:, None], bins[1:]) - torch.maximum(edges[:-1, None], bins[:-1])
    return (overlap.clamp(min=0) * (width / size)).float()
