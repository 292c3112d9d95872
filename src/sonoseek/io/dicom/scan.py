"""The parent's side: pass the file to a child process, and make the `Scan`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from sonoseek.core import InvalidValueError, ScanReadError, ScanTooLargeError, Settings
from sonoseek.core.scan import Laterality, Scan
from sonoseek.io.dicom.files import checked_file, checked_frame, shown
from sonoseek.io.dicom.pool import ReaderDiedError, ReaderTimeoutError, request_reply

_ERRORS: Mapping[str, type[InvalidValueError | ScanReadError]] = {
    "InvalidValueError": InvalidValueError,
    "ScanReadError": ScanReadError,
    "ScanTooLargeError": ScanTooLargeError,
}


def read_dicom(path: str | Path, *, frame: int = 0, settings: Settings | None = None) -> Scan:
    """Read one frame of a DICOM file.

    Any colour becomes grey by ITU-R BT.601 luma; 16 bit becomes 8 (see `sonoseek.io.dicom.grey` for the rule);
    MONOCHROME1 is inverted, so that 255 is always white. `spacing_mm` comes from SequenceOfUltrasoundRegions, else from
    PixelSpacing (see `sonoseek.io.dicom.spacing`). `patient_id` is "p-" and 16 hex digits of the sha256 of PatientID:
    the same patient gives the same pseudonym, but whoever can list all PatientIDs can undo it. A PatientID that names
    nobody ("ANONYMOUS", "0"; see `sonoseek.core.patients`) is no patient: it becomes `patient_placeholder`. `frame` and
    `frames` are set where the file holds more than one frame.

    Args:
        path: the file.
        frame: 0-based; a single picture has frame 0 alone.
        settings: limits; from the environment when None.

    Raises:
        NotFoundError: no such file.
        ScanReadError: not DICOM, no picture in it, damaged, unsupported, or it took longer than `read_timeout_s`.
        ScanTooLargeError: more than `max_megapixels`, or more memory than `read_memory_mb`.
        InvalidValueError: `frame` is not there; the message says how many are.
        TemporaryError: the reader process did not start.
    """
    frame = checked_frame(frame)
    place = checked_file(path)
    reply, payload = _from_child("read", place, frame=frame, settings=settings or Settings.from_environment())
    pixels = np.frombuffer(payload, np.uint8).reshape(reply["rows"], reply["columns"])
    pixels.flags.writeable = False  # nobody else holds the buffer: a Scan may keep it without a copy
    spacing, several = reply["spacing_mm"], int(reply["frames"]) > 1
    return Scan(
        pixels=pixels,
        spacing_mm=None if spacing is None else (float(spacing[0]), float(spacing[1])),
        patient_id=reply["patient_id"],
        patient_placeholder=reply["patient_placeholder"],
        laterality=cast("Laterality | None", reply["laterality"]),
        source=shown(place.name),
        frame=frame if several else None,
        frames=int(reply["frames"]) if several else None,
    )


def frame_count(path: str | Path, settings: Settings | None = None) -> int:
    """Number of frames in a DICOM file, checked against the pixel data that it holds.

    Raises:
        NotFoundError, ScanReadError, ScanTooLargeError, TemporaryError: as for `read_dicom`.
    """
    reply, _ = _from_child("count", checked_file(path), frame=0, settings=settings or Settings.from_environment())
    return int(reply["frames"])


def _from_child(job: str, place: Path, *, frame: int, settings: Settings) -> tuple[dict[str, Any], bytearray]:
    """Have a child do `job`; its errors are raised here, with the path in front."""
    max_pixels = int(settings.max_megapixels * 1e6)
    request = {
        "job": job,
        "path": str(place.absolute()),  # the child was started elsewhere, perhaps
        "frame": frame,
        "max_pixels": max_pixels,
        "memory_mb": settings.read_memory_mb,
        "timeout_s": settings.read_timeout_s,
    }
    try:
        reply, payload = request_reply(request, timeout_s=settings.read_timeout_s, payload_limit=max_pixels)
    except ReaderTimeoutError as error:
        raise ScanReadError(
            f"{shown(place)}: reading was stopped after {settings.read_timeout_s:g} s, the limit for one file. It is "
            "probably damaged; if it is sound, raise SONOSEEK_READ_TIMEOUT_S."
        ) from error
    except ReaderDiedError as error:
        raise ScanReadError(
            f"{shown(place)}: the reader process ended ({error}) inside a decoder; a sound file does not do that. "
            f"Fetch it again; if it needs more than {settings.read_memory_mb} MiB, raise SONOSEEK_READ_MEMORY_MB."
        ) from error
    if "error" in reply:
        raise _ERRORS.get(str(reply["error"]), ScanReadError)(f"{shown(place)}: {reply['message']}")
    if job == "read" and len(payload) != reply["rows"] * reply["columns"]:
        raise ScanReadError(
            f"{shown(place)}: the reader sent {len(payload)} bytes for {reply['rows']} × {reply['columns']} pixels; "
            "the two must agree. Report this file's type to the makers of sonoseek."
        )
    return reply, payload
