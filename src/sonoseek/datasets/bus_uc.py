"""BUS_UC, Iqbal and Sharif 2023: 811 scans of a teaching site's cases, benign and malignant, from several scanners.

No patient ids. Neighbouring numbers are often views of one lesion, so scans are grouped by runs of numbers. The groups
ship as `bus_uc_groups.csv` (file names and group numbers only).

They were made in two steps. The numbers of one class are cut into runs of 6 to 12, each cut between the two least
similar neighbours that this length allows (correlation of the pictures at 64 × 64 pixels). Then runs are joined where a
pair of scans of one lesion is known, from a comparison of all pairs that tolerates shifts and from `sonoseek data
audit`.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import CaseRecord
from sonoseek.datasets.base import DatasetCard
from sonoseek.datasets.case_files import CaseFiles, FileDataset, find_folder
from sonoseek.datasets.file_names import is_system_file

log = logging.getLogger(__name__)
CLASSES = MappingProxyType({"Benign": "benign", "Malignant": "malignant"})
SUFFIXES = (".png", ".jpg", ".jpeg")
_TWO_LABELS = "one lesion in three views that lies under both labels; left out"
CONFLICTS = (
    *(f"benign-0{number}" for number in range(134, 137)),
    *(f"malignant-00{number}" for number in (*range(223, 226), *range(419, 422))),
)
"""Scans of one lesion under both labels: Benign 0134 … 0136 = Malignant 00223 … 00225 = Malignant 00419 … 00421."""
OTHER_SIZE = ("benign-0319", "malignant-0049")
"""Their masks have another size than their scans."""
_STRETCHED = "its mask has another size than its scan, of the same ratio; it is stretched to the scan"
_DEFECTS = MappingProxyType(
    {
        **dict.fromkeys(CONFLICTS, _TWO_LABELS),
        **dict.fromkeys(OTHER_SIZE, _STRETCHED),
        "malignant-00476": "its mask is empty; taken as not drawn",
    }
)


@cache
def known_groups() -> Mapping[str, str]:
    """case_id → group number ("G001" …), for the 802 scans of the published release that are not left out."""
    text = package_files("sonoseek.datasets").joinpath("bus_uc_groups.csv").read_text(encoding="utf-8")
    return MappingProxyType({row["case_id"]: row["group"] for row in csv.DictReader(text.splitlines())})


class BusUcDataset(FileDataset):
    """`BUS_UC/Benign/images/01.png`, `BUS_UC/Benign/masks/01.png`, …, PNG or JPEG; the folder `All` is not read.

    A case id is its class and the number as the file writes it ("benign-0134", "malignant-00223"). The nine scans of
    `CONFLICTS` are not listed.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="bus-uc",
        title="BUS_UC, breast ultrasound scans of the teaching site Ultrasound Cases",
        licence="CC BY 4.0, by a catalogue that checked the publisher's page; the source site offers its pictures free "
        "of charge for educational use. Cite both, do not redistribute",
        citation="Iqbal A, Sharif M. BUS_UC. Mendeley Data v1 (2023). doi:10.17632/3ksd7w7jkx.1; Engineering "
        "Applications of Artificial Intelligence 127:107292 (2024). doi:10.1016/j.engappai.2023.107292. Pictures: "
        "ultrasoundcases.info",
        url="https://data.mendeley.com/datasets/3ksd7w7jkx/1",
        classes=("benign", "malignant"),
        count=811,
        note="The release squeezes every scan to 256×256 pixels: the true ratio of width to height is not known, and "
        "shape and orientation of lesions cannot be trusted. No normal scans, no BI-RADS, no patient ids; several "
        "scanners, some old; 132 scans carry coloured annotations. Neighbouring numbers are often one lesion: groups "
        "are runs of numbers. Nine scans of one lesion under both labels are left out, so 802 remain (known_defects).",
    )

    known_defects = _DEFECTS
    """Nine scans that are left out, two masks of another size than their scans, and an empty one."""

    def _find(self, root: Path) -> Path:
        return find_folder(root, dataset=self.name, holds=tuple(CLASSES))

    def _list(self) -> Iterable[CaseFiles]:
        groups = known_groups()
        unknown: list[str] = []
        for folder, pathology in CLASSES.items():
            masks = {path.stem: path for path in _pictures(self.root / folder / "masks")}
            for scan in _pictures(self.root / folder / "images"):
                case_id = f"{pathology}-{scan.stem}"
                if case_id in CONFLICTS:
                    continue
                if case_id not in groups:
                    unknown.append(case_id)
                record = CaseRecord(
                    case_id=case_id,
                    dataset=self.name,
                    pathology=pathology,
                    group=f"{self.name}:{groups.get(case_id, case_id)}",
                    licence=self.licence,
                )
                mask = masks.get(scan.stem)
                yield CaseFiles(record=record, scan=scan, masks=() if mask is None else (mask,))
        if unknown:
            log.warning(
                "bus-uc: %d scans are not among the 802 of the published release (%s); each is taken as a group of its "
                "own, so views of one lesion may cross a split. Run: sonoseek data audit",
                len(unknown),
                ", ".join(unknown[:5]),
            )

    def _mask(self, item: CaseFiles, *, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        if not item.masks or item.record.case_id not in _DEFECTS:
            return super()._mask(item, shape=shape)
        mask = self._read_mask(item.masks[0])
        rows, columns = (np.arange(new) * old // new for new, old in zip(shape, mask.shape, strict=True))
        return mask[np.ix_(rows, columns)] if mask.any() else None


def _pictures(folder: Path) -> list[Path]:
    """Files of a folder that are pictures, in the order of their numbers, which carry one prefix ("0", "00")."""
    if not folder.is_dir():
        return []
    return sorted(
        (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not is_system_file(path)),
        key=lambda path: (len(path.stem), path.stem),
    )
