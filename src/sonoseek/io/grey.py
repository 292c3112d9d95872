"""A Pillow picture of any mode → uint8 grey, or RGB, upright.

The rule:

1. Colour becomes grey by ITU-R BT.601 luma. Transparency is composed over black, the colour of no echo.
2. 8 bits stay as they are. Deeper integers are divided by the range of the smallest of 8, 10, 12, 14, 16 (or 32) bits
   that holds the picture's largest sample. Neither PNG nor most TIFFs state how many of 16 bits a scanner used, and a
   12-bit picture divided by 65535 would be black. So 0 … 4095 becomes 0 … 255, and a scan saved with 8, 12 (v × 16) or
   16 bits (v × 257) comes out the same.
3. Floating point: where nothing exceeds 1 by more than a quarter, 0 … 1 becomes 0 … 255; else as integers. NaN counts
   as 0. What lies below 0 by a tenth of the largest at most, as interpolation leaves it, is black.
4. Where a sample is negative otherwise, the smallest becomes 0 and the largest 255.
5. Hot pixels, one in 10,000 at most, that exceed all others at least four times do not count for the range.

PNG's pHYs and TIFF's resolution tags say how large to print, not how large the body is: they are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sonoseek.core import ScanReadError
from sonoseek.io.dicom.jpeg import strict_luma
from sonoseek.io.files import whole
from sonoseek.io.image import deep_colour, orientation
from sonoseek.io.tiff import opencv_samples

Sample = TypeVar("Sample", bound=np.generic)
DEPTHS = (8, 10, 12, 14, 16, 32)
"""Bits, as scanners digitise."""
ABOVE_ONE = 0.25
BELOW_ZERO = 0.1
"""How far interpolation moves samples beyond their range, as a share of it."""
HOT_SHARE = 10_000
"""Hot pixels are one in so many, at most; but one in any picture."""
HOT_TIMES = 4.0
"""How many times a hot pixel exceeds the range of all others."""
_BLOCK = 1 << 20
"""Pixels converted at a time: intermediate pictures stay small whatever the picture's size."""
_NUMERIC = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
"""TIFF 6.0, PhotometricInterpretation. Pillow inverts WhiteIsZero for 8 bits only."""


def grey_pixels(picture: Image.Image, file: BinaryIO) -> NDArray[np.uint8]:
    """Decode to grey.

    Args:
        picture: opened, at the wanted frame.
        file: its file, opened.

    Returns:
        uint8 (H, W), 0 black … 255 white, C-contiguous, upright.

    Raises:
        ScanReadError: a JPEG that is not whole; 16-bit colour that only one of two decoders can read.
        Exception: whatever Pillow raises for damaged data; `open_picture` translates it.
    """
    luma = _strict_jpeg(picture, file)
    if luma is not None and picture.mode == "L":
        return upright(luma, orientation(picture))
    deep = deep_colour(picture)
    transparent = picture.info.get("transparency")
    picture.load()
    if picture.mode in _NUMERIC:
        return upright(_scaled(picture), orientation(picture))
    out = np.empty((picture.height, picture.width), np.uint8)
    for top, band in _bands(picture):
        grey = _grey(band)
        out[top : top + grey.height] = np.asarray(grey)
    if deep and (transparent is not None or out.max() < 64):  # Pillow keeps the upper 8 of 16 bits
        out = _all_bits(picture, file, transparent)
    return upright(out, orientation(picture))


def grey_of_samples(samples: NDArray[Any], turned: int) -> NDArray[np.uint8]:
    """Samples of any numeric type, (H, W) or RGB (H, W, 3), to grey by the rules; `turned` is an EXIF orientation."""
    samples, lowest, span = _with_range(samples)
    if samples.ndim == 3:
        samples = samples.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return upright(_spread(samples, lowest, span), turned)


def rgb_of_samples(samples: NDArray[Any], turned: int) -> NDArray[np.uint8]:
    """The same, to colour: uint8 (H, W, 3)."""
    samples, lowest, span = _with_range(samples)
    out = _spread(samples, lowest, span)
    return upright(out if out.ndim == 3 else np.repeat(out[..., None], 3, axis=2), turned)


def _with_range(samples: NDArray[Any]) -> tuple[NDArray[Any], float, float]:
    """Samples without NaN, and their range as of `_range`."""
    floating = samples.dtype.kind == "f"
    if floating:
        samples = np.nan_to_num(samples, posinf=0.0, neginf=0.0)
    return samples, *_range([_extremes(samples)], samples.size, floating=floating)


def _spread(samples: NDArray[Any], lowest: float, span: float) -> NDArray[np.uint8]:
    """From lowest … lowest + span to 0 … 255, a block of rows at a time."""
    out = np.empty(samples.shape, np.uint8)
    step = max(1, _BLOCK // samples.shape[1])
    for top in range(0, samples.shape[0], step):
        out[top : top + step] = _shares(samples[top : top + step], lowest, span)
    return out


def _strict_jpeg(picture: Image.Image, file: BinaryIO) -> NDArray[np.uint8] | None:
    """Luma of a JPEG that is whole, before it is turned; None of other formats and of CMYK.

    Raises:
        ScanReadError: not whole.
    """
    return strict_luma(whole(file)) if picture.format == "JPEG" else None


def rgb_pixels(picture: Image.Image, file: BinaryIO) -> NDArray[np.uint8]:
    """Decode to colour, uint8 (H, W, 3), upright; transparency over black; grey of any depth thrice, by the rule."""
    _strict_jpeg(picture, file)
    picture.load()
    if picture.mode in _NUMERIC:
        return np.repeat(upright(_scaled(picture), orientation(picture))[..., None], 3, axis=2)
    out = np.empty((picture.height, picture.width, 3), np.uint8)
    for top, band in _bands(picture):
        colour, alpha = _colour_and_alpha(band)
        colour = colour.convert("RGB")
        if alpha is not None:
            colour = _over_black(colour, alpha)
        out[top : top + colour.height] = np.asarray(colour)
    return upright(out, orientation(picture))


def mask_pixels(picture: Image.Image, file: BinaryIO) -> NDArray[np.bool_]:
    """Decode a mask: bool (H, W), upright; True where any colour is not 0 (and not wholly transparent)."""
    _strict_jpeg(picture, file)
    picture.load()
    out = np.empty((picture.height, picture.width), np.bool_)
    for top, band in _bands(picture):
        if band.mode in _NUMERIC:
            there = np.asarray(band) != 0
        else:
            colour, alpha = _colour_and_alpha(band)
            samples = np.asarray(colour if colour.mode == "L" else colour.convert("RGB"))
            there = samples != 0 if samples.ndim == 2 else samples.any(axis=2)
            if alpha is not None:
                there &= np.asarray(alpha) != 0
        out[top : top + there.shape[0]] = there
    return upright(out, orientation(picture))


def _bands(picture: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """(top row, rows) from top to bottom."""
    step = max(1, _BLOCK // picture.width)
    if step >= picture.height:
        yield 0, picture
        return
    for top in range(0, picture.height, step):
        yield top, picture.crop((0, top, picture.width, min(top + step, picture.height)))


def _grey(band: Image.Image) -> Image.Image:
    """Mode "L", over black."""
    colour, alpha = _colour_and_alpha(band)
    grey = colour if colour.mode == "L" else colour.convert("L")
    return grey if alpha is None else _over_black(grey, alpha)


def _over_black(picture: Image.Image, alpha: Image.Image) -> Image.Image:
    return Image.composite(picture, Image.new(picture.mode, picture.size), alpha)


def _colour_and_alpha(band: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """("L", "RGB" or "YCbCr" picture, "L" opacity or None)."""
    mode = band.mode
    if mode in ("RGBa", "La"):  # colour already multiplied by opacity: that is "over black"
        return band.convert("RGBA" if mode == "RGBa" else "LA").convert("RGB"), band.getchannel(mode[-1:])
    if mode == "PA" or ("transparency" in band.info and mode in ("1", "L", "P", "RGB")):
        band = band.convert("RGBA")
    if band.mode in ("RGBA", "LA"):
        return band.convert(band.mode[:-1]), band.getchannel("A")
    if band.mode in ("L", "RGB", "YCbCr"):
        return band, None
    if band.mode == "1":
        return band.convert("L"), None
    if band.mode == "LAB":
        return band.getchannel("L"), None
    return band.convert("RGB"), None  # P, CMYK, RGBX, HSV


def _scaled(picture: Image.Image) -> NDArray[np.uint8]:
    """A picture of more than 8 bits a sample, by rules 2 to 5."""
    extremes = [_extremes(band) for _, band in _numbers(picture)]
    lowest, span = _range(extremes, picture.width * picture.height, floating=picture.mode == "F")
    table = _shares(np.arange(1 << 16), lowest, span)
    out = np.empty((picture.height, picture.width), np.uint8)
    for top, band in _numbers(picture):
        out[top : top + band.shape[0]] = table[band] if band.dtype == np.uint16 else _shares(band, lowest, span)
    tags = getattr(picture, "tag_v2", {})
    return 255 - out if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else out


def _extremes(samples: NDArray[Any]) -> tuple[float, NDArray[np.float64]]:
    """The smallest sample, and the largest: one more than may be hot, in ascending order."""
    count = min(samples.size, samples.size // HOT_SHARE + 2)
    largest = np.partition(samples, samples.size - count, axis=None)[samples.size - count :]
    return float(samples.min()), np.sort(largest.astype(np.float64))


def _range(extremes: Sequence[tuple[float, NDArray[np.float64]]], count: int, *, floating: bool) -> tuple[float, float]:
    """(sample that becomes black, how far above it white is), by rules 2 to 5.

    Args:
        extremes: of `_extremes`, of parts of the picture.
        count: samples of the whole.
        floating: whether samples are floating-point numbers.
    """
    lowest = min(low for low, _ in extremes)
    largest = np.sort(np.concatenate([high for _, high in extremes]))
    highest, others = float(largest[-1]), float(largest[-min(len(largest), max(1, count // HOT_SHARE) + 1)])
    if highest > HOT_TIMES * (span := _span(others, floating=floating)):
        highest = others
    span = _span(highest, floating=floating)
    if lowest >= 0 or (floating and lowest >= -BELOW_ZERO * highest):
        return 0.0, span
    return lowest, max(highest - lowest, 1e-30)


def _shares(samples: NDArray[np.generic], lowest: float, span: float) -> NDArray[np.uint8]:
    """From lowest … lowest + span to 0 … 255."""
    return np.rint(np.clip((samples.astype(np.float64) - lowest) * (255.0 / span), 0.0, 255.0)).astype(np.uint8)


def _span(highest: float, *, floating: bool = False) -> float:
    """Rules 2 and 3: the largest number of the smallest depth that holds `highest`."""
    if floating and highest <= 1 + ABOVE_ONE:
        return 1.0
    return next((2.0**bits - 1 for bits in DEPTHS if highest < 2.0**bits), highest)


def _numbers(picture: Image.Image) -> Iterator[tuple[int, NDArray[Any]]]:
    transparent = picture.info.get("transparency")
    for top, band in _bands(picture):
        samples = np.asarray(band)
        if band.mode == "F":
            samples = np.nan_to_num(samples, posinf=0.0, neginf=0.0)
        elif band.mode != "I":
            samples = samples.astype(np.uint16, copy=False)  # native byte order
        if isinstance(transparent, int):  # PNG, tRNS: one level, laid over black
            samples = np.where(samples == transparent, 0, samples).astype(samples.dtype)
        yield top, samples


def _all_bits(picture: Image.Image, file: BinaryIO, transparent: object) -> NDArray[np.uint8]:
    """16-bit colour, decoded anew by OpenCV with all of its bits; `transparent` is a PNG's transparent colour.

    OpenCV, like Pillow, turns a TIFF and nothing else, so that the same orientation is left to apply.
    """
    samples = opencv_samples(file, picture.tell())
    if samples is None or samples.dtype != np.uint16 or samples.ndim != 3:
        raise ScanReadError("16-bit colour of a rare subtype; grey or 8-bit colour is read. Save it as 8-bit PNG.")
    opacity = samples[..., 3:] / 65535.0 if samples.shape[2] == 4 else 1.0
    if isinstance(transparent, tuple):
        opacity = (samples[..., :3] != np.asarray(transparent, np.uint16)[::-1]).any(axis=2, keepdims=True)
    return grey_of_samples(samples[..., 2::-1] * opacity, 1)  # OpenCV: B, G, R


def upright(pixels: NDArray[Sample], turned: int) -> NDArray[Sample]:
    """Undo an EXIF orientation. Exif 2.32, tag 0x0112."""
    if turned in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if turned in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if turned in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
