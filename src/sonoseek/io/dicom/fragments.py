"""Encapsulated pixel data (PS3.5 A.4): its fragments, and what a codestream says of itself. Runs in the child."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import BinaryIO

from sonoseek.core import ScanReadError

UNDEFINED = 0xFFFFFFFF
_ITEM = (0xFFFE, 0xE000)
_END = (0xFFFE, 0xE0DD)
# Start-of-frame markers: FFC0 … FFCF without DHT (C4), JPG (C8), DAC (CC); F7 is JPEG-LS.
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}


def count_fragments(stream: BinaryIO, pixels_at: int) -> int:
    """Number of fragments after the offset table; walks their headers, reads none of them.

    Raises:
        ScanReadError: a fragment's length leads beyond the end of the file.
    """
    end = stream.seek(0, io.SEEK_END)
    position, items = pixels_at, 0
    while position + 8 <= end:
        stream.seek(position)
        group, element, length = struct.unpack("<HHL", stream.read(8))
        if (group, element) == _END:
            break
        position += 8 + length
        if (group, element) != _ITEM or position > end:
            raise ScanReadError(
                f"fragment {items} of its pixel data claims {length} bytes, more than the file holds; the file is "
                "truncated or damaged. Fetch it again from its source."
            )
        items += 1
    return max(0, items - 1)  # the first item is the offset table, even when it is empty


@dataclass(frozen=True)
class Codestream:
    """What a JPEG, JPEG-LS or JPEG 2000 codestream says of itself."""

    rows: int
    columns: int
    samples: int
    precision: int = 8
    """Bits a sample; JPEG only."""
    component_ids: tuple[int, ...] = ()
    """JPEG only: as in the frame header."""
    subsampled: bool = False
    """JPEG only: not all components have the same sampling factors, as no RGB has."""
    jfif: bool = False
    """JPEG only: a JFIF marker, so YCbCr if in colour."""
    adobe_transform: int | None = None
    """JPEG only: 0 none (RGB), 1 YCbCr; None without an Adobe marker."""


def read_codestream(data: bytes) -> Codestream | None:
    """Read a codestream's own size without decoding it; None where it is not found.

    Sources: ITU-T T.81 B.1–B.2, T.87 C.2, T.800 A.5.1; T.872 6.5.3 (Adobe marker).
    """
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)  # SOC SIZ; some writers put JP2 boxes before it
    if start < 0 or len(data) < start + 42:
        return None
    right, bottom, left, top = struct.unpack(">4L", data[start + 8 : start + 24])
    (samples,) = struct.unpack(">H", data[start + 40 : start + 42])
    return Codestream(bottom - top, right - left, samples)


def _jpeg(data: bytes) -> Codestream | None:
    position, jfif, adobe = 2, False, None
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        (length,) = struct.unpack(">H", data[position + 2 : position + 4])
        body = data[position + 4 : position + 2 + length]
        if marker in _FRAME_MARKERS:
            if len(body) < 6:
                return None
            precision, rows, columns, samples = struct.unpack(">BHHB", body[:6])
            ids, sampling = tuple(body[6::3][:samples]), set(body[7::3][:samples])
            return Codestream(rows, columns, samples, precision, ids, len(sampling) > 1, jfif, adobe)
        if marker == 0xE0 and body.startswith(b"JFIF"):
            jfif = True
        elif marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            adobe = body[11]
        position += 2 + length
    return None
