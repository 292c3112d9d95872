"""Data elements whose VR is none: each gets the VR of the data dictionary. Runs in the child."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

_KNOWN = frozenset(str(vr).encode() for vr in VR if len(str(vr)) == 2)
_LONG = frozenset(str(vr).encode() for vr in EXPLICIT_VR_LENGTH_32)
_PIXEL_GROUP = 0x7FE0
HEADER_LIMIT = 16 << 20
"""Bytes before the pixel data; a header that needs repair and is longer is left alone."""


def with_known_vrs(stream: BinaryIO, start: int) -> BinaryIO | None:
    r"""The header with a known VR in each element of its first level, pixel data cut off; None where that fails.

    pydicom takes an element with an unknown VR ("\0\0", "us") for implicit, and everything behind it is lost.

    Args:
        stream: explicit little endian; left anywhere.
        start: offset of the first element behind the file meta group.
    """
    stream.seek(0)
    data = bytearray(stream.read(HEADER_LIMIT))
    position, repaired = start, False
    while position + 12 <= len(data):
        group, element, vr = struct.unpack_from("<HH2s", data, position)
        if group == _PIXEL_GROUP:
            return io.BytesIO(bytes(data[: position + 12])) if repaired else None
        if vr not in _KNOWN:
            vr = _vr(data, position, tag=group << 16 | element)
            if vr is None:
                return None
            data[position + 4 : position + 6] = vr
            repaired = True
        length, head = _length(data, position, long=vr in _LONG)
        if length == 0xFFFFFFFF:
            return None
        position += head + length
    return None


def _length(data: bytearray, position: int, *, long: bool) -> tuple[int, int]:
    """(length of the value, bytes before it)."""
    if long:
        return struct.unpack_from("<L", data, position + 8)[0], 12
    return struct.unpack_from("<H", data, position + 6)[0], 8


def _vr(data: bytearray, position: int, *, tag: int) -> bytes | None:
    """A VR for an element that has none: one whose form of length leads to the next element."""
    for long in (False, True):
        length, head = _length(data, position, long=long)
        following = position + head + length
        if following + 4 > len(data):
            continue
        group, element = struct.unpack_from("<HH", data, following)
        if tag < (group << 16 | element) <= _PIXEL_GROUP << 16 | 0xFFFF:
            listed = dictionary_VR(tag)[:2].encode() if dictionary_has_tag(tag) else b"UN"
            return listed if (listed in _LONG) == long else b"UN" if long else b"LO"
    return None
