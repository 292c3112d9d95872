"""DICOM header → what a frame needs, each number checked before anything is allocated by it. Runs in the child."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
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
from sonoseek.io.dicom.elements import with_known_vrs
from sonoseek.io.dicom.fragments import UNDEFINED, Part, group_frames, list_fragments
from sonoseek.io.dicom.patient import patient_text, unkeyed_pseudonym
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
    "YBR_PARTIAL_420": 3,
    "YBR_PARTIAL_422": 3,
}
"""Photometric interpretation → samples per pixel. PS3.3 C.7.6.3.1.2."""
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
    *(0x52009229, 0x52009230),  # shared and per-frame functional groups: spacing
    0x7FE00001,  # extended offset table
]


@dataclass(frozen=True, kw_only=True)
class Header:
    """A picture's header, checked against the file that carries it.

    Attributes:
        dataset: the elements of `_WANTED`.
        stream: the file, or the inflated data set.
        start: offset of the data set in `stream`.
        pixels_at: offset of the pixel data's value in `stream`.
        transfer_syntax: as stated; what the data shows where it states none, or contradicts it.
        order: "<" or ">", byte order of numbers.
        swapped: whether samples of 8 bits lie in big-endian words (OW), each pair turned round.
        parts: of encapsulated pixel data the fragments of each frame; None of native.
        planar: whether native colour is stored by plane.
        rows, columns, frames: of the picture.
        samples: per pixel, 1 or 3.
        bits_allocated: 8 or 16.
        bits_stored: 1 … bits_allocated.
        high_bit: as stated; bits_stored - 1 where nothing is.
        signed: whether samples are two's complement.
        photometric: a key of `PHOTOMETRIC`.
    """

    dataset: Dataset
    stream: BinaryIO
    start: int
    pixels_at: int
    transfer_syntax: UID
    order: str
    swapped: bool
    parts: Sequence[Sequence[Part]] | None
    planar: bool
    rows: int
    columns: int
    frames: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric: str

    @property
    def native_frame_bytes(self) -> int:
        """Of one frame that is not encapsulated."""
        pixels = self.rows * self.columns
        return pixels * (2 if self.photometric == "YBR_FULL_422" else self.samples) * self.bits_allocated // 8

    def facts(self, frame: int) -> dict[str, object]:
        """What the file says about a frame, fit to leave the child.

        spacing_mm, patient_id, laterality; patient_placeholder, a PatientID that names nobody.
        """
        patient = patient_text(self.dataset)
        placeholder = isinstance(patient, str) and is_placeholder(patient)
        side = str(self.dataset.get("ImageLaterality") or self.dataset.get("Laterality") or "").strip().upper()
        return {
            "spacing_mm": spacing_mm(self.dataset, frame),
            "patient_id": unkeyed_pseudonym(patient) if patient and not placeholder else None,
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
    stream, syntax, start = data_set(file, most=(memory_mb << 20) // 3)
    dataset = elements(stream, start, wanted=_WANTED)
    if syntax is None and ("SOPClassUID" not in dataset or "Rows" not in dataset):
        raise not_dicom()
    place = _pixel_data(stream, dataset)
    photometric = _photometric(dataset)
    allocated = _number(dataset, "BitsAllocated", among=(8, 16))
    stored = _number(dataset, "BitsStored", among=range(1, allocated + 1), default=allocated)
    header = Header(
        dataset=dataset,
        stream=stream,
        start=start,
        pixels_at=place.offset,
        transfer_syntax=place.syntax if syntax is None else syntax,
        order=place.order,
        swapped=place.order == ">" and place.vr == b"OW" and allocated == 8,
        parts=None,
        planar=_number(dataset, "PlanarConfiguration", among=range(1 << 16), default=0) == 1,
        rows=_number(dataset, "Rows", among=range(MIN_SIDE, 65536)),
        columns=_number(dataset, "Columns", among=range(MIN_SIDE, 65536)),
        frames=_number(dataset, "NumberOfFrames", among=range(1 << 31), default=1) or 1,
        samples=_number(dataset, "SamplesPerPixel", among=(PHOTOMETRIC[photometric],)),
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=_number(dataset, "HighBit", among=range(1 << 16), default=stored - 1),
        signed=bool(_number(dataset, "PixelRepresentation", among=(0, 1), default=0)),
        photometric=photometric,
    )
    if header.rows * header.columns > max_pixels:
        raise ScanTooLargeError(
            f"a frame has {header.rows} × {header.columns} pixels ({header.rows * header.columns / 1e6:.1f} megapixels)"
            f"; at most {max_pixels / 1e6:g} megapixels are read. If it is sound, raise SONOSEEK_MAX_MEGAPIXELS."
        )
    return _encapsulated(header) if place.length == UNDEFINED else _native(header, place)


def elements(stream: BinaryIO, start: int, *, wanted: Sequence[int]) -> Dataset:
    """The elements of `wanted` before the pixel data; `stream` then stands at the pixel data's tag, or at its end."""
    dataset = _parsed(stream, wanted)
    at = stream.tell()
    if stream.read(2) not in (b"\xe0\x7f", b"\x7f\xe0") and (repaired := with_known_vrs(stream, start)):
        dataset, at = _parsed(repaired, wanted), repaired.tell()
    stream.seek(at)
    return dataset


def _parsed(stream: BinaryIO, wanted: Sequence[int]) -> Dataset:
    stream.seek(0)
    try:
        return dcmread(stream, stop_before_pixels=True, force=True, specific_tags=list(wanted))
    except (InvalidDicomError, EOFError, struct.error) as error:
        raise not_dicom() from error


def not_dicom() -> ScanReadError:
    """The error of a file that is none."""
    return ScanReadError(
        "this is no DICOM file, or its header is cut off; a DICOM file has 'DICM' at byte 128, or starts with its data "
        "elements. Fetch it again from its source."
    )


def data_set(file: BinaryIO, *, most: int) -> tuple[BinaryIO, UID | None, int]:
    """The stream to parse, its transfer syntax (None where the file names none), and where its data set begins.

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
            syntax = UID(file.read(length).decode("ascii", "replace").strip("\0 ")) or None
        else:
            file.seek(length, io.SEEK_CUR)
    if syntax == DeflatedExplicitVRLittleEndian:
        return _inflated(file, most=most), ExplicitVRLittleEndian, 0
    return file, syntax, file.tell()


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
    if (inflate.unused_data + file.read(64)).strip(b"\0"):
        raise ScanReadError("its deflated data set ends before the file does; the file is damaged. Fetch it again.")
    plain.seek(0)
    return plain


@dataclass(frozen=True, kw_only=True)
class _Place:
    """The pixel data element, as it is encoded, whatever the transfer syntax says.

    Attributes:
        offset: of its value.
        length: of its value; UNDEFINED where it is encapsulated.
        vr: b"OW" where the encoding is implicit.
        order: "<" or ">".
        syntax: of native pixel data in this encoding.
    """

    offset: int
    length: int
    vr: bytes
    order: str
    syntax: UID


def _pixel_data(stream: BinaryIO, dataset: Dataset) -> _Place:
    """Read the head of the pixel data element; `stream` stands at its tag, or at the end.

    An explicit VR is recognised by its letters and two zeros: as an implicit length they would be odd, which no length
    is.
    """
    at = stream.tell()
    head = stream.read(12)
    if head[:2] not in (b"\xe0\x7f", b"\x7f\xe0") or len(head) < 12:
        if not len(dataset):
            raise not_dicom()
        kind = UID(str(dataset.get("SOPClassUID", "unknown"))).name
        raise ScanReadError(
            f"it holds no picture, or is cut off before it (SOP class: {kind}); sonoseek reads files with PixelData. "
            "Choose an ultrasound image of the study, or fetch the file again."
        )
    order = "<" if head[:2] == b"\xe0\x7f" else ">"
    (element,) = struct.unpack(f"{order}H", head[2:4])
    if element != 0x0010:
        raise ScanReadError("its pixels are floating-point numbers; ultrasound pixels are integers. Convert the file.")
    vr = head[4:6].upper()
    explicit = head[6:8] == b"\0\0" and vr in (b"OB", b"OW", b"UN", b"\0\0")
    (length,) = struct.unpack(f"{order}L", head[8:12] if explicit else head[4:8])
    native = ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian
    return _Place(
        offset=at + (12 if explicit else 8),
        length=length,
        vr=vr if explicit else b"OW",
        order=order,
        syntax=ExplicitVRBigEndian if order == ">" else native,
    )


def _photometric(dataset: Dataset) -> str:
    """PhotometricInterpretation, whatever its capitals and spaces."""
    stated = str(dataset.get("PhotometricInterpretation", ""))
    plain = {name.replace(" ", "").replace("_", ""): name for name in PHOTOMETRIC}
    found = plain.get("".join(stated.upper().split()).replace("_", ""))
    if found is None:
        raise ScanReadError(
            f"PhotometricInterpretation is {stated!r}; sonoseek reads {', '.join(PHOTOMETRIC)}. Convert the file."
        )
    return found


_REMEDY = "The file is truncated or damaged: fetch it again from its source."


def _claim(header: Header) -> str:
    return f"its header claims {header.frames} frames of {header.rows} × {header.columns}"


def _encapsulated(header: Header) -> Header:
    """With the fragments of each frame.

    Raises:
        ScanReadError: fewer fragments than frames; for RLE, where one fragment is one frame (PS3.5 A.4.2), also more.
    """
    parts = list_fragments(header.stream, header.pixels_at)
    fragments = max(0, len(parts) - 1)  # the first item is the offset table, even when it is empty
    exact = header.transfer_syntax == RLELossless
    if fragments < header.frames or (exact and fragments > header.frames):
        raise ScanReadError(f"{_claim(header)}, but its pixel data has {fragments} fragments. {_REMEDY}")
    extended = header.dataset.get("ExtendedOffsetTable")
    frames = group_frames(
        header.stream, parts, frames=header.frames, extended=extended if isinstance(extended, bytes) else None
    )
    if frames is None:
        raise ScanReadError(
            f"{_claim(header)}, but which of its {fragments} fragments make up which frame is not known: neither its "
            f"offset tables nor its codestreams say so. {_REMEDY}"
        )
    return replace(header, parts=frames)


def _native(header: Header, place: _Place) -> Header:
    """Hold the header's frame count to the pixel data that is there.

    Raises:
        ScanReadError: fewer frames than claimed, or an encapsulated transfer syntax.
    """
    end = header.stream.seek(0, io.SEEK_END)
    there = min(place.length, end - header.pixels_at)
    if header.photometric == "YBR_FULL_422":  # chroma at half the columns; some scanners write every sample
        whole = replace(header, photometric="YBR_FULL")
        header = whole if there >= whole.native_frame_bytes * header.frames else header
    full = header.native_frame_bytes * header.frames
    if header.transfer_syntax.is_encapsulated and there not in (full, full + full % 2):
        raise ScanReadError(
            f"its transfer syntax ({header.transfer_syntax.name}) and the length of its pixel data contradict each "
            "other: the file is damaged. Fetch it again from its source."
        )
    if there < full:
        raise ScanReadError(f"{_claim(header)} ({full} bytes), but its pixel data has {there} bytes. {_REMEDY}")
    return replace(header, transfer_syntax=place.syntax)


def _number(dataset: Dataset, keyword: str, *, among: range | tuple[int, ...], default: int | None = None) -> int:
    """A whole number of the header, checked against its range; of several that are equal the one."""
    value = dataset.get(keyword)
    given = list(value) if isinstance(value, Iterable) and not isinstance(value, (str, bytes)) else [value]
    numbers: set[int | None]
    try:
        numbers = {default if item is None or item == "" else int(item) for item in given} or {default}
    except (TypeError, ValueError, OverflowError):
        numbers = {None}
    if len(numbers) > 1:
        raise ScanReadError(
            f"{keyword} stands more than once, with the values {', '.join(map(str, given))[:40]}; it must be one. The "
            "file is damaged: fetch it again."
        )
    (number,) = numbers
    if number is None or number not in among:
        rule = f"{among[0]} … {among[-1]}" if isinstance(among, range) else " or ".join(map(str, among))
        raise ScanReadError(f"{keyword} is {number}; it must be {rule}. The file is damaged: fetch it again.")
    return number
