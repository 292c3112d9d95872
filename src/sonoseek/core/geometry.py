"""Rectangles on a pixel grid."""

from __future__ import annotations

from dataclasses import dataclass

from sonoseek.core.errors import InvalidValueError


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open rectangle: rows `top` ≤ r < `bottom`, columns `left` ≤ c < `right`.

    In pixels of a named grid; edges, not centres: pixel (r, c) covers [r, r+1) × [c, c+1). Fractions are allowed.
    """

    top: float
    left: float
    bottom: float
    right: float

    def __post_init__(self) -> None:
        if not (self.top < self.bottom and self.left < self.right):
            raise InvalidValueError(
                f"box (top={self.top}, left={self.left}, bottom={self.bottom}, right={self.right}) is empty; "
                "top must be below bottom and left below right. Swap the edges or drop the box."
            )

    @property
    def height(self) -> float:
        """Rows covered."""
        return self.bottom - self.top

    @property
    def width(self) -> float:
        """Columns covered."""
        return self.right - self.left
