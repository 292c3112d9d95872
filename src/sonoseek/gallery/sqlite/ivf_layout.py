"""The layout of an inverted file (`gallery.db.<stamp>.ivf`), checked before faiss maps it.

faiss trusts the sizes in its file. A forged size would make it allocate any amount of memory, or read beyond the end of
the file. So a file whose parts do not add up exactly to its length is not given to it.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

_INDEX = struct.Struct("<4siqqqBi")
"""Kind, numbers per vector, vectors, twice 2^20, trained, metric (0: inner product)."""
_LISTS = struct.Struct("<QQ")
"""Lists, and how many faiss searches by default."""
_QUANTIZER = struct.Struct("<BQiifQQQ")
"""Direct map (0: none) and its length; kind, range statistic and its argument, numbers, bytes per vector, range."""
_AFTER = struct.Struct("<QB4sQQ4sQ")
"""Bytes per vector, by residual, "ilar", lists, bytes per vector, "full" or "sprs", numbers in the list of sizes."""
_EIGHT_BITS = 0
_PADDING = 1 << 20


def check_layout(body: NDArray[np.uint8], *, rows: int, dimension: int, nprobe: int) -> None:
    """Refuse a file that is not what `InvertedFile.save` writes for so many vectors.

    Args:
        body: uint8 (size,), the file.
        rows: vectors that it must hold.
        dimension: numbers per vector.
        nprobe: lists that are searched.

    Raises:
        ValueError: another kind, another count, or sizes that do not add up to the length of the file.
    """
    try:
        _check(body, rows=rows, dimension=dimension, nprobe=nprobe)
    except struct.error:
        raise ValueError("its inverted file is cut short") from None


def _check(body: NDArray[np.uint8], *, rows: int, dimension: int, nprobe: int) -> None:
    buffer = body.data
    head = (dimension, rows, _PADDING, _PADDING, 1, 0)
    if _INDEX.unpack_from(buffer) != (b"IwSq", *head):
        raise ValueError("its inverted file is of another kind, or holds another number of vectors")
    at = _INDEX.size
    lists, _ = _LISTS.unpack_from(buffer, at)
    at += _LISTS.size
    if not 1 <= nprobe <= lists <= rows:
        raise ValueError(f"its inverted file has {lists} lists for {rows} vectors and a search of {nprobe}")
    centres = _INDEX.unpack_from(buffer, at)
    at += _INDEX.size
    if centres != (b"IxFI", dimension, lists, _PADDING, _PADDING, 1, 0):
        raise ValueError("the centres of its inverted file are of another kind or number")
    (numbers,) = struct.unpack_from("<Q", buffer, at)
    at += 8 + 4 * lists * dimension
    if numbers != lists * dimension or at > body.size:
        raise ValueError("the centres of its inverted file have another size")
    mapped, mapped_size, kind, _, _, of, code, ranges = _QUANTIZER.unpack_from(buffer, at)
    at += _QUANTIZER.size + 8 * dimension
    if (mapped, mapped_size, kind, of, code, ranges) != (0, 0, _EIGHT_BITS, dimension, dimension, 2 * dimension):
        raise ValueError("its inverted file is quantised in another way")
    code, residual, name, same_lists, same_code, storage, count = _AFTER.unpack_from(buffer, at)
    at += _AFTER.size
    if (code, residual, name, same_lists, same_code) != (dimension, 1, b"ilar", lists, dimension):
        raise ValueError("the lists of its inverted file are of another kind or number")
    if storage not in (b"full", b"sprs") or count > 2 * lists or at + 8 * count > body.size:
        raise ValueError("the list of sizes in its inverted file is of another kind or length")
    sizes = np.frombuffer(body[at : at + 8 * count].tobytes(), "<u8")
    if storage == b"sprs":
        if count % 2 or np.unique(sizes[::2]).size != count // 2 or (sizes[::2] >= lists).any():
            raise ValueError("the list of sizes in its inverted file names no lists")
        sizes = sizes[1::2]
    elif count != lists:
        raise ValueError("the list of sizes in its inverted file is of another length")
    if (sizes > rows).any() or int(sizes.sum()) != rows or at + 8 * count + rows * (dimension + 8) != body.size:
        raise ValueError("the sizes in its inverted file do not add up to its length")
