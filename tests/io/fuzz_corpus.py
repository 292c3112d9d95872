"""Some 400 damaged, lying and harmful files, made of a phantom by a fixed seed: every format, five kinds of harm.

`sources()` gives a sound file of each format; `corpus()` what becomes of them: cut off, flipped bits, two files
spliced, header fields that contradict the data ("lie"), and claims or contents that would take too much ("bomb").
"""

from __future__ import annotations

import io
import random
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import dicom_files
import numpy as np
import tifffile
from fuzz_lies import BOMBS, LIES
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from sonoseek.datasets.phantom import PhantomDataset

SEED = 20_260
LIES_EACH, BOMBS_EACH = 2, 2
CHECKED = ("png", "tiff deflate", "tiff tiles", "tiff BigTIFF")
"""Formats in which any flipped bit of the pixel data must be noticed: they carry a checksum."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A sound file.

    Attributes:
        name: family and variant, as "tiff LZW".
        data: its bytes.
        body: (start, end) of its pixel data, of the first page or frame.
        checked: whether the format's own checksum covers the body.
    """

    name: str
    data: bytes
    body: tuple[int, int]

    @property
    def family(self) -> str:
        return self.name.split(" ", maxsplit=1)[0]

    @property
    def checked(self) -> bool:
        return self.name.startswith(CHECKED)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A file that is no longer sound.

    Attributes:
        name: "cut/png grey/2": harm, source, number. Together with `SEED` it is the file's recipe.
        source: what it was made of.
        data: its bytes.
        exact: where it reads, it must give the source's pixels.
        sized: where it reads, it must give a picture of the source's size.
    """

    name: str
    source: Source
    data: bytes
    exact: bool = False
    sized: bool = False


def phantom() -> NDArray[np.uint8]:
    """uint8 (128, 168): every fourth pixel of a phantom with a lesion."""
    dataset = PhantomDataset(count=2)
    record = next(each for each in dataset.records() if each.pathology != "normal")
    return np.ascontiguousarray(dataset.load(record.case_id).scans[0].pixels[::4, ::4][:128, :168])


def sources() -> list[Source]:
    """A sound file of every format and transfer syntax that is read."""
    grey = phantom()
    return [*_pictures(grey), *_tiffs(grey), *_dicoms(grey)]


def corpus() -> list[Case]:
    """The same files in every run."""
    made = sources()
    return [case for number, source in enumerate(made) for case in _cases(source, made, random.Random(SEED + number))]


def _cases(source: Source, every: list[Source], chance: random.Random) -> Iterator[Case]:
    data, (start, end) = source.data, source.body

    def case(harm: str, number: int, changed: bytes, **expected: bool) -> Case:
        return Case(name=f"{harm}/{source.name}/{number}", source=source, data=changed, **expected)

    for number, at in enumerate([len(data) - 1, chance.randrange(12, max(13, start)), *_within(chance, start, end, 1)]):
        yield case("cut", number, data[:at], exact=True)
    for number, count in enumerate((1, 20)):
        yield case(
            "flip data",
            number,
            flipped(data, _within(chance, start, end, count), chance),
            exact=source.checked,
            sized=True,
        )
    for number, count in enumerate((1, 5)):
        yield case(
            "flip head", number, flipped(data, _within(chance, 8, start, count), chance), exact=source.family == "png"
        )
    other = chance.choice([each for each in every if each.family != source.family]).data
    twin = chance.choice([each for each in every if each.family == source.family and each is not source]).data
    yield case("splice", 0, data[: chance.randrange(start, end)] + other[len(other) // 3 :])
    yield case("splice", 1, data[: chance.randrange(start, end)] + twin[len(twin) // 2 :])
    for harm, table, most in (("lie", LIES, LIES_EACH), ("bomb", BOMBS, BOMBS_EACH)):
        makers = table[source.family]
        for name in chance.sample(sorted(makers), min(most, len(makers))):
            yield Case(name=f"{harm}/{source.name}/{name}", source=source, data=makers[name](data))


def _within(chance: random.Random, start: int, end: int, count: int) -> list[int]:
    return [chance.randrange(start, max(end, start + 1)) for _ in range(count)]


def flipped(data: bytes, places: list[int], chance: random.Random) -> bytes:
    changed = bytearray(data)
    for at in places:
        changed[min(at, len(data) - 1)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def encoded(pixels: NDArray[np.generic] | Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(stream, kind, **options)
    return stream.getvalue()


def _pictures(grey: NDArray[np.uint8]) -> Iterator[Source]:
    colour = np.dstack([grey, grey // 2, 255 - grey])
    later = [Image.fromarray(np.roll(grey, 5 * turn, axis=1)) for turn in (1, 2)]
    film = {"save_all": True, "append_images": later}
    palette = Image.fromarray(colour).quantize(16)
    made: dict[str, bytes] = {
        "png grey": encoded(grey, "PNG"),
        "png colour": encoded(colour, "PNG"),
        "png 16 bits": encoded(grey.astype(np.uint16) * 257, "PNG"),
        "png palette": encoded(palette, "PNG", transparency=3),
        "jpeg baseline": encoded(grey, "JPEG", quality=90),
        "jpeg colour": encoded(colour, "JPEG", quality=90, restart_marker_rows=1),
        "jpeg progressive": encoded(grey, "JPEG", quality=90, progressive=True),
        "bmp grey": encoded(grey, "BMP"),
        "bmp colour": encoded(colour, "BMP"),
        "bmp RLE": rle_bmp(grey),
        "gif": encoded(grey, "GIF"),
        "gif animated": encoded(grey, "GIF", **film),
    }
    for name, data in made.items():
        yield Source(name=name, data=data, body=_BODY[name.split()[0]](data))


def rle_bmp(grey: NDArray[np.uint8]) -> bytes:
    """A BMP of 256 greys, run-length encoded in runs of equal pixels."""
    rows = bytearray()
    for row in grey[::-1]:
        edges = [0, *(np.flatnonzero(np.diff(row)) + 1), len(row)]
        for left, right in pairwise(edges):
            for _ in range((right - left) // 255):
                rows += bytes((255, row[left]))
            rows += bytes(((right - left) % 255, row[left])) if (right - left) % 255 else b""
        rows += b"\0\0"
    rows[-1] = 1  # the last row's end is the picture's
    table = b"".join(bytes((level, level, level, 0)) for level in range(256))
    start = 54 + len(table)
    head = struct.pack("<2sLHHL", b"BM", start + len(rows), 0, 0, start)
    height, width = grey.shape
    return head + struct.pack("<LllHHLLllLL", 40, width, height, 1, 8, 1, len(rows), 0, 0, 256, 0) + table + bytes(rows)


def _tiffs(grey: NDArray[np.uint8]) -> Iterator[Source]:
    pages = np.stack([grey, np.roll(grey, 7, axis=1), 255 - grey])
    made: dict[str, bytes] = {
        "tiff plain": encoded(grey, "TIFF"),
        "tiff LZW": encoded(grey, "TIFF", compression="tiff_lzw"),
        "tiff JPEG": encoded(grey, "TIFF", compression="jpeg"),
        "tiff deflate": _tiff(grey, compression="zlib"),
        "tiff tiles": _tiff(grey, compression="zlib", tile=(64, 64)),
        "tiff BigTIFF": _tiff(grey, compression="zlib", bigtiff=True),
        "tiff pages": _tiff(pages, rowsperstrip=40),
        "tiff floats": _tiff(grey.astype(np.float32) / 255),
    }
    for name, data in made.items():
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            last = max(range(len(page.dataoffsets)), key=lambda index: page.dataoffsets[index])
            body = min(page.dataoffsets), page.dataoffsets[last] + page.databytecounts[last]
        yield Source(name=name, data=data, body=body)


def _tiff(pixels: NDArray[np.generic], **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, photometric="minisblack", **options)
    return stream.getvalue()


NATIVE = {
    "implicit": ImplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
}
GDCM = (
    "RLELossless",
    "JPEGBaselineProcess1",
    "JPEGLosslessProcess14",
    "JPEGLosslessProcess14_1",
    "JPEGLSLossless",
    "JPEGLSNearLossless",
    "JPEG2000Lossless",
    "JPEG2000",
)
"""Transfer syntaxes whose codestreams gdcm makes; the data set around them is our own, for gdcm writes the time in."""


def _dicoms(grey: NDArray[np.uint8]) -> Iterator[Source]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        plain = dicom_files.save(_ultrasound(grey), folder / "plain.dcm")
        paths = {"dicom explicit": plain}
        for name, syntax in NATIVE.items():
            dataset = _ultrasound(grey)
            dataset.file_meta.TransferSyntaxUID = syntax
            paths[f"dicom {name}"] = dicom_files.save(dataset, folder / f"{name}.dcm")
        for name in GDCM:
            packed = dcmread(dicom_files.transcoded(plain, folder / "packed.dcm", name))
            frames = list(generate_frames(packed.PixelData, number_of_frames=1))
            dataset = dicom_files.encapsulated(_ultrasound(grey), packed.file_meta.TransferSyntaxUID, frames)
            paths[f"dicom {name}"] = dicom_files.save(dataset, folder / f"{name}.dcm")
        cine = _ultrasound(np.stack([grey, grey[::-1], 255 - grey]), frames=3)
        paths["dicom cine"] = dicom_files.save(cine, folder / "cine.dcm")
        for name, path in paths.items():
            data = path.read_bytes()
            yield Source(name=name, data=data, body=_BODY["dicom"](data))


def _ultrasound(pixels: NDArray[np.uint8], *, frames: int = 0) -> Dataset:
    """With UIDs that are the same in every run."""
    dataset = dicom_files.us_dataset(pixels, frames=frames)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.826.0.1.3680043.8.498.1")
    return dataset


_BODY: dict[str, Callable[[bytes], tuple[int, int]]] = {
    "png": lambda data: (data.index(b"IDAT") + 4, len(data) - 16),
    "jpeg": lambda data: (data.index(b"\xff\xda") + 14, len(data) - 2),
    "bmp": lambda data: (struct.unpack("<L", data[10:14])[0], len(data)),
    "gif": lambda data: (data.index(b"\x2c\0\0\0\0") + 10, len(data) - 1),
    "dicom": lambda data: (_pixel_data(data), len(data)),
}


def _pixel_data(data: bytes) -> int:
    """Offset of a DICOM file's pixels; of a deflated one, whose tag is not to be seen, of somewhere within."""
    tags = (data.find(b"\xe0\x7f\x10\0"), data.find(b"\x7f\xe0\0\x10"))
    return max(tags) + 12 if max(tags) >= 0 else len(data) // 4
