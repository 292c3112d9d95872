"""Pictures that are damaged inside, lack a part, or carry what changes no pixel: refused, or read as they are."""

from __future__ import annotations

import io
import random
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin
from test_reading_bad_files import chunk, encoded, zeros
from test_reading_bad_files import png as made_png

from sonoseek.core import ScanReadError
from sonoseek.io import read_mask, read_rgb, read_scan

RNG = np.random.default_rng(3)
GREY = np.clip(np.linspace(20, 200, 120)[:, None] + RNG.normal(0, 12, (120, 160)), 0, 255).astype(np.uint8)
COLOUR = np.dstack([GREY, 255 - GREY, np.roll(GREY, 9, axis=1)])
KINDS = [
    {"progressive": progressive, "pixels": pixels, "restart_marker_rows": restart}
    for progressive in (False, True)
    for pixels in ("grey", "colour")
    for restart in (0, 1)
]


def jpeg(*, pixels: str = "grey", **options: object) -> bytes:
    return encoded("JPEG", GREY if pixels == "grey" else COLOUR, quality=90, **options)


def scans(data: bytes) -> list[int]:
    """Offsets of the scans' headers."""
    return [match.start() for match in re.finditer(rb"\xff\xda", data)]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8, 0.95, 0.99])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
def test_a_jpeg_that_was_cut_is_refused_though_it_ends_well(
    tmp_path: Path, kind: dict[str, object], share: float, end: bytes
) -> None:
    data = jpeg(**kind)
    first = scans(data)[0] + 20
    (tmp_path / "cut.jpg").write_bytes(data[: first + int((len(data) - first) * share)] + end)
    for read in (read_scan, read_mask, read_rgb):
        with pytest.raises(ScanReadError, match="truncated"):
            read(tmp_path / "cut.jpg")


@pytest.mark.parametrize("pixels", ["grey", "colour"])
def test_a_progressive_jpeg_that_lost_whole_scans(tmp_path: Path, pixels: str) -> None:
    data = jpeg(progressive=True, pixels=pixels)
    places = scans(data)
    assert len(places) > 5
    for kept in range(1, len(places)):
        between = data[: places[kept]]
        between = between[: between.rfind(b"\xff\xc4")] if data[places[kept - 1] :].find(b"\xff\xc4") >= 0 else between
        (tmp_path / "lost.jpg").write_bytes(between + b"\xff\xd9")
        with pytest.raises(ScanReadError, match=r"lacks scans|truncated"):
            read_scan(tmp_path / "lost.jpg")
    (tmp_path / "whole.jpg").write_bytes(data)
    assert read_scan(tmp_path / "whole.jpg").shape == GREY.shape


def flipped(data: bytes, *, seed: int, after: int, before: int, count: int = 20) -> bytes:
    chance, changed = random.Random(seed), bytearray(data)
    for _ in range(count):
        changed[chance.randrange(after, before)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def refused(path: Path) -> bool:
    try:
        read_scan(path)
    except ScanReadError:
        return True
    return False


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_twenty_flipped_bits_of_a_jpeg(tmp_path: Path, kind: dict[str, object]) -> None:
    data = jpeg(**kind)
    path = tmp_path / "flipped.jpg"
    found = 0
    for seed in range(60):
        path.write_bytes(flipped(data, seed=seed, after=scans(data)[0] + 14, before=len(data) - 2))
        found += refused(path)
    assert found >= 48  # a decoder that falls into step again, after as many blocks, leaves no trace


@pytest.mark.parametrize(
    "options",
    [{"compression": "zlib"}, {"compression": "zlib", "predictor": True}, {"tile": (64, 64), "compression": "zlib"}],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_flipped_bits_of_a_deflated_tiff(tmp_path: Path, options: dict[str, object], dtype: type) -> None:
    pixels = GREY.astype(dtype) / (255 if dtype is np.float32 else 1)
    if dtype is np.float32 and options.get("predictor"):
        return  # tifffile writes that of floating-point numbers with a codec that is not here
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels.astype(dtype), **options)
    data = stream.getvalue()
    path = tmp_path / "scan.tif"
    path.write_bytes(data)
    assert np.abs(read_scan(path).pixels.astype(float) - GREY).max() <= 1
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        start, end = page.dataoffsets[0], page.dataoffsets[0] + page.databytecounts[0]
    for count in (1, 20):
        for seed in range(20):
            path.write_bytes(flipped(data, seed=seed, after=start, before=end, count=count))
            assert refused(path)


def test_flipped_bits_of_a_jpeg_in_a_tiff(tmp_path: Path) -> None:
    data = encoded("TIFF", GREY, compression="jpeg")
    path = tmp_path / "scan.tif"
    path.write_bytes(data)
    assert np.abs(read_scan(path).pixels.astype(float) - GREY).max() <= 60
    with tifffile.TiffFile(path) as file:
        start, count = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    found = 0
    for seed in range(40):
        path.write_bytes(flipped(data, seed=seed, after=start + 40, before=start + count - 2))
        found += refused(path)
    assert found >= 34


@pytest.mark.parametrize("offset", [0, 100, -5])
def test_flipped_bits_of_a_png(tmp_path: Path, offset: int) -> None:
    data = encoded("PNG", GREY)
    start = data.index(b"IDAT") + 4
    end = data.index(b"IEND") - 8
    path = tmp_path / "scan.png"
    for seed in range(20):
        path.write_bytes(flipped(data, seed=seed, after=start, before=end, count=1))
        assert refused(path)


@pytest.mark.parametrize("name", [b"iTXt", b"zTXt", b"tEXt", b"iCCP", b"pHYs", b"gAMA", b"prVt", b"cHRM"])
@pytest.mark.parametrize("broken", [False, True])
def test_chunks_that_hold_no_pixels_change_none(tmp_path: Path, name: bytes, broken: bool) -> None:
    body = {b"iCCP": b"a\0\0" + zlib.compress(bytes(3 << 20)), b"zTXt": b"a\0\0" + zeros(200 << 20)}
    body |= {b"iTXt": b"a\0\0\0\0\0" + b"x" * (2 << 20), b"tEXt": b"a\0" + b"x" * (2 << 20)}
    extra = chunk(name, body.get(name, bytes(9)))
    extra = extra[:-4] + b"\1\2\3\4" if broken else extra
    data = encoded("PNG", GREY)
    (tmp_path / "scan.png").write_bytes(data[:33] + extra + data[33:])
    assert np.array_equal(read_scan(tmp_path / "scan.png").pixels, GREY)


def test_a_text_of_gigabytes_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(made_png(99, 99, zeros(9900), extra=chunk(b"zTXt", b"a\0\0" + zeros(900 << 20))))
    assert not read_scan(path).pixels.any()


def test_chunks_that_pixels_depend_on_are_held_to_their_checksums(tmp_path: Path) -> None:
    picture = Image.fromarray(COLOUR).quantize(16)
    data = io.BytesIO()
    picture.save(data, "PNG", transparency=3)
    for name in (b"PLTE", b"tRNS", b"IDAT"):
        at = data.getvalue().index(name) + 5
        broken = bytearray(data.getvalue())
        broken[at] ^= 1
        (tmp_path / "scan.png").write_bytes(bytes(broken))
        with pytest.raises(ScanReadError, match=f"'{name.decode()}' fails its checksum"):
            read_scan(tmp_path / "scan.png")


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_level_of_grey_is_black(tmp_path: Path, bits: int) -> None:
    top = 2**bits - 1
    levels = np.rint(GREY / 255 * top).astype(np.uint16)
    if bits == 16:
        rows = levels.astype(">u2").tobytes()
        packed = b"".join(b"\0" + rows[row * 320 : row * 320 + 320] for row in range(120))
    else:
        digits = np.unpackbits(levels.astype(np.uint8)[..., None], axis=2)[..., 8 - bits :].reshape(120, -1)
        packed = b"".join(b"\0" + np.packbits(row).tobytes() for row in digits)
    level = int(levels[60, 80])
    extra = chunk(b"tRNS", struct.pack(">H", level))
    (tmp_path / "scan.png").write_bytes(made_png(160, 120, zlib.compress(packed), bits=bits, extra=extra))
    wanted = np.where(levels == level, 0, levels) / top * 255
    assert np.abs(read_scan(tmp_path / "scan.png").pixels - wanted).max() <= 0.51


def test_a_transparent_colour_of_16_bits_is_black(tmp_path: Path) -> None:
    deep = COLOUR.astype(np.uint16) * 257
    deep[:30] = (1000, 2000, 3000)
    rows = deep.astype(">u2").tobytes()
    packed = b"".join(b"\0" + rows[row * 960 : row * 960 + 960] for row in range(120))
    extra = chunk(b"tRNS", struct.pack(">HHH", 1000, 2000, 3000))
    (tmp_path / "scan.png").write_bytes(made_png(160, 120, zlib.compress(packed), bits=16, colour=2, extra=extra))
    found = read_scan(tmp_path / "scan.png").pixels
    assert not found[:30].any()
    assert np.abs(found[30:] - COLOUR[30:] @ [0.299, 0.587, 0.114]).max() <= 1.01


def test_a_png_that_pillow_wrote_with_everything(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("note", "x" * (1 << 21))
    info.add_itxt("note", "é" * (1 << 20), zip=True)
    Image.fromarray(GREY).save(tmp_path / "scan.png", pnginfo=info, icc_profile=bytes(2 << 20), dpi=(72, 72))
    assert np.array_equal(read_scan(tmp_path / "scan.png").pixels, GREY)


HEADS = {
    "WebP": b"RIFF\x24\0\0\0WEBPVP8 ",
    "AVIF": b"\0\0\0\x1cftypavif\0\0\0\0mif1avif",
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "HEIC ": b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic",
    "JPEG 2000 file": b"\0\0\0\x0cjP  \r\n\x87\n",
    "JPEG 2000 codestream": b"\xff\x4f\xff\x51\0\x2f",
    "JPEG XL": b"\xff\x0a\x11",
    "PDF": b"%PDF-1.7\n",
    "video (MP4": b"\0\0\0\x18ftypisom\0\0\0\0isommp42",
    "video (AVI)": b"RIFF\x24\0\0\0AVI LIST",
    "video (Matroska": b"\x1a\x45\xdf\xa3\x01",
    "gzip": b"\x1f\x8b\x08\0",
}


@pytest.mark.parametrize("name", HEADS)
def test_other_formats_are_named_with_a_remedy(tmp_path: Path, name: str) -> None:
    (tmp_path / "scan.png").write_bytes(HEADS[name] + bytes(300))
    with pytest.raises(ScanReadError, match=rf"this is an? .*{re.escape(name.strip())}.*sonoseek reads.*(PNG|Unpack)"):
        read_scan(tmp_path / "scan.png")
