"""The small picture of a scan that the gallery keeps, so that reports and pages need no source file."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.core import GalleryError, InvalidValueError, ScanReadError, Settings
from sonoseek.io.reader import read_luma

LONGEST_SIDE = 512
"""Pixels."""
ALMOST_WHOLE = 0.7
"""Scale from which on interpolation does as well as averaging."""
QUALITY = 90
"""JPEG, 0 … 100: at 90 speckle survives; below about 80 it smears into blocks."""

LARGEST_SIDE = 4_096
"""Pixels a side of a stored picture that is decoded."""


def encode_picture(pixels: NDArray[np.uint8]) -> bytes:
    """A scan's pixels as a grey JPEG, longest side ≤ 512 pixels; smaller scans keep their size.

    Args:
        pixels: uint8 (H, W).

    Raises:
        InvalidValueError: not uint8 (H, W), or empty.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.size == 0:
        raise InvalidValueError(f"pixels are {pixels.dtype} {pixels.shape}; a picture is made of uint8 (H, W).")
    height, width = pixels.shape
    scale = LONGEST_SIDE / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        # Averaging keeps speckle from turning into moiré; where there is little to shrink, it only takes longer.
        method = cv2.INTER_LINEAR if scale > ALMOST_WHOLE else cv2.INTER_AREA
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=method), np.uint8)
    done, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise InvalidValueError(f"pixels {pixels.shape} could not be written as JPEG; pass an ordinary scan.")
    return bytes(encoded.data)


def decode_picture(picture: bytes, *, shape: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """A kept picture as pixels, uint8 (H, W), brought back to the scan's own shape; None: as it was kept.

    A gallery may come from elsewhere: like every file, its pictures are decoded in a child process with limits.

    Raises:
        GalleryError: it does not decode.
        TemporaryError: the process that decodes did not start.
    """
    decoded = _decoded(picture) if _header(picture) else None
    if decoded is None:
        raise GalleryError("a kept picture does not decode; run `sonoseek index verify`, then build its case again.")
    if shape is not None and decoded.shape != shape:
        decoded = np.asarray(cv2.resize(decoded, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR), np.uint8)
    return decoded


def picture_problem(picture: bytes) -> str | None:
    """What is wrong with a kept picture, or None."""
    header = _header(picture)
    if header is None or _decoded(picture) is None:
        return "does not decode"
    height, width, colours = header
    if colours != 1:
        return "is not grey"
    if max(height, width) > LONGEST_SIDE:
        return f"is {width} × {height} pixels, longer than {LONGEST_SIDE}"
    return None


def _decoded(picture: bytes) -> NDArray[np.uint8] | None:
    try:
        return read_luma(picture, name="a kept picture", settings=Settings())
    except ScanReadError:
        return None


def _header(picture: bytes) -> tuple[int, int, int] | None:
    """Height, width, colours of a JPEG of one frame with sides of at most `LARGEST_SIDE`; None of anything else."""
    if not picture.startswith(b"\xff\xd8"):
        return None
    at, frames = 2, []
    while at + 10 <= len(picture) and picture[at] == 0xFF:
        marker = picture[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = int.from_bytes(picture[at + 5 : at + 7]), int.from_bytes(picture[at + 7 : at + 9])
            frames.append((height, width, picture[at + 9]))
        if marker == 0xDA:  # the first scan: what follows is data of the one frame before it
            break
        at += 2 + max(2, int.from_bytes(picture[at + 2 : at + 4]))
    return frames[0] if len(frames) == 1 and max(frames[0][:2]) <= LARGEST_SIDE else None
