"""BUS-BRA, Gómez-Flores et al. 2024: 1,875 scans of 1,064 patients, with histology, BI-RADS and published folds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from sonoseek.core import CaseRecord, DatasetError, InvalidValueError, SplitError
from sonoseek.datasets.base import DatasetCard, Source
from sonoseek.datasets.case_files import CaseFiles, FileDataset, find_folder
from sonoseek.datasets.fields import is_empty, parse_birads
from sonoseek.datasets.tables import Row, read_table

COLUMNS = ("ID", "Case", "Histology", "Pathology", "BIRADS", "Device", "Side")
OFFICIAL = (5, 10)
_SHORTER = "its picture is shorter than the Height in bus_data.csv"


class BusbraDataset(FileDataset):
    """`BUSBRA/Images/bus_0001-l.png`, `Masks/mask_0001-l.png`, `bus_data.csv`, `5-fold-cv.csv`, `10-fold-cv.csv`.

    A patient has one lesion, in one picture or in two. `Side` names the picture (left, right, single), not the breast,
    which the archive does not say: it is the scan's `view`.

    `Width`, `Height` and `BBOX` of `bus_data.csv` are of the published size; they are not read, so that a copy at
    another size loads as well, as long as each mask has its scan's size.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="busbra",
        title="BUS-BRA, breast ultrasound for assessing CAD systems (INCA, Rio de Janeiro)",
        licence="LICENSE.txt in the archive: free use with citation of the article; Zenodo lists CC BY 4.0",
        citation="Gómez-Flores W, Gregorio-Calas MJ, Pereira WCA. BUS-BRA: A breast ultrasound dataset for assessing "
        "computer-aided diagnosis systems. Medical Physics 51:3110-3123 (2024). doi:10.1002/mp.16812",
        url="https://doi.org/10.5281/zenodo.8231412",
        classes=("benign", "malignant"),
        count=1875,
        note="Biopsy-proven; patient = Case. No normal scans. The published test folds keep patients together, their "
        "inner validation columns do not and are not used. Five scans with known defects are listed in known_defects.",
        sources=(
            Source(
                url="https://zenodo.org/api/records/8231412/files/BUSBRA.zip/content",
                file_name="BUSBRA.zip",
                checksum="md5:1f8b2be6476d58fc97bfb5e5a1ea9bab",  # as Zenodo states it
                size=133_917_740,
            ),
        ),
    )

    known_defects = MappingProxyType(
        {
            "bus_0845-s": "its mask does not match its BBOX in bus_data.csv",
            **dict.fromkeys(("bus_0856-l", "bus_0857-r", "bus_0912-l", "bus_0990-l"), _SHORTER),
        }
    )
    """Five scans of the published release; they load all the same."""

    def _find(self, root: Path) -> Path:
        return find_folder(root, dataset=self.name, holds=("bus_data.csv", "Images"))

    def _list(self) -> Iterable[CaseFiles]:
        masks = self.root / "Masks"
        drawn = {path.name for path in masks.iterdir()} if masks.is_dir() else set()
        for row in read_table(self.root / "bus_data.csv", requires=COLUMNS):
            name = f"{row['ID'].replace('bus_', 'mask_', 1)}.png"
            yield CaseFiles(
                record=self._record(row),
                scan=self.root / "Images" / f"{row['ID']}.png",
                masks=(masks / name,) if name in drawn else (),
                view=None if is_empty(row["Side"]) else row["Side"],
                origin=row.origin,
            )

    def _record(self, row: Row) -> CaseRecord:
        patient = f"busbra:{row['Case']}"
        try:
            return CaseRecord(
                case_id=row["ID"],
                dataset=self.name,
                pathology=row["Pathology"].lower(),
                patient_id=patient,
                group=patient,
                birads=parse_birads(row["BIRADS"]),
                histology=row["Histology"] or None,
                device=row["Device"].partition("@")[0].strip() or None,  # "GE Logiq 7 @10-14MHz": the probe's band
                licence=self.licence,
            )
        except InvalidValueError as error:
            raise DatasetError(f"{row.origin}: {error}") from error

    def official_test_folds(self, folds: int) -> Mapping[str, int]:
        """case_id → published test fold, 1 … `folds`; see `HasOfficialFolds`.

        Only the column `kFold` is read: the authors' inner validation columns put the two pictures of one lesion
        on different sides.

        Raises:
            SplitError: `folds` is not 5 or 10.
            DatasetError: the table is missing or does not read.
        """
        if folds not in OFFICIAL:
            raise SplitError(f"folds is {folds}; busbra publishes {OFFICIAL[0]} and {OFFICIAL[1]}. Take one of them.")
        table = read_table(self.root / f"{folds}-fold-cv.csv", requires=("ID", "kFold"))
        given: dict[str, int] = {}
        for row in table:
            if not row["kFold"].isdecimal() or not 1 <= int(row["kFold"]) <= folds:
                raise DatasetError(f"{row.origin}: kFold is {row['kFold']!r}; it must be 1 … {folds}.")
            given[row["ID"]] = int(row["kFold"])
        return given
