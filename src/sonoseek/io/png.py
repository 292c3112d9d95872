"""PNG: every chunk that pixels depend on is checked against its checksum; the others are left out."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from operator import ne
from typing import BinaryIO

from sonoseek.core import ScanReadError

KEPT = frozenset({b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT"})
"""Ancillary chunks that change what is seen: transparency, orientation, animation. Text and colour profiles do not."""
_NEEDED = KEPT | {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
_SIGNATURE = 8


def checked_png(file: BinaryIO) -> BinaryIO:
    """The PNG without text, colour profiles and the like; `file` itself, at its start, where it has none.

    Pillow leaves checksums of pixels (PNG 5.3) unchecked: damaged ones can decode to a picture that is black from some
    row on. And it refuses a PNG for a text or a profile of more than 1 MB.

    Raises:
        ScanReadError: a checksum fails, or the end is missing.
    """
    file.seek(_SIGNATURE)
    skipped = False
    pieces: list[tuple[int, int]] = []
    for name, start, length in _chunks(file):
        if name in KEPT or name[:1].isupper():
            _check(file, name, start, length)
            pieces.append((start, length))
            continue
        skipped = True
        if any(sum(map(ne, name, needed)) == 1 for needed in _NEEDED):  # one of these, a byte of its name damaged?
            _check(file, name, start, length)
        else:
            file.seek(start + length + 12)
    file.seek(0)
    if not skipped:
        return file
    out = io.BytesIO(file.read(_SIGNATURE))
    out.seek(0, io.SEEK_END)
    for start, length in pieces:
        file.seek(start)
        out.write(file.read(length + 12))
    out.seek(0)
    return out


def bit_depth(file: BinaryIO) -> int:
    """Bits a sample, of the header (PNG 11.2.2); `file` is left where it was."""
    place = file.tell()
    file.seek(_SIGNATURE + 16)
    depth = file.read(1)
    file.seek(place)
    return depth[0] if depth else 8


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """(name, offset, length of its data); `file` is to be moved on by whoever takes one."""
    name = b""
    while name != b"IEND":
        start = file.tell()
        head = file.read(8)
        if len(head) < 8:
            raise ScanReadError("the PNG has no end; it is truncated. Fetch it again from its source.")
        (length,), name = struct.unpack(">L", head[:4]), head[4:]
        yield name, start, length


def _check(file: BinaryIO, name: bytes, start: int, length: int) -> None:
    """Compare a chunk with its checksum; `file` then stands behind it."""
    file.seek(start + 8)
    checksum = zlib.crc32(name)
    while length and (piece := file.read(min(length, 1 << 20))):
        checksum = zlib.crc32(piece, checksum)
        length -= len(piece)
    if file.read(4) != struct.pack(">L", checksum):
        raise ScanReadError(
            f"the PNG's chunk {name.decode('latin-1')!r} fails its checksum; it is truncated or damaged. Fetch it "
            "again from its source."
        )
