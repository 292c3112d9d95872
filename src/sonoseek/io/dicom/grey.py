"""Decoded samples of any colour model and depth → uint8 grey. Runs in the child.

The rule:

1. Colour: ITU-R BT.601 luma, 0.299 R + 0.587 G + 0.114 B. YBR_FULL carries just that as its first sample. A palette is
   looked up first.
2. One sample per pixel: the modality LUT or rescale; then, where the file stores a VOI LUT or a window, that (the first
   of several; PS3.3 C.11.2); else the full range of BitsStored becomes 0 … 255. A file that says 16 of 16 bits says
   nothing about its range: there the depth is the smallest of 8, 10, 12, 14, 16 bits that holds its largest value.
3. MONOCHROME1 (0 is white) is inverted.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi

from sonoseek.core import ScanReadError
from sonoseek.io.dicom.header import Header

DEPTHS = (8, 10, 12, 14, 16)
"""Bits, as scanners digitise."""
_SAME = np.arange(256, dtype=np.uint8)
_BLOCK = 1 << 20
"""Pixels converted at a time: intermediate arrays stay small whatever the picture's size."""


def to_grey(pixels: NDArray[np.generic], header: Header, *, photometric: str) -> NDArray[np.uint8]:
    """Convert one decoded frame.

    Args:
        pixels: integers (rows, columns) or (rows, columns, 3), as stored.
        header: for window, palette and bits.
        photometric: of `pixels`; a decoder may have changed it.

    Returns:
        uint8 (rows, columns), C-contiguous.

    Raises:
        ScanReadError: a colour model that no decoder should have left.
    """
    if photometric in ("MONOCHROME1", "MONOCHROME2"):
        return _by_table(pixels, _grey_table(header, _depth(pixels, header), inverted=photometric == "MONOCHROME1"))
    if photometric == "PALETTE COLOR":
        return _by_table(pixels, _palette_table(header))
    if photometric not in ("RGB", "YBR_FULL", "YBR_FULL_422"):
        raise ScanReadError(
            f"decoding left its pixels as {photometric!r}; grey comes from RGB or YBR. Convert the file."
        )
    if photometric != "RGB":
        pixels = pixels[..., 0]
    if pixels.dtype.itemsize > 1:
        pixels = _by_table(pixels, _grey_table(header, _depth(pixels, header), inverted=False, voi=False))
    return _luma(pixels) if photometric == "RGB" else np.ascontiguousarray(pixels).view(np.uint8)


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


def _depth(pixels: NDArray[np.generic], header: Header) -> int:
    """Bits that span the range of these samples."""
    if header.signed or header.bits_stored < 16:
        return header.bits_stored
    largest = int(np.max(pixels))
    return next(bits for bits in DEPTHS if largest < 1 << bits)


def _by_table(pixels: NDArray[np.generic], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Look every sample up, by its bit pattern, a block of rows at a time."""
    if pixels.dtype == np.uint8 and np.array_equal(table, _SAME):
        return np.ascontiguousarray(pixels).view(np.uint8)
    unsigned = np.dtype(f"u{pixels.dtype.itemsize}")
    native = pixels.dtype.newbyteorder("=")
    out = np.empty(pixels.shape, np.uint8)
    step = max(1, _BLOCK // pixels.shape[1])
    for top in range(0, pixels.shape[0], step):
        block = np.ascontiguousarray(pixels[top : top + step].astype(native, copy=False)).view(unsigned)
        out[top : top + step] = table[block]
    return out


def _domain(header: Header) -> NDArray[np.integer]:
    """Every value a sample can have, in the order of its bit patterns."""
    bits = header.bits_allocated
    patterns = np.arange(1 << bits, dtype=f"u{bits // 8}")
    return patterns.view(f"i{bits // 8}") if header.signed else patterns


def _grey_table(header: Header, depth: int, *, inverted: bool, voi: bool = True) -> NDArray[np.uint8]:
    """Sample → grey, for every bit pattern."""
    stored = _domain(header)
    lowest, highest = (-(1 << (depth - 1)), (1 << (depth - 1)) - 1) if header.signed else (0, (1 << depth) - 1)
    share = _by_voi(stored, header.dataset) if voi else None
    if share is None:
        share = (stored.astype(np.float64) - lowest) / (highest - lowest)
        if _slope(header.dataset) < 0:
            share = 1.0 - share
    share = np.clip(share, 0.0, 1.0)
    return np.rint(255.0 * (1.0 - share if inverted else share)).astype(np.uint8)


def _by_voi(stored: NDArray[np.integer], dataset: Dataset) -> NDArray[np.float64] | None:
    """What the stored VOI LUT or window makes of each sample, as a share of white; None where nothing is stored."""
    values = np.asarray(apply_modality_lut(stored, dataset))
    if dataset.get("VOILUTSequence"):
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        looked_up = np.asarray(apply_voi(values.astype(np.int64), dataset), np.float64)
        return np.asarray(looked_up / max((1 << bits) - 1, looked_up.max()))
    centre, width = _first(dataset, "WindowCenter"), _first(dataset, "WindowWidth")
    shape = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
    if not (math.isfinite(centre) and math.isfinite(width)) or width < (1 if shape == "LINEAR" else 1e-9):
        return None
    offset = values.astype(np.float64) - centre
    if shape == "SIGMOID":
        return np.asarray(1.0 / (1.0 + np.exp(np.clip(-4.0 * offset / width, -700.0, 700.0))))
    if shape == "LINEAR_EXACT":
        return offset / width + 0.5
    return (offset + 0.5) / max(width - 1.0, 1e-9) + 0.5


def _palette_table(header: Header) -> NDArray[np.uint8]:
    """Sample → luma of its palette entry, for every bit pattern."""
    colours = np.asarray(apply_color_lut(_domain(header).reshape(1, -1), header.dataset))[0, :, :3]
    if colours.dtype.itemsize > 1 and colours.max() > 255:  # 16-bit entries; some writers put 8-bit values in them
        colours = colours >> 8
    luma = colours.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return np.asarray(np.rint(luma), np.uint8)


def _slope(dataset: Dataset) -> float:
    slope = _first(dataset, "RescaleSlope")
    return slope if math.isfinite(slope) else 1.0


def _first(dataset: Dataset, keyword: str) -> float:
    """The first number of an element; NaN where it is missing or no number."""
    try:
        value = dataset.get(keyword)
        return float(value if isinstance(value, (str, int, float)) else value[0])
    except (TypeError, ValueError, IndexError):
        return math.nan
