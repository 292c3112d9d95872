"""One picture file, opened, to grey, to a mask, to colour. Runs in the child."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import ScanReadError, Settings
from sonoseek.core.scan import MIN_SIDE
from sonoseek.io.dicom.jpeg import strict_luma
from sonoseek.io.grey import grey_of_samples, grey_pixels, mask_pixels, rgb_of_samples, rgb_pixels, upright
from sonoseek.io.image import count_frames, frames_if_sound, open_picture, translated_errors
from sonoseek.io.sniff import Kind
from sonoseek.io.tiff import DeepPage, count_pages, read_tiff


def read_grey(file: BinaryIO, kind: Kind, *, frame: int, settings: Settings) -> tuple[NDArray[np.uint8], int | None]:
    """Grey, uint8 (H, W), upright, and how many frames there are; None where a later one is damaged."""
    if deep := _deep_page(file, kind, frame=frame, settings=settings):
        with translated_errors(kind):
            pixels = grey_of_samples(deep.samples, deep.turned)
    else:
        with open_picture(file, kind, frame=frame, settings=settings) as picture:
            pixels = grey_pixels(picture, file)
            frames = None if kind == "tiff" else frames_if_sound(picture)
    if min(pixels.shape) < MIN_SIDE:
        raise ScanReadError(
            f"the picture has {pixels.shape[0]} × {pixels.shape[1]} pixels; a scan has at least {MIN_SIDE} a side. "
            "Give the whole scan, not an icon."
        )
    return pixels, count_pages(file) if kind == "tiff" else frames


def count(file: BinaryIO, kind: Kind, *, settings: Settings) -> int:
    """Frames of a picture."""
    if kind == "tiff":
        with translated_errors(kind):
            return count_pages(file)
    with open_picture(file, kind, frame=0, settings=settings) as picture:
        return count_frames(picture)


def read_mask(file: BinaryIO, kind: Kind, *, settings: Settings) -> NDArray[np.bool_]:
    """Bool (H, W), upright: where any sample is not 0."""
    if deep := _deep_page(file, kind, frame=0, settings=settings):
        there = np.nan_to_num(deep.samples) != 0
        return upright(there if there.ndim == 2 else there.any(axis=2), deep.turned)
    with open_picture(file, kind, frame=0, settings=settings) as picture:
        return mask_pixels(picture, file)


def read_rgb(file: BinaryIO, kind: Kind, *, settings: Settings) -> NDArray[np.uint8]:
    """Uint8 (H, W, 3), upright."""
    if deep := _deep_page(file, kind, frame=0, settings=settings):
        with translated_errors(kind):
            return rgb_of_samples(deep.samples, deep.turned)
    with open_picture(file, kind, frame=0, settings=settings, channels=3) as picture:
        return rgb_pixels(picture, file)


def read_luma(file: BinaryIO, kind: Kind, *, settings: Settings) -> NDArray[np.uint8]:
    """A JPEG's luma as it lies in the file, uint8 (H, W): a picture that a gallery keeps."""
    with translated_errors(kind), open_picture(file, kind, frame=0, settings=settings):
        file.seek(0)
        luma = strict_luma(file.read())
    if luma is None:
        raise ScanReadError("the JPEG has four colours; a kept picture is grey.")
    return luma


def _deep_page(file: BinaryIO, kind: Kind, *, frame: int, settings: Settings) -> DeepPage | None:
    """A TIFF's page, its compressed data checked; None where Pillow reads it, and of other formats."""
    if kind != "tiff":
        return None
    with translated_errors(kind):
        return read_tiff(file, frame=frame, settings=settings)
