"""Spacing, pseudonym, laterality, windows: what a header says comes out right."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import numpy as np
import pytest
from dicom_files import save, speckle, us_dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from sonoseek.core.site_key import site_key
from sonoseek.io.dicom import read_dicom

GREY = speckle(16, 24).astype(np.uint8)


def region(
    dx: float = 0.005, dy: float = 0.008, *, kind: int = 1, form: int = 1, units: int = 3, size: int = 10
) -> Dataset:
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = form, kind, 0
    item.RegionLocationMinX0 = item.RegionLocationMinY0 = 0
    item.RegionLocationMaxX1 = item.RegionLocationMaxY1 = size
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = units
    item.PhysicalDeltaX, item.PhysicalDeltaY = dx, dy
    return item


def spacing(folder: Path, *regions: Dataset, **elements: object) -> tuple[float, float] | None:
    dataset = us_dataset(GREY)
    if regions:
        dataset.SequenceOfUltrasoundRegions = list(regions)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return read_dicom(save(dataset, folder / "scan.dcm")).spacing_mm


def test_deltas_are_centimetres_and_row_comes_first(tmp_path: Path) -> None:
    assert spacing(tmp_path, region(0.005, 0.008)) == pytest.approx((0.08, 0.05))


def test_a_delta_is_signed_but_a_distance_is_not(tmp_path: Path) -> None:
    assert spacing(tmp_path, region(0.005, -0.008)) == pytest.approx((0.08, 0.05))


def test_tissue_goes_before_colour_flow_and_the_larger_before_the_smaller(tmp_path: Path) -> None:
    flow, inset = region(0.1, 0.1, kind=2, size=20), region(0.2, 0.2, size=4)
    assert spacing(tmp_path, flow, inset, region(0.005, 0.008, size=9)) == pytest.approx((0.08, 0.05))
    assert spacing(tmp_path, region(0.3, 0.3, kind=3, form=3), flow) == pytest.approx((1, 1))


@pytest.mark.parametrize(
    "useless",
    [
        region(units=4),  # seconds
        region(units=0),
        region(form=2),  # M-mode
        region(form=3, kind=3),  # spectral
        region(kind=4),
        region(dx=0.0),
        region(dy=float("nan")),
        Dataset(),
    ],
    ids=["seconds", "no unit", "M-mode", "spectral", "waveform", "zero", "NaN", "empty"],
)
def test_a_region_that_does_not_measure_the_body_is_passed_over(tmp_path: Path, useless: Dataset) -> None:
    assert spacing(tmp_path, useless) is None
    assert spacing(tmp_path, useless, PixelSpacing=[0.3, 0.2]) == pytest.approx((0.3, 0.2))
    assert spacing(tmp_path, useless, region(0.005, 0.008)) == pytest.approx((0.08, 0.05))


def test_pixel_spacing_is_the_fallback_and_the_detector_s_is_none(tmp_path: Path) -> None:
    assert spacing(tmp_path, PixelSpacing=[0.3, 0.2]) == pytest.approx((0.3, 0.2))
    assert spacing(tmp_path, region(0.005, 0.008), PixelSpacing=[0.3, 0.2]) == pytest.approx((0.08, 0.05))
    assert spacing(tmp_path, ImagerPixelSpacing=[0.3, 0.2]) is None
    assert spacing(tmp_path, PixelSpacing=[0, 0]) is None


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dx=st.floats(5e-4, 0.2) | st.floats(-0.2, -5e-4),
    dy=st.floats(5e-4, 0.2),
    x=st.integers(0, 1000),
    y=st.integers(0, 99),
)
def test_any_delta_gives_ten_times_itself(tmp_path: Path, dx: float, dy: float, x: int, y: int) -> None:
    item = region(dx, dy)
    item.RegionLocationMinX0, item.RegionLocationMaxX1 = x, x + 1 + y
    assert spacing(tmp_path, item) == pytest.approx((abs(dy) * 10, abs(dx) * 10))


def test_no_name_and_no_number_of_the_patient_comes_out(tmp_path: Path) -> None:
    scan = read_dicom(save(us_dataset(GREY), tmp_path / "exam.dcm"))
    unkeyed = "p-" + hashlib.sha256(b"MRN 0815").hexdigest()[:16]
    assert scan.patient_id == "k-" + hmac.new(site_key(), b"patient\0" + unkeyed.encode(), "sha256").hexdigest()[:16]
    assert scan.source == "exam.dcm"
    assert "Curie" not in repr(scan)
    assert "0815" not in repr(scan)


def test_an_empty_patient_is_none(tmp_path: Path) -> None:
    for missing in ("", "  ", None):
        dataset = us_dataset(GREY)
        if missing is None:
            del dataset.PatientID
        else:
            dataset.PatientID = missing
        assert read_dicom(save(dataset, tmp_path / "exam.dcm")).patient_id is None


@pytest.mark.parametrize("placeholder", ["ANONYMOUS", "anonymized", "0", "00000000", "N/A", "-", "Unknown"])
def test_a_placeholder_is_no_patient_and_is_told(tmp_path: Path, placeholder: str) -> None:
    dataset = us_dataset(GREY)
    dataset.PatientID = placeholder
    scan = read_dicom(save(dataset, tmp_path / "exam.dcm"))
    assert (scan.patient_id, scan.patient_placeholder) == (None, placeholder)


def test_a_patient_is_no_placeholder(tmp_path: Path) -> None:
    scan = read_dicom(save(us_dataset(GREY), tmp_path / "exam.dcm"))
    assert scan.patient_placeholder is None


@pytest.mark.parametrize(
    ("image", "series", "wanted"),
    [
        ("L", None, "left"),
        ("R", "L", "right"),
        (None, "R", "right"),
        ("B", None, None),
        ("U", None, None),
        (*[None] * 3,),
    ],
)
def test_laterality(tmp_path: Path, image: str | None, series: str | None, wanted: str | None) -> None:
    dataset = us_dataset(GREY)
    if image:
        dataset.ImageLaterality = image
    if series:
        dataset.Laterality = series
    assert read_dicom(save(dataset, tmp_path / "exam.dcm")).laterality == wanted


def windowed(folder: Path, pixels: np.ndarray, **elements: object) -> np.ndarray:
    dataset = us_dataset(pixels)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return read_dicom(save(dataset, folder / "window.dcm")).pixels


def test_a_stored_window_is_applied(tmp_path: Path) -> None:
    values = speckle(16, 24, maximum=3000)
    exact = {"WindowCenter": 1500, "WindowWidth": 1000, "VOILUTFunction": "LINEAR_EXACT"}
    wanted = np.clip((values.astype(float) - 1000) / 1000, 0, 1) * 255
    assert np.abs(windowed(tmp_path, values, **exact) - wanted).max() <= 0.51
    linear = {"WindowCenter": [1500.5, 40], "WindowWidth": [1001, 400]}  # the first of two; 1000 … 2000 by the formula
    assert np.abs(windowed(tmp_path, values, **linear) - wanted).max() <= 0.51
    sigmoid = {"WindowCenter": 1500, "WindowWidth": 1000, "VOILUTFunction": "SIGMOID"}
    wanted = 255 / (1 + np.exp(-4 * (values.astype(float) - 1500) / 1000))
    assert np.abs(windowed(tmp_path, values, **sigmoid) - wanted).max() <= 0.51


def test_the_window_counts_after_rescaling(tmp_path: Path) -> None:
    values = speckle(16, 24, maximum=3000)
    found = windowed(
        tmp_path, values, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=2900.5, WindowWidth=6001, RescaleType="US"
    )
    assert np.abs(found - (2.0 * values - 100 + 100) / 6000 * 255).max() <= 0.51


def test_a_useless_window_is_ignored(tmp_path: Path) -> None:
    assert np.array_equal(windowed(tmp_path, GREY, WindowCenter=100, WindowWidth=0), GREY)


def test_the_usual_window_of_8_bits_changes_nothing(tmp_path: Path) -> None:
    assert np.array_equal(windowed(tmp_path, GREY, WindowCenter=128, WindowWidth=256), GREY)


def test_a_voi_table_is_applied(tmp_path: Path) -> None:
    item = Dataset()
    item.LUTDescriptor = [256, 0, 16]
    item.LUTData = ((255 - np.arange(256)) * 257).astype("<u2").tobytes()
    item["LUTData"].VR = "OW"
    found = windowed(tmp_path, GREY, VOILUTSequence=[item])
    assert np.array_equal(found, 255 - GREY)


@pytest.mark.parametrize(("largest", "depth"), [(255, 8), (1000, 10), (4095, 12), (10000, 14), (65535, 16)])
def test_16_of_16_bits_are_scaled_by_what_is_used(tmp_path: Path, largest: int, depth: int) -> None:
    values = speckle(16, 24, maximum=largest)
    assert np.abs(windowed(tmp_path, values) - values / (2**depth - 1) * 255).max() <= 0.51
