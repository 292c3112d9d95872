"""The row RNN: rows of a scan are depth, and what lies above or below a row changes what the row means."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sonoseek.networks.recurrence import both_ways


class DepthGRU(nn.Module):
    """A bidirectional GRU over (N, h, features) that exports as one ONNX operator."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.cell = nn.GRU(features, hidden, batch_first=True, bidirectional=True)

    def forward(self, rows: Tensor) -> Tensor:
        """(N, h, features) → (N, h, 2 × hidden): first downwards, then upwards."""
        # torch: reset, update, new; ONNX (GRU-14): update, reset, new
        return both_ways(self.cell, rows, operator="GRU", gates=(1, 0, 2), options={"linear_before_reset": 1})


class RowContext(nn.Module):
    """A bidirectional GRU down the depth axis that gates and shifts each row of a feature map.

    Each row, averaged over the cells that hold scan, is one step. So the network can see posterior shadowing and
    enhancement. It starts as the identity: the layer that changes the map is zero at first.
    """

    def __init__(self, channels: int, *, reduced: int = 128, hidden: int = 96) -> None:
        """Make one.

        Args:
            channels: C of the feature map.
            reduced: numbers per row that enter the GRU.
            hidden: state per direction.
        """
        super().__init__()
        self.reduce = nn.Linear(channels + 1, reduced)
        self.gru = DepthGRU(reduced, hidden)
        self.speak = nn.Linear(2 * hidden, 2 * channels)
        nn.init.zeros_(self.speak.weight)
        nn.init.zeros_(self.speak.bias)

    def forward(self, features: Tensor, validity: Tensor) -> Tensor:
        """Gate by 1 + tanh and shift.

        Args:
            features: (N, C, h, w).
            validity: (N, 1, h, w), 0 … 1: the share of scan in each cell.

        Returns:
            (N, C, h, w).
        """
        weight = validity.sum(3)  # (N, 1, h)
        mean = (features * validity).sum(3) / weight.clamp(min=1e-6)
        rows = torch.cat([mean, validity.mean(3)], dim=1).transpose(1, 2)  # (N, h, C + 1)
        states = self.gru(torch.relu(self.reduce(rows)))
        gate, shift = self.speak(states).transpose(1, 2).unsqueeze(3).chunk(2, dim=1)
        gated: Tensor = features * (1 + torch.tanh(gate)) + shift
        return gated
