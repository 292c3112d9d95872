"""Per format: header fields that contradict the data, and claims or contents that would take too much.

Each maker takes the bytes of a sound file and gives those of the other; `fuzz_corpus` draws from them.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping

import tifffile
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, RLELossless
from test_reading_bad_files import chunk, patched, zeros

Maker = Callable[[bytes], bytes]


def png_header(**fields: int) -> Maker:
    """With other numbers in IHDR, and its checksum right."""

    def made(data: bytes) -> bytes:
        names = ("width", "height", "bits", "colour", "compression", "filter", "interlace")
        old = dict(zip(names, struct.unpack(">LLBBBBB", data[16:29]), strict=True))
        return data[:8] + chunk(b"IHDR", struct.pack(">LLBBBBB", *{**old, **fields}.values())) + data[33:]

    return made


def png_with(name: bytes, body: Callable[[], bytes]) -> Maker:
    """With one chunk more, behind the header."""
    return lambda data: data[:33] + chunk(name, body()) + data[33:]


def jpeg_frame(at: int, value: bytes) -> Maker:
    """With other bytes in the frame header: precision is at 4, height at 5, width at 7, components at 9."""

    def made(data: bytes) -> bytes:
        start = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
        return patched(data, start + at, value)

    return made


def jpeg_with(segments: Callable[[], bytes]) -> Maker:
    """With segments more, behind the start marker."""
    return lambda data: data[:2] + segments() + data[2:]


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def last_scan(times: int) -> Maker:
    """Its last scan again and again."""
    return lambda data: data[:-2] + data[data.rindex(b"\xff\xda") : -2] * times + b"\xff\xd9"


def bytes_at(at: int, value: bytes) -> Maker:
    return lambda data: patched(data, at, value)


def tiff_tags(**values: int) -> Maker:
    """With other numbers in the first directory, where it has such a tag."""

    def made(data: bytes) -> bytes:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            order, big = file.byteorder, file.is_bigtiff
            offset, tags = file.pages[0].offset, {tag.name: tag.code for tag in file.pages[0].tags}
        wide, size, form = (8, 20, "Q") if big else (2, 12, "L")
        (count,) = struct.unpack(order + ("Q" if big else "H"), data[offset : offset + wide])
        wanted = {tags[name]: value for name, value in values.items() if name in tags}
        for index in range(count):
            at = offset + wide + size * index
            (code,) = struct.unpack(f"{order}H", data[at : at + 2])
            if code in wanted:
                data = patched(data, at + 2, struct.pack(f"{order}H{form}{form}", 4, 1, wanted[code]))
        return data

    return made


def gif_head(at: int, value: bytes) -> Maker:
    """With other bytes in the first frame's descriptor: left at 1, top at 3, width at 5, height at 7."""
    return lambda data: patched(data, data.index(b"\x2c\0\0\0\0") + at, value)


def gif_with(blocks: Callable[[], bytes]) -> Maker:
    """With blocks more before its end."""
    return lambda data: data[:-1] + blocks() + b";"


EMPTY_FRAME = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
"""Of a GIF: one pixel."""


def dicom(**elements: object) -> Maker:
    """With other elements, of the data set or of the file meta group."""

    def made(data: bytes) -> bytes:
        dataset = dcmread(io.BytesIO(data))
        for keyword, value in elements.items():
            if keyword == "TransferSyntaxUID":
                dataset.file_meta.TransferSyntaxUID = value
            else:
                setattr(dataset, keyword, value)
        return written(dataset, dataset.file_meta.TransferSyntaxUID, dcmread(io.BytesIO(data)))

    return made


def written(dataset: Dataset, syntax: str, sound: Dataset) -> bytes:
    """In the encoding of the sound file, whatever transfer syntax stands in the meta group."""
    stream = io.BytesIO()
    encoding = sound.file_meta.TransferSyntaxUID
    dataset.file_meta.TransferSyntaxUID = encoding
    dataset.save_as(stream, enforce_file_format=True)
    data, old, new = stream.getvalue(), str(encoding).encode(), str(syntax).encode()
    if old == new:
        return data
    old += b"\0" * (len(old) % 2)
    new += b"\0" * (len(new) % 2)
    at = data.index(struct.pack("<HH2sH", 2, 0x10, b"UI", len(old)) + old)
    size = struct.unpack("<L", data[140:144])[0] + len(new) - len(old)
    data = data[:at] + struct.pack("<HH2sH", 2, 0x10, b"UI", len(new)) + new + data[at + 8 + len(old) :]
    return patched(data, 140, struct.pack("<L", size))


def nested(depth: int) -> Maker:
    """With sequences within sequences in an element that is read, as explicit little endian has them."""
    start = struct.pack("<HH2sHLHHL", 0x18, 0x6011, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
    end = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)

    def made(data: bytes) -> bytes:
        at = max(data.find(b"\x28\0\2\0"), 132)  # SamplesPerPixel, which comes next
        return data[:at] + start * depth + end * depth + data[at:]

    return made


def many_regions(data: bytes) -> bytes:
    region = Dataset()
    region.RegionSpatialFormat, region.PhysicalDeltaX, region.PhysicalDeltaY = 1, 0.01, 0.01
    return dicom(SequenceOfUltrasoundRegions=Sequence([region] * 5_000))(data)


LIES: Mapping[str, Mapping[str, Maker]] = {
    "png": {
        "one column more": lambda data: png_header(width=struct.unpack(">L", data[16:20])[0] + 1)(data),
        "three times as high": lambda data: png_header(height=3 * struct.unpack(">L", data[20:24])[0])(data),
        "16 bits": png_header(bits=16),
        "2 bits": png_header(bits=2),
        "colour": png_header(colour=6, bits=8),
        "interlaced": png_header(interlace=1),
        "no such filter": png_header(filter=7),
    },
    "jpeg": {
        "higher": jpeg_frame(5, b"\x01\xf4"),
        "wider": jpeg_frame(7, b"\x07\xd0"),
        "lower": jpeg_frame(5, b"\x00\x28"),
        "12 bits": jpeg_frame(4, b"\x0c"),
        "four components": jpeg_frame(9, b"\x04"),
        "lossless": jpeg_frame(1, b"\xc3"),
        "sequential, or progressive": lambda data: jpeg_frame(1, b"\xc2" if b"\xff\xc0" in data else b"\xc0")(data),
    },
    "bmp": {
        "wider": bytes_at(18, struct.pack("<l", 1000)),
        "higher": bytes_at(22, struct.pack("<l", 900)),
        "1 bit": bytes_at(28, b"\1\0"),
        "32 bits": bytes_at(28, b"\x20\0"),
        "pixels elsewhere": bytes_at(10, struct.pack("<L", 1 << 30)),
        "RLE of 4 bits": bytes_at(30, struct.pack("<L", 2)),
        "bit fields": bytes_at(30, struct.pack("<L", 3)),
    },
    "tiff": {
        "wider": tiff_tags(ImageWidth=1000),
        "higher": tiff_tags(ImageLength=900),
        "16 bits": tiff_tags(BitsPerSample=16),
        "colour": tiff_tags(SamplesPerPixel=3, PhotometricInterpretation=2),
        "LZW": tiff_tags(Compression=5),
        "PackBits": tiff_tags(Compression=32773),
        "fax": tiff_tags(Compression=4),
        "strips elsewhere": tiff_tags(StripOffsets=1 << 30, TileOffsets=1 << 30),
        "short strips": tiff_tags(StripByteCounts=9, TileByteCounts=9),
        "floating point": tiff_tags(SampleFormat=3),
    },
    "gif": {
        "a wider frame": gif_head(5, struct.pack("<H", 3000)),
        "a frame outside": gif_head(1, struct.pack("<HH", 5000, 5000)),
        "an empty frame": gif_head(5, bytes(4)),
        "a larger screen": bytes_at(6, struct.pack("<HH", 2000, 2000)),
        "interlaced": gif_head(9, b"\x40"),
        "codes of 12 bits": gif_head(10, b"\x0c"),
    },
    "dicom": {
        "one row more": lambda data: dicom(Rows=dcmread(io.BytesIO(data)).Rows + 1)(data),
        "twice as wide": lambda data: dicom(Columns=2 * dcmread(io.BytesIO(data)).Columns)(data),
        "seven frames": dicom(NumberOfFrames=7),
        "16 bits": dicom(BitsAllocated=16, BitsStored=12, HighBit=11),
        "colour": dicom(SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0),
        "JPEG baseline": dicom(TransferSyntaxUID=JPEGBaseline8Bit),
        "JPEG 2000": dicom(TransferSyntaxUID=JPEG2000Lossless),
        "RLE": dicom(TransferSyntaxUID=RLELossless),
        "a palette that is not there": dicom(PhotometricInterpretation="PALETTE COLOR"),
        "signed": dicom(PixelRepresentation=1),
    },
}
"""Family → name → maker."""

BOMBS: Mapping[str, Mapping[str, Maker]] = {
    "png": {
        "60,000 × 60,000": png_header(width=60_000, height=60_000),
        "a text of 200 MB": png_with(b"zTXt", lambda: b"a\0\0" + zeros(200 << 20)),
        "a profile of 200 MB": png_with(b"iCCP", lambda: b"a\0\0" + zeros(200 << 20)),
        "two thousand million frames": png_with(b"acTL", lambda: struct.pack(">LL", 1 << 31, 0)),
        "EXIF of 2 MB": png_with(b"eXIf", lambda: b"II*\0\x08\0\0\0\xff\xff" + bytes(2 << 20)),
        "10,000 texts": lambda data: data[:33] + chunk(b"tEXt", b"a\0b") * 10_000 + data[33:],
    },
    "jpeg": {
        "65,000 × 65,000": jpeg_frame(5, b"\xfd\xe8\xfd\xe8"),
        "100 comments": jpeg_with(lambda: segment(0xFE, bytes(65_000)) * 100),
        "a profile in 255 parts": jpeg_with(
            lambda: b"".join(
                segment(0xE2, b"ICC_PROFILE\0" + bytes((part, 255)) + bytes(60_000)) for part in range(1, 256)
            )
        ),
        "5,000 tables": jpeg_with(lambda: segment(0xC4, b"\0\1" + bytes(15) + b"\0") * 5_000),
        "EXIF in 50 parts": jpeg_with(lambda: segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(60_000)) * 50),
        "3,000 scans": last_scan(3_000),
    },
    "bmp": {
        "30,000 × 30,000": bytes_at(18, struct.pack("<ll", 30_000, 30_000)),
        "7,900 × 8,000": bytes_at(18, struct.pack("<ll", 7_900, 8_000)),
        "a long palette": bytes_at(46, struct.pack("<L", 1 << 31)),
    },
    "tiff": {
        "60,000 × 60,000": tiff_tags(ImageWidth=60_000, ImageLength=60_000),
        "a tile of 65,000 × 65,000": tiff_tags(TileWidth=65_008, TileLength=65_008),
        "strips of one row": tiff_tags(RowsPerStrip=1),
        "65,535 samples a pixel": tiff_tags(SamplesPerPixel=65_535),
        "a strip of 4 GB": tiff_tags(StripByteCounts=(1 << 32) - 1, TileByteCounts=(1 << 32) - 1),
    },
    "gif": {
        "65,535 × 65,535": bytes_at(6, b"\xff\xff\xff\xff"),
        "20,000 frames": gif_with(lambda: EMPTY_FRAME * 20_000),
        "20,000 comments": gif_with(lambda: b"\x21\xfe\x01a\0" * 20_000),
        "a comment of 5 MB": gif_with(lambda: b"\x21\xfe" + (b"\xff" + bytes(255)) * 20_000 + b"\0"),
    },
    "dicom": {
        "65,535 × 65,535": dicom(Rows=65_535, Columns=65_535),
        "two thousand million frames": dicom(NumberOfFrames=(1 << 31) - 1),
        "3,000 sequences within each other": nested(3_000),
        "5,000 regions": many_regions,
        "an offset table of 2 MB": dicom(ExtendedOffsetTable=bytes(2 << 20)),
        "a preamble, and zeros that inflate": lambda data: data[:132] + _deflated_meta() + _raw_zeros(300 << 20),
    },
}
"""Family → name → maker."""


def _deflated_meta() -> bytes:
    uid = b"1.2.840.10008.1.2.1.99"
    syntax = struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid
    return struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(syntax)) + syntax


def _raw_zeros(count: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    mebibyte = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return mebibyte * (count >> 20) + packer.flush()
