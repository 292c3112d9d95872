"""200 synthetic studies of breast ultrasound, their results of pathology, and what an import must make of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from dicom_files import encapsulated, save, us_dataset
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID, JPEGBaseline8Bit

ROOT = "1.2.826.0.1.3680043.8.498.21"
SR = UID("1.2.840.10008.5.1.4.1.1.88.34")
START = date(2021, 3, 1)
SIDES = {"left": "L", "right": "R", "": ""}

KINDS = (
    "csv accession",
    "hl7 accession",
    "hl7 patient and date",
    "csv patient and date",
    "both sides, two results",
    "one side of two",
    "two classes",
    "both breasts, no side",
    "unmapped",
    "no result",
    "another patient",
    "too late",
    "patient and date, no side",
    "pictures without side",
    "agreeing results",
    "accession against patient",
    "corrected",
    "not final",
    "placeholder patient",
    "unit codes",
)


@dataclass
class Study:
    """One study: its pictures by side, its results, and the class or status that each side must get."""

    number: int
    kind: str
    sides: tuple[str, ...]
    patient_id: str
    accession: str
    day: date
    expected: dict[str, str]
    rows: list[dict[str, str]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    @property
    def uid(self) -> str:
        return f"{ROOT}.{self.number}"

    @property
    def picture_uids(self) -> dict[str, str]:
        """SOP Instance UID → side."""
        return {f"{self.uid}.1.{place}": side for place, side in enumerate(self.sides, start=1)}


def row(study: Study, diagnosis: str, *, side: str = "", days: int = 7, by: str = "accession") -> None:
    study.rows.append(
        {
            "Accession": study.accession if by == "accession" else "",
            "Patient_ID": study.patient_id,
            "Date": f"{study.day + timedelta(days=days):%d.%m.%Y}",
            "Diagnosis": diagnosis,
            "Histology": "",
            "Laterality": side,
        }
    )


def message(
    study: Study,
    diagnosis: str,
    *,
    side: str = "",
    days: int = 7,
    by: str = "accession",
    status: str = "F",
    order: str = "",
    at: str = "",
    patient_id: str | None = None,
    coded: bool = False,
) -> None:
    patient = study.patient_id if patient_id is None else patient_id
    day = f"{study.day + timedelta(days=days):%Y%m%d}"
    number = order or f"P{study.number}-{len(study.messages)}"
    accession = study.accession if by == "accession" else ""
    lines = [
        f"MSH|^~\\&|PATHO|KLINIK|SONOSEEK|KLINIK|{at or day + '1200'}||ORU^R01|{number}|P|2.5.1|||||DE|UNICODE UTF-8",
        f"PID|1||{patient}^^^KLINIK^MR~99-{study.number}^^^KASSE^NI||Müller\\T\\Söhne^Anna^^^^^L||19610412|F",
        f"OBR|1||{number}|22637-3^Pathology report^LN|||{day}101500|||||||||||{accession}||||{day}160000|||{status}",
        "OBX|1|FT|22634-0^Macroscopic^LN||Three cores, malignant looking\\.br\\12 mm||||||F",
        f"OBX|2|{'CWE' if coded else 'TX'}|22637-3^Final diagnosis^LN||{diagnosis}||||||{status}",
    ]
    if side:
        lines.append(f"OBX|3|CWE|20228-3^Laterality^LN||{side}||||||F")
    study.messages.append("\r".join(lines) + "\r")


def make_study(number: int) -> Study:
    kind = KINDS[number % len(KINDS)]
    study = Study(
        number=number,
        kind=kind,
        sides=("left", "left"),
        patient_id=f"{4200000 + number}",
        accession=f"ACC{number:05}",
        day=START + timedelta(days=number),
        expected={},
    )
    malignant = number % 3 == 0
    name = "malignant" if malignant else "benign"
    text = "Invasive  Carcinoma of no special type." if malignant else "Fibroadenoma"
    expected = {"left": name}
    match kind:
        case "csv accession":
            row(study, text, side="L")
        case "hl7 accession":
            message(study, text, side="L^Left^HL70000")
        case "hl7 patient and date":
            message(study, text, side="7771000^Left^SCT", by="patient", days=60)
        case "csv patient and date":
            row(study, text, side="links", by="patient", days=0)
        case "both sides, two results":
            study.sides = ("left", "right", "left")
            row(study, "malignant", side="left")
            message(study, "Fibroadenoma", side="R")
            expected = {"left": "malignant", "right": "benign"}
        case "one side of two":
            study.sides = ("left", "right")
            row(study, text, side="right")
            expected = {"left": "no result", "right": name}
        case "two classes":
            row(study, "benign", side="L")
            row(study, "DCIS", side="L")
            expected = {"left": "ambiguous"}
        case "both breasts, no side":
            study.sides = ("left", "right")
            row(study, "malignant")
            expected = {"left": "ambiguous", "right": "ambiguous"}
        case "unmapped":
            message(study, "No evidence of malignancy", side="L")
            expected = {"left": "unmapped"}
        case "no result":
            expected = {"": "no result"}
        case "another patient":
            message(study, "malignant", side="L", patient_id="7777777")
            expected = {"": "ambiguous"}
        case "too late":
            message(study, "malignant", side="L", by="patient", days=61)
            expected = {"": "no result"}
        case "patient and date, no side":
            row(study, "malignant", by="patient")
            expected = {"left": "ambiguous"}
        case "pictures without side":
            study.sides = ("", "")
            row(study, text, side="L")
            expected = {"": "ambiguous"}
        case "agreeing results":
            row(study, text, side="L")
            message(study, text, side="L")
        case "accession against patient":
            row(study, "benign", side="L")
            message(study, "malignant", side="L", by="patient", days=30)
            expected = {"left": "ambiguous"}
        case "corrected":
            day = f"{study.day + timedelta(days=9):%Y%m%d}"
            message(study, "Fibroadenoma", side="L", order=f"C{number}", at=f"{day}0800")
            message(study, "Invasive lobular carcinoma", side="L", order=f"C{number}", at=f"{day}0900", status="C")
            study.messages[1] = study.messages[1].replace("160000|||C", "170000|||C")
            expected = {"left": "malignant"}
        case "not final":
            message(study, "malignant", side="L", status="P")
            expected = {"left": "ambiguous"}
        case "placeholder patient":
            study.patient_id, study.accession = "ANONYMOUS", ""
            row(study, "malignant", side="L", by="patient")
            expected = {"": "no result"}
        case "unit codes":
            message(study, "8500/3^Infiltrating duct carcinoma^ICDO3", side="L", coded=True)
            expected = {"left": "malignant"}
    study.expected = expected
    return study


@cache
def make_studies(count: int = 200) -> tuple[Study, ...]:
    return tuple(make_study(number) for number in range(count))


@cache
def phantom_pixels(pathology: str) -> NDArray[np.uint8]:
    from sonoseek.datasets.phantom import make_phantom

    pixels = make_phantom(3, pathology=pathology).scans[0].pixels
    return cv2.resize(pixels, (128, 96), interpolation=cv2.INTER_AREA)


def picture(study: Study, uid: str, side: str, *, frames: int = 0) -> Dataset:
    """A small phantom: no two have the same pixels."""
    place = int(uid.rpartition(".")[2])
    rng = np.random.default_rng([study.number, place])
    pixels = phantom_pixels("malignant" if study.expected.get(side) == "malignant" else "benign")
    pixels = np.clip(pixels + rng.normal(0, 4, pixels.shape), 0, 255).astype(np.uint8)
    dataset = us_dataset(np.stack([pixels] * frames) if frames else pixels, frames=frames)
    if place == 2 and not frames:
        ok, data = cv2.imencode(".jpg", pixels)
        assert ok
        encapsulated(dataset, JPEGBaseline8Bit, [data.tobytes()])
    _identify(dataset, study, uid)
    dataset.SeriesInstanceUID = f"{study.uid}.1"
    dataset.ImageLaterality = SIDES[side]
    dataset.BodyPartExamined = "BREAST" if study.number % 2 else ""
    return dataset


def _identify(dataset: Dataset, study: Study, uid: str) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(uid)
    dataset.StudyInstanceUID = study.uid
    dataset.PatientID, dataset.PatientName = study.patient_id, f"Müller^Anna {study.number}"
    dataset.AccessionNumber = study.accession
    dataset.StudyDate, dataset.StudyTime = f"{study.day:%Y%m%d}", "101500"
    dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "1", 1, 1
    dataset.StudyDescription = "Sonographie Mamma bds."


def result_in_study(study: Study) -> Dataset:
    """A structured report, as lies in a study once a result is in it."""
    dataset = us_dataset(np.zeros((4, 4), np.uint8))
    for name in ("PixelData", "Rows", "Columns"):
        del dataset[name]
    _identify(dataset, study, f"{study.uid}.9.1")
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SR
    dataset.Modality, dataset.SeriesInstanceUID = "SR", f"{study.uid}.9"
    return dataset


def abdomen(study: Study) -> Dataset:
    """Ultrasound of another body part in the same study."""
    dataset = picture(study, f"{study.uid}.8.1", "")
    dataset.SeriesInstanceUID, dataset.BodyPartExamined = f"{study.uid}.8", "ABDOMEN"
    return dataset


def datasets(studies: tuple[Study, ...]) -> Iterator[Dataset]:
    """Every object of the studies: their pictures; results and another body part in some."""
    for study in studies:
        for uid, side in study.picture_uids.items():
            yield picture(study, uid, side)
        if study.number % 5 == 0:
            yield result_in_study(study)
        if study.number % 7 == 0:
            yield abdomen(study)


def write_studies(studies: tuple[Study, ...], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    return [save(dataset, folder / f"{dataset.SOPInstanceUID}.dcm") for dataset in datasets(studies)]


def write_results(studies: tuple[Study, ...], folder: Path) -> tuple[Path, Path]:
    """results.csv as Excel writes it (UTF-16, sep=;) and oru.hl7 with MLLP's framing bytes around each message."""
    rows = [each for study in studies for each in study.rows]
    stream = io.StringIO(newline="")
    stream.write("sep=;\r\n")
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=";")
    writer.writeheader()
    writer.writerows(rows)
    table, messages = folder / "results.csv", folder / "oru.hl7"
    table.write_bytes(stream.getvalue().encode("utf-16"))
    framed = [f"\x0b{text}\x1c\r" for study in studies for text in study.messages]
    messages.write_bytes("".join(framed).encode())
    return table, messages
