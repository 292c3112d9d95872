"""Results as DICOM objects: valid, of the source's patient and study, the same when they are made again."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import save, us_dataset
from dicom_sources import SHAPE, SOURCES, study, written
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset

from sonoseek.core import InvalidValueError, MissingExtraError, NotFoundError, Report, Scan, extras
from sonoseek.datasets.phantom import make_phantom
from sonoseek.io import SourceHeader, read_source_header
from sonoseek.reports import render, render_sr, write_report
from sonoseek.reports.dicom import KINDS, DicomResult, render_dicom

pytest.importorskip("highdicom")
Build = Callable[..., Report]
ALL = tuple(KINDS)
PATIENT_AND_STUDY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)


def parsed(result: DicomResult) -> Dataset:
    return pydicom.dcmread(io.BytesIO(result.content))


def rendered(name: str, folder: Path, build: Build, **options: Any) -> tuple[Dataset, dict[str, DicomResult]]:
    path = written(name, folder)
    report = build(gallery_state="state-9")
    if name == "cine":
        report = replace(report, scan=Scan(pixels=report.scan.pixels, spacing_mm=(0.2, 0.2), frame=3, frames=5))
    options = {"kinds": ALL, "study_key": "k" * 64} | options
    results = render_dicom(report, read_source_header(path), **options)
    return pydicom.dcmread(path), {result.kind: result for result in results}


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "broken"])
def test_patient_and_study_are_those_of_the_source(name: str, tmp_path: Path, build_report: Build) -> None:
    kinds = ALL if name == "grey" else tuple(kind for kind in ALL if kind != "pdf")  # which takes a second
    source, results = rendered(name, tmp_path, build_report, kinds=kinds)
    assert tuple(results) == kinds
    uids = set()
    for result in results.values():
        dataset = parsed(result)
        for keyword in PATIENT_AND_STUDY:
            assert dataset[keyword].value == (source.get(keyword) or ""), keyword
        assert dataset.SOPInstanceUID == result.sop_instance_uid == dataset.file_meta.MediaStorageSOPInstanceUID
        assert dataset.SOPClassUID == result.sop_class_uid == dataset.file_meta.MediaStorageSOPClassUID
        assert dataset.SeriesInstanceUID == result.series_instance_uid != source.SeriesInstanceUID
        assert dataset.StudyInstanceUID == result.study_instance_uid
        uids |= {result.sop_instance_uid, result.series_instance_uid}
    assert len(uids) == 2 * len(kinds)
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)


def test_what_breaks_the_standard_is_empty_absent_or_cut(tmp_path: Path, build_report: Build) -> None:
    _, results = rendered("broken", tmp_path, build_report)
    for result in results.values():
        dataset = parsed(result)
        for keyword in ("StudyDate", "StudyTime", "PatientBirthDate", "PatientSex", "AccessionNumber"):
            assert dataset[keyword].value == ""
        assert len(dataset.StudyDescription) == 64
        assert "PatientAge" not in dataset


@pytest.mark.parametrize("name", ["Curie", "Curie Marie", "Yamada=山田"])
def test_a_name_of_one_part_stays_and_no_warning_says_it(name: str, tmp_path: Path, build_report: Build) -> None:
    header = read_source_header(written("grey", tmp_path))
    groups = dict(zip(("Alphabetic", "Ideographic"), name.split("="), strict=False))
    header = replace(header, attributes={**header.attributes, "00100010": {"vr": "PN", "Value": [groups]}})
    kinds = [kind for kind in ALL if kind != "pdf"]
    for result in render_dicom(build_report(), header, kinds=kinds, study_key="key"):  # warnings are errors
        assert str(parsed(result).PatientName) == name


@pytest.mark.parametrize("values", [["17", "18"], ["1" * 65], [17]])
def test_a_patients_number_is_never_cut(values: list[Any], tmp_path: Path, build_report: Build) -> None:
    header = read_source_header(written("grey", tmp_path))
    header = replace(header, attributes={**header.attributes, "00100020": {"vr": "LO", "Value": values}})
    (result,) = render_dicom(build_report(), header, kinds=("sr",), study_key="key")
    assert parsed(result).PatientID == ""


@pytest.mark.parametrize(("name", "sets"), [("umlauts", "ISO_IR 100"), ("japanese", ["", "ISO 2022 IR 87"])])
def test_the_character_set_of_the_source_is_kept(name: str, sets: Any, tmp_path: Path, build_report: Build) -> None:
    source, results = rendered(name, tmp_path, build_report, kinds=("sr", "sc", "gsps"))
    for kind, result in results.items():
        dataset = parsed(result)
        assert dataset.SpecificCharacterSet == sets, kind
        assert str(dataset.PatientName) == str(source.PatientName)
        raw = result.content
        assert (source.PatientName.encode(pydicom.charset.convert_encodings(sets)) in raw) is True


def test_text_that_the_character_set_cannot_hold_makes_it_unicode(tmp_path: Path, build_report: Build) -> None:
    report = build_report()
    report = replace(report, matches=(replace(report.matches[0], label="злокачественный"), *report.matches[1:]))
    (result,) = render_dicom(report, read_source_header(written("umlauts", tmp_path)), kinds=("sr",), study_key="key")
    assert parsed(result).SpecificCharacterSet == "ISO_IR 192"
    assert "злокачественный".encode() in result.content
    assert str(parsed(result).PatientName) == "Müller^Änne"


def test_a_resend_is_the_same_object(tmp_path: Path, build_report: Build) -> None:
    _, once = rendered("grey", tmp_path, build_report)
    time.sleep(1.1)  # highdicom writes the time of the call, in whole seconds in places
    _, again = rendered("grey", tmp_path, build_report)
    for kind, result in once.items():
        assert again[kind].content == result.content, kind


def test_another_study_bundle_gallery_or_state_is_another_object(tmp_path: Path, build_report: Build) -> None:
    header = read_source_header(written("grey", tmp_path))
    report = build_report(gallery_state="one")
    variants = [
        (report, "key"),
        (report, "other"),
        (replace(report, bundle_id="second-0123456789ab"), "key"),
        (replace(report, gallery_id="7777"), "key"),
        (replace(report, gallery_state="two"), "key"),
    ]
    results = [render_dicom(each, header, kinds=("sr",), study_key=key)[0] for each, key in variants]
    assert len({result.sop_instance_uid for result in results}) == len(variants)
    later = replace(report, created=datetime(2027, 1, 1, tzinfo=UTC))
    assert render_dicom(later, header, kinds=("sr",), study_key="key")[0].sop_instance_uid == (
        results[0].sop_instance_uid
    )


def test_the_times_are_in_the_zone_of_the_source(tmp_path: Path, build_report: Build) -> None:
    dataset = SOURCES["grey"]()
    dataset.TimezoneOffsetFromUTC = "-0330"
    header = read_source_header(save(dataset, tmp_path / "zone.dcm"))
    for result in render_dicom(build_report(), header, kinds=ALL, study_key="key"):
        made = parsed(result)
        assert (made.InstanceCreationDate, made.InstanceCreationTime) == ("20260304", "013607")
        assert made.TimezoneOffsetFromUTC == "-0330"


def test_a_zone_that_there_is_none_is_left_out(tmp_path: Path, build_report: Build) -> None:
    dataset = SOURCES["grey"]()
    dataset.TimezoneOffsetFromUTC = "+9900"
    header = read_source_header(save(dataset, tmp_path / "zone.dcm"))
    (result,) = render_dicom(build_report(), header, kinds=("sr",), study_key="key")
    assert "TimezoneOffsetFromUTC" not in parsed(result)


def test_the_picture_shows_the_evidence_and_names_its_source(tmp_path: Path, build_report: Build) -> None:
    source, results = rendered("cine", tmp_path, build_report, kinds=("sc",))
    picture = parsed(results["sc"])
    pixels = picture.pixel_array
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert min(pixels.shape[:2]) > SHAPE[0]
    assert (pixels[..., 0] != pixels[..., 2]).any()
    assert picture.ImageType[0] == "DERIVED"
    reference = picture.SourceImageSequence[0]
    assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert reference.ReferencedFrameNumber == 4
    assert "BurnedInAnnotation" not in picture


@pytest.mark.parametrize("stated", ["YES", "NO"])
def test_burned_in_annotation_is_that_of_the_source(stated: str, tmp_path: Path, build_report: Build) -> None:
    dataset = SOURCES["grey"]()
    dataset.BurnedInAnnotation = stated
    header = read_source_header(save(dataset, tmp_path / "scan.dcm"))
    for result in render_dicom(build_report(), header, kinds=("sc", "pdf"), study_key="key"):
        assert parsed(result).BurnedInAnnotation == stated


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="pdftotext (poppler) is not installed")
def test_the_pdf_is_the_printed_report_without_the_archives_ids(tmp_path: Path, build_report: Build) -> None:
    report = build_report()
    secret = replace(report.matches[0], case_id="MUELLER_ANNA_19610412", patient_id="p-MUELLER")
    report = replace(report, matches=(secret, *report.matches[1:]))
    (result,) = render_dicom(report, read_source_header(written("grey", tmp_path)), kinds=("pdf",), study_key="key")
    document = parsed(result)
    content = document.EncapsulatedDocument[: document.EncapsulatedDocumentLength]
    assert content.startswith(b"%PDF")
    (tmp_path / "report.pdf").write_bytes(content)
    command = ["pdftotext", tmp_path / "report.pdf", "-"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "MUELLER" not in text
    assert "research use only" in text.lower()


def test_without_an_outline_there_is_nothing_to_draw(tmp_path: Path, unsure_report: Report) -> None:
    header = read_source_header(written("grey", tmp_path))
    results = render_dicom(unsure_report, header, kinds=ALL, study_key="key")
    assert [result.kind for result in results] == ["sr", "sc", "pdf"]


def test_hostile_texts_are_written_plainly(tmp_path: Path, hostile_report: Report) -> None:
    header = read_source_header(written("grey", tmp_path))
    for result in render_dicom(hostile_report, header, kinds=ALL, study_key="key"):
        dataset = parsed(result)
        assert dataset.StudyInstanceUID == header.study_instance_uid
        if result.kind == "sr":
            assert b"\x1b[2J" not in result.content


def test_another_image_an_unknown_kind_and_no_key_are_refused(tmp_path: Path, build_report: Build) -> None:
    header = read_source_header(written("grey", tmp_path))
    other = build_report(scan=Scan(pixels=np.zeros((50, 60), np.uint8)), explanations=(), contour=None)
    with pytest.raises(InvalidValueError, match="they must be one image"):
        render_dicom(other, header, study_key="key")
    with pytest.raises(NotFoundError, match="'docx'"):
        render_dicom(build_report(), header, kinds=("docx",), study_key="key")
    with pytest.raises(InvalidValueError, match="study_key is empty"):
        render_dicom(build_report(), header, study_key="")
    with pytest.raises(InvalidValueError, match="sop_class_uid of the source is ''"):
        render_dicom(build_report(), SourceHeader(attributes={}), study_key="key")


def test_without_the_extra_the_error_says_what_installs_it(
    tmp_path: Path, build_report: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = read_source_header(written("grey", tmp_path))
    monkeypatch.setattr(extras, "find_spec", lambda module: None if module == "highdicom" else module)
    with pytest.raises(MissingExtraError, match=r"'highdicom'.*\.\[pacs\]"):
        render_dicom(build_report(), header, study_key="key")


def test_highdicom_is_imported_on_first_use() -> None:
    code = (
        "import sys, sonoseek, sonoseek.reports, sonoseek.reports.dicom; "
        "sys.exit(any(name in sys.modules for name in ('highdicom', 'pydicom')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_write_report_writes_the_structured_report(tmp_path: Path, build_report: Build) -> None:
    source = written("grey", tmp_path)
    path = write_report(build_report(), tmp_path / "report.dcm", source=source)
    assert path.read_bytes() == render_sr(build_report(), source)
    assert pydicom.dcmread(path).Modality == "SR"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InvalidValueError, match="Pass source="):
        write_report(build_report(), tmp_path / "other.dcm")
    with pytest.raises(NotFoundError, match="call render_sr"):
        render(build_report(), "dicom")


def test_the_command_line_writes_it(tmp_path: Path, sonoseek_here: Callable[..., Any]) -> None:
    pixels = make_phantom(0, pathology="malignant").scans[0].pixels
    source = save(study(us_dataset(pixels)), tmp_path / "scan.dcm")
    done = sonoseek_here("query", source, "--out", tmp_path / "report.dcm")
    assert done.returncode == 0, done.stderr
    made = pydicom.dcmread(tmp_path / "report.dcm")
    assert (made.Modality, made.PatientID) == ("SR", "MRN 0815")
    assert "Evidence for the likeliest class" in str(made)
    assert "POLYLINE" in str(made)
    Image.fromarray(np.full(SHAPE, 90, np.uint8)).save(tmp_path / "scan.png")
    refused = sonoseek_here("query", tmp_path / "scan.png", "--out", tmp_path / "png.dcm")
    assert refused.returncode != 0
    assert "no DICOM file" in refused.stderr
    refused = sonoseek_here("query", source, "--format", "dicom")
    assert "--out" in refused.stderr
    refused = sonoseek_here("query", source, "--format", "json", "--out", tmp_path / "x.dcm")
    assert "disagree" in refused.stderr
    assert not (tmp_path / "png.dcm").exists()


def json_elements() -> st.SearchStrategy[dict[str, Any]]:
    """Elements as a damaged file, or a reader process that was taken over, may bring them."""
    values = st.one_of(
        st.none(), st.text(max_size=90), st.integers(), st.floats(allow_nan=False), st.just({"Alphabetic": "A^B"})
    )
    vrs = st.sampled_from(["LO", "PN", "DA", "TM", "CS", "SQ", "DS", "IS", "UI", "US", "OB", "AT", "XX"])
    element = st.fixed_dictionaries({"vr": vrs}, optional={"Value": st.lists(values, max_size=3)})
    numbers = (0x00100010, 0x00100020, 0x00100030, 0x00100040, 0x00101010, 0x00101020, 0x00200010, 0x00280301)
    others = (
        0x00080020,
        0x00080030,
        0x00080050,
        0x00080060,
        0x00080070,
        0x00080090,
        0x00080201,
        0x00081030,
        0x00081032,
    )
    tags = st.sampled_from([f"{number:08X}" for number in (*numbers, *others)])
    return st.dictionaries(tags, element, max_size=8)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(elements=json_elements())
@example(elements={"00100010": {"vr": "PN", "Value": [{"Alphabetic": "A^B"}, {"Alphabetic": "A^B"}]}})
@example(elements={"00080090": {"vr": "PN", "Value": [None, {"Alphabetic": "A^B"}]}})
def test_any_header_gives_a_result_that_can_be_read(
    elements: dict[str, Any], tmp_path_factory: pytest.TempPathFactory, build_report: Build
) -> None:
    folder = tmp_path_factory.getbasetemp()
    source = folder / "grey.dcm"
    header = read_source_header(source if source.exists() else written("grey", folder))
    header = replace(header, attributes={**header.attributes, **elements}, character_set=("ISO_IR 100",))
    (result,) = render_dicom(build_report(), header, kinds=("sr",), study_key="key")
    dataset = parsed(result)
    assert dataset.StudyInstanceUID == header.study_instance_uid
    assert {element.keyword for element in dataset.iterall()} >= {"PatientID", "PatientName", "GraphicData"}
