"""What kind of file is it? Told from its first bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sonoseek.core import ScanReadError
from sonoseek.io.dicom.files import shown

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
