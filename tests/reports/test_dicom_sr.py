"""The structured report: what it says, and where it points."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from dicom_sources import SHAPE, written
from pydicom.dataset import Dataset

from sonoseek.core import Contour, InvalidValueError, Report, ReportWarning, Scan
from sonoseek.io import read_source_header
from sonoseek.reports.dicom import QueriedFrame, Verification, render_dicom

pytest.importorskip("highdicom")
Build = Callable[..., Report]
WHEN = datetime(2026, 3, 4, 9, 10, 11, tzinfo=UTC)


def structured(report: Report, folder: Path, *, source: str = "grey", **options: Any) -> Dataset:
    header = read_source_header(written(source, folder))
    (result,) = render_dicom(report, header, kinds=("sr",), study_key="key", **options)
    return pydicom.dcmread(io.BytesIO(result.content))


def items(dataset: Dataset) -> Iterator[Dataset]:
    for item in dataset.get("ContentSequence", ()):
        yield item
        yield from items(item)


def named(document: Dataset, value: str) -> list[Dataset]:
    return [each for each in items(document) if each.ConceptNameCodeSequence[0].CodeValue == value]


def texts(document: Dataset, value: str) -> list[str]:
    return [each.TextValue for each in named(document, value)]


def coded(document: Dataset, value: str) -> list[tuple[str, str]]:
    concepts = [each.ConceptCodeSequence[0] for each in named(document, value)]
    return [(concept.CodeValue, concept.CodingSchemeDesignator) for concept in concepts]


def groups(document: Dataset) -> list[Dataset]:
    return named(document, "125007")


def on_frame(report: Report, frame: int) -> Report:
    scan = Scan(pixels=report.scan.pixels, spacing_mm=(0.2, 0.2), frame=frame, frames=5, laterality="left")
    return replace(report, scan=scan)


def test_what_the_report_says(tmp_path: Path, build_report: Build) -> None:
    warnings = (
        ReportWarning(severity="high", code="disagreement", text="Most similar cases are benign."),
        ReportWarning(severity="low", code="no_spacing", text="The pixel size is not known."),
    )
    report = build_report(warnings=warnings, gallery_state="state-9")
    document = structured(report, tmp_path)
    assert document.ConceptNameCodeSequence[0].CodeValue == "126000"
    assert document.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (document.CompletionFlag, document.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    (group,) = groups(document)
    (likelihood,) = named(document, "111047")
    measured = likelihood.MeasuredValueSequence[0]
    assert float(measured.NumericValue) == 87.0
    assert measured.MeasurementUnitsCodeSequence[0].CodeValue == "%"
    assert coded(document, "PREDICTED_CLASS") == [("21594007", "SCT")]
    assert coded(document, "121058") == [("47079000", "SCT")]
    assert texts(document, "111001") == ["sonoseek"]
    assert texts(document, "111003") == ["0.1.0"]
    assert texts(document, "111002")[:3] == [
        "bundle: first-0123456789ab",
        "gallery: 6a1f",
        "gallery state: state-9",
    ]
    assert texts(document, "WARNING") == ["Most similar cases are benign."]
    assert texts(document, "DISCLAIMER") == ["research use only, not for diagnosis"]
    assert texts(document, "HEADLINE")[0].startswith("Likelihood of malignancy 87 %")
    similar = texts(document, "SIMILAR_CASE")
    assert similar[2] == "3. malignant (pathology-proven), similarity 0.850, archive archive" or len(similar) == 5
    inside = list(group.ContentSequence)
    assert all(each in inside for each in named(document, "SIMILAR_CASE"))
    scheme = document.CodingSchemeIdentificationSequence[0]
    assert scheme.CodingSchemeDesignator == "99SONOSEEK"
    assert "BI-RADS" not in str(document)


def test_similar_cases_bring_no_identifier_of_the_archive(tmp_path: Path, build_report: Build) -> None:
    report = build_report()
    secret = replace(report.matches[0], case_id="MUELLER_ANNA_19610412.dcm", patient_id="p-77", scan_id="f" * 64)
    document = structured(replace(report, matches=(secret, *report.matches[1:])), tmp_path)
    written_text = str(document)
    for identifier in ("MUELLER", "p-77", "f" * 64):
        assert identifier not in written_text


@pytest.mark.parametrize("source", ["grey", "colour", "umlauts", "no_spacing"])
def test_the_outline_is_one_closed_polyline_of_column_and_row(source: str, tmp_path: Path, build_report: Build) -> None:
    points = np.array([[20.5, 60.25], [31.5, 110.5], [70.75, 90.5], [60.5, 55.5]], np.float32)  # row, column
    report = build_report()
    assert report.contour is not None
    document = structured(replace(report, contour=replace(report.contour, points=points)), tmp_path, source=source)
    (region,) = named(document, "111030")
    assert (region.ValueType, region.GraphicType) == ("SCOORD", "POLYLINE")
    drawn = np.array(region.GraphicData).reshape(-1, 2)
    assert np.array_equal(drawn[0], drawn[-1])
    assert np.allclose(drawn[0], (60.25, 20.5))
    assert overlap(drawn[:-1, ::-1], points) >= 0.99
    assert "ReferencedFrameNumber" not in region.ContentSequence[0].ReferencedSOPSequence[0]


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """IoU of two outlines of (row, column), rasterised at eight times the resolution by another program's rule."""
    masks = []
    for points in (one, other):
        mask = np.zeros((SHAPE[0] * 8, SHAPE[1] * 8), np.uint8)
        cv2.fillPoly(mask, [np.rint(points[:, ::-1] * 8).astype(np.int32)], 1)
        masks.append(mask.astype(bool))
    return float((masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum())


def test_the_outline_lies_on_the_frame_that_was_queried(tmp_path: Path, build_report: Build) -> None:
    document = structured(on_frame(build_report(), 3), tmp_path, source="cine")
    references = [
        item.ReferencedSOPSequence[0]
        for item in items(document)
        if item.ValueType == "IMAGE" and "ReferencedFrameNumber" in item.ReferencedSOPSequence[0]
    ]
    assert [int(each.ReferencedFrameNumber) for each in references] == [4, 4]
    site = named(document, "363698007")[0]
    assert site.ContentSequence[0].ConceptCodeSequence[0].CodeMeaning == "Left"


def test_without_an_outline_the_region_is_the_whole_image(tmp_path: Path, unsure_report: Report) -> None:
    document = structured(unsure_report, tmp_path)
    (group,) = groups(document)
    assert group.ContentTemplateSequence[0].TemplateIdentifier == "1410"
    assert coded(document, "121071") == [("WHOLE_IMAGE", "99SONOSEEK")]
    (region,) = named(document, "111030")
    rows, columns = SHAPE
    assert region.GraphicData == [0, 0, columns, 0, columns, rows, 0, rows, 0, 0]
    assert coded(document, "PREDICTED_CLASS") == [("373068000", "SCT")]
    assert float(named(document, "111047")[0].MeasuredValueSequence[0].NumericValue) == 39.0
    assert texts(document, "111002")[1] == "gallery: none"


def test_no_likelihood_of_an_image_unlike_the_training_scans(tmp_path: Path, build_report: Build) -> None:
    report = build_report()
    foreign = replace(report.prediction, label=None, ood_score=1.4)
    document = structured(replace(report, prediction=foreign), tmp_path)
    assert not named(document, "111047")
    assert coded(document, "PREDICTED_CLASS") == [("373068000", "SCT")]
    assert texts(document, "HEADLINE")[0].startswith("No prediction")


def test_the_frames_that_were_asked_stand_in_it(tmp_path: Path, build_report: Build) -> None:
    queried = [QueriedFrame(sop_instance_uid="1.2.3", frame=number, malignant=number / 10) for number in (1, 2, 3)]
    document = structured(on_frame(build_report(), 2), tmp_path, source="cine", queried=queried)
    assert texts(document, "ASKED_FRAME") == [
        "frame 1 of image 1.2.3: 10 %",
        "frame 2 of image 1.2.3: 20 %",
        "frame 3 of image 1.2.3: 30 %",
    ]
    with pytest.raises(InvalidValueError, match="counts frames from 1"):
        QueriedFrame(sop_instance_uid="1.2.3", frame=0, malignant=0.5)


def test_a_reader_verifies_or_corrects(tmp_path: Path, build_report: Build) -> None:
    report = build_report()
    plain = structured(report, tmp_path)
    given = {"observer_name": "Curie^Marie", "organisation": "Clinic", "when": WHEN}
    accepted = structured(report, tmp_path, verification=Verification(accepted=True, **given))
    assert accepted.VerificationFlag == "VERIFIED"
    observer = accepted.VerifyingObserverSequence[0]
    assert (observer.VerifyingObserverName, observer.VerifyingOrganization) == ("Curie^Marie", "Clinic")
    assert accepted.SOPInstanceUID != plain.SOPInstanceUID
    former = accepted.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert former.ReferencedSOPInstanceUID == plain.SOPInstanceUID
    corrected = structured(
        report, tmp_path, verification=Verification(accepted=False, corrected_class="benign", **given)
    )
    assert corrected.VerificationFlag == "VERIFIED"
    assert coded(corrected, "READER_CLASS") == [("30807003", "SCT")]
    assert coded(corrected, "PREDICTED_CLASS") == [("21594007", "SCT")]
    refused = structured(report, tmp_path, verification=Verification(accepted=False, **given))
    assert refused.VerificationFlag == "UNVERIFIED"
    assert texts(refused, "READER_DECISION") == ["The reader has not accepted this result."]
    with pytest.raises(InvalidValueError, match="time zone"):
        Verification(observer_name="A^B", organisation="C", when=datetime(2026, 1, 1), accepted=True)


def test_a_class_of_another_bundle_gets_a_private_code(tmp_path: Path, build_report: Build) -> None:
    report = build_report()
    prediction = replace(
        report.prediction,
        probabilities={"phyllodes tumour": 0.7, "cyst": 0.3},
        label="phyllodes tumour",
        prediction_set=("cyst",),
        operating_points=(),
    )
    document = structured(replace(report, prediction=prediction), tmp_path)
    assert coded(document, "PREDICTED_CLASS") == [("CLASS_PHYLLODES", "99SONOSEEK")]
    assert not named(document, "111047")


def test_the_polyline_of_a_real_outline_is_that_outline(tmp_path: Path, build_report: Build) -> None:
    from sonoseek.explain.contour import outline_of

    rows, columns = np.indices(SHAPE)
    lesion = ((rows - 60) / 21.0) ** 2 + ((columns - 85) / 33.0) ** 2 + 0.2 * np.sin(columns / 4.0) < 1
    contour = outline_of(lesion, spacing_mm=(0.2, 0.2))
    assert isinstance(contour, Contour)
    document = structured(build_report(contour=contour), tmp_path)
    drawn = np.array(named(document, "111030")[0].GraphicData).reshape(-1, 2)
    assert overlap(drawn[:-1, ::-1], contour.points) >= 0.99
