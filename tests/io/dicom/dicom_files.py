"""Writes DICOM files for the tests: any transfer syntax that the installed packages can encode."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

US_IMAGE = UID("1.2.840.10008.5.1.4.1.1.6.1")


def speckle(rows: int = 96, columns: int = 128, *, seed: int = 0, maximum: int = 255) -> NDArray[np.uint16]:
    """A smooth ramp with noise, using 0 … maximum fully: nothing in it is symmetric."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 0.8, rows)[:, None] + np.linspace(0, 0.2, columns)[None, :]
    noisy = np.clip(ramp + rng.normal(0, 0.02, (rows, columns)), 0, 1)
    noisy[0, 0], noisy[-1, -1] = 0, 1
    return np.rint(noisy * maximum).astype(np.uint16)


def colourful(rows: int = 96, columns: int = 128) -> NDArray[np.uint8]:
    """RGB with smooth, unequal channels."""
    row, column = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    channels = [row, column, 0.5 + 0.5 * np.sin(4 * (row - column))]
    return np.rint(np.stack(channels, axis=-1) * 255).astype(np.uint8)


def luma(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """ITU-R BT.601, in floating point: independent of the implementation."""
    return rgb.astype(np.float64) @ np.array([0.299, 0.587, 0.114])


def to_ybr(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """YBR_FULL, PS3.3 C.7.6.3.1.2."""
    matrix = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    return np.clip(np.rint(rgb @ matrix.T + [0, 128, 128]), 0, 255).astype(np.uint8)


def us_dataset(
    pixels: NDArray[np.generic], *, photometric: str = "MONOCHROME2", bits_stored: int | None = None, frames: int = 0
) -> Dataset:
    """An ultrasound image, native explicit little endian, not yet written.

    `pixels`: (rows, columns[, 3]), or with frames > 0 (frames, rows, columns[, 3]).
    """
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = US_IMAGE
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = US_IMAGE
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.Modality = "US"
    dataset.PatientName = "Curie^Marie"
    dataset.PatientID = "MRN 0815"
    shape = pixels.shape[1:] if frames else pixels.shape
    dataset.SamplesPerPixel = 3 if len(shape) == 3 else 1
    dataset.PhotometricInterpretation = photometric
    if dataset.SamplesPerPixel == 3:
        dataset.PlanarConfiguration = 0
    if frames:
        dataset.NumberOfFrames = frames
    dataset.Rows, dataset.Columns = shape[:2]
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored = bits_stored or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    data = np.ascontiguousarray(pixels).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    return dataset


def save(dataset: Dataset, path: Path) -> Path:
    """Write with preamble, in the syntax that the file meta names."""
    dataset.save_as(path, enforce_file_format=True)
    return path


def encapsulated(dataset: Dataset, syntax: UID, frames: Sequence[bytes]) -> Dataset:
    """Replace the pixels by codestreams."""
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate(list(frames))
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return dataset


def jpeg_bytes(pixels: NDArray[np.uint8] | Image.Image, **options: object) -> bytes:
    """Baseline JPEG by Pillow: JFIF; YCbCr when in colour, unless keep_rgb=True."""
    stream = io.BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(stream, "JPEG", quality=95, **options)
    return stream.getvalue()


def without_marker(jpeg: bytes, marker: int) -> bytes:
    """Drop the first segment of a kind (0xE0 JFIF, 0xEE Adobe)."""
    start = jpeg.index(bytes((0xFF, marker)))
    return jpeg[:start] + jpeg[start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big") :]


def with_adobe(jpeg: bytes, transform: int) -> bytes:
    """Put an Adobe marker in place of the JFIF one."""
    plain = without_marker(jpeg, 0xE0)
    segment = b"Adobe" + bytes((0, 100, 0, 0, 0, 0, transform))
    return plain[:2] + b"\xff\xee" + (len(segment) + 2).to_bytes(2, "big") + segment + plain[2:]


def j2k_bytes(pixels: NDArray[np.generic], **options: object) -> bytes:
    """Lossless JPEG 2000 codestream by Pillow."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG2000", no_jp2=True, irreversible=False, **options)
    return stream.getvalue()


def transcoded(source: Path, target: Path, gdcm_syntax: str) -> Path:
    """Compress a native file with gdcm, by the name of its TransferSyntax constant."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, gdcm_syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return target
