"""`read_scan` and its smaller sisters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import NotFoundError, Scan, ScanReadError, Settings
from sonoseek.io.dicom import read_dicom
from sonoseek.io.files import checked_file, checked_frame, shown
from sonoseek.io.reader import read_in_child
from sonoseek.io.sniff import Kind, sniff, unread_kind

_READS = "sonoseek reads PNG, JPEG, BMP, TIFF, GIF and DICOM"


def read_scan(path: str | Path, *, frame: int = 0, settings: Settings | None = None) -> Scan:
    """Read a scan from a file of any kind; the content decides, not the suffix.

    Colour becomes grey by ITU-R BT.601 luma, more than 8 bits become 8, transparency is composed over black, EXIF
    orientation is applied: see `sonoseek.io.grey`, and `read_dicom` for DICOM. Only DICOM gives a spacing:
    a PNG's or TIFF's resolution says how large to print, not how large the body is, and is ignored.

    Args:
        path: the file.
        frame: 0-based: a frame of a DICOM cine, a page of a TIFF, a frame of a GIF.
        settings: limits; from the environment when None.

    Returns:
        The scan; `source` is the file's name without its folder. `frame` and `frames` are set where the file holds
        more than one picture.

    Raises:
        NotFoundError: no such file.
        ScanReadError: a directory, empty, not a picture, truncated or damaged.
        ScanTooLargeError: more than `max_megapixels`, or more memory than `read_memory_mb`.
        InvalidValueError: `frame` is not there; the message says how many are.
        TemporaryError: the process that reads files did not start.
    """
    frame = checked_frame(frame)
    place, kind = _checked(path)
    if kind == "dicom":
        return read_dicom(place, frame=frame, settings=settings)
    reply = read_in_child("read", place, kind, frame=frame, settings=settings)
    several = frame > 0 or (reply.frames or 1) > 1
    return Scan(
        pixels=reply.samples,
        source=shown(place.name),
        frame=frame if several else None,
        frames=reply.frames if several else None,
    )


def frame_count(path: str | Path, *, settings: Settings | None = None) -> int:
    """How many frames a file has, so that one may be chosen: of a DICOM cine, pages of a TIFF, frames of a GIF.

    Of a TIFF as many as are read at most (`sonoseek.io.tiff.PAGES_LIMIT`). No frame is decoded, but those of an
    animation up to the last.

    Raises:
        NotFoundError, ScanReadError, ScanTooLargeError, TemporaryError: as `read_scan`.
    """
    place, kind = _checked(path)
    return read_in_child("count", place, kind, settings=settings).frames or 1


def is_scan_file(path: str | Path) -> bool:
    """Whether `path` is a file that starts like one that `read_scan` reads; cheap, opens it once, never raises."""
    try:
        _checked(path)
    except (NotFoundError, ScanReadError):
        return False
    return True


def read_mask(path: str | Path, *, settings: Settings | None = None) -> NDArray[np.bool_]:
    """Read a lesion mask: 1-bit, grey of any depth, palette or colour; EXIF orientation applied.

    Any sample that is not 0 is True. Save masks without loss: in a JPEG the surroundings of a lesion are not quite 0.

    Returns:
        bool (H, W), C-contiguous.

    Raises:
        NotFoundError, ScanReadError, ScanTooLargeError: as `read_scan`; DICOM masks are not read.
    """
    place, kind = _picture(path)
    return read_in_child("mask", place, kind, settings=settings).samples.view(np.bool_)


def read_rgb(path: str | Path, *, settings: Settings | None = None) -> NDArray[np.uint8]:
    """Read a picture in colour, for masks whose colours mean something; EXIF orientation applied.

    Returns:
        uint8 (H, W, 3), red, green, blue, C-contiguous; transparency over black; grey comes thrice.

    Raises:
        NotFoundError, ScanReadError, ScanTooLargeError: as `read_scan`; DICOM is not read.
    """
    place, kind = _picture(path)
    return read_in_child("rgb", place, kind, settings=settings).samples


def _checked(path: str | Path) -> tuple[Path, Kind]:
    """The file, checked, and its kind."""
    place = checked_file(path)
    kind = sniff(place)
    if kind is None:
        other, remedy = unread_kind(place) or ("no picture", "Convert it to one of these.")
        raise ScanReadError(f"{shown(place)}: by its first bytes this is {other}; {_READS}. {remedy}")
    return place, kind


def _picture(path: str | Path) -> tuple[Path, Kind]:
    place, kind = _checked(path)
    if kind == "dicom":
        raise ScanReadError(
            f"{shown(place)}: this is a DICOM file; masks are read from pictures. Save the mask as PNG."
        )
    return place, kind
