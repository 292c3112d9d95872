"""What kind of file is it? Recognised by its first bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sonoseek.core import ScanReadError
from sonoseek.io.files import shown

Kind = Literal["png", "jpeg", "bmp", "tiff", "gif", "dicom"]
HEAD_BYTES = 132
"""A DICOM file has 128 bytes of preamble, then "DICM". PS3.10 7.1."""
_MAGIC: tuple[tuple[bytes, Kind], ...] = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),  # BigTIFF
    (b"MM\0+", "tiff"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
)
# A data set without preamble starts with a low element of group 0002 or 0008; big endian only of the latter.
_BARE_DICOM = (
    *(bytes((2, 0, low, 0)) for low in (0x00, 0x01, 0x02, 0x10)),
    *(bytes((8, 0, low, 0)) for low in (0x00, 0x01, 0x05, 0x08, 0x12, 0x14, 0x16, 0x18)),
    *(bytes((0, 8, 0, low)) for low in (0x00, 0x01, 0x05, 0x08, 0x12, 0x14, 0x16, 0x18)),
)


def sniff(path: Path) -> Kind | None:
    """Kind of `path` by its first bytes, or None when it is none that sonoseek reads.

    DICOM goes first: its preamble may be the header of another format (dual-personality TIFF, PS3.10 7.1).

    Raises:
        ScanReadError: the file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise ScanReadError(
            f"{shown(path)}: the file cannot be opened ({error.strerror or error}); it must be "
            "readable. Check its permissions."
        ) from error
    if head[128:] == b"DICM":
        return "dicom"
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    return "dicom" if head.startswith(_BARE_DICOM) else None


_CONTAINERS: tuple[tuple[bytes, str, str], ...] = (
    (b"\xff\x4f\xff\x51", "a JPEG 2000 codestream", "Save it as PNG."),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 file", "Save it as PNG."),
    (b"\xff\x0a", "a JPEG XL file", "Save it as PNG."),
    (b"\0\0\0\x0cJXL ", "a JPEG XL file", "Save it as PNG."),
    (b"%PDF", "a PDF document", "Export the page's picture as PNG, or take DICOM from the scanner."),
    (b"%!PS", "a PostScript document", "Export the picture as PNG."),
    (b"PK\3\4", "a ZIP archive", "Unpack it and give the files inside."),
    (b"\x1f\x8b", "a gzip file", "Unpack it and give the file inside."),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "Unpack it and give the files inside."),
    (b"Rar!", "a RAR archive", "Unpack it and give the files inside."),
    (b"\x1a\x45\xdf\xa3", "a video (Matroska or WebM)", "Export a frame as PNG."),
    (b"\0\0\1\xba", "a video (MPEG)", "Export a frame as PNG."),
    (b"8BPS", "a Photoshop file", "Export it as PNG."),
    (b"<svg", "an SVG drawing", "Export it as PNG."),
    (b"NRRD", "an NRRD volume", "Export a slice as PNG."),
    (b"\x89HDF", "an HDF5 file", "Export a slice as PNG."),
)
"""First bytes, what that is, what to do."""
_RIFF = {b"WEBP": ("a WebP picture", "Save it as PNG."), b"AVI ": ("a video (AVI)", "Export a frame as PNG.")}
_BRANDS = (
    ((b"avif", b"avis"), ("an AVIF picture", "Save it as PNG.")),
    ((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), ("an HEIC picture", "Save it as PNG.")),
)


def unread_kind(path: Path) -> tuple[str, str] | None:
    """(what a file is that sonoseek does not read, what to do); None where that is not known either."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    if head[4:8] == b"ftyp":  # ISO 14496-12: the brand, its version, then those it is compatible with
        brands = {head[8:12], *(head[at : at + 4] for at in range(16, min(len(head), head[3]), 4))}
        for names, found in _BRANDS:
            if brands.intersection(names):
                return found
        return "a video (MP4 or QuickTime)", "Export a frame as PNG."
    return next(((what, remedy) for start, what, remedy in _CONTAINERS if head.startswith(start)), None)
