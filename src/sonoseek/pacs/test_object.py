"""A small synthetic ultrasound picture, marked TEST, for `pacs check --store`. Imports pydicom when it is used."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

STUDY_UID = "2.25.108700645308261709124690172061131849283"
SERIES_UID = "2.25.80011948792734216804525157226435738681"
OBJECT_UID = "2.25.194936419001513169040136602190739822801"
"""A fixed research study: however often a peer is checked, it gets one study, one series and one object."""
SOP_CLASS = "1.2.840.10008.5.1.4.1.1.6.1"
PATIENT_ID = "SONOSEEK-TEST"


@dataclass(frozen=True, kw_only=True)
class SyntheticObject:
    """A DICOM file in memory, and its UIDs."""

    sop_class_uid: str
    sop_instance_uid: str
    content: bytes


def make_test_object() -> SyntheticObject:
    """A phantom of 256 × 192 pixels with "TEST" across it, as Ultrasound Image Storage, native little endian.

    Patient and study say that it is a test and not a patient. The same each time, so that a peer keeps one.
    """
    import cv2
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    from sonoseek.datasets.phantom import make_phantom

    pixels = cv2.resize(make_phantom(0, pathology="benign").scans[0].pixels, (256, 192), interpolation=cv2.INTER_AREA)
    pixels = np.ascontiguousarray(pixels, np.uint8)
    cv2.putText(pixels, "TEST", (24, 124), cv2.FONT_HERSHEY_SIMPLEX, 2.6, 255, 6)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = UID(SOP_CLASS)
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(OBJECT_UID)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for name, value in _ATTRIBUTES.items():
        setattr(dataset, name, value)
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB"
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return SyntheticObject(sop_class_uid=SOP_CLASS, sop_instance_uid=OBJECT_UID, content=stream.getvalue())


_ATTRIBUTES: dict[str, object] = {
    "SpecificCharacterSet": "ISO_IR 192",
    "ImageType": ["DERIVED", "SECONDARY", "BREAST", "0001"],
    "SOPClassUID": SOP_CLASS,
    "SOPInstanceUID": OBJECT_UID,
    "StudyDate": "20000101",
    "StudyTime": "000000",
    "ContentDate": "20000101",
    "ContentTime": "000000",
    "AccessionNumber": "",
    "Modality": "US",
    "Manufacturer": "sonoseek",
    "ReferringPhysicianName": "",
    "StudyDescription": "TEST of a connection, no patient",
    "SeriesDescription": "TEST",
    "PatientName": "TEST^SONOSEEK",
    "PatientID": PATIENT_ID,
    "PatientBirthDate": "",
    "PatientSex": "O",
    "StudyInstanceUID": STUDY_UID,
    "SeriesInstanceUID": SERIES_UID,
    "StudyID": "TEST",
    "SeriesNumber": 1,
    "InstanceNumber": 1,
    "PatientOrientation": "",
    "Laterality": "L",
    "BurnedInAnnotation": "NO",
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "BitsAllocated": 8,
    "BitsStored": 8,
    "HighBit": 7,
    "PixelRepresentation": 0,
    "LossyImageCompression": "00",
}
