"""The header attributes that results repeat, as JSON: DICOM JSON model (PS3.18 F.2), text in UTF-8. Runs in the child.

Unlike `sonoseek.io.dicom.header`, which loads nothing that names a patient, this reads names and numbers: a result must
be filed under the patient and the study of its source.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Any, BinaryIO

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR

from sonoseek.core import ScanReadError
from sonoseek.io.dicom.header import data_set, elements, not_dicom
from sonoseek.io.dicom.patient import DELIMITERS, character_sets, decoded, encodings_of
from sonoseek.io.sandbox.protocol import ATTRIBUTES_LIMIT

WANTED = (
    *(0x00080005, 0x00080008, 0x00080016, 0x00080018, 0x00080201),  # SOP common; ImageType, TimezoneOffsetFromUTC
    *(0x00080020, 0x00080021, 0x00080022, 0x00080023, 0x0008002A),  # dates
    *(0x00080030, 0x00080031, 0x00080032, 0x00080033),  # times
    *(0x00080050, 0x00080051, 0x00080060, 0x00080068),  # AccessionNumber, its issuer, Modality, PresentationIntent
    *(0x00080070, 0x00080080, 0x00080090, 0x00081010, 0x00081040, 0x00081090),  # equipment, ReferringPhysicianName
    *(0x00081030, 0x00081032, 0x0008103E, 0x00081110, 0x00082218),  # descriptions, procedure, AnatomicRegionSequence
    *(0x00082142, 0x00082143, 0x00082144),  # first and last frame to show, RecommendedDisplayFrameRate
    *(0x00100010, 0x00100020, 0x00100021, 0x00100024, 0x00100030, 0x00100032, 0x00100040),  # patient
    *(0x00101010, 0x00101020, 0x00101030),  # PatientAge, PatientSize, PatientWeight
    *(0x00120062, 0x00120063, 0x00120064),  # PatientIdentityRemoved, how
    *(0x00180015, 0x00180040, 0x00181000, 0x00181020, 0x00181063, 0x00186011),  # BodyPartExamined … regions
    *(0x0020000D, 0x0020000E, 0x00200010, 0x00200011, 0x00200013, 0x00200020),  # study, series, instance
    *(0x00200052, 0x00200060, 0x00200062, 0x00201040),  # FrameOfReferenceUID, Laterality, ImageLaterality
    *(0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x00280009, 0x00280010, 0x00280011),  # picture
    *(0x00280030, 0x00280034, 0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x00280301, 0x00281050, 0x00281051),
    *(0x00321060, 0x00321064, 0x00400254, 0x00400275, 0x00401001),  # requested and performed procedure
)
"""Tags that are read; all others, private ones above all, are skipped."""


def read_attributes(file: BinaryIO, *, memory_mb: int) -> bytes:
    """Read the attributes of `WANTED`; no pixels are read, and none need be there.

    An element whose value breaks the rules of its VR is left out.

    Args:
        file: at its start.
        memory_mb: MiB for the whole reading; a deflated data set may take a third of it.

    Returns:
        JSON: "attributes" (SpecificCharacterSet is ISO_IR 192, as all text is decoded), "character_set" (the values of
        SpecificCharacterSet in the file) and "transfer_syntax_uid" ("" where the file states none).

    Raises:
        ScanReadError: not DICOM, or a header of more than 1 MiB.
        ScanTooLargeError: a data set that inflates too far.
    """
    stream, syntax, start = data_set(file, most=(memory_mb << 20) // 3)
    dataset = elements(stream, start, wanted=WANTED)
    if not len(dataset) or (syntax is None and "SOPClassUID" not in dataset):
        raise not_dicom()
    sets = character_sets(dataset)
    encodings = encodings_of(dataset)
    attributes = _json(dataset, encodings)
    attributes["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    found = json.dumps(
        {"attributes": attributes, "character_set": sets, "transfer_syntax_uid": str(syntax or "")},
        ensure_ascii=False,
        allow_nan=False,
    ).encode("utf-8", "replace")
    if len(found) > ATTRIBUTES_LIMIT:
        raise ScanReadError(
            f"its header has {len(found) >> 10} KiB of attributes; at most {ATTRIBUTES_LIMIT >> 10} KiB are read, and "
            "those of ultrasound have some 5. The file is damaged or made to harm: fetch it again from its source."
        )
    return found


def _json(dataset: Dataset, encodings: list[str | None]) -> dict[str, Any]:
    found = {}
    for tag in sorted(dataset.keys()):
        try:
            element = _element(dataset, tag, encodings)
            if element is None:
                continue
            json.dumps(element, allow_nan=False)
        except Exception:  # noqa: S112  # what a damaged value leads to; one bad element must not cost the others
            continue
        found[f"{int(tag):08X}"] = element
    return found


def _element(dataset: Dataset, tag: Any, encodings: list[str | None]) -> dict[str, Any] | None:
    raw = dataset.get_item(tag)
    vr = str(raw.VR or (dictionary_VR(tag) if dictionary_has_tag(tag) else "UN"))
    if isinstance(raw, RawDataElement) and vr in CUSTOMIZABLE_CHARSET_VR and isinstance(raw.value, bytes):
        return DataElement(tag, vr, _value(raw.value, vr, encodings), already_converted=False).to_json_dict(None, 0)
    element: DataElement = dataset[tag]
    if element.VR == "SQ":
        return {"vr": "SQ", "Value": [_json(item, encodings) for item in element.value]}
    if element.VR in ("UN", "OB", "OW", "OF", "OD", "OL", "OV"):
        return None
    return element.to_json_dict(None, 0)


def _value(raw: bytes, vr: str, encodings: list[str | None]) -> str:
    """Text of an element, whatever its character set; what cannot be decoded is taken for UTF-8, else for Latin-1."""
    raw = raw.rstrip(b"\0 ")
    delimiters = {*DELIMITERS, *b"\\", *(b"^=" if vr == "PN" else b"")}
    text = decoded(raw, encodings, delimiters=delimiters)
    if text is None:
        text = decoded(raw, [""]) or ""
    plain = unicodedata.normalize("NFC", text)
    keep = "\r\n\t\f" if vr in ("LT", "ST", "UT") else ""
    return "".join(sign for sign in plain if sign in keep or unicodedata.category(sign) != "Cc").strip(" ")
