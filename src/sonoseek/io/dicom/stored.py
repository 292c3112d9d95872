"""One frame → its samples as they are stored, in colour and in full depth, uncompressed. Runs in the child."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import RLELossless

from sonoseek.core import ScanReadError
from sonoseek.io.dicom import frame as frames
from sonoseek.io.dicom.grey import to_grey
from sonoseek.io.dicom.header import Header
from sonoseek.io.dicom.jpeg import strict_luma
from sonoseek.io.files import no_such_frame


def stored_frame(header: Header, index: int) -> tuple[NDArray[np.generic], Header]:
    """Decode frame `index` alone, without any change of grey.

    Returns:
        Integers (rows, columns) or (rows, columns, 3), little endian, of `bits_allocated` bits; and their form, PS3.3
        C.7.6.3: the header with their photometric interpretation ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB"
        or "YBR_FULL"), samples per pixel and high bit.

    Raises:
        InvalidValueError: no such frame.
        ScanReadError: an unsupported transfer syntax or colour model, or a damaged codestream.
    """
    if not 0 <= index < header.frames:
        raise no_such_frame(index, header.frames)
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
    form = replace(header, photometric=photometric, samples=3 if samples.ndim == 3 else 1, high_bit=high_bit)
    return _stored_bits(samples, form), form


def _stored_bits(samples: NDArray[np.generic], form: Header) -> NDArray[np.generic]:
    """Nothing but the stored bits: the others may hold an overlay, such as text (retired, PS3.5 8.1.2)."""
    samples = np.ascontiguousarray(samples)
    if form.bits_stored == form.bits_allocated:
        return samples
    patterns = samples.view(np.dtype(f"<u{form.bits_allocated // 8}")).copy()
    patterns &= patterns.dtype.type(((1 << form.bits_stored) - 1) << (form.high_bit + 1 - form.bits_stored))
    if form.signed:
        above = ((1 << form.bits_allocated) - 1) & ~((1 << (form.high_bit + 1)) - 1)
        patterns[patterns & patterns.dtype.type(1 << form.high_bit) != 0] |= patterns.dtype.type(above)
    return patterns.view(samples.dtype)


def black(header: Header, form: Header) -> list[int]:
    """The sample values, as unsigned bit patterns, of a black pixel; `form` is that of `stored_frame`."""
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
        return frames.jpeg_rgb(stream, header), "RGB"
    if stream.codec == "jpeg-2000":
        return frames.jpeg_2000_samples(stream, header, index=index)
    samples = frames.decoded(header, index, stream.data, *frames.DECODERS[stream.codec], bits=stream.precision)
    return samples, header.photometric
