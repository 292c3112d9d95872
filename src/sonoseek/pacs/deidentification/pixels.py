"""The pixels of one DICOM file without what stands around the scan, and without burned-in text; every frame.

What is blanked becomes black, not painted over: these pixels are read by physicians and by programs that measure.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Scan, Settings
from sonoseek.io.dicom import read_dicom
from sonoseek.io.dicom.deidentified import Identifiers, read_stored_frame
from sonoseek.pacs.deidentification.words import Ocr, found_kinds
from sonoseek.preprocessing import PreprocessedScan, PreprocessingRecipe, preprocess
from sonoseek.preprocessing.blanking import text_boxes

OFTEN = 0.1
"""Share of the frames in which a pixel must be taken for text to be blanked in all of them: a stroke that a moving
picture hides in some frames is found in others. Text of fewer frames is blanked in these."""
READ = 5
"""Frames of a cine that are given to the OCR."""
NEAR = 15
"""Pixels: the edge of the scan area itself looks drawn."""
_IN_AREA = PreprocessingRecipe()
_EVERYWHERE = PreprocessingRecipe(borders=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Blanking:
    """What is blanked in a file.

    Attributes:
        outside: bool (H, W), in all frames: outside of the regions or, without regions, of the scan area.
        text: bool (H, W), in all frames: burned-in text found within.
        passing: of each frame, the text that was found in it, packed.
        by_regions: whether the regions of the header say what is inside; else preprocessing does.
        area_found: whether anything is known to be outside.
    """

    outside: NDArray[np.bool_]
    text: NDArray[np.bool_]
    passing: tuple[bytes, ...]
    by_regions: bool
    area_found: bool

    def blank(self, frame: int) -> NDArray[np.bool_]:
        """Bool (H, W), all of it in a frame."""
        packed = np.frombuffer(zlib.decompress(self.passing[frame]), np.uint8)
        text = np.unpackbits(packed, count=self.text.size).astype(np.bool_).reshape(self.text.shape)
        return self.outside | self.text | text


def find_blanking(path: Path, known: Identifiers, *, settings: Settings | None = None) -> Blanking:
    """Look at every frame for what does not belong to the scan.

    Raises:
        ScanReadError, ScanTooLargeError, TemporaryError: as `sonoseek.io.read_scan`.
    """
    counts: NDArray[np.uint32] | None = None
    inside: NDArray[np.bool_] | None = None
    has_area = bool(known.regions)
    passing: list[bytes] = []
    for frame in range(known.frames):
        pixels = read_dicom(path, frame=frame, settings=settings, with_patient=False).pixels
        if counts is None or inside is None:
            counts, inside = np.zeros(pixels.shape, np.uint32), _regions(pixels.shape, known)
        scan = Scan(pixels=np.where(inside, pixels, np.uint8(0)) if known.regions else pixels)
        in_area = preprocess(scan, _IN_AREA)
        if not known.regions and not in_area.warnings:
            inside, has_area = inside | in_area.area, True
        text = _text(scan, in_area)
        counts += text
        passing.append(zlib.compress(np.packbits(text).tobytes(), 1))
    assert counts is not None  # noqa: S101  # a file has a frame at least
    assert inside is not None  # noqa: S101
    if not has_area:
        inside = np.ones_like(inside)
    return Blanking(
        outside=~inside,
        text=(counts >= max(OFTEN * known.frames, 1)) & inside,
        passing=tuple(passing),
        by_regions=bool(known.regions),
        area_found=has_area,
    )


def read_names(
    path: Path, known: Identifiers, blanking: Blanking, ocr: Ocr, *, settings: Settings | None = None
) -> tuple[str, ...]:
    """Kinds of identifiers of the file's header that an OCR reads in what is left of its pixels; () for none.

    Raises:
        ScanReadError, ScanTooLargeError, TemporaryError: as `find_blanking`.
    """
    texts: list[str] = []
    for frame in sorted({round(each) for each in np.linspace(0, known.frames - 1, READ)}):
        pixels = read_dicom(path, frame=frame, settings=settings, with_patient=False).pixels
        texts += ocr(np.where(blanking.blank(frame), np.uint8(0), pixels))
    return found_kinds(texts, known.words)


def write_frames(
    path: Path, known: Identifiers, blanking: Blanking, out: BinaryIO, *, settings: Settings | None = None
) -> int:
    """Write the blanked frames, one by one, uncompressed and little endian.

    Returns:
        Bytes written.

    Raises:
        ScanReadError, ScanTooLargeError, TemporaryError: as `find_blanking`.
    """
    written = 0
    for frame in range(known.frames):
        stored = read_stored_frame(path, frame=frame, settings=settings)
        samples = stored.samples.copy()
        samples[blanking.blank(frame)] = stored.black if samples.ndim == 3 else stored.black[0]
        written += out.write(samples.tobytes())
    return written


def _text(scan: Scan, in_area: PreprocessedScan) -> NDArray[np.bool_]:
    """Text within the scan area, and what is drawn beside it but still within the header's regions."""
    near = cv2.dilate(in_area.area.astype(np.uint8), np.ones((NEAR, NEAR), np.uint8)) > 0
    beside = preprocess(scan, _EVERYWHERE).annotations
    text = np.zeros(scan.shape, np.bool_)
    for strokes in (in_area.annotations, None if beside is None else beside & ~near):
        if strokes is not None:
            text |= text_boxes(strokes)
    return text


def _regions(shape: Iterable[int], known: Identifiers) -> NDArray[np.bool_]:
    inside = np.zeros(tuple(shape), np.bool_)
    for left, top, right, bottom in known.regions:
        inside[top:bottom, left:right] = True
    return inside
