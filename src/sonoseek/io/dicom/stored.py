"""One frame → its samples as they are stored, in colour and in full depth, uncompressed. Runs in the child."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile
from pydicom.uid import JPEG2000, RLELossless

from sonoseek.core import InvalidValueError, ScanReadError
from sonoseek.io.dicom import frame as frames
from sonoseek.io.dicom.grey import to_grey
from sonoseek.io.dicom.header import Header
from sonoseek.io.dicom.jpeg import strict_luma


@dataclass(frozen=True, kw_only=True)
class StoredForm:
    """How the samples of a frame are to be read, PS3.3 C.7.6.3.

    Attributes:
        photometric: "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB" or "YBR_FULL".
        samples: per pixel, 1 or 3, pixel by pixel.
        bits_allocated, bits_stored, high_bit, signed: as in `Header`.
    """

    photometric: str
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool


def stored_frame(header: Header, index: int) -> tuple[NDArray[np.generic], StoredForm]:
    """Decode frame `index` alone, without any change of grey.

    Returns:
        Integers (rows, columns) or (rows, columns, 3), little endian, of `bits_allocated` bits; and their form.

    Raises:
        InvalidValueError: no such frame.
        ScanReadError: an unsupported transfer syntax or colour model, or a damaged codestream.
    """
    if not 0 <= index < header.frames:
        raise InvalidValueError(
            f"frame is {index}; the file has {header.frames}, counted from 0. Choose 0 … {header.frames - 1}."
        )
    samples, photometric = _native(header, index) if header.parts is None else _decoded(header, index)
    if photometric in ("YBR_ICT", "YBR_RCT"):
        photometric = "RGB"
    if photometric not in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL"):
        raise ScanReadError(
            f"PhotometricInterpretation is {photometric!r}; pixels are kept as MONOCHROME1, MONOCHROME2, PALETTE "
            "COLOR, RGB or YBR_FULL. Convert the file, for example with dcmconv or gdcmconv --raw."
        )
    if samples.ndim == 3 and samples.shape[2] == 1:
        samples = samples[..., 0]
    if samples.dtype.itemsize * 8 > header.bits_allocated:
        raise ScanReadError(
            f"frame {index} has {samples.dtype.itemsize * 8} bits a sample, its header {header.bits_allocated}; they "
            "must agree. The file is damaged: fetch it again."
        )
    kind = np.dtype(f"<{'i' if header.signed else 'u'}{header.bits_allocated // 8}")
    if samples.dtype.itemsize == kind.itemsize:
        samples = samples.astype(samples.dtype.newbyteorder("<"))
    else:
        samples = samples.astype(kind)
    high_bit = header.high_bit
    if not header.bits_stored - 1 <= high_bit < header.bits_allocated:
        high_bit = header.bits_stored - 1
    return _stored_bits(samples, header, high_bit=high_bit), StoredForm(
        photometric=photometric,
        samples=3 if samples.ndim == 3 else 1,
        bits_allocated=header.bits_allocated,
        bits_stored=header.bits_stored,
        high_bit=high_bit,
        signed=header.signed,
    )


def _stored_bits(samples: NDArray[np.generic], header: Header, *, high_bit: int) -> NDArray[np.generic]:
    """Nothing but the stored bits: the others may hold an overlay, such as text (retired, PS3.5 8.1.2)."""
    samples = np.ascontiguousarray(samples)
    if header.bits_stored == header.bits_allocated:
        return samples
    patterns = samples.view(np.dtype(f"<u{header.bits_allocated // 8}")).copy()
    patterns &= patterns.dtype.type(((1 << header.bits_stored) - 1) << (high_bit + 1 - header.bits_stored))
    if header.signed:
        above = ((1 << header.bits_allocated) - 1) & ~((1 << (high_bit + 1)) - 1)
        patterns[patterns & patterns.dtype.type(1 << high_bit) != 0] |= patterns.dtype.type(above)
    return patterns.view(samples.dtype)


def black(header: Header, form: StoredForm) -> list[int]:
    """The sample values, as unsigned bit patterns, of a black pixel."""
    if form.samples == 3:
        half = 1 << (form.bits_stored - 1)
        return [0, half, half] if form.photometric == "YBR_FULL" else [0, 0, 0]
    most = (1 << form.bits_stored) - 1
    if form.photometric == "PALETTE COLOR":
        values = np.arange(most + 1)
    else:
        values = np.array([-(most + 1) // 2, most // 2] if form.signed else [0, most])
    kind = np.dtype(f"<{'i' if form.signed else 'u'}{form.bits_allocated // 8}")
    grey = to_grey(values.astype(kind)[None, :], header, photometric=form.photometric)[0]
    darkest = values[int(np.argmin(grey))]
    return [int(darkest) & ((1 << form.bits_allocated) - 1)]


def _native(header: Header, index: int) -> tuple[NDArray[np.generic], str]:
    if header.photometric != "YBR_FULL_422":
        return frames.native_samples(header, index), header.photometric
    samples = np.frombuffer(frames.native_bytes(header, index), np.uint8).reshape(-1, 4)
    out = np.empty((len(samples), 2, 3), np.uint8)  # Y, Y, Cb, Cr of two pixels, PS3.3 C.7.6.3.1.2
    out[:, :, 0], out[:, :, 1], out[:, :, 2] = samples[:, :2], samples[:, 2, None], samples[:, 3, None]
    return out.reshape(header.rows, header.columns, 3), "YBR_FULL"


def _decoded(header: Header, index: int) -> tuple[NDArray[np.generic], str]:
    """Of compressed pixel data; the photometric interpretation is that of what the decoder returns."""
    stream = frames.checked_frame_stream(header, index)
    if isinstance(stream, bytes):
        samples = frames.decoded(header, index, stream, RLELossless, "pydicom", bits=header.bits_allocated)
        return samples, header.photometric
    if stream.codec == "jpeg":
        if header.samples == 1:
            luma = strict_luma(stream.data)
            if luma is None:
                raise frames.damaged(header, index)
            return luma, header.photometric
        rgb, named = frames.jpeg_colours(stream, header)
        picture = JpegImageFile(io.BytesIO(stream.data))
        if rgb and stream.adobe_transform is None and not named:
            picture.draft("YCbCr", picture.size)  # "no conversion": libjpeg takes an unmarked stream for YCbCr
            return np.asarray(picture), "RGB"
        return np.asarray(picture.convert("RGB")), "RGB"
    if stream.codec == "jpeg-2000":
        plugin = "gdcm" if header.samples == 3 and stream.precision > 8 else "pillow"
        samples = frames.decoded(
            header, index, stream.data, JPEG2000, plugin, bits=stream.precision, signed=stream.signed
        )
        transformed = header.samples == 3 and (stream.colour_transform or stream.subsampled)
        return samples, "RGB" if transformed else header.photometric
    samples = frames.decoded(header, index, stream.data, *frames.DECODERS[stream.codec], bits=stream.precision)
    return samples, header.photometric
