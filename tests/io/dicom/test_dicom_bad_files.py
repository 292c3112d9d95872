"""Damaged, lying and harmful DICOM files: a typed error, within 2 s and 512 MB."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import encapsulated, j2k_bytes, jpeg_bytes, save, speckle, transcoded, us_dataset
from pydicom import dcmread
from pydicom.encaps import get_frame
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from sonoseek.core import NotFoundError, ScanReadError, ScanTooLargeError, Settings
from sonoseek.io.dicom import frame_count, read_dicom

GREY = speckle().astype(np.uint8)
JPEG = jpeg_bytes(GREY)
J2K = j2k_bytes(GREY)


def meta_group(path: Path) -> bytes:
    """Preamble and file meta group of a written file."""
    data = path.read_bytes()
    return data[: 144 + struct.unpack("<L", data[140:144])[0]]


def lying(path: Path, **elements: object) -> Path:
    dataset = us_dataset(GREY)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return save(dataset, path)


def packed(path: Path, syntax: str, stream: bytes, **elements: object) -> Path:
    dataset = encapsulated(us_dataset(GREY), syntax, [stream])
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return save(dataset, path)


def compressed_frame(folder: Path, gdcm_syntax: str) -> tuple[str, bytes]:
    source = save(us_dataset(GREY), folder / "source.tmp")
    dataset = dcmread(transcoded(source, folder / "packed.tmp", gdcm_syntax))
    return dataset.file_meta.TransferSyntaxUID, get_frame(dataset.PixelData, 0, number_of_frames=1)


def cut(path: Path, share: float) -> Path:
    data = save(us_dataset(GREY), path).read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def cut_frame(path: Path, gdcm_syntax: str) -> Path:
    syntax, stream = compressed_frame(path.parent, gdcm_syntax)
    return packed(path, syntax, stream[: len(stream) // 2])


def raw(path: Path, body: bytes, *, syntax: str = "1.2.840.10008.1.2.1") -> Path:
    """A file meta group, then `body`."""
    dataset = us_dataset(GREY)
    dataset.file_meta.TransferSyntaxUID = syntax
    path.write_bytes(meta_group(save(dataset, path)) + body)
    return path


def deflate_bomb(path: Path) -> Path:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = packer.compress(b"\x09\x00\x10\x00UT\0\0" + struct.pack("<L", 900 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    mebibyte = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return raw(path, head + mebibyte * 900 + packer.flush(), syntax=DeflatedExplicitVRLittleEndian)


def deflated_noise(path: Path) -> Path:
    """Not dense enough for a bomb, but too much."""
    noise = np.random.default_rng(0).integers(0, 256, 1 << 20, dtype=np.uint8).tobytes()
    packer = zlib.compressobj(0, zlib.DEFLATED, -15)
    head = packer.compress(b"\x09\x00\x10\x00UT\0\0" + struct.pack("<L", 200 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    mebibyte = packer.compress(noise) + packer.flush(zlib.Z_FULL_FLUSH)
    raw(path, head, syntax=DeflatedExplicitVRLittleEndian)
    with path.open("ab") as file:  # a piece at a time: a test that measures memory takes little itself
        for _ in range(200):
            file.write(mebibyte)
        file.write(packer.flush())
    return path


def cut_deflate(path: Path) -> Path:
    dataset = us_dataset(GREY)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data = save(dataset, path).read_bytes()
    path.write_bytes(data[:-40])
    return path


def nested(path: Path, *, tag: bytes, depth: int) -> Path:
    level = tag + b"SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return raw(path, level * depth)


def long_fragment(path: Path) -> Path:
    data = bytearray(packed(path, JPEGBaseline8Bit, JPEG).read_bytes())
    start = data.index(JPEG)
    data[start - 4 : start] = struct.pack("<L", 0xFFFFFFF0)
    path.write_bytes(data)
    return path


def rle_frames(path: Path, claimed: int, *, there: int = 1) -> Path:
    syntax, stream = compressed_frame(path.parent, "RLELossless")
    dataset = encapsulated(us_dataset(GREY), syntax, [stream] * there)
    dataset.NumberOfFrames = claimed
    return save(dataset, path)


def without_pixels(path: Path) -> Path:
    dataset = us_dataset(GREY)
    del dataset.PixelData
    return save(dataset, path)


Maker = Callable[[Path], Path]
BAD: dict[str, tuple[Maker, type[ScanReadError], str]] = {
    "cut at 5 %": (lambda path: cut(path, 0.05), ScanReadError, "truncated"),
    "cut at 90 %": (lambda path: cut(path, 0.9), ScanReadError, "12288 bytes.*truncated"),
    "cut in the preamble": (lambda path: cut(path, 0.01), ScanReadError, "no DICOM file"),
    "noise after DICM": (
        lambda path: path.write_bytes(bytes(128) + b"DICM" + b"\xa5" * 5000) and path,
        ScanReadError,
        "",
    ),
    "text": (lambda path: path.write_text("no picture\n" * 99) and path, ScanReadError, "no DICOM file"),
    "no pixels": (without_pixels, ScanReadError, "holds no picture.*Ultrasound Image Storage"),
    "400 megapixels": (lambda path: lying(path, Rows=20000, Columns=20000), ScanTooLargeError, "400.0 megapixels"),
    "claims 60 megapixels": (lambda path: lying(path, Rows=7500, Columns=8000), ScanReadError, "60000000 bytes"),
    "claims a little more": (lambda path: lying(path, Rows=97), ScanReadError, "97 × 128"),
    "2 milliard frames": (lambda path: lying(path, NumberOfFrames=2 * 10**9), ScanReadError, "2000000000 frames"),
    "minus 3 frames": (lambda path: lying(path, NumberOfFrames=-3), ScanReadError, "NumberOfFrames is -3"),
    "64 bits": (lambda path: lying(path, BitsAllocated=64), ScanReadError, "BitsAllocated is 64"),
    "no rows": (lambda path: lying(path, Rows=None), ScanReadError, "Rows is None"),
    "three samples of grey": (lambda path: lying(path, SamplesPerPixel=3), ScanReadError, "SamplesPerPixel is 3"),
    "unknown colours": (lambda path: lying(path, PhotometricInterpretation="HSV"), ScanReadError, "'HSV'"),
    "JPEG cut": (lambda path: packed(path, JPEGBaseline8Bit, JPEG[: len(JPEG) // 2]), ScanReadError, "no end marker"),
    "JPEG cut, with an end": (
        lambda path: packed(path, JPEGBaseline8Bit, JPEG[: len(JPEG) // 2] + b"\xff\xd9"),
        ScanReadError,
        "does not decode",
    ),
    "JPEG of another size": (
        lambda path: packed(path, JPEGBaseline8Bit, jpeg_bytes(speckle(500, 700).astype(np.uint8))),
        ScanReadError,
        "has 500 × 700 × 1, but the header says 96 × 128",
    ),
    "JPEG that is noise": (lambda path: packed(path, JPEGBaseline8Bit, b"\xa5" * 999), ScanReadError, "no codestream"),
    "JPEG, many frames": (
        lambda path: packed(path, JPEGBaseline8Bit, JPEG, NumberOfFrames=10**9),
        ScanReadError,
        "1000000000 frames.*1 fragments",
    ),
    "JPEG 2000 cut": (lambda path: packed(path, JPEG2000Lossless, J2K[: len(J2K) // 2]), ScanReadError, "not decode"),
    "JPEG lossless cut": (lambda path: cut_frame(path, "JPEGLosslessProcess14_1"), ScanReadError, "no end marker"),
    "JPEG-LS cut": (lambda path: cut_frame(path, "JPEGLSLossless"), ScanReadError, "no end marker"),
    "RLE cut": (lambda path: cut_frame(path, "RLELossless"), ScanReadError, "does not decode"),
    "RLE, milliard frames": (lambda path: rle_frames(path, 10**9), ScanReadError, "1000000000 frames.*1 fragments"),
    "RLE, too few frames": (lambda path: rle_frames(path, 1, there=3), ScanReadError, "1 frames.*3 fragments"),
    "RLE, lying segments": (
        lambda path: packed(path, RLELossless, struct.pack("<16L", 15, *[2**32 - 1] * 15)),
        ScanReadError,
        "does not decode",
    ),
    "a fragment of 4 GB": (long_fragment, ScanReadError, "claims 4294967280 bytes"),
    "deflate bomb": (deflate_bomb, ScanTooLargeError, "inflates to more than 3. MiB, .* times its size"),
    "deflated 200 MB": (deflated_noise, ScanTooLargeError, "at most 170 MiB"),
    "deflate cut": (cut_deflate, ScanReadError, "cut off"),
    "500 levels": (lambda path: nested(path, tag=b"\x18\0\x11\x60", depth=500), ScanReadError, "nested too deeply"),
    "200,000 levels": (lambda path: nested(path, tag=b"\x40\0\x30\xa7", depth=200_000), ScanReadError, "nested"),
    "a value of 4 GB": (
        lambda path: raw(path, b"\x10\0\x20\0UT\0\0\xf0\xff\xff\xff" + b"x" * 99),
        ScanTooLargeError,
        "more than 512 MiB",
    ),
}


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bad")
    return {name: make(folder / f"{name.replace(',', '')}.dcm") for name, (make, _, _) in BAD.items()}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_gives_its_error(bad_files: dict[str, Path], name: str) -> None:
    _, error, words = BAD[name]
    with pytest.raises(error, match=f"(?s){words}") as caught:
        read_dicom(bad_files[name], settings=Settings(read_timeout_s=20))  # time is another test's matter
    assert type(caught.value) is error
    assert str(caught.value).startswith(str(bad_files[name]))
    assert "Curie" not in str(caught.value)
    assert "0815" not in str(caught.value)


MEASURE = """
import json, os, resource, sys, time
from sonoseek.core import SonoseekError
from sonoseek.io.dicom import read_dicom
from sonoseek.io.sandbox import close_readers
results = []
for path in json.loads(sys.argv[1]):
    start = time.perf_counter()
    try:
        read_dicom(path)
        found = "read"
    except SonoseekError as error:
        found = type(error).__name__
    results.append([path, found, time.perf_counter() - start])
close_readers()
child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
own = next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"results": results, "own_mb": own, "child_mb": child}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures through /proc")
def test_all_of_them_stay_within_2_s_and_512_mb(bad_files: dict[str, Path]) -> None:
    paths = json.dumps([str(path) for path in bad_files.values()])
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, paths], capture_output=True, text=True, check=True, timeout=120
    )
    measured: dict[str, Any] = json.loads(done.stdout)
    assert [found for _, found, _ in measured["results"]] == [error.__name__ for _, error, _ in BAD.values()]
    slow = [(path, seconds) for path, _, seconds in measured["results"] if seconds > 2]
    assert not slow
    assert measured["own_mb"] + measured["child_mb"] < 512


def test_after_bad_files_a_good_one_is_read(bad_files: dict[str, Path], tmp_path: Path) -> None:
    good = save(us_dataset(GREY), tmp_path / "good.dcm")
    for name in ("deflate bomb", "200,000 levels", "a value of 4 GB", "RLE cut"):
        with pytest.raises(ScanReadError):
            read_dicom(bad_files[name])
        assert np.array_equal(read_dicom(good).pixels, GREY)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        read_dicom(tmp_path / "missing.dcm")
    with pytest.raises(ScanReadError, match="directory"):
        read_dicom(tmp_path)
    (tmp_path / "empty.dcm").touch()
    with pytest.raises(ScanReadError, match="0 bytes"):
        frame_count(tmp_path / "empty.dcm")
    with pytest.raises(ScanReadError, match="cannot follow"):
        read_dicom("a\0b")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.dcm")
    with pytest.raises(ScanReadError, match="pipe"):
        read_dicom(tmp_path / "pipe.dcm")


def test_the_limits_are_the_settings(tmp_path: Path) -> None:
    path = save(us_dataset(GREY), tmp_path / "scan.dcm")
    with pytest.raises(ScanTooLargeError, match=r"at most 0\.01 megapixels"):
        read_dicom(path, settings=Settings(max_megapixels=0.01))
    large = np.zeros((3000, 4000), np.uint16)
    path = save(us_dataset(large, bits_stored=12), tmp_path / "large.dcm")
    assert read_dicom(path).shape == (3000, 4000)
    if sys.platform == "linux":
        with pytest.raises(ScanTooLargeError, match=r"more than 20 MiB"):
            read_dicom(path, settings=Settings(read_memory_mb=20))
        assert read_dicom(path).shape == (3000, 4000)
