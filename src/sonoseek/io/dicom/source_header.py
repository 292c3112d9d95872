"""`read_source_header`: who and what a DICOM file is about, for the results that are filed beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sonoseek.core import ScanReadError, Settings
from sonoseek.io.files import checked_file, shown
from sonoseek.io.reader import read_in_child
from sonoseek.io.sniff import sniff

_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


@dataclass(frozen=True)
class SourceHeader:
    """Header attributes of a DICOM file, decoded in the sandbox child. It names the patient: keep it private.

    A property is "" or the given default where the file lacks the attribute. Values are as the file states them: a UID
    or a number may break the standard.

    Attributes:
        attributes: DICOM JSON model (PS3.18 F.2) of `sonoseek.io.dicom.attributes.WANTED`: tag, 8 upper-case hex digits
            → {"vr": …, "Value": […]}. Text is Unicode; SpecificCharacterSet is ISO_IR 192.
        transfer_syntax_uid: of the file; "" where it states none.
        character_set: values of SpecificCharacterSet as they stood in the file; ("",) where it states none.
    """

    attributes: Mapping[str, Any] = field(repr=False)
    transfer_syntax_uid: str = ""
    character_set: Sequence[str] = ("",)

    def text(self, tag: str) -> str:
        """First value of an attribute as text; a name with its groups joined by "=". "" where it is missing."""
        values = self.attributes.get(tag, {}).get("Value")
        first = values[0] if isinstance(values, list) and values else ""
        if isinstance(first, Mapping):
            return "=".join(str(first.get(group) or "") for group in _GROUPS).rstrip("=")
        return "" if first is None else str(first).strip()

    def number(self, tag: str, default: int) -> int:
        """First value of an attribute as a whole number; `default` where it is missing or none."""
        try:
            return int(self.text(tag))
        except ValueError:
            return default

    @property
    def sop_class_uid(self) -> str:
        """SOPClassUID (0008,0016)."""
        return self.text("00080016")

    @property
    def sop_instance_uid(self) -> str:
        """SOPInstanceUID (0008,0018)."""
        return self.text("00080018")

    @property
    def study_instance_uid(self) -> str:
        """StudyInstanceUID (0020,000D)."""
        return self.text("0020000D")

    @property
    def series_instance_uid(self) -> str:
        """SeriesInstanceUID (0020,000E)."""
        return self.text("0020000E")

    @property
    def modality(self) -> str:
        """Modality (0008,0060)."""
        return self.text("00080060")

    @property
    def patient_id(self) -> str:
        """PatientID (0010,0020), not a pseudonym."""
        return self.text("00100020")

    @property
    def patient_name(self) -> str:
        """PatientName (0010,0010): groups joined by "=", components by "^"."""
        return self.text("00100010")

    @property
    def accession_number(self) -> str:
        """AccessionNumber (0008,0050)."""
        return self.text("00080050")

    @property
    def study_date(self) -> str:
        """StudyDate (0008,0020), YYYYMMDD."""
        return self.text("00080020")

    @property
    def body_part(self) -> str:
        """BodyPartExamined (0018,0015)."""
        return self.text("00180015")

    @property
    def rows(self) -> int:
        """Rows (0028,0010); 0 where there is no picture."""
        return self.number("00280010", 0)

    @property
    def columns(self) -> int:
        """Columns (0028,0011); 0 where there is no picture."""
        return self.number("00280011", 0)

    @property
    def frames(self) -> int:
        """NumberOfFrames (0028,0008); 1 where the file states none."""
        return max(1, self.number("00280008", 1))


def read_source_header(path: str | Path, *, settings: Settings | None = None) -> SourceHeader:
    """Read the header attributes of a DICOM file of any storage class, with or without pixels.

    Unlike `read_dicom`, which gives a pseudonym, this gives the patient's name and number as they stand in the file.

    Args:
        path: the file.
        settings: limits; from the environment when None.

    Raises:
        NotFoundError: no such file.
        ScanReadError: not DICOM, damaged, or it took longer than `read_timeout_s`.
        ScanTooLargeError: a deflated data set that inflates too far.
        TemporaryError: the reader process did not start.
    """
    place = checked_file(path)
    if sniff(place) != "dicom":
        raise ScanReadError(
            f"{shown(place)}: this is no DICOM file; a header is read from DICOM alone, which has 'DICM' at byte 128. "
            "Give the file as the scanner or the PACS sent it."
        )
    reply = read_in_child("header", place, "dicom", settings=settings)
    try:
        found = json.loads(reply.samples.tobytes())
        return SourceHeader(
            attributes={str(tag): dict(element) for tag, element in found["attributes"].items()},
            transfer_syntax_uid=str(found["transfer_syntax_uid"]),
            character_set=tuple(map(str, found["character_set"])),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ScanReadError(
            f"{shown(place)}: the reader process sent no header ({type(error).__name__}); it must send JSON. "
            "Fetch the file again from its source."
        ) from error
