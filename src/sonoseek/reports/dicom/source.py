"""The header of a source → the data set that a result inherits from: what breaks the standard becomes empty or absent.

A result is written by us: it must be valid although its source is not.
"""

from __future__ import annotations

import contextlib
import re
from datetime import date

from pydicom.dataelem import DataElement
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
    for tag, value in source.attributes.items():
        with contextlib.suppress(Exception):  # what from_json does not take is left out, as it cannot be written
            element = Dataset.from_json({tag: value})[int(tag, 16)]
            if _keep(element):
                dataset.add(element)
    if dataset.get("PatientSex") not in ("M", "F", "O"):
        dataset.PatientSex = ""
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


def _keep(element: DataElement) -> bool:
    """Whether the element may be written; text that is too long is cut."""
    vr = str(element.VR)
    if vr == "SQ":
        return all(_keep_item(item) for item in element.value)
    values = list(element.value) if element.VM > 1 else [element.value]
    if not values or all(value in ("", None) for value in values):
        return True
    if vr == "DA":
        return all(_is_date(str(value)) for value in values)
    if vr in _FORMS:
        return all(_FORMS[vr].fullmatch(str(value)) for value in values)
    if vr == "PN":
        return all(len(group) <= 64 for value in values for group in str(value).split("="))
    if vr in _LONGEST:
        cut = [str(value)[: _LONGEST[vr]] for value in values]
        element.value = cut if len(cut) > 1 else cut[0]
        return True
    if vr in _NUMBERS:
        return all(len(str(value)) <= 16 or vr[0] in "FSU" for value in values)
    return vr in ("UC", "UR", "UT", "AT")


def _keep_item(item: Dataset) -> bool:
    if any(not _keep(element) for element in item):
        return False
    if "CodeMeaning" in item or "CodeValue" in item:
        return all(item.get(keyword) for keyword in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning"))
    return len(item) > 0


def _is_date(text: str) -> bool:
    try:
        date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return False
    return len(text) == 8 and text.isdigit()
