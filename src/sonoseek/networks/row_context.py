"""The row RNN: rows of a scan are depth, and what lies above or below a row changes what the row means."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DepthGRU(nn.Module):
    """A bidirectional GRU over (N, h, features) that exports as one ONNX operator.

    torch's own exporter would write the recurrence as a loop of small nodes (and does not get through it without
    warnings); ONNX Runtime runs its GRU operator in one go.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.cell = nn.GRU(features, hidden, batch_first=True, bidirectional=True)

    def forward(self, rows: Tensor) -> Tensor:
        """(N, h, features) → (N, h, 2 × hidden): first downwards, then upwards."""
        if torch.onnx.is_in_onnx_export():
            return self._as_operator(rows)
        told: Tensor = self.cell(rows)[0]
        return told

    def _as_operator(self, rows: Tensor) -> Tensor:
        """The same as ONNX's GRU: gates ordered update, reset, new; steps before batch (ONNX operators, GRU-14)."""
        steps = rows.transpose(0, 1)
        inputs = (
            steps,
            self._both_ways("weight_ih_l0"),
            self._both_ways("weight_hh_l0"),
            torch.cat([self._both_ways("bias_ih_l0"), self._both_ways("bias_hh_l0")], dim=1),
        )
        told: Tensor = torch.onnx.ops.symbolic(
            "GRU",
            inputs,
            {"hidden_size": self.hidden, "direction": "bidirectional", "linear_before_reset": 1},
            dtype=rows.dtype,
            shape=(steps.shape[0], 2, steps.shape[1], self.hidden),
        )
        return told.permute(2, 0, 1, 3).flatten(2)

    def _both_ways(self, name: str) -> Tensor:
        """(2, 3 × hidden, …), torch's order reset, update, new turned into update, reset, new."""
        ways = []
        for suffix in ("", "_reverse"):
            gates: Tensor = getattr(self.cell, name + suffix).detach()
            size = self.hidden
            ways.append(torch.cat([gates[size : 2 * size], gates[:size], gates[2 * size :]]))
        return torch.stack(ways)


class RowContext(nn.Module):
    """A bidirectional GRU down the depth axis that gates and shifts each row of a feature map.

    Each row, averaged over the cells that hold scan, is one step. So the network can see posterior shadowing and
    enhancement. It starts as the identity: the layer that speaks to the map is zero at first.
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
        told = self.gru(torch.relu(self.reduce(rows)))
        gate, shift = self.speak(told).transpose(1, 2).unsqueeze(3).chunk(2, dim=1)
        gated: Tensor = features * (1 + torch.tanh(gate)) + shift
        return gated
