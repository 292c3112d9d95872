"""BUS-UCLM, Vallez et al. 2025: 683 scans of 38 patients, most of them normal, from one scanner."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import PATHOLOGIES, CaseRecord, DatasetError, InvalidValueError
from sonoseek.datasets.base import DatasetCard, Source
from sonoseek.datasets.case_files import CaseFiles, FileDataset, find_folder
from sonoseek.datasets.fields import parse_pathology
from sonoseek.datasets.tables import read_table

COLUMNS = ("Image", "Label")
_SIZES = "its mask has another size than its picture, and nothing says how they lie on each other: loading it fails"


class BusUclmDataset(FileDataset):
    """`images/ALWI_000.png`, `masks/` of the same names in colour, `INFO.csv` with semicolons and a BOM.

    In a mask green is benign, red malignant, black normal: the lesion is what is not black. The patient is the part of
    the file name before the underscore; a patient may have scans of all three classes.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="bus-uclm",
        title="BUS-UCLM, breast ultrasound lesion segmentation (Ciudad Real)",
        licence="CC BY 4.0 (version 3; earlier versions were CC BY-NC)",
        citation="Vallez N, Bueno G, Deniz O, Rienda MA, Pastor C. BUS-UCLM: Breast ultrasound lesion segmentation "
        "dataset. Scientific Data 12:242 (2025). doi:10.1038/s41597-025-04562-3",
        url="https://data.mendeley.com/datasets/7fvgj4jsp7",
        classes=PATHOLOGIES,
        count=683,
        note="38 patients, 419 normal, 174 benign, 90 malignant; many scans of a patient are near-identical frames, "
        "kept together by patient. Some carry Doppler colour, annotations, or two pictures side by side (INFO.csv).",
        sources=(
            Source(
                url="https://prod-dcd-datasets-cache-zipfiles.s3.eu-west-1.amazonaws.com/7fvgj4jsp7-1.zip",
                file_name="BUS-UCLM.zip",
                checksum=None,  # the publisher states none for the whole archive
            ),
        ),
    )

    known_defects = MappingProxyType(dict.fromkeys(("HESN_002", "HESN_003", "HESN_004", "HESN_005"), _SIZES))
    """Four scans of the published release."""

    def _find(self, root: Path) -> Path:
        return find_folder(root, dataset=self.name, holds=("INFO.csv", "images"))

    def _list(self) -> Iterable[CaseFiles]:
        masks = self.root / "masks"
        drawn = {path.name for path in masks.iterdir()} if masks.is_dir() else set()
        for row in read_table(self.root / "INFO.csv", requires=COLUMNS):
            name = row["Image"]
            patient = f"bus-uclm:{name.partition('_')[0]}"
            try:
                record = CaseRecord(
                    case_id=Path(name).stem,
                    dataset=self.name,
                    pathology=parse_pathology(row["Label"]),
                    patient_id=patient,
                    group=patient,
                    device="Siemens ACUSON S2000",
                    licence=self.licence,
                )
            except InvalidValueError as error:
                raise DatasetError(f"{row.origin}: {error}") from error
            yield CaseFiles(
                record=record,
                scan=self.root / "images" / name,
                masks=(masks / name,) if name in drawn else (),
                origin=row.origin,
            )

    def _read_mask(self, path: Path) -> NDArray[np.bool_]:
        from sonoseek.io import read_rgb  # pixels are read late: listing and describing stay light

        bright = read_rgb(path) > 127
        return bright[..., 0] | bright[..., 1] | bright[..., 2]
