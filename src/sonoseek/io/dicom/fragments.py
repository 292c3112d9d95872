"""Encapsulated pixel data (PS3.5 A.4): its fragments, and what a codestream says of itself. Runs in the child."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO, Literal

from sonoseek.core import ScanReadError
from sonoseek.io.dicom.jpeg import FRAME_MARKERS, end_of_stream, segments

UNDEFINED = 0xFFFFFFFF
_ITEM = (0xFFFE, 0xE000)
_END = (0xFFFE, 0xE0DD)
_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")
"""JPEG and JPEG-LS; JPEG 2000; JP2."""
_LEAD = 64
"""Bytes of padding before a JPEG that are skipped."""

Part = tuple[int, int]
"""Offset and length of a fragment's value."""
Codec = Literal["jpeg", "jpeg-lossless", "jpeg-ls", "jpeg-2000"]


def list_fragments(stream: BinaryIO, pixels_at: int) -> list[Part]:
    """The offset table, then every fragment; walks their headers, reads none of them.

    Raises:
        ScanReadError: a fragment's length leads beyond the end of the file.
    """
    end = stream.seek(0, io.SEEK_END)
    position, parts = pixels_at, list[Part]()
    while position + 8 <= end:
        stream.seek(position)
        group, element, length = struct.unpack("<HHL", stream.read(8))
        if (group, element) == _END:
            break
        if (group, element) != _ITEM or position + 8 + length > end:
            raise ScanReadError(
                f"fragment {len(parts)} of its pixel data claims {length} bytes, more than the file holds; the file is "
                "truncated or damaged. Fetch it again from its source."
            )
        parts.append((position + 8, length))
        position += 8 + length
    return parts


def group_frames(
    stream: BinaryIO, parts: Sequence[Part], *, frames: int, extended: bytes | None
) -> list[Sequence[Part]] | None:
    """Which fragments make up which frame; None where that is not known.

    One fragment a frame needs no table. Otherwise a frame begins where a codestream begins; failing that, where the
    extended or the basic offset table says so, if every offset in it is that of a fragment. Tables are often wrong.

    Args:
        stream: the file.
        parts: of `list_fragments`.
        frames: as the header says.
        extended: ExtendedOffsetTable, 8 bytes a frame.
    """
    fragments = parts[1:]
    if len(fragments) == frames:
        return [[part] for part in fragments]
    if frames == 1:
        return [fragments]
    starts = [number for number, part in enumerate(fragments) if _head(stream, part).startswith(_STARTS)]
    if starts[:1] != [0] or len(starts) != frames:
        basic = _head(stream, parts[0], most=parts[0][1])
        places = {offset - fragments[0][0]: number for number, (offset, _) in enumerate(fragments)}
        for table, size, form in ((extended or b"", 8, "<%dQ"), (basic, 4, "<%dL")):
            offsets = struct.unpack(form % (len(table) // size), table[: len(table) // size * size])
            starts = [places.get(offset, -1) for offset in offsets]
            if len(starts) == frames and starts[0] == 0 and all(a < b for a, b in pairwise(starts)):
                break
        else:
            return None
    ends = [*starts[1:], len(fragments)]
    return [fragments[start:end] for start, end in zip(starts, ends, strict=True)]


def _head(stream: BinaryIO, part: Part, *, most: int = 8) -> bytes:
    stream.seek(part[0])
    return stream.read(min(part[1], most))


@dataclass(frozen=True)
class Codestream:
    """What a JPEG, JPEG-LS or JPEG 2000 codestream says of itself.

    Attributes:
        data: without what stands before its start or behind its end.
        codec: which of them it is.
        rows, columns, samples: of the picture.
        precision: bits a sample.
        complete: whether its end marker is there; JPEG and JPEG-LS only.
        signed: whether samples are signed; JPEG 2000 only.
        colour_transform: whether decoding gives RGB by the stream's own transform; JPEG 2000 only.
        component_ids: as in the frame header; JPEG only.
        subsampled: not all components have the same sampling factors, as no RGB has.
        jfif: a JFIF marker, so YCbCr if in colour; JPEG only.
        adobe_transform: 0 none (RGB), 1 YCbCr; None without an Adobe marker; JPEG only.
    """

    data: bytes
    codec: Codec
    rows: int
    columns: int
    samples: int
    precision: int
    complete: bool = True
    signed: bool = False
    colour_transform: bool = False
    component_ids: tuple[int, ...] = ()
    subsampled: bool = False
    jfif: bool = False
    adobe_transform: int | None = None


def read_codestream(data: bytes) -> Codestream | None:
    """Read a codestream's own header without decoding it; None where there is none.

    Sources: ITU-T T.81 B.1–B.2, T.87 C.2, T.800 A.5.1 and A.6.1; T.872 6.5.3 (Adobe marker).
    """
    start = data.find(_STARTS[0], 0, _LEAD)
    if start >= 0 and not data[:start].strip(b"\0\xff"):
        return _jpeg(data[start:])
    start = data.find(_STARTS[1], 0, 4096)  # SOC SIZ; some writers put JP2 boxes before it
    return None if start < 0 else _jpeg_2000(data[start:])


def _jpeg_2000(data: bytes) -> Codestream | None:
    if len(data) < 45:
        return None
    right, bottom, left, top = struct.unpack(">4L", data[8:24])
    (samples,) = struct.unpack(">H", data[40:42])
    components = data[42 : 42 + 3 * samples]
    depths, steps = set(components[::3]), {*components[1::3], *components[2::3]}
    if len(depths) != 1:  # components of unequal depth: no picture that a scanner makes
        return None
    (depth,) = depths
    coding = data.find(b"\xff\x52", 42 + 3 * samples, 4096)  # COD: length, Scod, progression, layers, transform
    transform = coding > 0 and data[coding + 8 : coding + 9] == b"\1"
    return Codestream(
        data,
        "jpeg-2000",
        bottom - top,
        right - left,
        samples,
        (depth & 127) + 1,
        signed=depth > 127,
        colour_transform=transform,
        subsampled=steps != {1},
    )


def _jpeg(data: bytes) -> Codestream | None:
    jfif, adobe = False, None
    for marker, body in segments(data):
        if marker in FRAME_MARKERS:
            if len(body) < 6:
                return None
            precision, rows, columns, samples = struct.unpack(">BHHB", body[:6])
            ids, sampling = tuple(body[6::3][:samples]), set(body[7::3][:samples])
            codec: Codec = "jpeg-ls" if marker == 0xF7 else "jpeg-lossless" if marker in _LOSSLESS else "jpeg"
            end = end_of_stream(data)
            return Codestream(
                data[:end],
                codec,
                rows,
                columns,
                samples,
                precision,
                complete=end is not None,
                component_ids=ids,
                subsampled=len(sampling) > 1,
                jfif=jfif,
                adobe_transform=adobe,
            )
        if marker == 0xE0 and body.startswith(b"JFIF"):
            jfif = True
        elif marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            adobe = body[11]
    return None


_LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
