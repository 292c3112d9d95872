"""BUSI, Al-Dhabyani et al. 2020: 780 scans, three classes, no patient ids, many scans more than once.

Which scans may never part is known from others' and our own comparison of all pairs (near-identical scans, Pawlowska
et al. 2023, doi:10.1016/j.dib.2023.109247) and ships as `busi_groups.csv`: file names and group numbers only. The
groups are complete for near-identical scans, not for patients.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import ClassVar

from sonoseek.core import PATHOLOGIES, CaseRecord
from sonoseek.datasets.base import DatasetCard, Source
from sonoseek.datasets.case_files import CaseFiles, FileDataset, find_folder, with_masks
from sonoseek.datasets.file_names import is_system_file

log = logging.getLogger(__name__)
_OTHER_PICTURES = (".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif")


@dataclass(frozen=True, kw_only=True)
class KnownGroup:
    """What is known about one file of BUSI.

    Attributes:
        group: "G001" …; files that share it must never part.
        cross_class: its group has more than one label.
        objection: "axilla", "needle", "multiclass" (Pawlowska et al. 2023), or empty.
        annotation: what is burned in: "text", "measurement", … joined by "&", or empty.
    """

    group: str
    cross_class: bool
    objection: str
    annotation: str


def known_groups() -> dict[str, KnownGroup]:
    """File name ("benign (1).png") → what is known about it, for the 780 files of the published release."""
    text = package_files("sonoseek.datasets").joinpath("busi_groups.csv").read_text(encoding="utf-8")
    return {
        row["file"]: KnownGroup(
            group=row["group"],
            cross_class=row["cross_class"] == "1",
            objection=row["pawlowska_objection"],
            annotation=row["pawlowska_annotation"],
        )
        for row in csv.DictReader(text.splitlines())
    }


class BusiDataset(FileDataset):
    """`Dataset_BUSI_with_GT/<class>/<class> (n).png` with `_mask.png`, `_mask_1.png`, …; the lesion is their union."""

    card: ClassVar[DatasetCard] = DatasetCard(
        name="busi",
        title="BUSI, breast ultrasound images (Baheya Hospital, Cairo)",
        licence="no formal licence is stated by its host; research use with citation, do not redistribute",
        citation="Al-Dhabyani W, Gomaa M, Khaled H, Fahmy A. Dataset of breast ultrasound images. "
        "Data in Brief 28:104863 (2020). doi:10.1016/j.dib.2019.104863",
        url="https://scholar.cu.edu.eg/?q=afahmy/pages/dataset",
        classes=PATHOLOGIES,
        count=780,
        note="No patient ids. 222 pairs are the same scan again and 8 groups carry two labels; splits follow the known "
        "groups, which are complete for near-identical scans, not for patients. About 70 scans show the axilla, 7 a "
        "needle, 235 have text or calipers burned in, calipers on lesions only. Masks are empty exactly for normal.",
        sources=(
            Source(
                url="https://scholar.cu.edu.eg/Dataset_BUSI.zip",
                file_name="Dataset_BUSI.zip",
                # the authors' page states none; this is the one that the library torch_em records for the same address
                checksum="sha256:b2ce09f6063a31a73f628b6a6ee1245187cbaec225e93e563735691d68654de7",
            ),
        ),
    )

    def _find(self, root: Path) -> Path:
        return find_folder(root, dataset=self.name, holds=PATHOLOGIES)

    @property
    def left_out(self) -> Mapping[str, str]:
        """Pictures that are not PNG, as BUSI's are."""
        others = {}
        for pathology in PATHOLOGIES:
            found = [path for path in (self.root / pathology).iterdir() if path.suffix.lower() in _OTHER_PICTURES]
            if pictures := [path for path in found if not is_system_file(path)]:
                others[f"{pathology}/"] = (
                    f"{len(pictures)} pictures are no PNG ({min(pictures).name}, …); BUSI's are, and masks do not "
                    "survive JPEG. Get the release from its source."
                )
        return others

    def _list(self) -> Iterable[CaseFiles]:
        known = known_groups()
        unknown: list[str] = []
        for pathology in ("benign", "malignant", "normal"):
            folder = self.root / pathology
            for scan, masks in with_masks(p for p in folder.iterdir() if p.suffix.lower() == ".png"):
                facts = known.get(scan.name)
                if facts is None:
                    unknown.append(scan.name)
                record = CaseRecord(
                    case_id=scan.stem,
                    dataset=self.name,
                    pathology=pathology,
                    group=f"busi:{facts.group if facts else scan.stem}",
                    licence=self.licence,
                )
                yield CaseFiles(record=record, scan=scan, masks=masks)
        if unknown:
            log.warning(
                "busi: %d files are not among the 780 of the published release (%s); each is taken as a group of its "
                "own, so near-identical copies among them may cross a split. Run: sonoseek data audit",
                len(unknown),
                ", ".join(unknown[:5]),
            )
