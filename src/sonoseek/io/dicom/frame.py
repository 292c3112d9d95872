"""One frame of pixel data → grey picture. Runs in the child.

Who decodes what: pydicom itself uncompressed and RLE; Pillow JPEG baseline and JPEG 2000; gdcm JPEG lossless, and
JPEG 2000 colour beyond 8 bits; pyjpegls JPEG-LS. The decoder is named, not tried: a second decoder that is lenient
would turn a damaged frame into a picture.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import (
    JPEG2000,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from sonoseek.core import InvalidValueError, ScanReadError
from sonoseek.io.dicom.fragments import Codestream, read_codestream
from sonoseek.io.dicom.grey import to_grey
from sonoseek.io.dicom.header import Header
from sonoseek.io.dicom.jpeg import ends_early

_DECODERS = {
    ImplicitVRLittleEndian: "",
    ExplicitVRLittleEndian: "",
    ExplicitVRBigEndian: "",
    RLELossless: "pydicom",
    JPEGBaseline8Bit: "pillow",
    JPEGExtended12Bit: "pillow",  # 8-bit ones; no permissively licensed decoder here reads 12 bits
    JPEGLossless: "gdcm",
    JPEGLosslessSV1: "gdcm",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: "pillow",
    JPEG2000: "pillow",
}


def read_frame(header: Header, index: int) -> NDArray[np.uint8]:
    """Decode frame `index` alone.

    Returns:
        uint8 (rows, columns), 0 black … 255 white, C-contiguous.

    Raises:
        InvalidValueError: no such frame.
        ScanReadError: an unsupported transfer syntax, or a damaged codestream.
    """
    if not 0 <= index < header.frames:
        raise InvalidValueError(
            f"frame is {index}; the file has {header.frames}, counted from 0. Choose 0 … {header.frames - 1}."
        )
    syntax = header.transfer_syntax
    if syntax not in _DECODERS:
        raise ScanReadError(
            f"its transfer syntax is {syntax.name!r} ({str(syntax)[:64]}); sonoseek reads uncompressed, deflated, RLE, "
            "JPEG baseline, JPEG lossless, JPEG-LS and JPEG 2000. Convert it, for example with gdcmconv or dcmdjpeg."
        )
    if not syntax.is_encapsulated:
        return _decoded(header, index, plugin="")
    plugin = _DECODERS[syntax]
    if syntax == RLELossless:
        return _decoded(header, index, plugin=plugin)
    data = _encoded(header, index)
    codestream = _checked_codestream(data, header, index=index)
    if syntax in (JPEGBaseline8Bit, JPEGExtended12Bit):
        if codestream.precision != 8:
            raise ScanReadError(
                f"frame {index} is lossy JPEG of {codestream.precision} bits; 8 are read. Convert it: gdcmconv --raw."
            )
        try:
            return _jpeg_grey(data, header, codestream=codestream)
        except OSError as error:  # Pillow's, for a truncated stream
            raise _damaged(header, index) from error
    if syntax in (JPEG2000, JPEG2000Lossless) and header.samples == 3 and header.bits_stored > 8:
        plugin = "gdcm"
    return _decoded(header, index, plugin=plugin)


def _decoded(header: Header, index: int, *, plugin: str) -> NDArray[np.uint8]:
    """Decode through pydicom, without its colour conversion: grey needs the luma alone."""
    header.stream.seek(header.pixels_at)
    options = as_pixel_options(header.dataset)
    options |= {"pixel_keyword": "PixelData", "pixel_vr": "OW" if header.bits_allocated > 8 else "OB"}
    options["number_of_frames"] = header.frames
    if not plugin:
        options["view_only"] = True  # no second copy of an uncompressed frame
    try:
        pixels, found = get_decoder(header.transfer_syntax).as_array(
            header.stream, index=index, raw=True, decoding_plugin=plugin, **options
        )
    except (RuntimeError, ValueError) as error:
        raise _damaged(header, index) from error
    return to_grey(pixels, header, photometric=str(found["photometric_interpretation"]))


def _encoded(header: Header, index: int) -> bytes:
    header.stream.seek(header.pixels_at)
    tables = header.dataset.get("ExtendedOffsetTable"), header.dataset.get("ExtendedOffsetTableLengths")
    offsets = (tables[0], tables[1]) if tables[0] and tables[1] else None
    return get_frame(header.stream, index, number_of_frames=header.frames, extended_offsets=offsets)


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
    # What follows the end marker is padding. OpenJPEG knows a cut JPEG 2000 stream by itself; gdcm and libjpeg do not.
    if header.transfer_syntax not in (JPEG2000, JPEG2000Lossless) and b"\xff\xd9" not in data[-64:]:
        raise ScanReadError(f"frame {index} has no end marker; the file is truncated. Fetch it again from its source.")
    return found


def _damaged(header: Header, index: int) -> ScanReadError:
    return ScanReadError(
        f"frame {index} does not decode as {header.transfer_syntax.name}; it is truncated or damaged. Fetch the file "
        "again from its source."
    )


def _check_end(grey: NDArray[np.uint8], data: bytes) -> None:
    if ends_early(grey, lambda: data):
        raise OSError("the stream ends before the last rows")


def _jpeg_grey(data: bytes, header: Header, *, codestream: Codestream) -> NDArray[np.uint8]:
    """JPEG baseline: the luma, straight from libjpeg.

    Not through pydicom: for streams with an Adobe marker Pillow hands it RGB, which it would convert once more. What
    the stream says of its colours goes before what the header says: Adobe marker, then JFIF (always YCbCr), then
    component names "RGB", then subsampled chroma (YCbCr, though gdcm leaves RGB in the header), then the header.
    """
    picture = JpegImageFile(io.BytesIO(data))
    if header.samples == 1:
        grey = np.asarray(picture)
        _check_end(grey, data)
        return to_grey(grey, header, photometric=header.photometric)
    named = codestream.component_ids in ((82, 71, 66), (114, 103, 98))
    if codestream.adobe_transform is not None:
        rgb = codestream.adobe_transform == 0
    elif codestream.jfif:
        rgb = False
    else:
        rgb = named or (header.photometric == "RGB" and not codestream.subsampled)
    if not rgb:
        picture.draft("L", picture.size)  # libjpeg then gives the luma alone
        grey = np.array(picture.convert("L"))
        _check_end(grey, data)
        return grey
    if codestream.adobe_transform is None and not named:
        picture.draft("YCbCr", picture.size)  # "no conversion": libjpeg takes an unmarked stream for YCbCr
    return to_grey(np.asarray(picture), header, photometric="RGB")
