"""The header of a source → the data set that a result inherits from: what breaks the standard becomes empty or absent.

A result is written by us: it must be valid although its source is not.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import UltrasoundImageStorage, UltrasoundMultiFrameImageStorage

from sonoseek.core import InvalidValueError, Report
from sonoseek.io import SourceHeader

TYPE_2 = (
    "AccessionNumber",
    "Manufacturer",
    "PatientBirthDate",
    "PatientID",
    "PatientName",
    "PatientSex",
    "ReferringPhysicianName",
    "StudyDate",
    "StudyID",
    "StudyTime",
)
"""Present in every result, empty where the source has none. PS3.3 C.7.1.1, C.7.2.1, C.7.5.1."""
_UID = re.compile(r"\d+(\.\d+)+")
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
_FORMS = {
    "AS": re.compile(r"\d{3}[DWMY]"),
    "CS": re.compile(r"[A-Z0-9_ ]{1,16}"),
    "DT": re.compile(r"\d{4}(\d{2}){0,5}(\.\d{1,6})?([+-]\d{4})?"),
    "TM": _TIME,
    "UI": re.compile(r"(?=.{1,64}$)\d+(\.\d+)+"),
}
_LONGEST = {"LO": 64, "SH": 16, "LT": 10240, "ST": 1024, "AE": 16}
_IDENTIFIERS = ("00080050", "00100020", "00200010")
"""AccessionNumber, PatientID, StudyID."""
_CODE = ("00080100", "00080102", "00080104")
"""CodeValue, CodingSchemeDesignator, CodeMeaning: a code needs all three."""
_NUMBERS = ("DS", "FD", "FL", "IS", "SL", "SS", "UL", "US")


def source_dataset(source: SourceHeader, report: Report) -> Dataset:
    """The source's attributes as a data set without pixels, each valid, with every type 2 attribute.

    Args:
        source: of the image that was queried.
        report: of that image.

    Raises:
        InvalidValueError: the source has no UIDs, or it is another image than the report's.
    """
    for name in ("sop_class_uid", "sop_instance_uid", "study_instance_uid", "series_instance_uid"):
        value = getattr(source, name)
        if len(value) > 64 or not _UID.fullmatch(value):
            raise InvalidValueError(
                f"{name} of the source is {value!r}; a result is filed by it, and a UID is digits and dots, at most "
                "64. Give the header of the file as the scanner or the PACS sent it."
            )
    if (source.rows, source.columns) != report.scan.shape or (report.scan.frame or 0) >= source.frames:
        raise InvalidValueError(
            f"the source has {source.frames} frames of {source.rows} × {source.columns} pixels, and the report is of "
            f"frame {report.scan.frame or 0} of {report.scan.shape[0]} × {report.scan.shape[1]}; they must be one "
            "image. Give the header of the file that was queried."
        )
    dataset = Dataset()
    for tag, element in source.attributes.items():
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):  # from_json does not take it
            if element["vr"] not in dictionary_VR(int(tag, 16)):
                continue
            clean = _clean(element)
            if clean is not None and dictionary_VM(int(tag, 16)) == "1":
                clean["Value"] = clean.get("Value", [])[:1]
            if tag in _IDENTIFIERS and clean != {"vr": element["vr"], "Value": element.get("Value")}:
                continue  # a number that is cut may be another patient's
            if clean is not None and clean.get("Value"):  # what is empty is absent, unless it is of type 2
                dataset.update(Dataset.from_json({tag: clean}))
    if dataset.get("PatientSex") not in ("M", "F", "O"):
        dataset.PatientSex = ""
    if not dataset.get("Modality"):
        dataset.Modality = "US"
    for keyword in TYPE_2:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    dataset.SpecificCharacterSet = "ISO_IR 192"
    return dataset


def stand_in(dataset: Dataset) -> str:
    """A SOP class that highdicom knows, for one that it does not, such as the retired ones of ultrasound."""
    from highdicom._standard_utils import get_sop_class_iod_map

    if dataset.SOPClassUID in get_sop_class_iod_map():
        return str(dataset.SOPClassUID)
    several = "NumberOfFrames" in dataset
    return str(UltrasoundMultiFrameImageStorage if several else UltrasoundImageStorage)


def _clean(element: Mapping[str, Any]) -> dict[str, Any] | None:
    """An element of the DICOM JSON model that may be written, text cut to its longest; None where it breaks its VR.

    It is judged before pydicom sees it, which warns of such values instead of refusing them.
    """
    vr, values = str(element["vr"]), list(element.get("Value") or [])
    if vr == "SQ":
        items = [_clean_item(item) for item in values]
        return None if None in items or not items else {"vr": vr, "Value": items}
    clean = [None if value in (None, "") else _value(vr, value) for value in values]
    if any(value is None and given not in (None, "") for value, given in zip(clean, values, strict=True)):
        return None
    return {"vr": vr, "Value": clean} if any(value is not None for value in clean) else {"vr": vr}


def _clean_item(item: Mapping[str, Any]) -> dict[str, Any] | None:
    """An item of a sequence; None where an element of it is not valid, or a code of it is not whole."""
    clean = {tag: _clean(element) for tag, element in item.items() if element.get("Value")}
    if not clean or None in clean.values():
        return None
    coded = [clean.get(tag) for tag in _CODE]
    if any(coded) and not all(part and part.get("Value") for part in coded):
        return None
    return clean


def _value(vr: str, value: Any) -> Any:
    """One value, or None where it breaks its VR."""
    if vr in _NUMBERS:
        fits = isinstance(value, int | float) and (vr not in ("DS", "IS") or len(str(value)) <= 16)
        return value if fits else None
    if isinstance(value, str) == (vr == "PN"):
        return None
    if vr == "PN":
        groups = [str(value.get(group) or "") for group in ("Alphabetic", "Ideographic", "Phonetic")]
        return value if max(map(len, groups)) <= 64 else None
    text = str(value)
    if vr == "DA":
        return value if _is_date(text) else None
    if vr in _FORMS:
        return value if _FORMS[vr].fullmatch(text) else None
    if vr in _LONGEST:
        return text.replace("\\", "/")[: _LONGEST[vr]].strip(" ")
    return value if vr in ("UC", "UR", "UT", "AT") else None


def _is_date(text: str) -> bool:
    try:
        date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return False
    return len(text) == 8 and text.isdigit()
