"""Every transfer syntax and colour model gives the grey that went in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicom_files import (
    colourful,
    encapsulated,
    j2k_bytes,
    jpeg_bytes,
    luma,
    save,
    speckle,
    to_ybr,
    transcoded,
    us_dataset,
    with_adobe,
    without_marker,
)
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
)

from sonoseek.core import ScanReadError
from sonoseek.io.dicom import read_dicom

GREY = speckle().astype(np.uint8)
GREY12 = speckle(maximum=4095)
SIGNED = (speckle(maximum=65535).astype(np.int32) - 32768).astype(np.int16)
RGB = colourful()

SOURCES: dict[str, tuple[Callable[[], Dataset], NDArray[np.float64]]] = {
    "grey 8": (lambda: us_dataset(GREY), GREY.astype(float)),
    "grey 12": (lambda: us_dataset(GREY12, bits_stored=12), GREY12 / 4095 * 255),
    "grey 16 signed": (lambda: us_dataset(SIGNED), speckle(maximum=65535) / 257),
    "RGB": (lambda: us_dataset(RGB, photometric="RGB"), luma(RGB)),
    "YBR_FULL": (lambda: us_dataset(to_ybr(RGB), photometric="YBR_FULL"), luma(RGB)),
}
LOSSLESS = [
    "ImplicitVRLittleEndian",
    "ExplicitVRLittleEndian",
    "ExplicitVRBigEndian",
    "RLELossless",
    "JPEGLosslessProcess14",
    "JPEGLosslessProcess14_1",
    "JPEGLSLossless",
    "JPEGLSNearLossless",
    "JPEG2000Lossless",
    "JPEG2000",
]


def assert_close(found: NDArray[np.uint8], wanted: NDArray[np.floating], *, within: float) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found.astype(float) - wanted).max() <= within


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("source", SOURCES)
def test_a_lossless_syntax_keeps_every_grey(tmp_path: Path, syntax: str, source: str) -> None:
    make, wanted = SOURCES[source]
    path = transcoded(save(make(), tmp_path / "native.dcm"), tmp_path / "packed.dcm", syntax)
    assert_close(read_dicom(path).pixels, wanted, within=0.51)  # rounding to 8 bits, nothing else


@pytest.mark.parametrize("source", SOURCES)
def test_a_deflated_file_is_inflated(tmp_path: Path, source: str) -> None:
    make, wanted = SOURCES[source]
    dataset = make()
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    assert_close(read_dicom(save(dataset, tmp_path / "deflated.dcm")).pixels, wanted, within=0.51)


@pytest.mark.parametrize("source", ["grey 8", "RGB", "YBR_FULL"])
def test_jpeg_baseline_written_by_gdcm(tmp_path: Path, source: str) -> None:
    make, wanted = SOURCES[source]
    path = transcoded(save(make(), tmp_path / "native.dcm"), tmp_path / "packed.dcm", "JPEGBaselineProcess1")
    assert_close(read_dicom(path).pixels, wanted, within=3)


def rgb_in_jpeg() -> bytes:
    """RGB samples, components named 1, 2, 3, no marker that says what they are."""
    height, width, _ = RGB.shape
    disguised = Image.frombuffer("YCbCr", (width, height), RGB.tobytes(), "raw", "YCbCr", 0, 1)
    return without_marker(jpeg_bytes(disguised, subsampling=0), 0xE0)


JPEGS: dict[str, tuple[Callable[[], bytes], list[str]]] = {
    "JFIF, chroma halved": (lambda: jpeg_bytes(RGB), ["RGB", "YBR_FULL_422", "YBR_FULL"]),
    "JFIF": (lambda: jpeg_bytes(RGB, subsampling=0), ["RGB", "YBR_FULL_422", "YBR_FULL"]),
    "Adobe, YCbCr": (lambda: with_adobe(jpeg_bytes(RGB, subsampling=0), 1), ["RGB", "YBR_FULL_422", "YBR_FULL"]),
    "Adobe, RGB": (lambda: jpeg_bytes(RGB, keep_rgb=True, subsampling=0), ["RGB", "YBR_FULL_422"]),
    "named R, G, B": (lambda: without_marker(jpeg_bytes(RGB, keep_rgb=True, subsampling=0), 0xEE), ["RGB", "YBR_FULL"]),
    "unmarked YCbCr": (lambda: without_marker(jpeg_bytes(RGB, subsampling=0), 0xE0), ["YBR_FULL_422", "YBR_FULL"]),
    "unmarked RGB": (rgb_in_jpeg, ["RGB"]),
}


@pytest.mark.parametrize(("kind", "header"), [(kind, header) for kind in JPEGS for header in JPEGS[kind][1]])
def test_jpeg_baseline_colours_are_told_from_the_stream(tmp_path: Path, kind: str, header: str) -> None:
    dataset = encapsulated(us_dataset(RGB, photometric=header), JPEGBaseline8Bit, [JPEGS[kind][0]()])
    assert_close(read_dicom(save(dataset, tmp_path / "colour.dcm")).pixels, luma(RGB), within=3)


@pytest.mark.parametrize(
    ("photometric", "stream", "wanted"),
    [
        ("YBR_RCT", lambda: j2k_bytes(RGB, mct=1), luma(RGB)),
        ("YBR_ICT", lambda: j2k_bytes(RGB, mct=1), luma(RGB)),
        ("RGB", lambda: j2k_bytes(RGB, mct=0), luma(RGB)),
        ("YBR_FULL", lambda: j2k_bytes(to_ybr(RGB), mct=0), luma(RGB)),
    ],
)
def test_jpeg_2000_colours(
    tmp_path: Path, photometric: str, stream: Callable[[], bytes], wanted: NDArray[np.float64]
) -> None:
    dataset = encapsulated(us_dataset(RGB, photometric=photometric), JPEG2000Lossless, [stream()])
    assert_close(read_dicom(save(dataset, tmp_path / "colour.dcm")).pixels, wanted, within=1)


@pytest.mark.parametrize("syntax", ["ExplicitVRLittleEndian", "JPEG2000Lossless", "RLELossless"])
def test_colour_of_12_bits(tmp_path: Path, syntax: str) -> None:
    deep = RGB.astype(np.uint16) * 16
    native = save(us_dataset(deep, photometric="RGB", bits_stored=12), tmp_path / "native.dcm")
    found = read_dicom(transcoded(native, tmp_path / "packed.dcm", syntax)).pixels
    assert_close(found, luma(RGB) * 16 / 4095 * 255, within=1.01)


def chroma_halved(ybr: NDArray[np.uint8]) -> bytes:
    """Y1 Y2 Cb Cr, PS3.3 C.7.6.3.1.2."""
    quads = [ybr[:, 0::2, 0], ybr[:, 1::2, 0], ybr[:, 0::2, 1], ybr[:, 0::2, 2]]
    return np.stack(quads, axis=-1).tobytes()


def test_uncompressed_ybr_full_422(tmp_path: Path) -> None:
    dataset = us_dataset(to_ybr(RGB), photometric="YBR_FULL_422")
    dataset.PixelData = chroma_halved(to_ybr(RGB))
    assert_close(read_dicom(save(dataset, tmp_path / "422.dcm")).pixels, luma(RGB), within=1)


def test_a_scanner_that_says_422_but_writes_every_sample(tmp_path: Path) -> None:
    dataset = us_dataset(to_ybr(RGB), photometric="YBR_FULL_422")
    assert_close(read_dicom(save(dataset, tmp_path / "not422.dcm")).pixels, luma(RGB), within=1)


def test_colour_by_plane(tmp_path: Path) -> None:
    dataset = us_dataset(RGB, photometric="RGB")
    dataset.PlanarConfiguration = 1
    dataset.PixelData = np.moveaxis(RGB, 2, 0).tobytes()
    assert_close(read_dicom(save(dataset, tmp_path / "planes.dcm")).pixels, luma(RGB), within=0.51)


def test_grey_in_rgb_stays_the_same_grey(tmp_path: Path) -> None:
    dataset = us_dataset(np.repeat(GREY[..., None], 3, axis=2), photometric="RGB")
    assert np.array_equal(read_dicom(save(dataset, tmp_path / "grey.dcm")).pixels, GREY)


@pytest.mark.parametrize(("bits", "shift"), [(8, 0), (16, 8), (16, 0)])
def test_a_palette_is_looked_up(tmp_path: Path, bits: int, shift: int) -> None:
    entries = np.stack([np.arange(256), np.arange(256)[::-1], np.arange(256) // 2], axis=1)
    dataset = us_dataset(GREY, photometric="PALETTE COLOR")
    for index, colour in enumerate(("Red", "Green", "Blue")):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, bits])
        table = (entries[:, index] << shift).astype(f"<u{bits // 8}").tobytes()
        setattr(dataset, f"{colour}PaletteColorLookupTableData", table)
    found = read_dicom(save(dataset, tmp_path / "palette.dcm")).pixels
    assert_close(found, luma(entries[GREY].astype(np.uint8)), within=0.51)


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    for bits, pixels in ((8, GREY.astype(np.uint16)), (12, GREY12)):
        dataset = us_dataset(pixels if bits > 8 else GREY, photometric="MONOCHROME1", bits_stored=bits)
        found = read_dicom(save(dataset, tmp_path / "white.dcm")).pixels
        assert_close(found, 255 - pixels / (2**bits - 1) * 255, within=0.51)


@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
def test_a_data_set_without_preamble(tmp_path: Path, implicit: bool, little: bool) -> None:
    dataset = us_dataset(GREY)
    del dataset.file_meta
    dataset.save_as(tmp_path / "bare.dcm", implicit_vr=implicit, little_endian=little, enforce_file_format=False)
    assert np.array_equal(read_dicom(tmp_path / "bare.dcm").pixels, GREY)


def test_an_unsupported_syntax_is_named(tmp_path: Path) -> None:
    video = encapsulated(us_dataset(GREY), "1.2.840.10008.1.2.4.102", [b"\0" * 64])
    with pytest.raises(ScanReadError, match=r"MPEG-4 AVC.*Convert"):
        read_dicom(save(video, tmp_path / "video.dcm"))
