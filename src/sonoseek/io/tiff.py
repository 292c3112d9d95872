"""TIFF: the depths and layouts that Pillow does not read, or reads wrongly; and what can be checked of compressed data.

Pillow reads unsigned samples of up to 8 bits, and grey of 12 and 16 bits. The rest is signed, has 32 or 64 bits,
floating point or 16-bit colour. tifffile decodes it where it is uncompressed or deflated, else OpenCV, which applies
the orientation tag as Pillow does.
"""

from __future__ import annotations

import logging
import struct
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import InvalidValueError, ScanReadError, ScanTooLargeError, Settings
from sonoseek.io.dicom.jpeg import strict_luma
from sonoseek.io.files import no_such_frame, whole
from sonoseek.io.image import check_megapixels

PAGES_LIMIT = 4096
"""Page n of a TIFF is reached through all before it, and a small file can chain any number: no more are read."""
_GREY, _COLOUR = (0, 1), (2,)
"""TIFF 6.0, PhotometricInterpretation: WhiteIsZero, BlackIsZero; RGB."""
_COMPLEX = (5, 6)
"""SampleFormat of complex integers and floats."""
_PLAIN, _DEFLATE, _JPEG = 1, (8, 32946), (7,)
_FLOAT_PREDICTOR = 3
_SEPARATE = 2
_ORIENTATION = 274
_COPIES = 4
"""Arrays of the picture's own size that decoding takes, at most."""
_RARE = "Save it as PNG of 8 or 16 bits."
logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it logs every tag of a damaged file


@dataclass(frozen=True, kw_only=True)
class DeepPage:
    """A page that Pillow does not read rightly.

    Attributes:
        samples: (H, W) or (H, W, 3) of any numeric type, black lowest, over black where transparent.
        turned: EXIF orientation that is left to apply.
    """

    samples: NDArray[Any]
    turned: int


def read_tiff(file: BinaryIO, *, frame: int, settings: Settings) -> DeepPage | None:
    """Check a page's compressed data, and decode it where Pillow would not do so rightly.

    Args:
        file: opened.
        frame: page, 0-based.
        settings: `max_megapixels` and `read_memory_mb`.

    Returns:
        The page; None where Pillow reads it.

    Raises:
        InvalidValueError: no such page.
        ScanReadError: damaged, or of a kind that nothing here reads.
        ScanTooLargeError: the header claims more than the limits.
    """
    import tifffile

    pages = count_pages(file)
    if not 0 <= frame < pages:
        if pages == PAGES_LIMIT:
            raise InvalidValueError(
                f"frame is {frame}; of a TIFF only the first {PAGES_LIMIT} pages are read, counted from 0. Choose "
                f"0 … {PAGES_LIMIT - 1}, or save the page as a file of its own."
            )
        raise no_such_frame(frame, pages)
    file.seek(0)
    with tifffile.TiffFile(file, name="scan.tif") as tiff:  # an opened file has no name of its own
        try:
            page: Any = tiff.pages[frame]
        except IndexError as error:
            raise ScanReadError(
                f"the TIFF's directory of page {frame} is cut off; it is truncated. Fetch it again from its source."
            ) from error
        if not isinstance(page, tifffile.TiffPage):
            page = page.aspage()
        plain = _plain(page)
        _check_size(page, settings, decoded=not plain)
        _check_segments(page, tiff.filehandle)
        if plain:
            return None
        samples, turned = _decoded(page, file, frame)
        return DeepPage(samples=samples, turned=turned)


def count_pages(file: BinaryIO) -> int:
    """Pages of a TIFF, 1 … `PAGES_LIMIT`; a chain that turns in a circle or leads nowhere ends."""
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    offset = struct.unpack(f"{order}Q", head[8:16])[0] if big else struct.unpack(f"{order}L", head[4:8])[0]
    seen: set[int] = set()
    while offset and offset not in seen and len(seen) < PAGES_LIMIT:
        following = _next_page(file, offset, order=order, big=big)
        if following is None:
            break
        seen.add(offset)
        offset = following
    return max(1, len(seen))


def _next_page(file: BinaryIO, offset: int, *, order: str, big: bool) -> int | None:
    """Offset of the directory that follows the one at `offset`, 0 after the last; None where that one is cut off."""
    count_size, entry, form = (8, 20, "Q") if big else (2, 12, "L")
    file.seek(offset)
    try:
        (count,) = struct.unpack(order + ("Q" if big else "H"), file.read(count_size))
        file.seek(offset + count_size + entry * count)
        (following,) = struct.unpack(order + form, file.read(8 if big else 4))
    except (struct.error, OverflowError, OSError, ValueError):
        return None
    return int(following)


def _plain(page: Any) -> bool:
    """Whether Pillow reads it."""
    bits = page.bitspersample
    if page.sampleformat != 1:
        return False
    return bits <= 8 or (bits in (12, 16) and page.samplesperpixel == 1 and page.photometric == 1)


def _check_size(page: Any, settings: Settings, *, decoded: bool) -> None:
    check_megapixels(page.imagelength, page.imagewidth, settings)
    needed = (
        _COPIES * page.imagewidth * page.imagelength * page.samplesperpixel * max(page.bitspersample // 8, 4)
        if decoded
        else 0
    )
    if needed > settings.read_memory_mb << 20:
        raise ScanTooLargeError(
            f"the picture has {page.imagelength} × {page.imagewidth} pixels of {page.samplesperpixel} × "
            f"{page.bitspersample} bits; decoding it would take more than {settings.read_memory_mb} MiB. If it is "
            "sound, raise SONOSEEK_READ_MEMORY_MB."
        )


def _check_segments(page: Any, file: Any) -> None:
    """Strips and tiles whose compression has a check: deflate to its Adler-32 (RFC 1950), JPEG to its end marker."""
    if page.compression not in (*_DEFLATE, *_JPEG):
        return
    expected = int(np.prod(page.chunks)) * max(page.bitspersample, 8) // 8
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if count == 0:  # an empty tile
            continue
        file.seek(offset)
        data = file.read(count)
        if len(data) < count:
            raise ScanReadError("the TIFF ends within its pixels; it is truncated. Fetch it again from its source.")
        if page.compression in _JPEG:
            strict_luma((page.jpegtables[:-2] + data[2:]) if page.jpegtables else data)
            continue
        inflate = zlib.decompressobj()
        try:
            size = len(inflate.decompress(data, expected + 1))
        except zlib.error as error:
            raise ScanReadError(
                f"the TIFF's deflated pixels are damaged ({error}). Fetch it again from its source."
            ) from error
        if not inflate.eof or size > expected:
            raise ScanReadError(
                f"the TIFF's deflated pixels do not end where the picture does ({size} of {expected} bytes); it is "
                "damaged. Fetch it again from its source."
            )


def _decoded(page: Any, file: BinaryIO, frame: int) -> tuple[NDArray[Any], int]:
    """Samples and the orientation that is left to apply."""
    if page.sampleformat in _COMPLEX:
        raise ScanReadError(f"the TIFF holds complex numbers; whole and floating-point samples are read. {_RARE}")
    if page.photometric not in (*_GREY, *_COLOUR) or page.imagedepth != 1:
        raise ScanReadError(
            f"the TIFF holds {page.bitspersample}-bit samples of photometric interpretation {int(page.photometric)}; "
            f"grey and RGB of this depth are read. {_RARE}"
        )
    separate = page.planarconfig == _SEPARATE and page.samplesperpixel > 1
    if page.compression in (_PLAIN, *_DEFLATE) and page.predictor != _FLOAT_PREDICTOR:
        samples = np.asarray(page.asarray(maxworkers=1))
        samples = np.moveaxis(samples, 0, -1) if separate else samples
        tag = page.tags.get(_ORIENTATION)
        turned = int(tag.value) if tag is not None and tag.value in range(1, 9) else 1
    else:
        samples, turned = _by_opencv(file, frame, page), 1
    samples = samples.reshape(*samples.shape[:2], -1)
    colours = 3 if page.photometric in _COLOUR else 1
    if samples.shape[2] < colours or (not separate and samples.shape[2] != page.samplesperpixel):
        raise ScanReadError(f"the TIFF's {page.samplesperpixel} samples a pixel do not decode. {_RARE}")
    colour = samples[..., :colours]
    if page.extrasamples and page.extrasamples[0] == 2:  # opacity that is not yet multiplied in
        whole = 1.0 if samples.dtype.kind == "f" else float(np.iinfo(samples.dtype).max)
        colour = colour * (samples[..., colours : colours + 1] / whole)
    if page.photometric == 0:  # WhiteIsZero
        colour = _negative(colour)
    return colour[..., 0] if colours == 1 else colour, turned


def _negative(samples: NDArray[Any]) -> NDArray[Any]:
    if samples.dtype.kind == "f":
        return np.asarray(samples.max() - samples)
    return np.asarray(~samples)


def opencv_samples(file: BinaryIO, frame: int) -> NDArray[Any] | None:
    """One frame as OpenCV decodes it, with all bits, colours as B, G, R; None where it does not."""
    import cv2  # the heaviest of our imports, for a rare kind of file

    found, pages = cv2.imdecodemulti(
        np.frombuffer(whole(file), np.uint8), cv2.IMREAD_UNCHANGED, range=(frame, frame + 1)
    )
    return pages[0] if found and pages else None


def _by_opencv(file: BinaryIO, frame: int, page: Any) -> NDArray[Any]:
    samples = opencv_samples(file, frame)
    wanted = page.dtype
    if samples is None or wanted is None or samples.dtype.itemsize != wanted.itemsize:
        raise ScanReadError(
            f"the TIFF's {wanted} samples do not decode; they are damaged or of a rare subtype. {_RARE}"
        )
    if samples.dtype.kind != wanted.kind:  # OpenCV before 5 has no unsigned 32 bits
        samples = samples.view(wanted.newbyteorder("="))
    if samples.ndim == 3 and samples.shape[2] >= 3:  # B, G, R
        samples = samples[..., [2, 1, 0, *range(3, samples.shape[2])]]
    return np.asarray(samples)
