"""Operations on arrays that several packages share."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Real = TypeVar("Real", np.float32, np.float64)
_SHORTEST = 1e-12
"""Length below which a row counts as zero."""


def unit_rows(rows: NDArray[Real]) -> NDArray[Real]:
    """Rows scaled to length 1: float32 or float64 (N, D), as given; a row of zeros stays one."""
    unit: NDArray[Real] = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), _SHORTEST)
    return unit
