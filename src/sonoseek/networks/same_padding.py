"""Convolutions of networks published with TensorFlow's "same" padding, on a canvas whose cells they tile."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class SamePadConv(nn.Conv2d):
    """A convolution padded as TensorFlow's "same" pads an even side: where it halves, one pixel more below and right.

    The padding does not depend on the input's side, so that a halving's cell i looks at rows around 2·i + 1 on every
    canvas.
    """

    def __init__(
        self, channels: int, out: int, kernel: int, stride: int = 1, *, groups: int = 1, bias: bool = False
    ) -> None:
        """As `nn.Conv2d`, without padding of its own; `kernel` is odd, `stride` 1 or 2."""
        super().__init__(channels, out, kernel, stride, 0 if stride > 1 else kernel // 2, groups=groups, bias=bias)
        whole = kernel - stride
        self.missing = (whole // 2, whole - whole // 2) * 2 if stride > 1 else None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        """(N, channels, H, W) → (N, out, H/stride, W/stride)."""
        return super().forward(input if self.missing is None else functional.pad(input, self.missing))


def framed_above(x: Tensor, *, stride: int) -> Tensor:
    """Black above a canvas and to its left, half a stride wide.

    A network whose halvings each look half a pixel further (`SamePadConv`) looks with cell i at rows around
    stride · (i + 1) − 1. After this frame, cell i looks at the middle of its own square of the canvas.

    Args:
        x: (N, C, S, S), S a multiple of `stride`.
        stride: pixels per cell.

    Returns:
        (N, C, S + stride/2, S + stride/2), of which such a network gives S/stride cells a side.
    """
    half = stride // 2
    return functional.pad(x, (half, 0, half, 0))
