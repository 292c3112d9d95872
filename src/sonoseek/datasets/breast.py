"""BrEaST (BrEaST-Lesions-USG), Pawłowska et al. 2024: 256 scans of 256 patients, with a clinical table in .xlsx."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from sonoseek.core import PATHOLOGIES, CaseRecord, DatasetError, InvalidValueError
from sonoseek.datasets.base import DatasetCard, Source
from sonoseek.datasets.case_files import CaseFiles, FileDataset, find_folder
from sonoseek.datasets.descriptors import parse_descriptors
from sonoseek.datasets.fields import is_empty, parse_age, parse_birads, parse_number, parse_pathology
from sonoseek.datasets.tables import Row, read_xlsx

log = logging.getLogger(__name__)
COLUMNS = ("CaseID", "Image_filename", "Mask_tumor_filename", "Classification")
DESCRIBED = {
    "shape": "Shape",
    "margin": "Margin",
    "echogenicity": "Echogenicity",
    "posterior": "Posterior_features",
    "halo": "Halo",
    "calcifications": "Calcifications",
}
"""Feature → column of the clinical table; the names are the paper's (its table 2). None of them is required."""
MM_PER_CM = 10.0
PLAUSIBLE_MM = (0.01, 1.0)
"""Millimetres per pixel of a breast scan: outside, the table must have meant another unit."""


class BreastDataset(FileDataset):
    """`BrEaST-Lesions_USG-images_and_masks/case001.png, case001_tumor.png, case001_other1.png` and the clinical .xlsx.

    The table lies beside the pictures' folder or in it. The lesion mask is the tumour, which `Classification`
    describes; `_other` masks show other findings and are not read.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="breast",
        title="BrEaST-Lesions-USG, curated breast ultrasound from Poland (TCIA)",
        licence="CC BY 4.0",
        citation="Pawłowska A, Ćwierz-Pieńkowska A, Domalik A, et al. Curated benchmark dataset for ultrasound based "
        "breast lesion analysis. Scientific Data 11:148 (2024). doi:10.1038/s41597-024-02984-z; "
        "data: The Cancer Imaging Archive, doi:10.7937/9WKK-Q141",
        url="https://www.cancerimagingarchive.net/collection/breast-lesions-usg/",
        classes=PATHOLOGIES,
        count=256,
        note="One scan per patient; 154 benign, 98 malignant, 4 normal. Confirmed by biopsy or follow-up.",
        sources=(
            # The publisher states no checksums; these are what others have measured on the same files.
            Source(
                url="https://www.cancerimagingarchive.net/wp-content/uploads/"
                "BrEaST-Lesions_USG-images_and_masks-Dec-15-2023.zip",
                file_name="BrEaST-Lesions_USG-images_and_masks.zip",
                checksum="sha256:c32e49cdfa54042e065582d0cb35978b5fc5e5b5e461b33bf773fb50cfdad355",
            ),
            Source(
                url="https://www.cancerimagingarchive.net/wp-content/uploads/"
                "BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx",
                file_name="BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx",
                checksum="sha256:89a8874496a6f1f93960390b963f7369b90f7e72ee08a738f2d17e37f5eff8bf",
                unpack=False,
            ),
        ),
    )

    def _find(self, root: Path) -> Path:
        pictures = find_folder(root, dataset=self.name, holds=("case*.png",))
        _clinical_table(pictures)
        return pictures

    def _list(self) -> Iterable[CaseFiles]:
        for row in read_xlsx(_clinical_table(self.root), requires=COLUMNS):
            try:
                record = self._record(row)
                spacing = _spacing(row)
            except InvalidValueError as error:
                raise DatasetError(f"{row.origin}: {error}") from error
            tumour = row["Mask_tumor_filename"]
            yield CaseFiles(
                record=record,
                scan=self.root / row["Image_filename"],
                masks=() if is_empty(tumour) else tuple(self.root / name.strip() for name in tumour.split("&")),
                spacing_mm=spacing,
                origin=row.origin,
            )

    def _record(self, row: Row) -> CaseRecord:
        patient = f"breast:{row['CaseID']}"
        diagnosis = row.get("Diagnosis", "")
        return CaseRecord(
            case_id=Path(row["Image_filename"]).stem,
            dataset=self.name,
            pathology=parse_pathology(row["Classification"]),
            patient_id=patient,
            group=patient,
            birads=parse_birads(row.get("BIRADS", "")),
            histology=None if is_empty(diagnosis) else diagnosis,
            age_years=parse_age(row.get("Age", "")),
            licence=self.licence,
            descriptors=parse_descriptors({feature: row.get(column, "") for feature, column in DESCRIBED.items()}),
        )


def _spacing(row: Row) -> tuple[float, float] | None:
    """`Pixel_size` is in centimetres; None where empty or where that cannot be."""
    size = parse_number(row.get("Pixel_size", ""), name="Pixel_size")
    if size is None:
        return None
    size *= MM_PER_CM
    if not PLAUSIBLE_MM[0] <= size <= PLAUSIBLE_MM[1]:
        log.warning("%s: %g mm per pixel cannot be; the spacing is taken as unknown", row.origin, size)
        return None
    return size, size


def _clinical_table(pictures: Path) -> Path:
    """The .xlsx in the pictures' folder or beside it; the one called clinical where there are several."""
    for folder in (pictures, pictures.parent):
        tables = sorted(p for p in folder.glob("*.xlsx") if not p.name.startswith("~$"))  # ~$: open in a spreadsheet
        if tables:
            return next((p for p in tables if "clinical" in p.name.lower()), tables[0])
    raise DatasetError(
        f"no clinical table of breast: looked for BrEaST-Lesions-USG-clinical-data*.xlsx in {pictures} and in "
        f"{pictures.parent}. Get it beside the pictures from its source, or with: sonoseek data get breast"
    )
