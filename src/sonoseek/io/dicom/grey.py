"""Decoded samples of any colour model and depth → uint8 grey. Runs in the child.

The rule:

1. Colour: ITU-R BT.601 luma, 0.299 R + 0.587 G + 0.114 B. YBR_FULL carries just that as its first sample. A palette is
   looked up first.
2. One sample per pixel: first the modality LUT or rescale. Then a VOI LUT or a window, where the file stores one (the
   first of several; PS3.3 C.11.2). Else the full range of the LUT or of the stored bits becomes 0 … 255. A window that
   leaves a single grey level is ignored. Where a file states 16 of 16 bits, its range is not known: the depth is then
   the smallest of 8, 10, 12, 14, 16 bits that holds its largest value.
3. MONOCHROME1 (0 is white) is inverted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sonoseek.core import ScanReadError
from sonoseek.io.dicom.header import Header
from sonoseek.io.dicom.luts import modality_values, palette_luma, rescale_slope, voi_share
from sonoseek.io.dicom.samples import stored_samples

DEPTHS = (8, 10, 12, 14, 16)
"""Bits, as scanners digitise."""
_SAME = np.arange(256, dtype=np.uint8)
_BLOCK = 1 << 20
"""Pixels converted at a time: intermediate arrays stay small whatever the picture's size."""


def to_grey(
    pixels: NDArray[np.generic], header: Header, *, photometric: str, precision: int | None = None
) -> NDArray[np.uint8]:
    """Convert one decoded frame.

    Args:
        pixels: integers (rows, columns) or (rows, columns, 3), as stored.
        header: for window, palette and bits.
        photometric: of `pixels`; a decoder may have changed it.
        precision: bits a sample by the codestream, None where there is none.

    Returns:
        uint8 (rows, columns), C-contiguous.

    Raises:
        ScanReadError: a colour model that no decoder should have left, or bits that contradict the header.
    """
    if photometric in ("YBR_FULL", "YBR_FULL_422"):
        pixels = pixels[..., 0]
    elif photometric not in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB"):
        raise ScanReadError(
            f"PhotometricInterpretation is {photometric!r}, which its transfer syntax does not have: the two "
            "contradict each other. Correct the header, or fetch the file again from its source."
        )
    samples, bits = stored_samples(pixels, header, precision=precision)
    if photometric == "PALETTE COLOR":
        return _by_table(samples, palette_luma(_domain(samples), header))
    depth = _depth(samples, bits)
    if photometric.startswith("MONOCHROME"):
        inverted = photometric == "MONOCHROME1"
        grey = _by_table(samples, _grey_table(header, samples, depth=depth, inverted=inverted))
        if grey.min() == grey.max() and samples.min() != samples.max():
            grey = _by_table(samples, _grey_table(header, samples, depth=depth, inverted=inverted, voi=False))
        return grey
    if samples.itemsize > 1 or depth < 8:
        samples = _by_table(samples, _grey_table(header, samples, depth=depth, inverted=False, voi=False))
    return _luma(samples) if photometric == "RGB" else np.ascontiguousarray(samples).view(np.uint8)


def _luma(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """RGB of 8 bits → luma. Pillow rounds in integers, so that equal R, G, B give just that grey."""
    rows, columns, _ = pixels.shape
    out = np.empty((rows, columns), np.uint8)
    step = max(1, _BLOCK // columns)
    for top in range(0, rows, step):
        block = np.ascontiguousarray(pixels[top : top + step])
        picture = Image.frombuffer("RGB", (columns, len(block)), block, "raw", "RGB", 0, 1)
        out[top : top + step] = np.asarray(picture.convert("L"))
    return out


def _depth(samples: NDArray[np.integer], bits: int) -> int:
    """Bits that span the range of these samples."""
    if samples.dtype.kind == "i" or bits < 16:
        return bits
    largest = int(np.max(samples))
    return next(depth for depth in DEPTHS if largest < 1 << depth)


def _by_table(samples: NDArray[np.integer], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Look every sample up, by its bit pattern, a block of rows at a time."""
    if samples.dtype == np.uint8 and np.array_equal(table, _SAME):
        return np.ascontiguousarray(samples).view(np.uint8)
    unsigned = np.dtype(f"u{samples.dtype.itemsize}")
    out = np.empty(samples.shape, np.uint8)
    step = max(1, _BLOCK // samples.shape[1])
    for top in range(0, samples.shape[0], step):
        out[top : top + step] = table[np.ascontiguousarray(samples[top : top + step]).view(unsigned)]
    return out


def _domain(samples: NDArray[np.integer]) -> NDArray[np.integer]:
    """Every value that a sample of this type can have, in the order of the bit patterns."""
    patterns = np.arange(1 << 8 * samples.itemsize, dtype=f"u{samples.itemsize}")
    return patterns.view(samples.dtype)


def _grey_table(
    header: Header, samples: NDArray[np.integer], *, depth: int, inverted: bool, voi: bool = True
) -> NDArray[np.uint8]:
    """Sample → grey, for every bit pattern."""
    stored = _domain(samples)
    half = 1 << (depth - 1)
    lowest, highest = (-half, half - 1) if samples.dtype.kind == "i" else (0, 2 * half - 1)
    values, largest = modality_values(stored, header)
    share = voi_share(values, header) if voi else None
    if share is None and largest is not None:
        share = values / largest
    elif share is None:
        share = (stored.astype(np.float64) - lowest) / (highest - lowest)
        if rescale_slope(header.dataset) < 0:
            share = 1.0 - share
    share = np.clip(share, 0.0, 1.0)
    return np.rint(255.0 * (1.0 - share if inverted else share)).astype(np.uint8)
