"""A recurrent cell both ways along a sequence, exported as the one operator that ONNX has for it.

torch's own exporter would write the recurrence as a loop of small nodes (and does not get through it without warnings);
ONNX Runtime runs its operator in one go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


def both_ways(
    cell: nn.GRU | nn.LSTM, rows: Tensor, *, operator: str, gates: Sequence[int], options: Mapping[str, int]
) -> Tensor:
    """Run a bidirectional cell of one layer, `batch_first`.

    Args:
        cell: whose weights.
        rows: (N, steps, features).
        operator: ONNX's name for it.
        gates: torch's gates in the order in which the operator wants them.
        options: of the operator, beside its size and direction.

    Returns:
        (N, steps, 2 × hidden): first downwards, then upwards.
    """
    if not torch.onnx.is_in_onnx_export():
        direct: Tensor = cell(rows)[0]
        return direct

    def weights(name: str) -> Tensor:
        """(2, gates × hidden, …), one way after the other."""
        ways = (getattr(cell, name + suffix).detach().chunk(len(gates)) for suffix in ("", "_reverse"))
        return torch.stack([torch.cat([parts[gate] for gate in gates]) for parts in ways])

    steps = rows.transpose(0, 1)  # the operator wants steps before scans
    states: Tensor = torch.onnx.ops.symbolic(
        operator,
        (
            steps,
            weights("weight_ih_l0"),
            weights("weight_hh_l0"),
            torch.cat([weights("bias_ih_l0"), weights("bias_hh_l0")], dim=1),
        ),
        {"hidden_size": cell.hidden_size, "direction": "bidirectional", **options},
        dtype=rows.dtype,
        shape=(steps.shape[0], 2, steps.shape[1], cell.hidden_size),
    )
    return states.permute(2, 0, 1, 3).flatten(2)
