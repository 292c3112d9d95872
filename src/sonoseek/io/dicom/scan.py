"""The parent's side: have a child process read the file, and make the `Scan`."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from sonoseek.core import Settings
from sonoseek.core.scan import Laterality, Scan
from sonoseek.core.site_key import keyed
from sonoseek.io.files import checked_file, checked_frame, shown
from sonoseek.io.reader import read_in_child


def read_dicom(
    path: str | Path, *, frame: int = 0, settings: Settings | None = None, with_patient: bool = True
) -> Scan:
    """Read one frame of a DICOM file.

    Any colour becomes grey by ITU-R BT.601 luma; 16 bit becomes 8 (see `sonoseek.io.dicom.grey` for the rule);
    MONOCHROME1 is inverted, so that 255 is always white. `spacing_mm` comes from SequenceOfUltrasoundRegions, else from
    PixelSpacing (see `sonoseek.io.dicom.spacing`). `patient_id` is "k-" and 16 hex digits of an HMAC of PatientID with
    the site key (`sonoseek.core.site_key`): the same patient gives the same pseudonym at this site. The child returns
    the sha256 of PatientID. The key stays in this process, so a file that takes over a decoder finds no key. The
    patient's own text stays in the child, so no log of this process can show it. A PatientID that names nobody
    ("ANONYMOUS", "0"; see `sonoseek.core.patients`) is no patient: it becomes `patient_placeholder`. `frame` and
    `frames` are set where the file holds more than one frame.

    Args:
        path: the file.
        frame: 0-based; a single picture has frame 0 alone.
        settings: limits; from the environment when None.
        with_patient: False: `patient_id` is None, whatever the file says, and no site key is needed.

    Raises:
        NotFoundError: no such file.
        ScanReadError: not DICOM, no picture in it, damaged, unsupported, or it took longer than `read_timeout_s`.
        ScanTooLargeError: more than `max_megapixels`, or more memory than `read_memory_mb`.
        InvalidValueError: `frame` is not there; the message says how many are.
        SiteKeyError: the site key cannot be read or made.
        TemporaryError: the reader process did not start.
    """
    frame = checked_frame(frame)
    place = checked_file(path)
    reply = read_in_child("read", place, "dicom", frame=frame, settings=settings)
    unkeyed = reply.facts["patient_id"] if with_patient else None
    spacing, several = reply.facts["spacing_mm"], (reply.frames or 1) > 1
    return Scan(
        pixels=reply.samples,
        spacing_mm=None if spacing is None else (float(spacing[0]), float(spacing[1])),
        patient_id=None if unkeyed is None else keyed(str(unkeyed), settings=settings),
        patient_placeholder=reply.facts["patient_placeholder"],
        laterality=cast("Laterality | None", reply.facts["laterality"]),
        source=shown(place.name),
        frame=frame if several else None,
        frames=reply.frames if several else None,
    )


def frame_count(path: str | Path, settings: Settings | None = None) -> int:
    """Number of frames in a DICOM file, checked against the pixel data that it holds.

    Raises:
        NotFoundError, ScanReadError, ScanTooLargeError, TemporaryError: as for `read_dicom`.
    """
    reply = read_in_child("count", checked_file(path), "dicom", settings=settings)
    return reply.frames or 1
