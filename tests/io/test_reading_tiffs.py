"""TIFF of every sample type and layout; ranges of floating-point pictures."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from test_reading_pictures import UPRIGHT

from sonoseek.core import InvalidValueError, ScanReadError, ScanTooLargeError, Settings
from sonoseek.io import frame_count, read_mask, read_rgb, read_scan

RNG = np.random.default_rng(0)
SHARE = np.clip(np.linspace(0.1, 0.9, 60)[:, None] + RNG.normal(0, 0.03, (60, 80)), 0, 1)
SHARE[0, 0], SHARE[-1, -1] = 0, 1
GREY = SHARE * 255


def samples(dtype: str) -> NDArray[np.generic]:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return SHARE.astype(kind)
    limits = np.iinfo(kind)
    return (
        np.rint(limits.min + SHARE * (float(limits.max) - limits.min))
        .clip(limits.min, limits.max * (1 - 2**-50))
        .astype(kind)
    )


def written(folder: Path, pixels: NDArray[np.generic], **options: object) -> Path:
    tifffile.imwrite(folder / "scan.tif", pixels, **{"photometric": "minisblack", **options})
    return folder / "scan.tif"


def assert_close(path: Path, wanted: NDArray[np.floating], *, within: float = 1.01) -> None:
    found = read_scan(path).pixels.astype(float)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= within


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8"])
def test_grey_of_every_sample_type(tmp_path: Path, dtype: str, compression: str | None, order: str) -> None:
    path = written(tmp_path, samples(dtype), byteorder=order, compression=compression)
    assert_close(path, GREY, within=1.51)
    assert np.array_equal(read_rgb(path)[..., 1], read_scan(path).pixels)
    assert frame_count(path) == 1
    inverted = written(tmp_path, samples(dtype), byteorder=order, compression=compression, photometric="miniswhite")
    assert_close(inverted, 255 - GREY, within=1.51)


@pytest.mark.parametrize("dtype", ["u2", "u4", "f4", "f8"])
@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("big", [False, True])
def test_tiles_and_bigtiff(tmp_path: Path, dtype: str, tiled: bool, big: bool) -> None:
    options = {"tile": (32, 32)} if tiled else {"rowsperstrip": 7}
    assert_close(written(tmp_path, samples(dtype), bigtiff=big, **options), GREY)


RGB = np.dstack([SHARE, SHARE**2, 1 - SHARE])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("layout", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f2", "f4"])
def test_colour_by_pixel_and_by_plane(
    tmp_path: Path, dtype: str, layout: str, compression: str | None, order: str
) -> None:
    kind = np.dtype(dtype)
    pixels = RGB.astype(kind) if kind.kind == "f" else np.rint(RGB * np.iinfo(kind).max).astype(kind)
    pixels = pixels if layout == "contig" else np.ascontiguousarray(pixels.transpose(2, 0, 1))
    path = written(tmp_path, pixels, photometric="rgb", planarconfig=layout, compression=compression, byteorder=order)
    assert_close(path, RGB @ [0.299, 0.587, 0.114] * 255)
    assert np.abs(read_rgb(path).astype(float) - RGB * 255).max() <= 1.01


@pytest.mark.parametrize("layout", ["contig", "separate"])
def test_colour_of_16_bits_that_uses_12_and_opacity(tmp_path: Path, layout: str) -> None:
    deep = np.rint(RGB * 4095).astype(np.uint16)
    pixels = deep if layout == "contig" else np.ascontiguousarray(deep.transpose(2, 0, 1))
    assert_close(written(tmp_path, pixels, photometric="rgb", planarconfig=layout), RGB @ [0.299, 0.587, 0.114] * 255)
    opacity = np.rint(SHARE * 65535).astype(np.uint16)[..., None]
    rgba = np.dstack([np.rint(RGB * 65535).astype(np.uint16), opacity])
    pixels = rgba if layout == "contig" else np.ascontiguousarray(rgba.transpose(2, 0, 1))
    path = written(tmp_path, pixels, photometric="rgb", planarconfig=layout, extrasamples=["unassalpha"])
    assert_close(path, RGB @ [0.299, 0.587, 0.114] * SHARE * 255, within=1.51)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f2", "f4", "f8"])
def test_every_type_is_turned_once(tmp_path: Path, dtype: str, orientation: int) -> None:
    path = written(tmp_path, samples(dtype), extratags=[(274, 3, 1, orientation, True)])
    assert_close(path, UPRIGHT[orientation](GREY))


@pytest.mark.parametrize("top", [1.0, 255.0, 4095.0])
@pytest.mark.parametrize("over", [0.0, 1e-7, 0.02, 0.12])
@pytest.mark.parametrize("under", [0.0, -1e-7, -0.05])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_floats_that_interpolation_carried_beyond_their_range(
    tmp_path: Path, top: float, over: float, under: float, dtype: str
) -> None:
    pixels = SHARE * top
    if top > 1 and over:
        over = 0.0  # 4095 and a little more may as well be 14 bits
    pixels[SHARE > 0.9] = top * (1 + over)
    pixels[SHARE < 0.1] = top * under
    assert_close(written(tmp_path, pixels.astype(dtype)), np.clip(pixels, 0, top) / top * 255)


@pytest.mark.parametrize("dtype", ["f4", "f8", "u2"])
@pytest.mark.parametrize("hot", [30.0, 60000.0])
def test_a_hot_pixel_makes_no_picture_black(tmp_path: Path, dtype: str, hot: float) -> None:
    pixels = SHARE * (1 if dtype != "u2" else 255)
    pixels[7, 7] = hot if dtype != "u2" else 65535
    found = read_scan(written(tmp_path, pixels.astype(dtype))).pixels.astype(float)
    assert found[7, 7] == 255
    found[7, 7] = GREY[7, 7]
    assert np.abs(found - GREY).max() <= 1.01


def test_floats_below_zero_are_spread(tmp_path: Path) -> None:
    found = read_scan(written(tmp_path, (SHARE * 8 - 4).astype(np.float32))).pixels.astype(float)
    assert np.abs(found - GREY).max() <= 1.01
    pixels = SHARE.astype(np.float32)
    pixels[3, 3], pixels[4, 4] = np.nan, np.inf
    found = read_scan(written(tmp_path, pixels)).pixels
    assert found[3, 3] == 0
    assert np.abs(found[10:].astype(float) - GREY[10:]).max() <= 1.01


def test_pages_of_mixed_types(tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    with tifffile.TiffWriter(path) as file:
        for dtype in ("u1", "f8", "u2", "i1"):
            file.write(samples(dtype), photometric="minisblack")
    assert frame_count(path) == 4
    for page in range(4):
        scan = read_scan(path, frame=page)
        assert (scan.frame, scan.frames) == (page, 4)
        assert np.abs(scan.pixels.astype(float) - GREY).max() <= 1.51
    for page in (-1, 4):
        with pytest.raises(InvalidValueError, match=f"frame is {page}; the file has 4"):
            read_scan(path, frame=page)


def test_masks_of_every_type(tmp_path: Path) -> None:
    lesion = SHARE > 0.5
    for dtype in ("u1", "i1", "u2", "u4", "f2", "f4", "f8"):
        assert np.array_equal(read_mask(written(tmp_path, lesion.astype(dtype))), lesion)


def test_lzw_and_what_nothing_here_reads(tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    for dtype in (np.float32, np.uint16):
        cv2.imwrite(str(path), samples(np.dtype(dtype).str), [cv2.IMWRITE_TIFF_COMPRESSION, 5])
        assert_close(path, GREY)
    tifffile.imwrite(path, (SHARE * (1 + 1j)).astype(np.complex64), photometric="minisblack")
    with pytest.raises(ScanReadError, match="complex numbers"):
        read_scan(path)


def test_deep_pictures_are_held_to_the_limits(tmp_path: Path) -> None:
    path = written(tmp_path, samples("f8"))
    with pytest.raises(ScanTooLargeError, match="megapixels"):
        read_scan(path, settings=Settings(max_megapixels=0.001))
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples("f4"), photometric="minisblack")
    for share in (0.4, 0.7, 0.95):
        path.write_bytes(stream.getvalue()[: int(len(stream.getvalue()) * share)])
        with pytest.raises(ScanReadError):
            read_scan(path)
