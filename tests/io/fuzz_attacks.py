"""Files of known attacks on picture readers, each from a small builder: little to send, much to read.

`ATTACKS` gives name → builder. Sizes are of the file; the times are those that plain readers were measured to take.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping

from fuzz_lies import EMPTY_FRAME, segment
from test_reading_bad_files import chained_tiff, png, zeros


def overlapping_tiff(pages: int = 65_000, entries: int = 4_000) -> bytes:
    """830 KB: 65,000 directories of 4,000 entries, each begun 12 bytes behind the last one.

    The number of entries stands in the upper half of an entry's value of 16 bits, which no reader looks at: so any
    entry is also the start of a directory. A reader that goes from page to page reads them all anew: minutes.
    """
    tags = {256: 40, 257: 30, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 30, 279: 1200, 284: 1}
    turn = b"".join(struct.pack("<HHLHH", tag, 3, 1, value, entries) for tag, value in tags.items())
    rows = -(-(entries + pages) // len(tags))
    data = bytearray(struct.pack("<2sHLH", b"II", 42, 8, entries) + turn * rows)
    for page in range(pages):
        following = 8 + 12 * (page + 1) if page + 1 < pages else 0
        at = 10 + 12 * (page + entries)
        data[at : at + 4] = struct.pack("<L", following)  # in place of a tag and its type
    return bytes(data)


def scan_after_scan_jpeg(width: int = 8192, height: int = 7680) -> bytes:
    """130 KB: a progressive JPEG of 63 megapixels; each of 53 scans is a pass over all of them.

    A code of one bit says that a block's first coefficient is as the last one's; one of 15 bits that 16,384 blocks have
    no other coefficients. Those come in four bands, each to its last bit in 13 steps: by so many a pixel is read.
    """
    blocks = (width // 8) * (height // 8)
    runs, rest = divmod(blocks, 1 << 14)
    if rest or blocks % 8:
        raise ValueError(f"{width} × {height} has {blocks} blocks; they must be a multiple of 16,384.")
    head = b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64)
    head += segment(0xC2, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0")
    head += segment(0xC4, b"\0\1" + bytes(15) + b"\0") + segment(0xC4, b"\x10\1" + bytes(15) + b"\xe0")
    first = segment(0xDA, b"\1\1\0" + bytes((0, 0, 0))) + bytes(blocks // 8)
    bits = 15 * runs
    entropy = bytes(bits // 8) + _padded(bits % 8)
    steps = [12, *((low + 1) << 4 | low for low in range(11, -1, -1))]
    later = [
        segment(0xDA, b"\1\1\0" + bytes((band, min(band + 15, 63), step))) + entropy
        for step in steps
        for band in (1, 17, 33, 49)
    ]
    return head + first + b"".join(later) + b"\xff\xd9"


def arithmetic_jpeg(width: int = 8192, height: int = 7680) -> bytes:
    """240 bytes: 63 megapixels, coded arithmetically. Where its data end the decoder goes on with zeros, unwarned."""
    scans = [(0, 0, 0), (1, 63, 13), *((1, 63, (low + 1) << 4 | low) for low in range(12, -1, -1))]
    head = b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64)
    head += segment(0xCA, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0")
    return head + b"".join(segment(0xDA, b"\1\1\0" + bytes(scan)) for scan in scans) + b"\xff\xd9"


def _padded(bits: int) -> bytes:
    """The last byte of a scan: so many zeros, then ones."""
    return bytes((0xFF >> bits,)) if bits else b""


def gif_of_frames(count: int = 6_000_000) -> bytes:
    """90 MB: six million frames of one pixel. To count them all takes minutes."""
    return _GIF_HEAD + EMPTY_FRAME * count + b";"


def gif_of_comments(count: int = 4_000_000) -> bytes:
    """20 MB: four million comments of a letter, which a reader joins one by one."""
    return _GIF_HEAD + b"\x21\xfe\x01a\0" * count + EMPTY_FRAME + b";"


_GIF_HEAD = b"GIF89a" + struct.pack("<HHBBB", 64, 64, 0x80, 0, 0) + bytes(3) + b"\xff" * 3


def blank_png() -> bytes:
    """61 KB: 63 megapixels of black."""
    return png(9000, 7000, zeros(7000 * 9001))


def thin_png() -> bytes:
    """117 KB: one column of 60 million rows, each with a filter of its own."""
    return png(1, 60_000_000, zeros(120_000_000))


def _directory(entries: int) -> bytes:
    """Directory entries whose texts lie behind the end of the file, each another warning."""
    return b"".join(
        struct.pack("<HHLL", 4_000 + index, 2, 1_000_000 + index, 0x7000_0000 + index) for index in range(entries)
    )


def warning_tiff(entries: int = 4_000) -> bytes:
    """50 KB: 4,000 tags that cannot be read; 800 KB of warnings."""
    tags = {256: 40, 257: 30, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 30, 279: 1200, 284: 1}
    sound = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in tags.items())
    start = 8 + 1200
    head = struct.pack("<2sHL", b"II", 42, start) + bytes(range(240)) * 5
    return head + struct.pack("<H", entries + len(tags)) + sound + _directory(entries) + bytes(4)


def warning_jpeg(parts: int = 12) -> bytes:
    """720 KB: 60,000 such tags as EXIF, in parts of 60 KB that a reader joins; 12 MB of warnings."""
    from fuzz_corpus import encoded, phantom

    entries = 60_000
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", entries) + _directory(entries) + bytes(4)
    size = -(-len(exif) // parts)
    pieces = [exif[at : at + size] for at in range(0, len(exif), size)]
    data = encoded(phantom(), "JPEG", quality=90)
    return data[:2] + b"".join(segment(0xE1, b"Exif\0\0" + piece) for piece in pieces) + data[2:]


def animated_png(frames: int = 200_000) -> bytes:
    """8 MB: 200,000 frames of an animated PNG that are only announced, each by a control chunk."""
    from test_reading_bad_files import chunk

    control = [
        chunk(b"fcTL", struct.pack(">LLLLLHHBB", index, 64, 64, 0, 0, 1, 10, 0, 0)) for index in (0, *range(1, frames))
    ]
    head = png(64, 64, zlib.compress(bytes(64 * 65)), extra=chunk(b"acTL", struct.pack(">LL", frames, 0)) + control[0])
    return head[:-12] + b"".join(control[1:]) + head[-12:]


ATTACKS: Mapping[str, Callable[[], bytes]] = {
    "overlapping directories.tif": overlapping_tiff,
    "200,000 chained directories.tif": lambda: chained_tiff(200_000),
    "53 scans of 63 megapixels.jpg": scan_after_scan_jpeg,
    "63 megapixels in 240 bytes.jpg": arithmetic_jpeg,
    "6,000,000 frames.gif": gif_of_frames,
    "4,000,000 comments.gif": gif_of_comments,
    "63 megapixels in 61 KB.png": blank_png,
    "1 × 60,000,000 pixels.png": thin_png,
    "4,000 warnings.tif": warning_tiff,
    "60,000 warnings.jpg": warning_jpeg,
    "200,000 frames announced.png": animated_png,
}
