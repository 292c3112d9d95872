"""PNG, JPEG, BMP, TIFF and GIF through Pillow, safely: sizes are checked before anything is decoded.

Pillow's plugins are called by name, for the kind that the content shows. That is faster than `Image.open`, and excludes
other formats and the programs that some of them start. Pillow's global limits stay as they are; ours apply.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO, cast

from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from sonoseek.core import InvalidValueError, ScanReadError, ScanTooLargeError, Settings
from sonoseek.io.files import no_such_frame
from sonoseek.io.png import bit_depth, checked_png
from sonoseek.io.sniff import Kind

SEQUENTIAL_LIMIT = 8
"""Frame n of a GIF or an animated PNG takes n + 1 decodings: at most this many times `max_megapixels` in all."""
RLE_PIXELS_LIMIT = 4_000_000
"""Pillow unpacks a run-length encoded BMP in Python, a pixel or a run at a time: about 1 s for this many."""
RLE_BYTES_LIMIT = 2 * RLE_PIXELS_LIMIT + (1 << 20)
"""A run takes two bytes, and is a pixel at least; what is longer holds runs that lead nowhere."""
OVERHEAD = 96 << 20
"""Bytes. Of the memory limit, what Python, numpy and small intermediate pictures take."""
_OPENERS: Mapping[Kind, Callable[[BinaryIO], ImageFile.ImageFile]] = {
    "png": PngImageFile,
    "jpeg": JpegImageFile,
    "bmp": BmpImageFile,
    "tiff": TiffImageFile,
    "gif": GifImageFile,
}
_NARROW = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
"""Bytes a pixel in Pillow's memory; 4 in every other mode, RGB included."""
_WIDTH, _LENGTH, _ORIENTATION, _TILE_WIDTH, _TILE_LENGTH = 256, 257, 274, 322, 323
"""TIFF 6.0 tags."""


@contextmanager
def open_picture(
    file: BinaryIO, kind: Kind, *, frame: int, settings: Settings, channels: int = 1
) -> Iterator[Image.Image]:
    """Open one frame of a picture, its pixels not yet decoded; decode and convert inside the `with` block.

    Whatever Pillow raises inside the block leaves it as one of the errors below.

    Args:
        file: opened.
        kind: its format, not "dicom".
        frame: 0-based; a page of a TIFF, a frame of a GIF or an animated PNG.
        settings: `max_megapixels` of the frame, and `read_memory_mb`.
        channels: bytes a pixel of what will be made of it.

    Raises:
        InvalidValueError: no such frame.
        ScanReadError: truncated or damaged.
        ScanTooLargeError: the header claims more than the limits.
    """
    file.seek(0)
    with translated_errors(kind):
        source = checked_png(file) if kind == "png" else file
        with _OPENERS[kind](source) as picture:
            _check_size(picture, settings, channels=channels)
            if kind == "bmp":
                _check_rle(picture, file)
            if kind == "png":
                _scale_transparency(picture, bit_depth(file))
            if frame:
                _seek(picture, frame, most=SEQUENTIAL_LIMIT * settings.max_megapixels * 1e6)
                _check_size(picture, settings, channels=channels)
            yield picture


@contextmanager
def translated_errors(kind: Kind) -> Iterator[None]:
    """Whatever is raised inside the block leaves it as one of sonoseek's errors."""
    try:
        yield
    except (InvalidValueError, ScanReadError):
        raise
    except (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ScanTooLargeError(
            f"decoding it takes more memory than there is ({error}); it is probably made to harm. If it "
            "is sound, free memory or store it smaller."
        ) from error
    except Exception as error:
        # Pillow raises some dozen types for damaged files, SyntaxError and struct.error among them.
        raise ScanReadError(
            f"the {kind.upper()} cannot be decoded ({type(error).__name__}: {str(error)[:200]}); it is "
            "truncated, damaged or of a rare subtype. Fetch it again, or save it as PNG."
        ) from error


def _scale_transparency(picture: Image.Image, bits: int) -> None:
    """Pillow spreads grey of 2 and 4 bits over 0 … 255, but not the level that is transparent."""
    level = picture.info.get("transparency")
    if bits < 8 and isinstance(level, int) and picture.mode == "L":
        picture.info["transparency"] = level * 255 // ((1 << bits) - 1)


def count_frames(picture: Image.Image) -> int:
    """Frames of an open picture; the pages of a TIFF are counted by `sonoseek.io.tiff`."""
    return int(getattr(picture, "n_frames", 1))


def frames_if_sound(picture: Image.Image) -> int | None:
    """The same, after one frame was decoded: None where a later frame is damaged, for that one is sound."""
    with contextlib.suppress(Exception):
        return count_frames(picture)
    return None


def orientation(picture: Image.Image) -> int:
    """EXIF orientation, 1 … 8, that is still to be applied; 1 is upright, and what damaged EXIF counts as.

    Pillow turns a TIFF by itself when it decodes it: what is left is known after decoding.
    """
    with contextlib.suppress(Exception):  # damaged EXIF is no reason to refuse a sound picture
        found = picture.getexif().get(_ORIENTATION, 1)
        return found if found in range(1, 9) else 1
    return 1


def deep_colour(picture: Image.Image) -> bool:
    """Whether the file has 16 bits a sample in colour, of which Pillow keeps the upper 8. Ask before decoding."""
    tiles = getattr(picture, "tile", ())
    return not picture.mode.startswith("I") and any(";16" in str(tile.args) for tile in tiles)


def _check_size(picture: Image.Image, settings: Settings, *, channels: int) -> None:
    """Hold what the header claims to the limits."""
    width, height = picture.size
    pixels = width * height
    check_megapixels(height, width, settings)
    stored = _NARROW.get(picture.mode, 4)
    needed = pixels * (stored + 2 * channels)  # the result, and its turned copy
    if deep_colour(picture):
        needed += pixels * 8  # decoded a second time when few of the bits are used
    if picture.info.get("progressive"):
        needed += pixels * 2 * len(picture.getbands())  # libjpeg keeps every coefficient, 16 bits each
    if isinstance(picture, TiffImageFile):
        needed += pixels * stored * (orientation(picture) != 1)
        reach = [max(tile.extents[side] for tile in picture.tile if tile.extents) for side in (2, 3)]
        if reach[0] < picture.tag_v2[_WIDTH] or reach[1] < picture.tag_v2[_LENGTH]:
            raise ScanReadError(
                f"the TIFF claims {picture.tag_v2[_LENGTH]} × {picture.tag_v2[_WIDTH]} pixels, but its strips cover "
                f"{reach[1]} × {reach[0]}; it is damaged. Fetch it again from its source."
            )
        tile = [int(picture.tag_v2.get(tag, 0)) for tag in (_TILE_WIDTH, _TILE_LENGTH)]
        needed += tile[0] * tile[1] * stored  # a tile may claim far more than the picture
    if needed > (settings.read_memory_mb << 20) - OVERHEAD:
        raise ScanTooLargeError(
            f"the picture has {height} × {width} pixels of mode {picture.mode}; decoding it would take more than "
            f"{settings.read_memory_mb} MiB. If it is sound, raise SONOSEEK_READ_MEMORY_MB."
        )


def check_megapixels(height: int, width: int, settings: Settings) -> None:
    """Refuse a picture that is larger than the limit.

    Raises:
        ScanTooLargeError: more than `max_megapixels`.
    """
    if height * width > settings.max_megapixels * 1e6:
        raise ScanTooLargeError(
            f"the picture has {height} × {width} pixels ({height * width / 1e6:.1f} megapixels); at most "
            f"{settings.max_megapixels:g} megapixels are read. If it is sound, raise SONOSEEK_MAX_MEGAPIXELS."
        )


def _seek(picture: Image.Image, frame: int, *, most: float) -> None:
    """Go to a frame; a page of a TIFF is known to be there.

    Raises:
        InvalidValueError: no such frame.
        ScanTooLargeError: too many frames have to be decoded before it.
    """
    width, height = picture.size
    if isinstance(picture, TiffImageFile):
        picture.seek(frame)
        return
    if frame * width * height > most:
        raise ScanTooLargeError(
            f"frame {frame} of an animation is reached by decoding all before it, {frame} × {height} × {width} pixels; "
            f"at most {most / 1e6:g} megapixels are decoded for it. Save the frame as a PNG."
        )
    count = count_frames(picture) if frame < 0 else _walk(picture, frame)
    if not 0 < frame < count:
        raise no_such_frame(frame, count)


def _walk(picture: Image.Image, frame: int) -> int:
    """Go to a frame above 0, or as far as there are any; gives how many there are up to there."""
    count = 1
    if getattr(picture, "is_animated", False):
        with contextlib.suppress(EOFError):
            for count in range(1, frame + 1):
                picture.seek(count)
            return frame + 1
    return count


def _check_rle(picture: Image.Image, file: BinaryIO) -> None:
    """Hold a BMP that is run-length encoded to what can be unpacked in time, and leave `file` where it was."""
    if not any(tile.codec_name == "bmp_rle" for tile in cast("ImageFile.ImageFile", picture).tile):
        return
    width, height = picture.size
    if width * height > RLE_PIXELS_LIMIT:
        raise ScanTooLargeError(
            f"the BMP is run-length encoded (RLE) and has {height} × {width} pixels "
            f"({width * height / 1e6:.1f} megapixels); at most {RLE_PIXELS_LIMIT / 1e6:g} megapixels of this kind are "
            "read. If it is sound, save it as PNG."
        )
    place = file.tell()
    size = file.seek(0, io.SEEK_END)
    file.seek(place)
    if size > RLE_BYTES_LIMIT:
        raise ScanTooLargeError(
            f"the BMP is run-length encoded (RLE) and takes {size} bytes for {height} × {width} pixels; at most "
            f"{RLE_BYTES_LIMIT} bytes of this kind are read. If it is sound, save it as PNG."
        )
