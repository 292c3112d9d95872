"""The parent's side of de-identification: what a child makes of a file's header and of its frames.

The child parses the file and rewrites its header (`sonoseek.io.dicom.deidentify`). It gets the replacements for this
file's own values, and nothing else: the site key stays in this process. What it reports of a name or a number stays in
this process' memory, to be looked for in the pixels; it is not logged and not written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Settings
from sonoseek.io.files import checked_file
from sonoseek.io.reader import Reply, read_in_child

Dates = Literal["shift", "remove", "keep"]
Region = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Identifiers:
    """What a file says about itself and its patient.

    Attributes:
        sop_class_uid: as stated.
        uids: keyword → UID, of study, series, instance and frame of reference, those that it has.
        patient: "p-" and 16 hex digits of the sha256 of PatientID; None: it names nobody.
        words: (kind, text) of the name's parts, the number, the birth date in its usual orders, the accession number.
        burned_in: BurnedInAnnotation, "YES", "NO" or what stands there; "" where nothing does.
        regions: (left, top, right, bottom) in pixels, half-open, of SequenceOfUltrasoundRegions, within the picture.
        frames: in the file.
    """

    sop_class_uid: str
    uids: Mapping[str, str]
    patient: str | None
    words: tuple[tuple[str, str], ...] = field(repr=False)
    burned_in: str
    regions: tuple[Region, ...]
    frames: int


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredFrame:
    """One frame as it is stored, uncompressed.

    Attributes:
        samples: unsigned integers (H, W) or (H, W, 3), little endian: the bit patterns, also of signed samples.
        black: the values of a black pixel, one per sample.
    """

    samples: NDArray[np.unsignedinteger]
    black: tuple[int, ...]


def read_identifiers(path: str | Path, *, settings: Settings | None = None) -> Identifiers:
    """What is to be replaced in a DICOM file.

    Raises:
        NotFoundError, ScanReadError, ScanTooLargeError, TemporaryError: as `sonoseek.io.dicom.read_dicom`.
    """
    return msgspec.convert(_child("identifiers", path, settings).facts, Identifiers)


def read_clean_header(
    path: str | Path,
    *,
    uids: Mapping[str, str],
    pseudonym: str,
    dates: Dates,
    hours: int,
    doubt: bool,
    settings: Settings | None = None,
) -> bytes:
    """A Part 10 file in Explicit VR Little Endian up to its pixel data, without what identifies the patient.

    Args:
        path: the file.
        uids: keyword → the new UID, for each of `Identifiers.uids`.
        pseudonym: for PatientID and PatientName.
        dates: what becomes of dates and times.
        hours: by which they are shifted.
        doubt: whether the pixels may still name the patient: BurnedInAnnotation is then YES, PatientIdentityRemoved NO.
        settings: the limits.

    Raises:
        NotFoundError, ScanReadError, ScanTooLargeError, TemporaryError: as `read_identifiers`.
    """
    more = {"uids": dict(uids), "pseudonym": pseudonym, "dates": dates, "hours": hours, "doubt": doubt}
    return _child("deidentify", path, settings, more=more).samples.tobytes()


def read_stored_frame(path: str | Path, *, frame: int, settings: Settings | None = None) -> StoredFrame:
    """One frame in its own colours and depth.

    Raises:
        InvalidValueError: no such frame.
        NotFoundError, ScanReadError, ScanTooLargeError, TemporaryError: as `read_identifiers`.
    """
    reply = _child("stored", path, settings, frame=frame)
    shape = tuple(int(side) for side in reply.facts["samples"])
    kind = np.dtype("<u2" if int(reply.facts["bits"]) == 16 else "u1")
    return StoredFrame(
        samples=reply.samples.view(kind).reshape(shape), black=tuple(int(value) for value in reply.facts["black"])
    )


def _child(
    job: Literal["identifiers", "deidentify", "stored"],
    path: str | Path,
    settings: Settings | None,
    *,
    frame: int = 0,
    more: Mapping[str, object] | None = None,
) -> Reply:
    return read_in_child(job, checked_file(path), "dicom", frame=frame, settings=settings, more=more)
