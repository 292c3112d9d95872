"""Damaged, lying and harmful pictures: a typed error, within 2 s and 512 MB, and nothing global touched."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from sonoseek.core import InvalidValueError, NotFoundError, ScanReadError, ScanTooLargeError, Settings
from sonoseek.io import frame_count, read_mask, read_rgb, read_scan

NOISE = np.random.default_rng(0).integers(0, 200, (200, 300), dtype=np.uint8)


def encoded(kind: str, pixels: np.ndarray = NOISE, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))


def png(width: int, height: int, data: bytes, *, bits: int = 8, colour: int = 0, extra: bytes = b"") -> bytes:
    """A PNG with sound checksums that says what it is told to say."""
    header = chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def zeros(count: int) -> bytes:
    """`count` zeros, deflated: one mebibyte is packed, and its packed bytes repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    mebibyte = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    rest = packer.compress(bytes(count % (1 << 20))) + packer.flush()
    return b"\x78\xda" + mebibyte * (count >> 20) + rest + struct.pack(">HH", count % 65521, 1)  # Adler-32 of zeros


def patched(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def tiff_with(**tags: int) -> bytes:
    """An uncompressed TIFF whose tags lie."""
    data = encoded("TIFF")
    directory = struct.unpack("<L", data[4:8])[0]
    count = struct.unpack("<H", data[directory : directory + 2])[0]
    wanted = {256: tags["width"], 257: tags["height"]}
    for index in range(count):
        at = directory + 2 + 12 * index
        tag = struct.unpack("<H", data[at : at + 2])[0]
        if tag in wanted:
            data = patched(data, at + 2, struct.pack("<HLL", 4, 1, wanted[tag]))
    return data


def jpeg_with(*, height: int, width: int) -> bytes:
    data = encoded("JPEG")
    return patched(data, data.index(b"\xff\xc0") + 5, struct.pack(">HH", height, width))


def many_scans() -> bytes:
    data = encoded("JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * 3000 + b"\xff\xd9"


def bmp_with(*, height: int, width: int) -> bytes:
    return patched(encoded("BMP"), 18, struct.pack("<ll", width, height))


def rle_bmp(width: int, height: int, *, data: bytes | None = None, four_bits: bool = False) -> bytes:
    """A grey BMP, run-length encoded: without `data` one pixel of 128 a row, which leaves the rest to padding."""
    rows = (b"\x01\x80\0\0" * height if data is None else data) + b"\0\1"
    bits, colours = (4, 16) if four_bits else (8, 256)
    palette = b"".join(bytes((i, i, i, 0)) for i in range(colours))
    start = 14 + 40 + len(palette)
    head = b"BM" + struct.pack("<LHHL", start + len(rows), 0, 0, start)
    info = struct.pack("<LllHHLLllLL", 40, width, height, 1, bits, 2 if four_bits else 1, len(rows), 0, 0, colours, 0)
    return head + info + palette + rows


def half(data: bytes, share: float = 0.5) -> bytes:
    return data[: int(len(data) * share)]


def damaged(data: bytes) -> bytes:
    return patched(data, len(data) // 2, b"\xa5" * 40)


BAD: dict[str, tuple[Callable[[], bytes], type[ScanReadError], str]] = {
    "half.png": (lambda: half(encoded("PNG")), ScanReadError, "truncated"),
    "almost.png": (lambda: half(encoded("PNG"), 0.99), ScanReadError, "truncated"),
    "no-end.png": (lambda: encoded("PNG")[:-12], ScanReadError, "truncated"),
    "half.jpg": (lambda: half(encoded("JPEG")), ScanReadError, "truncated"),
    "half.bmp": (lambda: half(encoded("BMP")), ScanReadError, "truncated"),
    "half.tif": (lambda: half(encoded("TIFF")), ScanReadError, "truncated"),
    "half.gif": (lambda: half(encoded("GIF")), ScanReadError, "truncated"),
    "half-lzw.tif": (lambda: half(encoded("TIFF", compression="tiff_lzw")), ScanReadError, "truncated"),
    "damaged.png": (lambda: damaged(encoded("PNG")), ScanReadError, "'IDAT' fails its checksum"),
    "magic.png": (lambda: encoded("PNG")[:8], ScanReadError, "truncated"),
    "magic.jpg": (lambda: encoded("JPEG")[:12], ScanReadError, "truncated"),
    "magic.bmp": (lambda: encoded("BMP")[:12], ScanReadError, "truncated"),
    "magic.tif": (lambda: b"II*\0" + b"\xa5" * 3000, ScanReadError, "page 0 is cut off"),
    "400mp.png": (lambda: png(20000, 20000, zeros(1000)), ScanTooLargeError, "400.0 megapixels"),
    "4e18.png": (lambda: png(2**31 - 1, 2**31 - 1, zeros(9), bits=16, colour=6), ScanTooLargeError, "megapixels"),
    "100mp.png": (lambda: png(10000, 10000, zeros(1000)), ScanTooLargeError, "100.0 megapixels"),
    "deep60mp.png": (lambda: png(8000, 7500, zeros(480_007_500), bits=16, colour=6), ScanTooLargeError, "512 MiB"),
    "lie60mp.png": (lambda: png(8000, 7500, zeros(1000)), ScanReadError, "truncated"),
    "nothing.png": (lambda: png(0, 0, zeros(1)), ScanReadError, "cannot be decoded"),
    "icon.png": (lambda: png(4, 400, zeros(2000)), ScanReadError, "400 × 4 pixels"),
    "tall.jpg": (lambda: jpeg_with(height=2000, width=300), ScanReadError, "truncated or damaged"),
    "wide.jpg": (lambda: jpeg_with(height=200, width=3000), ScanReadError, "truncated or damaged"),
    "3600mp.jpg": (lambda: jpeg_with(height=60000, width=60000), ScanTooLargeError, "3600.0 megapixels"),
    "scans.jpg": (many_scans, ScanTooLargeError, "scans"),
    "400mp.bmp": (lambda: bmp_with(height=20000, width=20000), ScanTooLargeError, "400.0 megapixels"),
    "lie.bmp": (lambda: bmp_with(height=7000, width=7000), ScanReadError, "truncated"),
    "negative.bmp": (lambda: bmp_with(height=200, width=-5), ScanTooLargeError, "megapixels"),
    "rle8.bmp": (lambda: rle_bmp(60000, 1000), ScanTooLargeError, "run-length.*60.0 megapixels.*at most 4 mega.*PNG"),
    "rle4.bmp": (lambda: rle_bmp(60000, 1000, four_bits=True), ScanTooLargeError, "run-length.*60.0 megapixels"),
    "stalled.bmp": (lambda: rle_bmp(200, 200, data=b"\0\2\0\0" * 9_000_000), ScanTooLargeError, "36001080 bytes"),
    "400mp.tif": (lambda: tiff_with(width=20000, height=20000), ScanTooLargeError, "400.0 megapixels"),
    "lie.tif": (lambda: tiff_with(width=7000, height=7000), ScanReadError, "truncated|cover"),
    "tall.tif": (lambda: tiff_with(width=300, height=9000), ScanReadError, "9000 × 300 pixels, but its strips cover"),
    "4000mp.gif": (lambda: patched(encoded("GIF"), 6, b"\xff\xff\xff\xff"), ScanTooLargeError, "megapixels"),
    "text.png": (lambda: b"no picture\n" * 99, ScanReadError, "no picture"),
    "zip.dcm": (lambda: b"PK\3\4" + bytes(500), ScanReadError, "a ZIP archive; sonoseek reads"),
    "postscript.png": (
        lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        ScanReadError,
        "a PostScript document",
    ),
    "one-byte": (lambda: b"x", ScanReadError, "no picture"),
    "empty.png": (lambda: b"", ScanReadError, "0 bytes"),
    "no-dicom.dcm": (lambda: bytes(128) + b"DICM" + b"\xa5" * 500, ScanReadError, "no DICOM"),
}


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bad")
    for name, (make, _, _) in BAD.items():
        (folder / name).write_bytes(make())
    return {name: folder / name for name in BAD}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow, of a TIFF that ends early
def test_a_bad_file_gives_its_error(bad_files: dict[str, Path], name: str) -> None:
    _, error, words = BAD[name]
    with pytest.raises(error, match=words) as caught:
        read_scan(bad_files[name])
    assert type(caught.value) is error
    assert str(caught.value).startswith(str(bad_files[name]))


MEASURE = """
import json, resource, sys, time, warnings
warnings.simplefilter("ignore")
from sonoseek.core import SonoseekError
from sonoseek.io import read_scan
from sonoseek.io.sandbox import close_readers
results = []
for path in json.loads(sys.argv[1]):
    start = time.perf_counter()
    try:
        read_scan(path)
        found = "read"
    except SonoseekError as error:
        found = type(error).__name__
    results.append([path, found, time.perf_counter() - start])
close_readers()
own = next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(json.dumps({"results": results, "mb": max(own, child)}))
"""


def measured(paths: list[Path], **settings: str) -> dict[str, Any]:
    arguments = [sys.executable, "-c", MEASURE, json.dumps([str(path) for path in paths])]
    environment = {**os.environ, **settings}
    done = subprocess.run(arguments, capture_output=True, check=True, timeout=120, env=environment)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


linux = pytest.mark.skipif(sys.platform != "linux", reason="measures through /proc")


@linux
def test_all_of_them_stay_within_2_s_and_512_mb(bad_files: dict[str, Path]) -> None:
    found = measured([path for name, path in bad_files.items() if not name.endswith(".dcm")])
    assert "read" not in [result for _, result, _ in found["results"]]
    assert not [(path, seconds) for path, _, seconds in found["results"] if seconds > 2]
    assert found["mb"] < 512


@linux
@pytest.mark.parametrize(("bits", "colour", "width"), [(8, 0, 1), (16, 0, 2), (8, 2, 3)])
def test_the_largest_sound_pictures_stay_within_512_mb(tmp_path: Path, bits: int, colour: int, width: int) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(png(8000, 7900, zeros(7900 * (1 + 8000 * width)), bits=bits, colour=colour))
    found = measured([path], SONOSEEK_READ_TIMEOUT_S="20")  # on a busy machine 63 megapixels may take over 2 s
    assert found["results"][0][1] == "read"
    assert found["mb"] < 512


@pytest.mark.parametrize("name", ["half.png", "400mp.png", "text.png", "half.tif"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_masks_are_held_to_the_same_rules(bad_files: dict[str, Path], name: str) -> None:
    for read in (read_mask, read_rgb):
        with pytest.raises(BAD[name][1]):
            read(bad_files[name])


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        read_scan(tmp_path / "missing.png")
    with pytest.raises(LookupError):
        read_mask(tmp_path / "missing.png")
    with pytest.raises(ScanReadError, match="directory"):
        read_scan(tmp_path)
    with pytest.raises(ScanReadError, match="cannot follow"):
        read_scan("a\0b")
    with pytest.raises(ScanReadError, match="cannot follow"):
        read_scan("x" * 5000)
    if os.name == "posix":
        os.mkfifo(tmp_path / "pipe.png")
        (tmp_path / "dangling.png").symlink_to(tmp_path / "missing.png")
        with pytest.raises(ScanReadError, match="pipe"):
            read_scan(tmp_path / "pipe.png")
        with pytest.raises(NotFoundError):
            read_scan(tmp_path / "dangling.png")


def test_pillow_s_limits_are_left_alone_and_ours_count(tmp_path: Path) -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    path = tmp_path / "large.png"
    path.write_bytes(png(10000, 10000, zeros(10000 * 10001)))  # beyond Pillow's own warning
    with pytest.raises(ScanTooLargeError, match=r"100\.0 megapixels"):
        read_scan(path)
    assert read_scan(path, settings=Settings(max_megapixels=120, read_memory_mb=1024)).shape == (10000, 10000)
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


def test_a_far_frame_of_an_animation_is_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((200, 300), value, np.uint8)) for value in (0, 90, 200)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(ScanTooLargeError, match="frame 100000 of an animation"):
        read_scan(tmp_path / "film.gif", frame=100_000)
    with pytest.raises(InvalidValueError, match="the file has 3"):
        read_scan(tmp_path / "film.gif", frame=3)


def test_a_tiff_whose_pages_turn_in_a_circle(tmp_path: Path) -> None:
    data = encoded("TIFF")
    directory = struct.unpack("<L", data[4:8])[0]
    count = struct.unpack("<H", data[directory : directory + 2])[0]
    path = tmp_path / "circle.tif"
    path.write_bytes(patched(data, directory + 2 + 12 * count, struct.pack("<L", directory)))
    assert np.array_equal(read_scan(path).pixels, NOISE)
    with pytest.raises(InvalidValueError, match="the file has 1"):
        read_scan(path, frame=1)


def test_a_run_length_encoded_bmp_of_sound_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sound.bmp"
    path.write_bytes(rle_bmp(2000, 2000))  # 4 megapixels, the limit
    pixels = read_scan(path).pixels
    assert pixels.shape == (2000, 2000)
    assert (pixels[:, 0] == 128).all()
    assert not pixels[:, 1:].any()


def chained_tiff(pages: int) -> bytes:
    """A TIFF of many pages that all show the same pixels: each is a directory of 126 bytes."""
    order = 10
    data = struct.pack("<2sHL", b"II", 42, 8)
    size = 2 + 12 * order + 4
    strip = 8 + pages * size
    tags = {256: 40, 257: 30, 258: 8, 259: 1, 262: 1, 273: strip, 277: 1, 278: 30, 279: 1200, 284: 1}
    fields = struct.pack("<H", order) + b"".join(struct.pack("<HHLL", tag, 4, 1, tags[tag]) for tag in tags)
    return (
        data
        + b"".join(
            fields + struct.pack("<L", 8 + (page + 1) * size if page + 1 < pages else 0) for page in range(pages)
        )
        + bytes(range(240)) * 5
    )


@linux
@pytest.mark.parametrize("frame", [4096, 199_999, 10**9, -1])
def test_a_far_page_of_a_tiff_is_refused_in_time(tmp_path: Path, frame: int) -> None:
    path = tmp_path / "chain.tif"
    path.write_bytes(chained_tiff(20_000))
    start = time.perf_counter()
    with pytest.raises(InvalidValueError, match=rf"frame is {frame}; of a TIFF only the first 4096 pages.*0 … 4095"):
        read_scan(path, frame=frame)
    assert time.perf_counter() - start < 2


def test_the_pages_of_a_tiff_up_to_the_limit_are_read(tmp_path: Path) -> None:
    path = tmp_path / "chain.tif"
    for pages in (4096, 4097):
        path.write_bytes(chained_tiff(pages))
        assert read_scan(path, frame=40).shape == (30, 40)
        assert frame_count(path) == 4096
        with pytest.raises(InvalidValueError, match="only the first 4096 pages"):
            read_scan(path, frame=4096)
    path.write_bytes(chained_tiff(4))
    for frame in (-1, 4, 5, 900):
        with pytest.raises(InvalidValueError, match=rf"frame is {frame}; the file has 4.*0 … 3"):
            read_scan(path, frame=frame)


def test_a_jpeg_that_is_middle_grey_at_its_foot_is_no_lie(tmp_path: Path) -> None:
    even = np.full((64, 64), 128, np.uint8)
    (tmp_path / "even.jpg").write_bytes(encoded("JPEG", even))
    assert (read_scan(tmp_path / "even.jpg").pixels == 128).all()
    barred = np.vstack([NOISE, np.full((24, 300), 128, np.uint8)])
    for options in ({}, {"progressive": True}, {"quality": 100}, {"restart_marker_rows": 1}):
        (tmp_path / "bar.jpg").write_bytes(encoded("JPEG", barred, **options))
        assert read_scan(tmp_path / "bar.jpg").shape == (224, 300)
