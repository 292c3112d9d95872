"""What a JPEG decoder does not tell."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_FOOT = 8
"""Rows of a block, the least that a JPEG can lack."""
_FILL = 128
_MORE = bytes(range(1, 255)) * 2
"""Entropy-coded data that no decoder ignores while it still wants some."""


def ends_early(grey: NDArray[np.uint8], read: Callable[[], bytes]) -> bool:
    """Whether a baseline JPEG holds less than its header announces.

    libjpeg fills the blocks that it has no data for with exactly 128, and reports no error. Speckle is never that even,
    but a grey bar may be. So when the last rows are 128 throughout, the picture is decoded once more with something put
    before its end: a decoder that had all its data does not look at it, one that had not shows it.

    Args:
        grey: uint8 (H, W), as decoded, before it is turned.
        read: gives the JPEG stream; called on suspicion only.
    """
    if not (grey[-_FOOT:] == _FILL).all():
        return False
    from PIL.JpegImagePlugin import JpegImageFile

    stream = read()
    end = stream.rfind(b"\xff\xd9")
    with JpegImageFile(io.BytesIO(stream[:end] + _MORE + stream[end:])) as longer:
        return bool((np.asarray(longer.convert("L")) != grey).any())
