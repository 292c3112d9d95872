"""A foreign header → the identifiers in it, and a header without them. Runs in the child.

PS3.15 E.1 (Basic Application Level Confidentiality Profile) lists what is to be removed. Here the list is of what
stays: whatever is not on it, private or unheard of, is not even parsed. `dicognito` walks over what is left and shifts
the dates; alone it leaves free text, serial numbers, overlays and private elements. The replacements come with the
request: the child sees one file and its values, never the site key.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydicom import dcmwrite
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ExplicitVRLittleEndian

from sonoseek.core.patients import is_placeholder
from sonoseek.io.dicom.header import Header, elements
from sonoseek.io.dicom.patient import patient_text, unkeyed_pseudonym
from sonoseek.io.spellings import SHORTEST, plain, spellings

UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
"""Action U: replaced."""
DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "AcquisitionDateTime")
TIMES = ("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime")
STAY = (
    *("SOPClassUID", "Modality", "ImageType", "ConversionType", "Manufacturer", "ManufacturerModelName"),
    *("SeriesNumber", "AcquisitionNumber", "InstanceNumber", "Laterality", "ImageLaterality", "BodyPartExamined"),
    *("AnatomicRegionSequence", "ViewCodeSequence", "TransducerType", "UltrasoundColorDataPresent"),
    *("MechanicalIndex", "BoneThermalIndex", "SoftTissueThermalIndex", "DepthOfScanField", "CineRate", "FrameTime"),
    *("FrameTimeVector", "FrameIncrementPointer", "RecommendedDisplayFrameRate", "PreferredPlaybackSequencing"),
    *("EffectiveDuration", "ActualFrameDuration", "StartTrim", "StopTrim", "FrameDelay", "StageNumber"),
    *("SequenceOfUltrasoundRegions", "PixelSpacing", "PixelAspectRatio", "LossyImageCompression"),
    *("LossyImageCompressionRatio", "LossyImageCompressionMethod", "NumberOfFrames", "Rows", "Columns"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "RescaleIntercept", "RescaleSlope", "RescaleType"),
    *("ModalityLUTSequence", "VOILUTSequence", "PresentationLUTShape"),
    *(f"{colour}PaletteColorLookupTableDescriptor" for colour in ("Red", "Green", "Blue")),
    *(f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
)
"""Numbers, codes, and names of products: what a reader of the picture needs."""
_NESTED = frozenset(
    tag_for_keyword(name)
    for name in (
        *("CodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "CodeMeaning"),
        *("LUTDescriptor", "LUTData", "ModalityLUTType"),
    )
)
_NUMBERS = frozenset({"US", "UL", "SS", "SL", "FL", "FD", "DS", "IS"})
_IDENTIFYING = (
    "PatientName",
    "PatientID",
    "OtherPatientIDs",
    "PatientBirthDate",
    "AccessionNumber",
    "PatientBirthName",
)
"""Read to be recognised elsewhere in the file and in its pixels."""
_TEXTS = frozenset({"CS", "LO", "SH", "LT", "ST", "UT", "PN", "AE", "UC"})
_WRITTEN_NUMBERS = frozenset({"IS", "DS"})
LONG_NUMBER = 5
"""Digits from which on an equal number is taken for the patient's."""
_DATE = re.compile(r"[0-9]{8}")
_DATE_TIME = re.compile(r"[0-9]{8,14}(\.[0-9]{1,6})?([+-][0-9]{4})?")
_TIME = re.compile(r"[0-9]{2,6}(\.[0-9]{1,6})?")
LONGEST_WORD, MOST_WORDS = 128, 64
CODES = {
    "113100": "Basic Application Confidentiality Profile",
    "113101": "Clean Pixel Data Option",
    "113106": "Retain Longitudinal Temporal Information Full Dates Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
}
"""Of PS3.16 CID 7050."""
_DATES_CODE = {"keep": "113106", "shift": "113107"}
_DATES_MODIFIED = {"keep": "UNMODIFIED", "shift": "MODIFIED", "remove": "REMOVED"}


def identifiers(header: Header) -> dict[str, Any]:
    """What the parent must know to choose replacements and to look for names in the pixels; it logs none of it.

    Returns:
        "uids", keyword → value; "patient", the hash of PatientID or None; "words", [kind, text] of name, number, birth
        date and accession number; "sop_class_uid", "burned_in", and "regions", [left, top, right, bottom] in pixels,
        half-open, of SequenceOfUltrasoundRegions.
    """
    dataset = _read(header, *UIDS, *_IDENTIFYING, "SOPClassUID", "BurnedInAnnotation")
    patient = patient_text(dataset)
    known = bool(patient) and not (isinstance(patient, str) and is_placeholder(patient))
    return {
        "sop_class_uid": str(dataset.get("SOPClassUID", "")),
        "uids": {name: str(dataset[name].value) for name in UIDS if dataset.get(name)},
        "patient": unkeyed_pseudonym(patient) if known else None,
        "words": list(_words(dataset))[:MOST_WORDS],
        "burned_in": str(dataset.get("BurnedInAnnotation") or "").strip().upper(),
        "regions": list(_regions(header)),
    }


def clean_header(header: Header, form: Header, wanted: Mapping[str, Any]) -> bytes:
    """A Part 10 file up to its pixel data, which is to follow: without what identifies the patient.

    Args:
        header: of the file.
        form: of the pixels that will follow, as `stored_frame` gives it.
        wanted: "uids", keyword → new UID; "pseudonym"; "dates" ("shift", "remove" or "keep") and "hours" to shift by;
            "doubt", whether somebody has yet to look at the pixels.
    """
    from dicognito.anonymizer import Anonymizer
    from dicognito.datetimeanonymizer import DateTimeAnonymizer

    dataset = _read(header, *STAY, *UIDS, *DATES, *TIMES, *_IDENTIFYING)
    if header.order == ">":
        _swap_words(dataset)
    words = [text for _, text in _words(dataset)]
    _drop(dataset, _IDENTIFYING)
    dataset.decode()
    _prune(dataset)
    _drop_odd_dates(dataset)
    for element, holder in list(_texts(dataset)):
        whole = element.VR in _WRITTEN_NUMBERS
        if is_any(str(element.value), words) if whole else holds_any(str(element.value), words):
            del holder[element.tag]
    new_uids = wanted["uids"]
    for name in UIDS:
        if name in dataset:
            setattr(dataset, name, UID(new_uids[name]))
    if wanted["dates"] == "remove":
        _drop(dataset, (*DATES, *TIMES))
    anonymizer = Anonymizer(seed=wanted["pseudonym"])
    hours = int(wanted["hours"]) if wanted["dates"] == "shift" else 0
    anonymizer.add_element_handler(DateTimeAnonymizer(hours))
    anonymizer.add_element_handler(_stays)  # type: ignore[arg-type]  # any callable does
    dataset.preamble = b"\0" * 128  # the source's may hold anything (PS3.10 7.1)
    dataset.file_meta = FileMetaDataset()
    anonymizer.anonymize(dataset)
    _state(dataset, form, wanted)
    meta = dataset.file_meta
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    written = io.BytesIO()
    dcmwrite(written, dataset, enforce_file_format=True, implicit_vr=False, little_endian=True)
    return written.getvalue()


def holds_any(text: str, words: list[str]) -> bool:
    """Whether a text holds one of these words, however either is spelt."""
    found = plain(text)
    return any(each in found for word in words for each in spellings(word))


def is_any(text: str, words: list[str]) -> bool:
    """Whether a number, written as text, is one of these words; short ones are numbers of something else as well."""
    number = plain(text)
    return len(number) >= LONG_NUMBER and any(number in spellings(word) for word in words)


def _stays(_: Dataset, element: DataElement) -> bool:
    """Handles every UID: they have their new values already, and dicognito would replace them once more."""
    return element.VR == "UI"


def _state(dataset: Dataset, form: Header, wanted: Mapping[str, Any]) -> None:
    """What stands in every de-identified file: type 2 attributes, the pixels' form, and what was done."""
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = dataset.PatientID = wanted["pseudonym"]
    for name in ("PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber", "ReferringPhysicianName"):
        setattr(dataset, name, "")
    for name in (
        "ImageType",
        "StudyDate",
        "StudyTime",
        "Manufacturer",
        "PatientOrientation",
    ):
        if name not in dataset:
            setattr(dataset, name, "")
    for name in ("SeriesNumber", "InstanceNumber"):
        if name not in dataset:
            setattr(dataset, name, None)
    if "FrameOfReferenceUID" in dataset:
        dataset.PositionReferenceIndicator = ""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = form.samples, form.photometric
    if form.samples > 1:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated, dataset.BitsStored = form.bits_allocated, form.bits_stored
    dataset.HighBit, dataset.PixelRepresentation = form.high_bit, int(form.signed)
    doubt = bool(wanted["doubt"])
    dataset.BurnedInAnnotation = "YES" if doubt else "NO"
    dataset.PatientIdentityRemoved = "NO" if doubt else "YES"
    dataset.LongitudinalTemporalInformationModified = _DATES_MODIFIED[wanted["dates"]]
    codes = ["113100", "113101", *filter(None, [_DATES_CODE.get(wanted["dates"])])]
    dataset.DeidentificationMethod = ["sonoseek", "DICOGNITO"]
    dataset.DeidentificationMethodCodeSequence = Items([_code(value) for value in codes])


def _code(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", CODES[value]
    return item


def _read(header: Header, *names: str) -> Dataset:
    tags = [tag for name in names if (tag := tag_for_keyword(name)) is not None]
    return elements(header.stream, header.start, wanted=tags)


def _drop(dataset: Dataset, names: tuple[str, ...]) -> None:
    for name in names:
        if name in dataset:
            del dataset[name]


def _prune(dataset: Dataset) -> None:
    """Leave numbers, codes and tables in items; items within items go."""
    for element in list(dataset):
        if element.VR != "SQ":
            continue
        regions = element.keyword == "SequenceOfUltrasoundRegions"
        for item in element.value:
            for inner in list(item):
                known = bool(keyword_for_tag(inner.tag)) and not inner.tag.is_private
                if not (known and (inner.VR in _NUMBERS if regions else inner.tag in _NESTED)):
                    del item[inner.tag]


def _texts(dataset: Dataset) -> Iterator[tuple[DataElement, Dataset]]:
    for element in dataset:
        if element.VR in _TEXTS | _WRITTEN_NUMBERS:
            yield element, dataset
        elif element.VR == "SQ":
            for item in element.value:
                yield from _texts(item)


def _drop_odd_dates(dataset: Dataset) -> None:
    """Dates and times that are none: nobody can shift them, and they may be anything."""
    for name in (*DATES, *TIMES):
        if name in dataset:
            rule = _DATE_TIME if name.endswith("DateTime") else _DATE if name.endswith("Date") else _TIME
            value = str(dataset[name].value or "").strip()
            if rule.fullmatch(value) is None or (rule is not _TIME and not "1900" <= value[:4] <= "2999"):
                del dataset[name]
            else:
                dataset[name].value = value


def _words(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """(kind, text) of what names the patient; a date in every usual order of its parts."""
    for name in ("PatientName", "PatientBirthName"):
        for part in re.split(r"[\^=\s,\\]+", str(dataset.get(name) or "")):
            yield from _word("name", part)
    patient = patient_text(dataset)
    yield from _word("patient id", patient if isinstance(patient, str) else patient.decode("latin-1"))
    others = dataset.get("OtherPatientIDs") or ()
    for other in [others] if isinstance(others, str) else others:
        yield from _word("patient id", str(other))
    yield from _word("accession number", str(dataset.get("AccessionNumber") or ""))
    born = str(dataset.get("PatientBirthDate") or "").strip()
    if _DATE.fullmatch(born):
        year, month, day = born[:4], born[4:6], born[6:]
        for parts in ((year, month, day), (day, month, year), (month, day, year)):
            yield "birth date", "".join(parts)


def _word(kind: str, text: str) -> Iterator[tuple[str, str]]:
    if len(plain(text)) >= SHORTEST and not is_placeholder(text):
        yield kind, text[:LONGEST_WORD]


def _regions(header: Header) -> Iterator[list[int]]:
    for item in header.dataset.get("SequenceOfUltrasoundRegions") or ():
        names = ("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1")
        try:
            left, top, right, bottom = (int(item[name].value) for name in names)
        except (KeyError, TypeError, ValueError):
            continue
        right, bottom = min(right + 1, header.columns), min(bottom + 1, header.rows)
        if 0 <= left < right and 0 <= top < bottom:
            yield [left, top, right, bottom]


def _swap_words(dataset: Dataset) -> None:
    """Tables of 16-bit words, which pydicom keeps as bytes, from big to little endian."""
    for element in dataset:
        if element.VR == "OW" and isinstance(element.value, bytes):
            data = bytearray(element.value[: len(element.value) // 2 * 2])
            data[::2], data[1::2] = data[1::2], data[::2]
            element.value = bytes(data)
        elif element.VR == "SQ":
            for item in element.value:
                _swap_words(item)
