"""One frame of pixel data → grey picture. Runs in the child.

Who decodes what: numpy uncompressed; pydicom RLE; libjpeg-turbo (`simplejpeg`, Pillow) JPEG baseline; Pillow JPEG 2000;
gdcm JPEG lossless, and JPEG 2000 colour beyond 8 bits; pyjpegls JPEG-LS. The codestream says which of them it is, the
transfer syntax only where it is RLE. The decoder is named, not tried: a second decoder that is lenient would turn a
damaged frame into a picture.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    JPEG2000,
    UID,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from sonoseek.core import ScanReadError, ScanTooLargeError
from sonoseek.io.dicom.fragments import Codestream, Part, read_codestream
from sonoseek.io.dicom.grey import to_grey
from sonoseek.io.dicom.header import Header
from sonoseek.io.dicom.jpeg import strict_luma
from sonoseek.io.files import no_such_frame

_CODESTREAMS = frozenset(
    {
        *(JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1),
        *(JPEGLSLossless, JPEGLSNearLossless, JPEG2000Lossless, JPEG2000),
    }
)
DECODERS = {"jpeg-lossless": (JPEGLosslessSV1, "gdcm"), "jpeg-ls": (JPEGLSLossless, "pyjpegls")}
"""Codec → transfer syntax to decode it by (any of its kind), and pydicom's name of the decoder."""
_VIDEO = ("MPEG", "HEVC", "SMPTE")
_TAIL = 4
"""Bytes of entropy-coded data that no sound codestream does without."""


def read_frame(header: Header, index: int) -> NDArray[np.uint8]:
    """Decode frame `index` alone.

    Returns:
        uint8 (rows, columns), 0 black … 255 white, C-contiguous.

    Raises:
        InvalidValueError: no such frame.
        ScanReadError: an unsupported transfer syntax, or a damaged codestream.
    """
    if not 0 <= index < header.frames:
        raise no_such_frame(index, header.frames)
    if header.parts is None:
        return to_grey(native_samples(header, index), header, photometric=header.photometric)
    stream = checked_frame_stream(header, index)
    if isinstance(stream, bytes):
        pixels = decoded(header, index, stream, RLELossless, "pydicom", bits=header.bits_allocated)
        return to_grey(pixels, header, photometric=header.photometric)
    if stream.codec == "jpeg":
        return _jpeg_grey(stream, header, index=index)
    if stream.codec == "jpeg-2000":
        return _jpeg_2000_grey(stream, header, index=index)
    pixels = decoded(header, index, stream.data, *DECODERS[stream.codec], bits=stream.precision)
    if stream.codec == "jpeg-lossless":
        _check_end(pixels, stream, header, index=index)
    return to_grey(pixels, header, photometric=header.photometric, precision=stream.precision)


def checked_frame_stream(header: Header, index: int) -> Codestream | bytes:
    """The codestream of a frame, held to the header; of RLE, which has none, its bytes.

    Raises:
        ScanReadError: an unsupported transfer syntax, or a codestream that contradicts the header.
    """
    syntax = header.transfer_syntax
    if syntax.is_encapsulated and syntax != RLELossless and syntax not in _CODESTREAMS:
        raise _unsupported(syntax)
    data = _joined(header, (header.parts or ())[index])
    return data if syntax == RLELossless else _checked_codestream(data, header, index=index)


def _unsupported(syntax: UID) -> ScanReadError:
    if any(word in syntax.name for word in _VIDEO):
        return ScanReadError(
            f"its transfer syntax is {syntax.name[:64]!r}, a video; sonoseek reads still pictures and cines of still "
            "pictures. Convert it: export a frame as PNG, for example with ffmpeg, or the cine as JPEG."
        )
    return ScanReadError(
        f"its transfer syntax is {syntax.name!r} ({str(syntax)[:64]}); sonoseek reads uncompressed, deflated, RLE, "
        "JPEG baseline, JPEG lossless, JPEG-LS and JPEG 2000. Convert it, for example with gdcmconv or dcmdjpeg."
    )


def native_bytes(header: Header, index: int) -> bytes:
    """An uncompressed frame; of words of 16 bits that hold two samples of 8, the samples in their order."""
    size = header.native_frame_bytes
    start = index * size
    odd = start % 2 if header.swapped else 0
    header.stream.seek(header.pixels_at + start - odd)
    data = header.stream.read(size + (2 if header.swapped else 0))
    if header.swapped:  # PS3.5 A.3: samples of 8 bits in words of 16, high byte first
        data += b"\0" * (len(data) % 2)
        data = np.frombuffer(data, ">u2").astype("<u2").tobytes()[odd : odd + size]
    return data[:size]


def native_samples(header: Header, index: int) -> NDArray[np.generic]:
    """The samples of an uncompressed frame, as stored: (rows, columns) or (rows, columns, 3)."""
    data = native_bytes(header, index)
    kind = np.uint8 if header.bits_allocated == 8 else np.dtype(f"{header.order}u2")
    samples = np.frombuffer(data, kind)
    rows, columns = header.rows, header.columns
    if header.photometric == "YBR_FULL_422":  # Y, Y, Cb, Cr of two pixels
        luma = samples.reshape(-1, 4)[:, :2].reshape(rows, columns)
        return np.repeat(luma[..., None], 3, axis=2) if columns % 2 else luma[..., None]
    if header.samples == 1:
        return samples.reshape(rows, columns)
    if header.planar:
        return samples.reshape(3, rows, columns).transpose(1, 2, 0)
    return samples.reshape(rows, columns, 3)


def decoded(
    header: Header, index: int, data: bytes, syntax: UID, plugin: str, *, bits: int, signed: bool = False
) -> NDArray[np.generic]:
    """Decode a frame through pydicom as it lies there: no colour conversion, no sign but the codestream's own."""
    options: dict[str, Any] = {
        "rows": header.rows,
        "columns": header.columns,
        "number_of_frames": 1,
        "samples_per_pixel": header.samples,
        "photometric_interpretation": "MONOCHROME2" if header.samples == 1 else "RGB",
        "planar_configuration": 0,  # a codestream says itself how it is laid out
        "bits_allocated": 8 if bits <= 8 else 16,
        "bits_stored": bits,
        "pixel_representation": int(signed),
        "pixel_keyword": "PixelData",
        "pixel_vr": "OB",
    }
    try:
        with decoder_messages() as messages:
            decoder, data = get_decoder(syntax), encapsulate([data])
            pixels, _ = decoder.as_array(data, index=0, raw=True, decoding_plugin=plugin, **options)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise damaged(header, index) from error
    if messages:
        raise damaged(header, index)
    return pixels


@contextlib.contextmanager
def decoder_messages() -> Iterator[list[bytes]]:
    """Collects what decoders write to standard error: gdcm's warnings of damaged data reach nobody otherwise.

    For a process with one thread.
    """
    found: list[bytes] = []
    reader, writer = os.pipe()
    own = os.dup(2)
    os.set_blocking(writer, False)  # more than a pipe holds is dropped, not waited for
    os.dup2(writer, 2)
    os.close(writer)
    try:
        yield found
    finally:
        os.dup2(own, 2)  # closes the last writing end, so that reading ends
        os.close(own)
        with os.fdopen(reader, "rb") as pipe:
            found += [text] if (text := pipe.read()) else []


def _check_end(pixels: NDArray[np.generic], stream: Codestream, header: Header, *, index: int) -> None:
    """A sound stream is needed to its last byte: without its tail it decodes to another picture, or not at all."""
    shortened = stream.data[: -2 - _TAIL].rstrip(b"\xff") + b"\xff\xd9"
    try:
        again = decoded(header, index, shortened, *DECODERS[stream.codec], bits=stream.precision)
    except ScanReadError:
        return
    if np.array_equal(again, pixels):
        raise damaged(header, index)


def _joined(header: Header, parts: Sequence[Part]) -> bytes:
    pieces = []
    for offset, length in parts:
        header.stream.seek(offset)
        pieces.append(header.stream.read(length))
    return b"".join(pieces)


def _checked_codestream(data: bytes, header: Header, *, index: int) -> Codestream:
    """Hold a codestream's own size to the header's before any decoder allocates by it."""
    found = read_codestream(data)
    wanted = (header.rows, header.columns, header.samples)
    if found is None or (found.rows, found.columns, found.samples) != wanted:
        says = "is no codestream" if found is None else f"has {found.rows} × {found.columns} × {found.samples}"
        raise ScanReadError(
            f"frame {index} {says}, but the header says {wanted[0]} × {wanted[1]} × {wanted[2]} (rows, columns, "
            "samples). The file is damaged or lies: fetch it again from its source."
        )
    if not found.complete:  # OpenJPEG knows a cut JPEG 2000 stream by itself; gdcm and libjpeg do not
        raise ScanReadError(f"frame {index} has no end marker; the file is truncated. Fetch it again from its source.")
    return found


def damaged(header: Header, index: int) -> ScanReadError:
    """The error of a frame that does not decode."""
    return ScanReadError(
        f"frame {index} does not decode as {header.transfer_syntax.name}; it is truncated or damaged. Fetch the file "
        "again from its source."
    )


def _jpeg_2000_grey(stream: Codestream, header: Header, *, index: int) -> NDArray[np.uint8]:
    """Of JPEG 2000 whose samples have the header's sign."""
    if stream.signed != header.signed:
        kinds = ("unsigned", "signed")
        raise ScanReadError(
            f"frame {index} holds {kinds[stream.signed]} samples, but PixelRepresentation says {kinds[header.signed]}. "
            "Correct the header, or fetch the file again from its source."
        )
    pixels, photometric = jpeg_2000_samples(stream, header, index=index)
    return to_grey(pixels, header, photometric=photometric, precision=stream.precision)


def jpeg_2000_samples(stream: Codestream, header: Header, *, index: int) -> tuple[NDArray[np.generic], str]:
    """JPEG 2000, decoded, and the photometric interpretation of what the decoder returns."""
    plugin = "gdcm" if header.samples == 3 and stream.precision > 8 else "pillow"
    pixels = decoded(header, index, stream.data, JPEG2000, plugin, bits=stream.precision, signed=stream.signed)
    transformed = header.samples == 3 and (stream.colour_transform or stream.subsampled)
    return pixels, "RGB" if transformed else header.photometric


def _jpeg_grey(stream: Codestream, header: Header, *, index: int) -> NDArray[np.uint8]:
    """JPEG baseline and progressive: the luma, straight from libjpeg.

    Not through pydicom: for streams with an Adobe marker Pillow gives it RGB, which it would convert once more. The
    colour model of the stream has priority over that of the header. In this order: Adobe marker, JFIF (always YCbCr),
    component names "RGB", subsampled chroma (YCbCr, though gdcm leaves RGB in the header), the header.
    """
    if stream.precision != 8:
        raise ScanReadError(
            f"frame {index} is lossy JPEG of {stream.precision} bits; 8 are read. Convert it: gdcmconv --raw."
        )
    try:
        luma = strict_luma(stream.data)
    except ScanTooLargeError as error:
        raise ScanTooLargeError(f"frame {index}: {error}") from error
    except ScanReadError as error:
        raise damaged(header, index) from error
    if luma is None:  # CMYK, which no DICOM has
        raise damaged(header, index)
    if header.samples == 1:
        return to_grey(luma, header, photometric=header.photometric, precision=8)
    rgb, named = jpeg_colours(stream, header)
    if not rgb and not named:
        return luma
    return to_grey(jpeg_rgb(stream, header), header, photometric="RGB", precision=8)


def jpeg_rgb(stream: Codestream, header: Header) -> NDArray[np.uint8]:
    """A colour JPEG as RGB, (H, W, 3)."""
    rgb, named = jpeg_colours(stream, header)
    picture = JpegImageFile(io.BytesIO(stream.data))
    if rgb and stream.adobe_transform is None and not named:
        picture.draft("YCbCr", picture.size)  # "no conversion": libjpeg takes an unmarked stream for YCbCr
        return np.asarray(picture)
    return np.asarray(picture.convert("RGB"))


def jpeg_colours(stream: Codestream, header: Header) -> tuple[bool, bool]:
    """Whether a colour JPEG holds RGB; and whether it names its components so. See `_jpeg_grey` for the order."""
    named = stream.component_ids in ((82, 71, 66), (114, 103, 98))
    if stream.adobe_transform is not None:
        return stream.adobe_transform == 0, named
    if stream.jfif:
        return False, named
    return named or (header.photometric == "RGB" and not stream.subsampled), named
