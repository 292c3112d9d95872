"""Cines: one frame is picked, the others are not decoded."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import numpy as np
import pytest
from dicom_files import encapsulated, j2k_bytes, jpeg_bytes, save, speckle, transcoded, us_dataset
from pydicom.encaps import encapsulate_extended
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit

from sonoseek.core import InvalidValueError
from sonoseek.io.dicom import frame_count, read_dicom

CINE = np.stack([speckle(32, 40, seed=seed).astype(np.uint8) for seed in range(5)])


@pytest.mark.parametrize(
    "syntax",
    ["ExplicitVRLittleEndian", "ExplicitVRBigEndian", "RLELossless", "JPEGLosslessProcess14_1", "JPEGLSLossless"],
)
def test_each_frame_is_itself(tmp_path: Path, syntax: str) -> None:
    native = save(us_dataset(CINE, frames=5), tmp_path / "native.dcm")
    path = transcoded(native, tmp_path / "cine.dcm", syntax)
    assert frame_count(path) == 5
    for index in (0, 1, 4):
        assert np.array_equal(read_dicom(path, frame=index).pixels, CINE[index])


def test_a_frame_says_which_of_how_many_it_is(tmp_path: Path) -> None:
    loop = save(us_dataset(CINE, frames=5), tmp_path / "loop.dcm")
    assert [(read_dicom(loop, frame=n).frame, read_dicom(loop, frame=n).frames) for n in (0, 3)] == [(0, 5), (3, 5)]
    single = read_dicom(save(us_dataset(CINE[0]), tmp_path / "single.dcm"))
    assert (single.frame, single.frames) == (None, None)


def test_frames_without_an_offset_table_and_in_several_fragments(tmp_path: Path) -> None:
    halves: list[bytes] = []
    for frame in CINE:
        stream = j2k_bytes(frame)
        middle = len(stream) // 4 * 2
        halves += [stream[:middle], stream[middle:]]
    dataset = encapsulated(us_dataset(CINE, frames=5), JPEG2000Lossless, halves)
    size = struct.unpack("<L", dataset.PixelData[4:8])[0]
    dataset.PixelData = dataset.PixelData[:4] + b"\0\0\0\0" + dataset.PixelData[8 + size :]
    path = save(dataset, tmp_path / "fragments.dcm")
    for index in (0, 3, 4):
        assert np.array_equal(read_dicom(path, frame=index).pixels, CINE[index])


def test_frames_by_an_extended_offset_table(tmp_path: Path) -> None:
    dataset = encapsulated(us_dataset(CINE, frames=5), JPEG2000Lossless, [b"\0\0"])
    data, offsets, lengths = encapsulate_extended([j2k_bytes(frame) for frame in CINE])
    dataset.PixelData, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = data, offsets, lengths
    path = save(dataset, tmp_path / "extended.dcm")
    assert np.array_equal(read_dicom(path, frame=3).pixels, CINE[3])


@pytest.mark.parametrize("index", [-1, 5, 10**9])
def test_a_frame_out_of_range_names_the_count(tmp_path: Path, index: int) -> None:
    native = save(us_dataset(CINE, frames=5), tmp_path / "cine.dcm")
    with pytest.raises(InvalidValueError, match=rf"{index}; the file has 5.*0 … 4"):
        read_dicom(native, frame=index)
    packed = encapsulated(us_dataset(CINE, frames=5), JPEGBaseline8Bit, [jpeg_bytes(frame) for frame in CINE])
    with pytest.raises(InvalidValueError, match="the file has 5"):
        read_dicom(save(packed, tmp_path / "packed.dcm"), frame=index)


def test_a_single_picture_has_frame_0_alone(tmp_path: Path) -> None:
    path = save(us_dataset(CINE[0]), tmp_path / "one.dcm")
    assert frame_count(path) == 1
    with pytest.raises(InvalidValueError, match="the file has 1"):
        read_dicom(path, frame=1)
    with pytest.raises(InvalidValueError, match="whole number"):
        read_dicom(path, frame=0.5)  # type: ignore[arg-type]
    assert read_dicom(path, frame=np.int64(0)).shape == (32, 40)  # type: ignore[arg-type]


def test_one_frame_of_a_470_mb_cine(tmp_path: Path) -> None:
    rows, columns, frames = 768, 1024, 200
    dataset = us_dataset(np.zeros((1, 8, 8, 3), np.uint8), photometric="RGB", frames=1)
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames, rows, columns
    dataset.PixelData = b"\0\0"
    path = save(dataset, tmp_path / "cine.dcm")
    size = path.stat().st_size
    picture = np.repeat(speckle(rows, columns).astype(np.uint8)[..., None], 3, axis=2)
    with path.open("r+b") as file:  # sparse: takes no room on the disk
        file.seek(size - 6)
        file.write(struct.pack("<L", frames * picture.size))
        file.truncate(size - 2 + frames * picture.size)
        file.seek(size - 2 + 150 * picture.size)
        file.write(picture.tobytes())
    assert frame_count(path) == frames
    start = time.perf_counter()
    assert np.array_equal(read_dicom(path, frame=150).pixels, picture[..., 0])
    assert time.perf_counter() - start < 1.5
    assert read_dicom(path, frame=149).pixels.max() == 0
