"""Small random pictures in the layout in which each dataset is published. No real scan is behind any of them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = (40, 56)
"""(H, W) of the scans."""


def picture(seed: int, *, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def lesion(*, top: int = 10, left: int = 12, side: int = 8, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    mask = np.zeros(size, dtype=np.uint8)
    mask[top : top + side, left : left + side] = 255
    return mask


def save(pixels: NDArray[np.uint8], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def save_dicom(path: Path, frames: Sequence[NDArray[np.uint8]], *, patient: str) -> Path:
    """An uncompressed ultrasound file of one or more frames."""
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = pydicom.Dataset()
    file.file_meta = meta
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    file.PatientID, file.Modality = patient, "US"
    file.NumberOfFrames = len(frames)
    file.Rows, file.Columns = frames[0].shape
    file.BitsAllocated = file.BitsStored = 8
    file.HighBit, file.PixelRepresentation, file.SamplesPerPixel = 7, 0, 1
    file.PhotometricInterpretation = "MONOCHROME2"
    file.PixelData = b"".join(frame.tobytes() for frame in frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path, enforce_file_format=True)
    return path


def write_csv(path: Path, rows: Iterable[Sequence[object]], *, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding=encoding) as stream:
        csv.writer(stream, delimiter=delimiter).writerows(rows)
    return path


def make_busi(root: Path) -> Path:
    """`benign (4)` has two masks, `benign (433)` and `malignant (145)` are one picture, as in the release."""
    folder = root / "Dataset_BUSI_with_GT"
    names = {"benign": (1, 2, 4, 10, 433), "malignant": (1, 2, 145), "normal": (1, 2)}
    for pathology, numbers in names.items():
        for number in numbers:
            stem = f"{pathology} ({number})"
            same = stem in ("benign (433)", "malignant (145)")
            grey = picture(999 if same else len(names) * number + list(names).index(pathology))
            save(np.repeat(grey[..., None], 3, axis=2), folder / pathology / f"{stem}.png")
            mask = np.zeros_like(lesion()) if pathology == "normal" else lesion()
            save(mask, folder / pathology / f"{stem}_mask.png")
    save(lesion(top=25, left=30), folder / "benign" / "benign (4)_mask_1.png")
    return root


BUSBRA_HEADER = ("ID", "Case", "Histology", "Pathology", "BIRADS", "Device", "Width", "Height", "Side", "BBOX")


def make_busbra(root: Path, *, patients: int = 20) -> Path:
    """Every third patient has one scan, the others two; every third is malignant."""
    folder = root / "BUSBRA"
    table: list[Sequence[object]] = [BUSBRA_HEADER]
    folds: dict[int, list[Sequence[object]]] = {5: [("ID", "Pathology", "kFold")], 10: [("ID", "Pathology", "kFold")]}
    for patient in range(1, patients + 1):
        pathology = "malignant" if patient % 3 == 0 else "benign"
        for side, letter in (("single", "s"),) if patient % 3 == 1 else (("left", "l"), ("right", "r")):
            name = f"{patient:04d}-{letter}"
            save(picture(patient * 7 + len(side)), folder / "Images" / f"bus_{name}.png")
            save(lesion(), folder / "Masks" / f"mask_{name}.png")
            device = "GE Logiq 7 @10-14MHz"
            table.append((f"bus_{name}", patient, "fibroadenoma", pathology, 4, device, 56, 40, side, "[12,10,8,8]"))
            for number, rows in folds.items():
                rows.append((f"bus_{name}", pathology, patient % number + 1))
    write_csv(folder / "bus_data.csv", table)
    for number, rows in folds.items():
        write_csv(folder / f"{number}-fold-cv.csv", rows)
    return root


BREAST_HEADER = (
    "CaseID",
    "Image_filename",
    "Mask_tumor_filename",
    "Mask_other_filename",
    "Pixel_size",
    "Age",
    "Signs",
    "BIRADS",
    "Verification",
    "Diagnosis",
    "Classification",
)


def make_breast(root: Path) -> Path:
    import openpyxl

    folder = root / "BrEaST-Lesions_USG-images_and_masks"
    rows: list[Sequence[object]] = [
        (
            1,
            "case001.png",
            "case001_tumor.png",
            "case001_other1.png",
            0.007,
            57,
            "no",
            "4a",
            "biopsy",
            "cyst",
            "benign",
        ),
        (2, "case002.png", "case002_tumor.png", None, 0.0085, "not available", "no", 5, "biopsy", "NST", "malignant"),
        (45, "case045.png", None, None, 0.007, 41.0, "no", 1, "not applicable", "not applicable", "normal"),
    ]
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "BrEaST-Lesions-USG clinical dat"
    for row in (BREAST_HEADER, *rows):
        sheet.append(row)
    book.create_sheet("data dictionary").append(("Variable", "Meaning"))
    folder.mkdir(parents=True)
    book.save(root / "BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx")
    for row in rows:
        grey = picture(int(str(row[0])))
        save(np.dstack([grey, grey, grey, np.full_like(grey, 255)]), folder / str(row[1]))
        if row[2]:
            save(lesion(), folder / str(row[2]))
    save(lesion(top=2, left=2), folder / "case001_other1.png")
    return root


def make_bus_uclm(root: Path) -> Path:
    """The patient ALWI has scans of three classes; HESN_002's mask has another size, as in the release."""
    folder = root / "BUS-UCLM Breast ultrasound lesion segmentation dataset" / "BUS-UCLM"
    cases = {
        "ALWI_000": "Benign",
        "ALWI_001": "Normal",
        "ALWI_002": "Malignant",
        "ANAT_000": "Normal",
        "HESN_002": "Benign",
    }
    rows: list[Sequence[object]] = [("Image", "Resolution", "Label", "Doppler", "Marks", "Combined")]
    for number, (name, label) in enumerate(cases.items()):
        rows.append((f"{name}.png", "56x40", label, 0, number % 2, 0))
        save(picture(number), folder / "images" / f"{name}.png")
        mask = np.zeros((*SIZE, 3), dtype=np.uint8)
        if label != "Normal":
            mask[..., 1 if label == "Benign" else 0] = lesion()
        save(mask[:-4] if name == "HESN_002" else mask, folder / "masks" / f"{name}.png")
    write_csv(folder / "INFO.csv", rows, delimiter=";", encoding="utf-8-sig")
    return root


def make_bus_uc(root: Path) -> Path:
    """PNG and JPEG, `All` beside the classes, the scans of two labels, and `0319` with its wide mask, as released."""
    folder = root / "BUS_UC"
    names = {"Benign": ("01.png", "02.jpg", "010.png", "0134.png", "0319.jpg"), "Malignant": ("001.png", "00223.png")}
    for number, (kind, scans) in enumerate(names.items()):
        for name in scans:
            stem = Path(name).stem
            grey = picture(100 * number + int(stem))
            save(np.repeat(grey[..., None], 3, axis=2), folder / kind / "images" / name)
            save(grey, folder / "All" / "images" / f"{kind}-{name}")
            mask = lesion(size=(SIZE[0], SIZE[1] + 1)) if stem == "0319" else lesion()
            save(mask, folder / kind / "masks" / f"{stem}.png")
    (folder / "Benign" / "images" / "Thumbs.db").write_bytes(b"x")
    return root


def make_folder(root: Path) -> Path:
    save(picture(1), root / "Benign" / "a.png")
    save(picture(2), root / "Benign" / "b.jpg")
    save(lesion(), root / "Benign" / "a_mask.png")
    save(picture(3), root / "MALIGNANT" / "c.tif")
    Image.fromarray(picture(4)).save(root / "MALIGNANT" / "without_suffix", format="PNG")
    (root / "MALIGNANT" / "notes").write_text("seen twice")
    (root / "MALIGNANT" / "Thumbs.db").write_bytes(b"x")
    (root / "unsorted").mkdir()
    return root


def make_manifest(root: Path) -> Path:
    save(picture(1), root / "scans" / "a.png")
    save(picture(2), root / "scans" / "b.png")
    save(picture(3), root / "scans" / "c.png")
    save(lesion(), root / "masks" / "a.png")
    save(lesion(top=25, left=30), root / "masks" / "a2.png")
    write_csv(
        root / "manifest.csv",
        [
            (
                "file",
                "pathology",
                "patient",
                "birads",
                "mask",
                "age",
                "acquired",
                "laterality",
                "view",
                "spacing_mm",
                "device",
            ),
            (
                "scans/a.png",
                "Benign",
                "p1",
                "BI-RADS 4a",
                "masks/a.png|masks/a2.png",
                "57,5",
                "31.05.2024",
                "L",
                "radial",
                "",
                "X",
            ),
            ("scans\\b.png", "benign", "p1", "", "", "", "2024-06-01", "right", "antiradial", "0,08x0,07", ""),
            ("scans/c.png", "MALIGNANT", "", "5", "", "", "", "", "", "0.07", ""),
        ],
        delimiter=";",
        encoding="utf-8-sig",
    )
    return root


MAKERS: dict[str, Callable[[Path], Path]] = {
    "busi": make_busi,
    "busbra": make_busbra,
    "breast": make_breast,
    "bus-uclm": make_bus_uclm,
    "bus-uc": make_bus_uc,
    "folder": make_folder,
    "manifest": make_manifest,
}
"""Name in the table of datasets → what writes a fake one into a folder and returns the root to open."""
