"""Decoded samples → the numbers that the file means: aligned, without foreign bits, with their sign. In the child.

The rule, where header and data contradict each other:

1. A codestream's own precision goes before BitsStored, except where all samples fit BitsStored.
2. HighBit above BitsStored - 1 means that samples lie higher in their words: they are shifted down, unless they already
   fit BitsStored (then HighBit is wrong) or a codestream of just BitsStored carries them.
3. Bits above BitsStored are cut off where they have nothing to do with the picture (overlays, rubbish). Where they
   belong to it, the header cannot hold the samples, and the file is refused. A sign that is extended is neither.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import ScanReadError
from sonoseek.io.dicom.header import Header

FOREIGN_STEP = 1.5
"""Bits are foreign to the picture if, where they change from one pixel to the next, the rest of the sample changes by
less than this many times as much as elsewhere. Bits that belong to the sample change where the rest wraps around."""
SMOOTHNESS = 0.25
"""Correlation of neighbouring samples below which cut samples are no picture."""


def stored_samples(
    pixels: NDArray[np.generic], header: Header, *, precision: int | None
) -> tuple[NDArray[np.integer], int]:
    """Samples and the bits that span their range.

    Args:
        pixels: integers of 8 or 16 bits, as decoded.
        header: BitsStored, HighBit, sign.
        precision: bits a sample, by the codestream; None where there is none.

    Returns:
        Integers of the same size, signed if the header says so, and the bits.

    Raises:
        ScanReadError: HighBit or BitsStored cannot be.
    """
    native = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("="), copy=False))
    patterns: NDArray[np.unsignedinteger] = native.view(f"u{native.itemsize}")
    container, bits = 8 * native.itemsize, header.bits_stored
    shift = 0 if precision == bits else header.high_bit + 1 - bits
    if shift > 0 and int(patterns.max()) >> bits:
        if header.high_bit >= container:
            raise ScanReadError(
                f"HighBit is {header.high_bit}, but a sample has {container} bits, counted from 0. The file is "
                "damaged: fetch it again."
            )
        patterns = patterns >> np.asarray(shift, patterns.dtype)
    if precision is not None and precision < bits:
        bits = precision
    elif bits < container and _has_more(patterns, bits, signed=header.signed, precision=precision or container):
        patterns, bits = _resolved(patterns, bits, signed=header.signed, precision=precision)
    if not header.signed:
        return patterns, bits
    return _extended(patterns, bits), bits


def _has_more(patterns: NDArray[np.unsignedinteger], bits: int, *, signed: bool, precision: int) -> bool:
    """Whether anything but an extended sign stands above `bits`."""
    if not int(patterns.max()) >> bits:
        return False
    if not signed:
        return True
    compared = np.asarray((1 << precision) - 1, patterns.dtype)
    return bool(((_extended(patterns, bits).view(patterns.dtype) ^ patterns) & compared).any())


def _extended(patterns: NDArray[np.unsignedinteger], bits: int) -> NDArray[np.signedinteger]:
    """Two's complement of `bits` bits, whatever stands above them."""
    up = np.asarray(8 * patterns.itemsize - bits, patterns.dtype)
    signed: NDArray[np.signedinteger] = (patterns << up).view(f"i{patterns.itemsize}")
    return signed >> up.astype(signed.dtype)


def _resolved(
    patterns: NDArray[np.unsignedinteger], bits: int, *, signed: bool, precision: int | None
) -> tuple[NDArray[np.unsignedinteger], int]:
    """Rules 1 and 3 for samples that do not fit `bits`."""
    if precision is not None and precision < 8 * patterns.itemsize:
        return patterns, precision
    cut = patterns & np.asarray((1 << bits) - 1, patterns.dtype)
    if _foreign(patterns >> np.asarray(bits, patterns.dtype), _extended(cut, bits) if signed else cut):
        return cut, bits
    raise ScanReadError(
        f"samples need {int(patterns.max()).bit_length()} bits, but BitsStored says {bits}: the header contradicts the "
        "pixel data. Correct BitsStored and HighBit, or fetch the file again from its source."
    )


def _foreign(high: NDArray[np.unsignedinteger], low: NDArray[np.integer]) -> bool:
    """Whether `high` has nothing to do with the picture `low`."""
    values = low.astype(np.float32)
    steps = np.abs(np.diff(values, axis=1))
    changed = np.diff(high, axis=1) != 0
    if not changed.any():
        return True
    elsewhere = steps[~changed] if not changed.all() else steps
    left, right = values[:, :-1].ravel(), values[:, 1:].ravel()
    spread = float(left.std() * right.std())
    smooth = float(((left - left.mean()) * (right - right.mean())).mean()) / spread if spread else 1.0
    return float(steps[changed].mean()) < FOREIGN_STEP * float(elsewhere.mean()) + 1e-6 and smooth > SMOOTHNESS
