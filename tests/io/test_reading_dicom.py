"""`read_scan` knows DICOM by its content, with and without a preamble; real scans survive the way through DICOM."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

import sonoseek
from sonoseek.core import InvalidValueError, ScanReadError, Settings
from sonoseek.io import is_scan_file, read_mask, read_rgb, read_scan

GREY = np.rint(np.linspace(0, 255, 40 * 50).reshape(40, 50)).astype(np.uint8)


def dataset_of(frames: NDArray[np.uint8]) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = "1.2.840.10008.5.1.4.1.1.3.1", generate_uid(), "US"
    dataset.PatientID, dataset.ImageLaterality, dataset.PixelSpacing = "77", "R", [0.2, 0.1]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames.shape
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = frames.tobytes() + b"\0" * (frames.size % 2)
    dataset["PixelData"].VR = "OB"
    return dataset


def dicom(path: Path, frames: NDArray[np.uint8], *, preamble: bytes = bytes(128)) -> Path:
    dataset = dataset_of(frames)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.preamble = preamble
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_dicom_under_any_name(tmp_path: Path) -> None:
    path = dicom(tmp_path / "IM0001", np.stack([GREY, 255 - GREY]))
    assert is_scan_file(path)
    scan = sonoseek.read_scan(path, frame=1)
    assert np.array_equal(scan.pixels, 255 - GREY)
    assert (scan.spacing_mm, scan.laterality, scan.source) == ((0.2, 0.1), "right", "IM0001")
    with pytest.raises(InvalidValueError, match="the file has 2"):
        read_scan(path, frame=2)


def test_dicom_whose_preamble_is_a_tiff_header_is_dicom(tmp_path: Path) -> None:
    path = dicom(tmp_path / "dual.tif", GREY[None], preamble=b"II*\0" + bytes(124))
    assert np.array_equal(read_scan(path).pixels, GREY)


@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
def test_dicom_without_preamble(tmp_path: Path, implicit: bool, little: bool) -> None:
    path = tmp_path / "bare"
    dataset_of(GREY[None]).save_as(path, implicit_vr=implicit, little_endian=little)
    assert is_scan_file(path)
    assert np.array_equal(read_scan(path).pixels, GREY)


def test_bytes_that_only_start_like_a_data_set(tmp_path: Path) -> None:
    path = tmp_path / "noise"
    path.write_bytes(b"\x08\0\x05\0" + b"\xa5" * 900)
    with pytest.raises(ScanReadError):
        read_scan(path)


def test_settings_reach_the_dicom_reader(tmp_path: Path) -> None:
    path = dicom(tmp_path / "scan.dcm", GREY[None])
    with pytest.raises(ScanReadError, match="megapixels"):
        read_scan(path, settings=Settings(max_megapixels=0.001))


def test_a_dicom_file_is_no_mask(tmp_path: Path) -> None:
    path = dicom(tmp_path / "mask.dcm", GREY[None])
    for read in (read_mask, read_rgb):
        with pytest.raises(ScanReadError, match="Save the mask as PNG"):
            read(path)


def busi() -> Path:
    root = os.environ.get("SONOSEEK_DATA")
    folder = Path(root or ".") / "busi" / "Dataset_BUSI_with_GT"
    if not root or not folder.is_dir():
        pytest.skip("needs BUSI: set SONOSEEK_DATA to the folder that holds busi/Dataset_BUSI_with_GT")
    return folder


@pytest.mark.data
def test_real_scans_are_read_as_pillow_reads_them() -> None:
    scans = sorted(busi().glob("*/*).png"))[::10]
    assert len(scans) >= 70
    for path in scans:
        with Image.open(path) as picture:
            assert np.array_equal(read_scan(path).pixels, np.asarray(picture.convert("L")))
        mask = path.with_name(f"{path.stem}_mask.png")
        with Image.open(mask) as picture:
            assert np.array_equal(read_mask(mask), np.asarray(picture.convert("L")) > 0)


@pytest.mark.data
def test_a_real_scan_is_the_same_scan_through_dicom(tmp_path: Path) -> None:
    for path in sorted(busi().glob("malignant/*).png"))[:5]:
        scan = read_scan(path)
        assert read_scan(dicom(tmp_path / "scan.dcm", scan.pixels[None])).scan_id == scan.scan_id
