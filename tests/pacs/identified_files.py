"""DICOM ultrasound files that name a made-up patient wherever a file can, and pictures with that name drawn in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

US_IMAGE = UID("1.2.840.10008.5.1.4.1.1.6.1")
US_MULTIFRAME = UID("1.2.840.10008.5.1.4.1.1.3.1")
ROWS, COLUMNS = 300, 400
REGION = (40, 60, 360, 280)
"""Left, top, right, bottom, half-open."""
NAMES = ("Müller", "Annegret", "MUELLER", "Zwingli", "Hofstetter")
NUMBERS = ("PX4711-0815", "ACC998877", "SN55443322", "INS-77-66", "19610412", "20230517", "1.2.826.0.1.3680043.77")
SENTENCES = ("Tastbefund bei", "Lummerland", "Quellenhof")
IDENTIFIERS = (*NAMES, *NUMBERS, *SENTENCES)


def speckle(seed: int = 0, *, shape: tuple[int, int] = (ROWS, COLUMNS)) -> NDArray[np.uint8]:
    """Speckle as wide as a beam, with a dark lesion."""
    rng = np.random.default_rng(seed)
    field = cv2.GaussianBlur(rng.normal(size=shape), (0, 0), sigmaX=3.0, sigmaY=1.4)
    row, column = np.mgrid[0 : shape[0], 0 : shape[1]]
    dark = ((row - shape[0] / 2) / 40) ** 2 + ((column - shape[1] / 2) / 60) ** 2 < 1
    grey = 110 + 40 * field / field.std() - 70 * dark
    return np.clip(grey, 4, 220).astype(np.uint8)


def screen(seed: int = 0, *, name_outside: bool = True, name_inside: bool = False) -> NDArray[np.uint8]:
    """A black screen with a scan in `REGION`."""
    pixels = np.zeros((ROWS, COLUMNS), np.uint8)
    left, top, right, bottom = REGION
    pixels[top:bottom, left:right] = speckle(seed, shape=(bottom - top, right - left))
    if name_outside:
        cv2.putText(pixels, "MUELLER ANNEGRET 12.04.1961", (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 230, 1)
        cv2.putText(pixels, "PX4711-0815", (250, 295), cv2.FONT_HERSHEY_PLAIN, 1.0, 210, 1)
    if name_inside:
        cv2.putText(pixels, "MUELLER", (130, 110), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 250, 1, cv2.LINE_AA)
    return pixels


def identified(pixels: NDArray[Any], *, frames: int = 0, regions: bool = True, uid: str = "5") -> Dataset:
    """A dataset whose every kind of attribute names the patient; `pixels` (…, H, W[, 3])."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = US_MULTIFRAME if frames else US_IMAGE
    root = "1.2.826.0.1.3680043.77"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"{root}.{uid}")
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = UID(f"{root}.1"), UID(f"{root}.2")
    dataset.FrameOfReferenceUID = UID(f"{root}.3")
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName, dataset.PatientID = "Müller^Annegret^^Dr.", "PX4711-0815"
    dataset.PatientBirthDate, dataset.PatientSex, dataset.PatientAge = "19610412", "F", "062Y"
    dataset.OtherPatientIDs, dataset.PatientAddress = "INS-77-66", "Quellenhof 3, Lummerland"
    dataset.AccessionNumber, dataset.StudyID = "ACC998877", "ACC998877"
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = "20230517"
    dataset.StudyTime, dataset.AcquisitionDateTime = "101112", "20230517101113.5"
    dataset.ReferringPhysicianName = dataset.OperatorsName = "Zwingli^Huldrych"
    dataset.InstitutionName, dataset.StationName = "Klinik Hofstetter", "HOFSTETTER-US3"
    dataset.StudyDescription = dataset.SeriesDescription = "Tastbefund bei Müller, Annegret"
    dataset.ImageComments = dataset.PatientComments = "Tastbefund bei Zwingli"
    dataset.DeviceSerialNumber, dataset.ProtocolName = "SN55443322", "Mamma Hofstetter"
    dataset.Manufacturer, dataset.ManufacturerModelName = "Acuson", "Model MUELLER 7"  # a model called as the patient
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "ANNEGRET"]
    dataset.Modality, dataset.InstanceNumber, dataset.SeriesNumber = "US", 4, 2
    dataset.ImageLaterality = "L"
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "76752008", "SCT", "Breast"
    dataset.AnatomicRegionSequence = Sequence([code])
    request = Dataset()
    request.AccessionNumber, request.RequestedProcedureDescription = "ACC998877", "Tastbefund bei Müller"
    dataset.RequestAttributesSequence = Sequence([request])
    block = dataset.private_block(0x0019, "HOFSTETTER", create=True)
    block.add_new(0x01, "LO", "Müller Annegret")
    block.add_new(0x02, "OB", "Müller".encode("utf-16-le"))
    dataset.add_new(0x60000010, "US", 8)
    dataset.add_new(0x60000011, "US", 8)
    dataset.add_new(0x60000022, "LO", "Annegret")
    dataset.add_new(0x60003000, "OW", b"Zwingli!")
    if regions:
        item = Dataset()
        item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = 1, 1, 0
        item.RegionLocationMinX0, item.RegionLocationMinY0 = REGION[0], REGION[1]
        item.RegionLocationMaxX1, item.RegionLocationMaxY1 = REGION[2] - 1, REGION[3] - 1
        item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
        item.PhysicalDeltaX, item.PhysicalDeltaY = 0.008, 0.008
        inner = item.private_block(0x0019, "HOFSTETTER", create=True)
        inner.add_new(0x01, "LO", "Annegret")
        dataset.SequenceOfUltrasoundRegions = Sequence([item])
    shape = pixels.shape[1:] if frames else pixels.shape
    dataset.SamplesPerPixel = 3 if len(shape) == 3 else 1
    dataset.PhotometricInterpretation = "RGB" if len(shape) == 3 else "MONOCHROME2"
    if len(shape) == 3:
        dataset.PlanarConfiguration = 0
    if frames:
        dataset.NumberOfFrames, dataset.FrameTime = frames, 40.0
        dataset.FrameIncrementPointer = 0x00181063
    dataset.Rows, dataset.Columns = shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    data = np.ascontiguousarray(pixels).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    return dataset


def save(dataset: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def in_all_encodings(text: str) -> set[bytes]:
    """As bytes, in whatever way a file may hold it."""
    spelt = {text, text.upper(), text.lower()}
    kinds = ("utf-8", "latin-1", "utf-16-le", "utf-16-be", "iso2022_jp", "cp1252")
    found: set[bytes] = set()
    for each in spelt:
        for kind in kinds:
            try:
                found.add(each.encode(kind))
            except UnicodeEncodeError:
                continue
    return found
