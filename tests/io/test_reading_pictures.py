"""PNG, JPEG, BMP, TIFF, GIF: every mode and depth gives the grey that went in, upright."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from sonoseek.core import InvalidValueError, ScanReadError, Settings
from sonoseek.io import frame_count, is_scan_file, read_mask, read_rgb, read_scan

H, W = 60, 80
_ROW, _COLUMN = np.meshgrid(np.linspace(0, 1, H), np.linspace(0, 1, W), indexing="ij")
GREY = np.rint((0.8 * _ROW + 0.2 * _COLUMN) * 255).astype(np.uint8)
RGB = np.rint(np.stack([_ROW, _COLUMN, 0.5 + 0.5 * np.sin(5 * (_ROW - _COLUMN))], axis=-1) * 255).astype(np.uint8)
OPACITY = np.rint(_COLUMN * 255).astype(np.uint8)
LUMA = RGB.astype(float) @ [0.299, 0.587, 0.114]


def written(folder: Path, pixels: NDArray[np.generic] | Image.Image, suffix: str, **options: object) -> Path:
    path = folder / f"scan.{suffix}"
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(path, **options)
    return path


def assert_close(path: Path, wanted: NDArray[np.floating], *, within: float = 0.51, **options: int) -> None:
    found = read_scan(path, **options).pixels
    assert found.shape == wanted.shape
    assert np.abs(found.astype(float) - wanted).max() <= within


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif"])
def test_8_bit_grey_comes_through_untouched(tmp_path: Path, suffix: str) -> None:
    assert np.array_equal(read_scan(written(tmp_path, GREY, suffix)).pixels, GREY)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_colour_becomes_luma(tmp_path: Path, suffix: str) -> None:
    assert_close(written(tmp_path, RGB, suffix), LUMA)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif"])
def test_a_palette_is_looked_up(tmp_path: Path, suffix: str) -> None:
    picture = Image.fromarray(RGB).quantize(64)
    wanted = np.asarray(picture.convert("RGB")).astype(float) @ [0.299, 0.587, 0.114]
    assert_close(written(tmp_path, picture, suffix), wanted)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_one_bit_becomes_black_and_white(tmp_path: Path, suffix: str) -> None:
    assert_close(written(tmp_path, Image.fromarray(GREY > 99), suffix), (GREY > 99) * 255.0)


def test_jpeg_grey_colour_and_cmyk(tmp_path: Path) -> None:
    assert_close(written(tmp_path, GREY, "jpg", quality=95), GREY.astype(float), within=3)
    assert_close(written(tmp_path, RGB, "jpg", quality=95), LUMA, within=4)
    assert_close(written(tmp_path, RGB, "jpg", quality=95, progressive=True), LUMA, within=4)
    assert_close(written(tmp_path, Image.fromarray(RGB).convert("CMYK"), "jpg", quality=95), LUMA, within=4)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_compressed_tiff(tmp_path: Path, compression: str) -> None:
    path = written(tmp_path, GREY, "tif", compression=compression)
    assert_close(path, GREY.astype(float), within=6 if compression == "jpeg" else 0)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_transparency_is_laid_over_black(tmp_path: Path, suffix: str) -> None:
    share = OPACITY / 255.0
    assert_close(written(tmp_path, np.dstack([RGB, OPACITY]), suffix), LUMA * share, within=1.01)
    assert_close(written(tmp_path, np.dstack([GREY, OPACITY]), suffix), GREY * share)


def test_transparent_palette_entries_are_black(tmp_path: Path) -> None:
    picture = Image.fromarray(RGB).quantize(64)
    path = written(tmp_path, picture, "png", transparency=bytes([255] * 32 + [0] * 32))
    opaque = np.asarray(picture.convert("RGB")).astype(float) @ [0.299, 0.587, 0.114]
    assert_close(path, np.where(np.asarray(picture) < 32, opaque, 0.0))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(("factor", "depth"), [(257, 16), (256, 16), (64, 14), (16, 12), (4, 10), (1, 8)])
def test_16_bit_grey_is_scaled_by_the_depth_it_uses(tmp_path: Path, suffix: str, factor: int, depth: int) -> None:
    values = GREY.astype(np.uint16) * factor
    wanted = values / (2**depth - 1) * 255
    assert_close(written(tmp_path, values, suffix), wanted)
    assert np.abs(wanted - GREY).max() <= 1.01  # the same scan, however many bits it was saved with


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(largest=st.integers(1, 65535))
def test_no_16_bit_picture_comes_out_black(tmp_path: Path, largest: int) -> None:
    values = np.rint(_ROW * largest).astype(np.uint16)
    found = read_scan(written(tmp_path, values, "png")).pixels
    assert found.max() >= min(63, largest)
    assert (np.diff(found[:, 0].astype(int)) >= 0).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(("factor", "depth"), [(257, 16), (16, 12), (1, 8)])
def test_16_bit_colour(tmp_path: Path, suffix: str, factor: int, depth: int) -> None:
    path = tmp_path / f"deep.{suffix}"
    deep = RGB[..., ::-1].astype(np.uint16) * factor
    cv2.imwrite(str(path), deep)
    wanted = LUMA * factor / (2**depth - 1) * 255
    assert_close(path, wanted, within=1.01)
    if suffix == "png":
        cv2.imwrite(str(path), np.dstack([deep, OPACITY.astype(np.uint16) * 257]))
        assert_close(path, wanted * OPACITY / 255, within=1.51)


def tiff(
    pixels: NDArray[np.generic], *, white_is_zero: bool = False, signed: bool = False, orientation: int = 1
) -> bytes:
    """An uncompressed TIFF 6.0 of one strip, in the byte order of `pixels`: kinds that Pillow does not write."""
    order = ">" if pixels.dtype.byteorder == ">" else "<"
    height, width = pixels.shape[:2]
    samples = 3 if pixels.ndim == 3 else 1
    after = 8 + 2 + 12 * 12 + 4
    bits = 8 * pixels.dtype.itemsize
    entries = {256: width, 257: height, 258: bits if samples == 1 else after, 259: 1}
    entries |= {262: 2 if samples == 3 else int(not white_is_zero), 273: after + 8, 274: orientation, 277: samples}
    entries |= {278: height, 279: pixels.nbytes, 284: 1, 339: 2 if signed else 1}
    fields = b"".join(
        struct.pack(f"{order}HHLL", tag, 4, 1, value)
        if tag != 258 or samples == 1
        else struct.pack(f"{order}HHLL", tag, 3, 3, value)
        for tag, value in entries.items()
    )
    head = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(f"{order}LH", 8, len(entries))
    return head + fields + struct.pack(f"{order}L4H", 0, bits, bits, bits, 0) + pixels.tobytes()


def test_rare_tiffs(tmp_path: Path) -> None:
    wide = GREY.astype(np.uint16) * 257
    path = tmp_path / "scan.tif"
    path.write_bytes(tiff(wide.astype(">u2")))
    assert_close(path, GREY.astype(float))
    path.write_bytes(tiff(wide.astype("<u2"), white_is_zero=True))
    assert_close(path, 255.0 - GREY)
    path.write_bytes(tiff(GREY, white_is_zero=True))
    assert_close(path, 255.0 - GREY)
    path.write_bytes(tiff((wide.astype(np.int32) - 32768).astype("<i2"), signed=True))
    assert_close(path, GREY.astype(float))


@pytest.mark.parametrize(
    "pixels",
    [GREY.astype(np.int32), GREY.astype(np.int32) * 16, GREY.astype(np.float32), (GREY / 255).astype(np.float32)],
    ids=["int", "int, 12 bits", "float 0…255", "float 0…1"],
)
def test_32_bit_tiff(tmp_path: Path, pixels: NDArray[np.generic]) -> None:
    assert_close(written(tmp_path, pixels, "tif"), GREY.astype(float), within=0.51 if pixels.max() < 256 else 1.01)


def test_nan_is_black(tmp_path: Path) -> None:
    pixels = GREY.astype(np.float32)
    pixels[5, 5] = np.nan
    assert read_scan(written(tmp_path, pixels, "tif")).pixels[5, 5] == 0


UPRIGHT: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.T,
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).T,
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_is_turned_right(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = written(tmp_path, GREY, suffix, exif=exif, **({"quality": 95} if suffix == "jpg" else {}))
    assert_close(path, UPRIGHT[orientation](GREY).astype(float), within=3 if suffix == "jpg" else 0)
    if suffix == "png":
        assert np.array_equal(read_mask(path), UPRIGHT[orientation](GREY) != 0)
        assert np.array_equal(read_rgb(path)[..., 1], UPRIGHT[orientation](GREY))


def test_16_bit_grey_and_few_bits_of_colour_are_turned_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in ("png", "tif"):
        assert_close(
            written(tmp_path, GREY.astype(np.uint16) * 257, suffix, exif=exif), np.rot90(GREY, -1).astype(float)
        )
    path = tmp_path / "deep.png"
    cv2.imwrite(str(path), RGB[..., ::-1].astype(np.uint16) * 16)
    data = path.read_bytes()
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">L", len(block)) + b"eXIf" + block + struct.pack(">L", zlib.crc32(b"eXIf" + block))
    path.write_bytes(data[:33] + chunk + data[33:])
    assert_close(path, np.rot90(LUMA * 16 / 4095 * 255, -1), within=1.01)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(("factor", "depth"), [(257, 16), (16, 12)])
def test_16_bit_colour_tiff_is_turned_once(tmp_path: Path, orientation: int, factor: int, depth: int) -> None:
    path = tmp_path / "deep.tif"
    path.write_bytes(tiff(RGB.astype("<u2") * factor, orientation=orientation))
    assert_close(path, UPRIGHT[orientation](LUMA * factor / (2**depth - 1) * 255), within=1.01)


@pytest.mark.parametrize("suffix", ["tif", "gif"])
def test_a_page_is_picked(tmp_path: Path, suffix: str) -> None:
    others = [Image.fromarray(255 - GREY), Image.fromarray(GREY.T if suffix == "tif" else GREY)]
    path = written(tmp_path, GREY, suffix, save_all=True, append_images=others)
    assert np.array_equal(read_scan(path).pixels, GREY)
    assert np.array_equal(read_scan(path, frame=1).pixels, 255 - GREY)
    assert np.array_equal(read_scan(path, frame=2).pixels, np.asarray(others[1]))
    for frame in (-1, 3, 50):
        with pytest.raises(InvalidValueError, match=rf"frame is {frame}; the file has 3.*0 … 2"):
            read_scan(path, frame=frame)


def test_a_plain_picture_has_frame_0_alone(tmp_path: Path) -> None:
    path = written(tmp_path, GREY, "png")
    with pytest.raises(InvalidValueError, match=r"frame is 1; the file has 1"):
        read_scan(path, frame=1)
    with pytest.raises(InvalidValueError, match="whole number"):
        read_scan(path, frame="0")  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", ["tif", "gif", "png"])
def test_a_page_of_several_says_which_it_is(tmp_path: Path, suffix: str) -> None:
    others = [Image.fromarray(255 - GREY), Image.fromarray(np.roll(GREY, 7, axis=1))]
    path = written(tmp_path, GREY, suffix, save_all=True, append_images=others)
    found = [read_scan(path, frame=number) for number in (0, 2)]
    assert [(scan.frame, scan.frames) for scan in found] == [(0, 3), (2, 3)]
    alone = read_scan(written(tmp_path, GREY, suffix))
    assert (alone.frame, alone.frames) == (None, None)


def test_a_sound_first_page_is_read_whatever_follows_it(tmp_path: Path) -> None:
    path = written(tmp_path, GREY, "tif", save_all=True, append_images=[Image.fromarray(255 - GREY)])
    data = path.read_bytes()
    first = struct.unpack("<L", data[4:8])[0]
    following = first + 2 + 12 * struct.unpack("<H", data[first : first + 2])[0]
    for offset in (0, first, len(data) - 1, 2**31):  # the second page is gone, the first again, cut, nowhere
        path.write_bytes(data[:following] + struct.pack("<L", offset) + data[following + 4 :])
        scan = read_scan(path)
        assert (scan.frame, scan.frames) == (None, None)
        assert np.array_equal(scan.pixels, GREY)


def test_the_content_decides_not_the_suffix(tmp_path: Path) -> None:
    path = written(tmp_path, GREY, "png").rename(tmp_path / "scan.dcm")
    assert np.array_equal(read_scan(str(path)).pixels, GREY)


def test_what_a_scan_says_of_itself(tmp_path: Path) -> None:
    path = written(tmp_path, GREY, "png", dpi=(300, 300))
    scan = read_scan(path)
    assert scan.source == "scan.png"  # the name alone: a folder may carry a patient's name
    assert scan.spacing_mm is None  # 300 dpi is for printing
    assert read_scan(written(tmp_path, GREY, "tif", dpi=(300, 300))).spacing_mm is None
    assert scan.scan_id == hashlib.sha256(repr((H, W)).encode() + GREY.tobytes()).hexdigest()
    assert not scan.pixels.flags.writeable
    assert scan.patient_id is None
    assert scan.laterality is None


@pytest.mark.skipif(os.name != "posix", reason="file names are text here")
def test_a_name_that_is_no_utf_8_can_still_be_written_down(tmp_path: Path) -> None:
    path = written(tmp_path, GREY, "png").rename(Path(os.fsdecode(os.fsencode(tmp_path) + b"/m\xe4rz.png")))
    read_scan(path).source.encode("utf-8")
    assert read_scan(path).source.endswith("rz.png")
    path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match="no picture") as caught:
        read_scan(path)
    str(caught.value).encode("utf-8")


def test_a_large_picture_comes_in_bands(tmp_path: Path) -> None:
    rgba = np.tile(np.dstack([RGB, OPACITY]), (30, 30, 1))  # 4.3 megapixels, several blocks
    wanted = np.tile(LUMA * OPACITY / 255, (30, 30))
    assert_close(written(tmp_path, rgba, "tif"), wanted, within=1.01)
    assert_close(
        written(tmp_path, np.tile(GREY.astype(np.uint16) * 257, (30, 30)), "tif"), np.tile(GREY, (30, 30)) * 1.0
    )


def test_masks(tmp_path: Path) -> None:
    lesion = (GREY > 100) & (GREY < 180)
    faint = np.zeros((H, W, 3), np.uint8)
    faint[lesion, 2] = 1  # a luma of 0.1: still a lesion
    shapes = {
        "one bit": Image.fromarray(lesion),
        "0 and 255": lesion.astype(np.uint8) * 255,
        "0 and 1": lesion.astype(np.uint8),
        "16 bit": lesion.astype(np.uint16),
        "colour": np.dstack([lesion * 0, lesion * 200, lesion * 0]).astype(np.uint8),
        "faint": faint,
        "palette": Image.fromarray(faint).quantize(4),
        "opaque": np.dstack([faint, np.full((H, W), 255, np.uint8)]),
        "transparent": np.dstack([np.full((H, W, 3), 255, np.uint8), lesion.astype(np.uint8) * 255]),
    }
    for name, pixels in shapes.items():
        found = read_mask(written(tmp_path, pixels, "png"))
        assert found.dtype == np.bool_, name
        assert np.array_equal(found, lesion), name
    assert not read_mask(written(tmp_path, np.zeros((H, W), np.uint8), "png")).any()


def test_rgb(tmp_path: Path) -> None:
    assert np.array_equal(read_rgb(written(tmp_path, RGB, "png")), RGB)
    assert np.array_equal(read_rgb(written(tmp_path, GREY, "png")), np.repeat(GREY[..., None], 3, axis=2))
    assert np.array_equal(
        read_rgb(written(tmp_path, GREY.astype(np.uint16) * 257, "png")), np.repeat(GREY[..., None], 3, axis=2)
    )
    opaque = np.dstack([RGB, np.where(GREY > 99, 255, 0).astype(np.uint8)])
    assert np.array_equal(read_rgb(written(tmp_path, opaque, "png")), RGB * (GREY > 99)[..., None])


def test_a_600_by_500_png_is_read_in_milliseconds(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 60, (500, 600), dtype=np.uint8)
    path = written(tmp_path, noise, "png")
    read_scan(path)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        read_scan(path)
        times.append(time.perf_counter() - start)
    bare = []
    for _ in range(20):
        start = time.perf_counter()
        np.asarray(Image.open(io.BytesIO(path.read_bytes())))
        bare.append(time.perf_counter() - start)
    assert min(times) < 2 * min(bare) + 0.002  # decoding, one sha256, and next to nothing else


def test_is_scan_file(tmp_path: Path) -> None:
    for suffix in ("png", "jpg", "bmp", "tif", "gif"):
        assert is_scan_file(written(tmp_path, GREY, suffix))
    (tmp_path / "notes.png").write_text("a note")
    (tmp_path / "empty.png").touch()
    for other in (tmp_path / "notes.png", tmp_path / "empty.png", tmp_path, tmp_path / "missing.png", "a\0b"):
        assert not is_scan_file(other)


def test_settings_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, GREY, "png")
    monkeypatch.setenv("SONOSEEK_MAX_MEGAPIXELS", "0.001")
    with pytest.raises(ValueError, match=r"at most 0\.001 megapixels"):
        read_scan(path)
    assert read_scan(path, settings=Settings()).shape == (H, W)


class TestFrameCount:
    @pytest.mark.parametrize(("suffix", "frames"), [(".tif", 5), (".gif", 4), (".png", 1), (".jpg", 1), (".bmp", 1)])
    def test_it_is_what_read_scan_takes(self, tmp_path: Path, suffix: str, frames: int) -> None:
        pictures = [Image.fromarray(np.roll(GREY, 7 * number, axis=1)) for number in range(frames)]
        path = tmp_path / f"a{suffix}"
        more = {"save_all": True, "append_images": pictures[1:]} if frames > 1 else {}
        pictures[0].save(path, **more)
        assert frame_count(path) == frames
        read_scan(path, frame=frames - 1)
        with pytest.raises(InvalidValueError):
            read_scan(path, frame=frames)

    def test_what_is_no_scan_has_none(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        path.write_text("no picture")
        with pytest.raises(ScanReadError, match="no picture"):
            frame_count(path)
