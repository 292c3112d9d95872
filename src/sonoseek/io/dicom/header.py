"""DICOM header → what a frame needs, each number checked before anything is allocated by it. Runs in the child."""

from __future__ import annotations

import hashlib
import io
import math
import struct
import zlib
from dataclasses import dataclass, replace
from typing import BinaryIO

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from sonoseek.core import ScanReadError, ScanTooLargeError
from sonoseek.core.patients import is_placeholder
from sonoseek.core.scan import MIN_SIDE
from sonoseek.io.dicom.fragments import UNDEFINED, count_fragments
from sonoseek.io.dicom.spacing import spacing_mm

PHOTOMETRIC = {
    "MONOCHROME1": 1,
    "MONOCHROME2": 1,
    "PALETTE COLOR": 1,
    "RGB": 3,
    "YBR_FULL": 3,
    "YBR_FULL_422": 3,
    "YBR_ICT": 3,
    "YBR_RCT": 3,
}
"""Photometric interpretation → samples per pixel. PS3.3 C.7.6.3.1.2."""
_PIXEL_DATA = 0x7FE00010
DEFLATE_RATIO = 200
"""Pictures deflate to a half, blank ones to a fiftieth; deflate can do a thousandth, with zeros alone."""
_DEFLATE_TRUST = 32 << 20
"""Bytes that any deflated data set may inflate to, whatever its ratio."""
# Only these elements are read; all others, private ones above all, are skipped unread. The list serves speed and
# privacy: the patient's name is not even loaded.
_WANTED = [
    *(0x00080016, 0x00080060),  # SOPClassUID, Modality
    0x00100020,  # PatientID
    *(0x00186011, 0x00200060, 0x00200062),  # SequenceOfUltrasoundRegions, Laterality, ImageLaterality
    *(0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x00280010, 0x00280011, 0x00280030),  # … PixelSpacing
    *(0x00280100, 0x00280101, 0x00280102, 0x00280103),  # bits and sign
    *(0x00281050, 0x00281051, 0x00281052, 0x00281053, 0x00281056, 0x00283000, 0x00283010),  # window, rescale, LUTs
    *(0x00281101, 0x00281102, 0x00281103, 0x00281201, 0x00281202, 0x00281203),  # palette
    *(0x00281221, 0x00281222, 0x00281223),  # segmented palette
    *(0x7FE00001, 0x7FE00002),  # extended offset table
]


@dataclass(frozen=True, kw_only=True)
class Header:
    """A picture's header, checked against the file that carries it.

    Attributes:
        dataset: the elements of `_WANTED`.
        stream: the file, or the inflated data set.
        pixels_at: offset of the pixel data's value in `stream`.
        transfer_syntax: of `stream` (deflated files are inflated: explicit little endian).
        rows, columns, frames: of the picture.
        samples: per pixel, 1 or 3.
        bits_allocated: 8 or 16.
        bits_stored: 1 … bits_allocated.
        signed: whether samples are two's complement.
        photometric: a key of `PHOTOMETRIC`.
    """

    dataset: Dataset
    stream: BinaryIO
    pixels_at: int
    transfer_syntax: UID
    rows: int
    columns: int
    frames: int
    samples: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str

    def facts(self) -> dict[str, object]:
        """What the file says about the picture, fit to leave the child.

        spacing_mm, patient_id, laterality; patient_placeholder, a PatientID that names nobody.
        """
        patient = str(self.dataset.get("PatientID") or "").strip()
        placeholder = is_placeholder(patient)
        pseudonym = "p-" + hashlib.sha256(patient.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        side = str(self.dataset.get("ImageLaterality") or self.dataset.get("Laterality") or "").strip().upper()
        return {
            "spacing_mm": spacing_mm(self.dataset),
            "patient_id": pseudonym if patient and not placeholder else None,
            "patient_placeholder": patient if placeholder else None,
            "laterality": {"L": "left", "R": "right"}.get(side),  # B (both) and U (unpaired) name no side
        }


def read_header(file: BinaryIO, *, max_pixels: int, memory_mb: int) -> Header:
    """Read and check a header; no pixels are read.

    Args:
        file: at its start.
        max_pixels: of one frame.
        memory_mb: MiB for the whole reading; a deflated data set may take a third of it.

    Raises:
        ScanReadError: not DICOM, no picture in it, a number that cannot be, or fewer pixels than the header claims.
        ScanTooLargeError: a frame of more than `max_pixels`, or a data set that inflates too far.
    """
    stream, syntax = _data_set(file, most=(memory_mb << 20) // 3)
    try:
        dataset = dcmread(stream, stop_before_pixels=True, force=True, specific_tags=list(_WANTED))
    except (InvalidDicomError, EOFError, struct.error) as error:
        raise _not_dicom() from error
    if syntax is None:
        syntax = _guessed_syntax(dataset)
    pixels_at, length = _pixel_data(stream, dataset, syntax=syntax)
    photometric = str(dataset.get("PhotometricInterpretation", "")).strip()
    if photometric not in PHOTOMETRIC:
        raise ScanReadError(
            f"PhotometricInterpretation is {photometric!r}; sonoseek reads {', '.join(PHOTOMETRIC)}. Convert the file."
        )
    allocated = _number(dataset, "BitsAllocated", among=(8, 16))
    header = Header(
        dataset=dataset,
        stream=stream,
        pixels_at=pixels_at,
        transfer_syntax=syntax,
        rows=_number(dataset, "Rows", among=range(MIN_SIDE, 65536)),
        columns=_number(dataset, "Columns", among=range(MIN_SIDE, 65536)),
        frames=_number(dataset, "NumberOfFrames", among=range(1, 1 << 31), default=1),
        samples=_number(dataset, "SamplesPerPixel", among=(PHOTOMETRIC[photometric],)),
        bits_allocated=allocated,
        bits_stored=_number(dataset, "BitsStored", among=range(1, allocated + 1)),
        signed=bool(_number(dataset, "PixelRepresentation", among=(0, 1), default=0)),
        photometric=photometric,
    )
    if header.rows * header.columns > max_pixels:
        raise ScanTooLargeError(
            f"a frame has {header.rows} × {header.columns} pixels ({header.rows * header.columns / 1e6:.1f} megapixels)"
            f"; at most {max_pixels / 1e6:g} megapixels are read. If it is sound, raise SONOSEEK_MAX_MEGAPIXELS."
        )
    return _with_all_frames(header, length)


def _not_dicom() -> ScanReadError:
    return ScanReadError(
        "this is no DICOM file, or its header is cut off; a DICOM file has 'DICM' at byte 128, or starts with its data "
        "elements. Fetch it again from its source."
    )


def _data_set(file: BinaryIO, *, most: int) -> tuple[BinaryIO, UID | None]:
    """The stream to parse and its transfer syntax, None where the file has no file meta group.

    The meta group is always explicit little endian, PS3.10 7.1; it is walked here because pydicom inflates a deflated
    data set without any bound.
    """
    file.seek(0)
    start = 132 if file.read(132)[128:] == b"DICM" else 0
    file.seek(start)
    syntax: UID | None = None
    while len(head := file.read(8)) == 8:
        group, element, vr, length = struct.unpack("<HH2sH", head)
        if group != 0x0002:
            file.seek(-8, io.SEEK_CUR)
            break
        if vr in (b"OB", b"OW", b"UN", b"UT", b"SQ"):
            (length,) = struct.unpack("<L", file.read(4))
        if element == 0x0010:
            syntax = UID(file.read(length).decode("ascii", "replace").rstrip("\0 "))
        else:
            file.seek(length, io.SEEK_CUR)
    if syntax == DeflatedExplicitVRLittleEndian:
        return _inflated(file, most=most), ExplicitVRLittleEndian
    file.seek(0)
    return file, syntax


def _inflated(file: BinaryIO, *, most: int) -> BinaryIO:
    """The deflated rest of `file`, at most `most` bytes of it. PS3.5 A.5: raw deflate, no zlib header."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = io.BytesIO()
    start = file.tell()
    while not inflate.eof:
        packed = inflate.unconsumed_tail or file.read(1 << 16)
        if not packed:
            raise ScanReadError("its deflated data set is cut off; the file is truncated. Fetch it again.")
        try:
            plain.write(inflate.decompress(packed, 1 << 20))
        except zlib.error as error:
            raise ScanReadError(
                "its deflated data set does not inflate; the file is damaged. Fetch it again."
            ) from error
        ratio = plain.tell() / (file.tell() - start)
        if plain.tell() > most or (plain.tell() > _DEFLATE_TRUST and ratio > DEFLATE_RATIO):
            raise ScanTooLargeError(
                f"its deflated data set inflates to more than {plain.tell() >> 20} MiB, {ratio:.0f} times its size; at "
                f"most {most >> 20} MiB are read, and {DEFLATE_RATIO} times its size. It is probably made to harm. If "
                "it is sound, inflate it, for example with gdcmconv --raw."
            )
    plain.seek(0)
    return plain


def _guessed_syntax(dataset: Dataset) -> UID:
    """Transfer syntax of a file without file meta: pydicom has told explicit from implicit by looking."""
    if "SOPClassUID" not in dataset or "Rows" not in dataset:
        raise _not_dicom()
    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _pixel_data(stream: BinaryIO, dataset: Dataset, *, syntax: UID) -> tuple[int, int]:
    """Offset and length of the pixel data's value; `stream` stands at its tag, or at the end."""
    order = "<" if syntax.is_little_endian else ">"
    head = stream.read(8)
    if len(head) < 8:
        if not len(dataset):
            raise _not_dicom()
        kind = UID(str(dataset.get("SOPClassUID", "unknown"))).name
        raise ScanReadError(
            f"it holds no picture, or is cut off before it (SOP class: {kind}); sonoseek reads files with PixelData. "
            "Choose an ultrasound image of the study, or fetch the file again."
        )
    if syntax.is_implicit_VR:
        group, element, length = struct.unpack(f"{order}HHL", head)
    else:
        group, element = struct.unpack(f"{order}HH", head[:4])
        (length,) = struct.unpack(f"{order}L", stream.read(4))
    if BaseTag(group << 16 | element) != _PIXEL_DATA:
        raise ScanReadError("its pixels are floating-point numbers; ultrasound pixels are integers. Convert the file.")
    if syntax.is_encapsulated != (length == UNDEFINED):
        raise ScanReadError(
            f"its transfer syntax ({syntax.name}) and the length of its pixel data contradict each other: the file is "
            "damaged. Fetch it again from its source."
        )
    return stream.tell(), length


def _with_all_frames(header: Header, length: int) -> Header:
    """Hold the header's frame count to the pixel data that is there.

    Raises:
        ScanReadError: fewer frames than claimed; for RLE, where one fragment is one frame (PS3.5 A.4.2), also more.
    """
    claim = f"its header claims {header.frames} frames of {header.rows} × {header.columns}"
    remedy = "The file is truncated or damaged: fetch it again from its source."
    if header.transfer_syntax.is_encapsulated:
        fragments = count_fragments(header.stream, header.pixels_at)
        exact = header.transfer_syntax == RLELossless
        if fragments < header.frames or (exact and fragments > header.frames):
            raise ScanReadError(f"{claim}, but its pixel data has {fragments} fragments. {remedy}")
        return header
    end = header.stream.seek(0, io.SEEK_END)
    there = min(length, end - header.pixels_at)
    pixels = header.rows * header.columns * header.frames
    full = math.ceil(pixels * header.samples * header.bits_allocated / 8)
    if header.photometric == "YBR_FULL_422" and there < full:
        full = full * 2 // 3  # chroma at half the columns; some scanners claim 422 but write every sample
    elif header.photometric == "YBR_FULL_422":
        header.dataset.PhotometricInterpretation = "YBR_FULL"
        header = replace(header, photometric="YBR_FULL")
    if there < full:
        raise ScanReadError(f"{claim} ({full} bytes), but its pixel data has {there} bytes. {remedy}")
    return header


def _number(dataset: Dataset, keyword: str, *, among: range | tuple[int, ...], default: int | None = None) -> int:
    """A whole number of the header, held to what it may be."""
    try:
        value = dataset.get(keyword)
        number = default if value is None or value == "" else int(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or number not in among:
        rule = f"{among[0]} … {among[-1]}" if isinstance(among, range) else " or ".join(map(str, among))
        raise ScanReadError(f"{keyword} is {number}; it must be {rule}. The file is damaged: fetch it again.")
    return number
