"""Header attributes for results: read in the child, decoded, and whole whatever the file lacks."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from dicom_files import save, speckle, us_dataset
from PIL import Image
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, generate_uid

from sonoseek.core import NotFoundError, ScanReadError
from sonoseek.io import SourceHeader, read_source_header

GREY = speckle().astype(np.uint8)
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"


def study(**changes: object) -> Dataset:
    dataset = us_dataset(GREY)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.StudyDate, dataset.AccessionNumber, dataset.BodyPartExamined = "20240229", "A-17", "BREAST"
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return dataset


def test_who_and_what_a_file_is_about(tmp_path: Path) -> None:
    dataset = study()
    region = Dataset()
    region.PhysicalDeltaX = 0.01
    dataset.SequenceOfUltrasoundRegions = [region]
    found = read_source_header(save(dataset, tmp_path / "scan.dcm"))
    assert found.sop_class_uid == dataset.SOPClassUID
    assert found.sop_instance_uid == dataset.SOPInstanceUID
    assert found.study_instance_uid == dataset.StudyInstanceUID
    assert found.series_instance_uid == dataset.SeriesInstanceUID
    assert found.transfer_syntax_uid == ExplicitVRLittleEndian
    assert (found.modality, found.body_part, found.study_date) == ("US", "BREAST", "20240229")
    assert (found.patient_id, found.patient_name, found.accession_number) == ("MRN 0815", "Curie^Marie", "A-17")
    assert (found.rows, found.columns, found.frames) == (96, 128, 1)
    again = Dataset.from_json(dict(found.attributes))
    assert again.SequenceOfUltrasoundRegions[0].PhysicalDeltaX == 0.01
    assert "PixelData" not in again


@pytest.mark.parametrize(
    ("name", "sets"),
    [
        ("Müller^Änne", "ISO_IR 100"),
        ("Müller^Änne", "ISO_IR 192"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"]),
        ("Hong^Gildong=洪^吉洞=홍^길동", ["", "ISO 2022 IR 149"]),
        ("Wang^XiaoDong=王^小东", "GB18030"),
    ],
)
def test_names_of_any_character_set(tmp_path: Path, name: str, sets: object) -> None:
    found = read_source_header(save(study(SpecificCharacterSet=sets, PatientName=name), tmp_path / "scan.dcm"))
    assert found.patient_name == name
    assert found.text("00080005") == "ISO_IR 192"
    assert list(found.character_set) == ([sets] if isinstance(sets, str) else sets)
    assert str(Dataset.from_json(dict(found.attributes)).PatientName) == name


@pytest.mark.parametrize("raw", ["Müller".encode(), "Müller".encode("latin-1")])
def test_a_name_beyond_ascii_without_a_character_set(tmp_path: Path, raw: bytes) -> None:
    dataset = study()
    dataset[0x00100010] = RawDataElement(Tag(0x00100010), "PN", len(raw), raw, 0, False, True)
    assert read_source_header(save(dataset, tmp_path / "scan.dcm")).patient_name == "Müller"


def test_a_file_without_pixels_and_a_deflated_one(tmp_path: Path) -> None:
    dataset = study(SOPClassUID=COMPREHENSIVE_3D_SR, Modality="SR")
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(dataset, keyword)
    found = read_source_header(save(dataset, tmp_path / "report.dcm"))
    assert (found.sop_class_uid, found.rows, found.frames) == (COMPREHENSIVE_3D_SR, 0, 1)
    dataset = study()
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    found = read_source_header(save(dataset, tmp_path / "deflated.dcm"))
    assert (found.patient_id, found.rows) == ("MRN 0815", 96)


def test_what_a_file_lacks_or_spoils_is_empty_and_costs_nothing_else(tmp_path: Path) -> None:
    dataset = study()
    del dataset.PatientID, dataset.StudyDate
    dataset[0x00201040] = RawDataElement(Tag(0x00201040), "LO", 0, b"", 0, False, True)
    bad = b"not a number"
    dataset[0x00280030] = RawDataElement(Tag(0x00280030), "DS", len(bad), bad, 0, False, True)
    found = read_source_header(save(dataset, tmp_path / "scan.dcm"))
    assert (found.patient_id, found.study_date, found.text("00201040")) == ("", "", "")
    assert "00280030" not in found.attributes
    assert (found.patient_name, found.accession_number) == ("Curie^Marie", "A-17")


def test_what_is_no_dicom_is_refused(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "scan.png")
    (tmp_path / "short.dcm").write_bytes(b"\0" * 128 + b"DICM")
    with pytest.raises(ScanReadError, match=r"scan\.png: this is no DICOM file"):
        read_source_header(tmp_path / "scan.png")
    with pytest.raises(ScanReadError, match="this is no DICOM file"):
        read_source_header(tmp_path / "short.dcm")
    with pytest.raises(NotFoundError):
        read_source_header(tmp_path / "none.dcm")


def test_a_header_that_is_too_large_is_refused(tmp_path: Path) -> None:
    step = Dataset()
    step.CodeMeaning = "x" * 60
    with pytest.raises(ScanReadError, match="at most 1024 KiB"):
        read_source_header(save(study(ProcedureCodeSequence=[step] * 20_000), tmp_path / "scan.dcm"))


def test_the_parent_parses_nothing_and_shows_no_name(tmp_path: Path) -> None:
    found = read_source_header(save(study(), tmp_path / "scan.dcm"))
    assert "Curie" not in repr(found)
    assert "pydicom" not in sys.modules["sonoseek.io.dicom.source_header"].__dict__
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.transfer_syntax_uid = "1.2"  # type: ignore[misc]
    assert SourceHeader(attributes={}).frames == 1
