"""JPEG, decoded so that whatever libjpeg merely warns of is an error.

A damaged JPEG often decodes to a picture: libjpeg fills in what is missing and warns. Pillow drops the warnings;
`simplejpeg` can make them errors. libjpeg does not warn of a progressive JPEG that lacks whole scans: this is read from
the scan headers (ITU-T T.81 G.1.1).
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import ScanReadError, ScanTooLargeError

SCANS_LIMIT = 64
"""A progressive JPEG has about ten scans. Each is a pass over the whole picture: thousands are an attack."""
FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
"""Start of frame: FFC0 … FFCF without DHT (C4), JPG (C8), DAC (CC); F7 is JPEG-LS."""
_PROGRESSIVE = frozenset({0xC2, 0xCA})
_SOS, _EOI, _JPEG_LS = 0xDA, 0xD9, 0xF7
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_ENTROPY_END = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""In entropy-coded data FF00 is a sample and FFD0 … FFD7 restart: any other marker ends it. T.81 B.1.1.5."""
_ENTROPY_END_LS = re.compile(rb"\xff[\x80-\xfe]")
"""JPEG-LS stuffs a bit: after FF comes less than 80. T.87 A.1."""
_REMEDY = "Fetch it again from its source."


def strict_luma(data: bytes) -> NDArray[np.uint8] | None:
    """Decode a JPEG of 8 bits and hold it to every check that the format has.

    Args:
        data: from the start marker on; whatever follows the end marker is padding.

    Returns:
        uint8 (H, W), not turned: grey, or Y of YCbCr; of RGB its luma; None of CMYK, which is checked all the same.

    Raises:
        ScanReadError: data or scans are missing, or a decoder warns.
        ScanTooLargeError: more scans than `SCANS_LIMIT`.
    """
    import simplejpeg  # for JPEG alone

    check_scans(data)
    try:
        space = simplejpeg.decode_jpeg_header(data)[2]
        pixels = simplejpeg.decode_jpeg(data, colorspace="CMYK" if space in ("CMYK", "YCCK") else "GRAY", strict=True)
    except ValueError as error:
        raise ScanReadError(f"the JPEG is truncated or damaged ({str(error)[:100]}). {_REMEDY}") from error
    grey: NDArray[np.uint8] = pixels[..., 0]
    return grey if pixels.shape[2] == 1 else None


def check_scans(data: bytes) -> None:
    """Every coefficient of every component must have been sent to its last bit.

    Raises:
        ScanReadError: a component or a scan is missing.
        ScanTooLargeError: more scans than `SCANS_LIMIT`.
    """
    missing: dict[int, NDArray[np.bool_]] = {}
    progressive = False
    scans = 0
    for marker, body in segments(data):
        if marker in FRAME_MARKERS and len(body) >= 6:
            progressive = marker in _PROGRESSIVE
            missing = {body[at]: np.ones(64, np.bool_) for at in range(6, min(len(body), 6 + 3 * body[5]), 3)}
        elif marker == _SOS and body and len(body) >= 4 + 2 * body[0]:
            scans += 1
            first, last, low = body[-3], body[-2], body[-1] & 15
            if scans > SCANS_LIMIT:
                raise ScanTooLargeError(
                    f"the JPEG has more than {SCANS_LIMIT} scans; sound ones have about ten, at most {SCANS_LIMIT} are "
                    "read. If it is sound, save it as PNG."
                )
            for component in body[1 : 1 + 2 * body[0] : 2]:
                if component in missing and not (progressive and low):
                    missing[component][slice(first, last + 1) if progressive else slice(None)] = False
    if not missing or any(bits.any() for bits in missing.values()):
        raise ScanReadError(f"the JPEG lacks scans that its header announces; it is truncated. {_REMEDY}")


def segments(data: bytes) -> list[tuple[int, bytes]]:
    """(marker, body) of every segment up to the end marker, which comes last where it is there; no entropy-coded data.

    The list ends early where the data does, or where no marker stands in its place.
    """
    return [(marker, data[start:end]) for marker, start, end in _walk(data)]


def end_of_stream(data: bytes) -> int | None:
    """Offset behind the end marker of a JPEG or JPEG-LS stream; None where it has none."""
    last = _walk(data)[-1:]
    return last[0][2] if last and last[0][0] == _EOI else None


def _walk(data: bytes) -> list[tuple[int, int, int]]:
    """(marker, start of its body, end of its body)."""
    found: list[tuple[int, int, int]] = []
    position, entropy_end = 2, _ENTROPY_END
    while position + 2 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == _EOI or marker in _STANDALONE:
            position += 2
            found.append((marker, position, position))
            if marker == _EOI:
                break
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if end > len(data) or end < position + 4:
            break
        found.append((marker, position + 4, end))
        position = end
        if marker == _JPEG_LS:
            entropy_end = _ENTROPY_END_LS
        if marker == _SOS:
            if len(found) > 100_000:
                break
            match = entropy_end.search(data, position)
            if match is None:
                break
            position = match.start()
    return found
