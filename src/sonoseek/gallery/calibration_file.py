"""The calibration that lies beside a gallery's file: where, read, written and removed."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

from sonoseek.core import GalleryError
from sonoseek.core.files import PRIVATE, sync_folder, write_atomically
from sonoseek.gallery.base import Gallery
from sonoseek.gallery.sqlite.database import database_path, explained

if TYPE_CHECKING:
    from sonoseek.encoder import ArchiveCalibration

SUFFIX = ".calibration.json"


def calibration_path(location: str | Path) -> Path:
    """Where the calibration of a gallery lies: `gallery.db.calibration.json` beside `gallery.db`.

    Args:
        location: as in `open_gallery`.

    Raises:
        GalleryError: the gallery is on a server, which has no place beside it.
    """
    scheme, separator, _ = str(location).partition("://")
    if separator and scheme != "sqlite":
        raise GalleryError(
            f"{location} is a gallery on a server; a calibration lies beside a gallery's file. Copy the gallery with "
            "`sonoseek index copy` into a SQLite gallery, and calibrate and search that one."
        )
    path = database_path(location)
    return path.with_name(path.name + SUFFIX)


def read_calibration(gallery: Gallery) -> ArchiveCalibration | None:
    """The calibration that lies beside a gallery, checked; None where there is none, or no place for one.

    Its `bundle_id` may be another than the gallery's: the caller decides what follows from that.

    Raises:
        GalleryError: it is damaged, of another format, or was fitted on another gallery.
    """
    if "://" in gallery.location:
        return None
    from sonoseek.encoder.archive_calibration import (
        LARGEST_FILE,
        decode_calibration,
    )  # the room below is loaded where it is needed

    path = calibration_path(gallery.location)
    with explained(path):
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
                raise GalleryError(f"{path} is no ordinary file; remove it, or go without it with --no-calibration.")
            with path.open("rb") as file:
                content = file.read(LARGEST_FILE + 1)
        except FileNotFoundError:
            return None
    calibration = decode_calibration(content, where=str(path))
    if calibration.bundle_id == gallery.bundle_id and calibration.gallery_id != gallery.gallery_id:
        raise GalleryError(
            f"{path} was fitted on gallery {calibration.gallery_id}; this is {gallery.gallery_id}, and another "
            "archive's thresholds do not hold for it. Run `sonoseek calibrate` on this gallery, remove the file with "
            "`sonoseek calibrate --remove`, or go without it with --no-calibration."
        )
    return calibration


def write_calibration(location: str | Path, calibration: ArchiveCalibration) -> Path:
    """Store a calibration beside its gallery, in the place of an earlier one: whole, and on disk when this returns.

    Returns:
        The path of the file.

    Raises:
        GalleryError: the gallery is on a server, or the folder cannot be written.
    """
    from sonoseek.encoder.archive_calibration import encode_calibration

    path = calibration_path(location)
    with explained(path):
        return write_atomically(path, encode_calibration(calibration), mode=PRIVATE)


def remove_calibration(location: str | Path) -> bool:
    """Take the calibration away, whatever is in the file; False where there was none.

    Raises:
        GalleryError: the gallery is on a server, or the folder cannot be written.
    """
    path = calibration_path(location)
    with explained(path):
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        sync_folder(path.parent)
    return True
