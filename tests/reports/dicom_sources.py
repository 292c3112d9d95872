"""Sources of DICOM results: one file per trait that a PACS may bring."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from dicom_files import colourful, save, speckle, us_dataset
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

STUDY = "1.2.826.0.1.3680043.8.498.17"
MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.3.1"
SHAPE = (120, 160)


def study(dataset: Dataset) -> Dataset:
    """The attributes that a scanner writes, with fixed UIDs."""
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{STUDY}.1", f"{STUDY}.1.1"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{STUDY}.1.1.1"
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20260304", "061500", "17"
    dataset.SeriesDate, dataset.SeriesTime, dataset.SeriesNumber, dataset.InstanceNumber = "20260304", "061501", 1, 1
    dataset.ContentDate, dataset.ContentTime = "20260304", "061502"
    dataset.AccessionNumber, dataset.ReferringPhysicianName = "A-17", "Roentgen^Wilhelm"
    dataset.PatientBirthDate, dataset.PatientSex = "19671107", "F"
    dataset.Manufacturer, dataset.ManufacturerModelName = "ACME", "Sonic 7"
    dataset.BodyPartExamined, dataset.ImageType, dataset.Laterality = "BREAST", ["ORIGINAL", "PRIMARY"], ""
    dataset.PatientOrientation = ""
    return dataset


def with_region(dataset: Dataset) -> Dataset:
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = SHAPE[1] - 1, SHAPE[0] - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.02
    dataset.SequenceOfUltrasoundRegions = [region]
    return dataset


def grey() -> Dataset:
    return with_region(study(us_dataset(speckle(*SHAPE).astype(np.uint8))))


def colour() -> Dataset:
    dataset = with_region(study(us_dataset(colourful(*SHAPE), photometric="RGB")))
    dataset.UltrasoundColorDataPresent = 0
    return dataset


def cine() -> Dataset:
    frames = np.stack([speckle(*SHAPE, seed=seed).astype(np.uint8) for seed in range(5)])
    dataset = with_region(study(us_dataset(frames, frames=5)))
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = MULTI_FRAME
    dataset.FrameTime = 40
    dataset.FrameIncrementPointer = 0x00181063
    return dataset


def umlauts() -> Dataset:
    dataset = grey()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName, dataset.StudyDescription = "Müller^Änne", "Mammasonographie, für Prüfung"
    return dataset


def japanese() -> Dataset:
    dataset = grey()
    dataset.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    dataset.PatientName = "Yamada^Hanako=山田^花子=やまだ^はなこ"
    return dataset


def no_spacing() -> Dataset:
    return study(us_dataset(speckle(*SHAPE).astype(np.uint8)))


def bare() -> Dataset:
    """Only what names image, series and study; the rest is missing, empty or wrong."""
    dataset = us_dataset(speckle(*SHAPE).astype(np.uint8))
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{STUDY}.2", f"{STUDY}.2.1"
    del dataset.PatientID, dataset.PatientName
    dataset.StudyDate, dataset.StudyTime = "", ""
    return dataset


def retired() -> Dataset:
    """The class of ultrasound images before 1993."""
    dataset = grey()
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.6"
    return dataset


def broken() -> Dataset:
    """Values that break their VR, as real archives hold them."""
    dataset = grey()
    for tag, vr, raw in (
        (0x00080020, "DA", b"20261399"),
        (0x00080030, "TM", b"99:99 "),
        (0x00080050, "SH", b"ACCESSION NUMBER THAT IS TOO LONG "),
        (0x00080060, "CS", b"us"),
        (0x00081030, "LO", b"\x1b[2J" + b"x" * 99),
        (0x00081032, "SQ", b""),
        (0x00100030, "DA", b"1967"),
        (0x00100040, "CS", b"X "),
        (0x00101010, "AS", b"59"),
    ):
        dataset[tag] = RawDataElement(Tag(tag), vr, len(raw), raw, 0, False, True)
    return dataset


SOURCES: dict[str, Callable[[], Dataset]] = {
    each.__name__: each for each in (grey, colour, cine, umlauts, japanese, no_spacing, bare, retired, broken)
}


def written(name: str, folder: Path) -> Path:
    with warnings.catch_warnings(action="ignore"):  # pydicom warns of what `broken` holds
        return save(SOURCES[name](), folder / f"{name}.dcm")
