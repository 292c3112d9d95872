"""One's own archive, listed in a CSV table: a row per scan."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from sonoseek.core import DESCRIPTORS, PATHOLOGIES, CaseRecord, DatasetError, InvalidValueError
from sonoseek.core.patients import is_placeholder
from sonoseek.core.scan import Laterality
from sonoseek.datasets.base import DatasetCard
from sonoseek.datasets.case_files import CaseFiles, FileDataset
from sonoseek.datasets.descriptors import parse_descriptors
from sonoseek.datasets.fields import (
    is_empty,
    parse_age,
    parse_birads,
    parse_date,
    parse_laterality,
    parse_number,
    parse_pathology,
    parse_spacing,
)
from sonoseek.datasets.file_names import listed_file
from sonoseek.datasets.tables import Row, read_table

REQUIRED = ("file", "pathology")
OPTIONAL = (
    "case_id",
    "patient",
    "group",
    "birads",
    "histology",
    "mask",
    "device",
    "age",
    "acquired",
    "laterality",
    "view",
    "spacing_mm",
    "frame",
    "dataset",
    "licence",
    *DESCRIPTORS,
)
MASK_SEPARATOR = "|"
SHOWN = 10
"""Wrong rows that one message names."""


class ManifestDataset(FileDataset):
    """A CSV file with the columns `file` and `pathology`, and any of `OPTIONAL`.

    Separated by comma, semicolon or tab, with or without a BOM. Paths are relative to the CSV's folder or absolute.
    `case_id` is the file's path where not given, `group` the patient. "|" separates several masks. `patient` is to be
    a pseudonym: it goes into galleries and reports; a placeholder ("ANONYMOUS", "0") is taken as unknown.
    `laterality` is the breast, `view` which picture of the lesion it is, in the archive's own words. `dataset` names
    the archive a row came from, "manifest" where not given; patients and groups are names within it. The lesion's
    BI-RADS descriptors have a column each (`DESCRIPTORS`); several words of one are separated by "&" or ";".
    """

    own_archive = True
    card: ClassVar[DatasetCard] = DatasetCard(
        name="manifest",
        title="an archive of one's own, listed in a CSV table",
        licence="the archive's own",
        citation="",
        url="",
        classes=PATHOLOGIES,
        note="Scans of one patient stay together when the column patient (or group) says who they are of.",
    )

    def _find(self, root: Path) -> Path:
        if root.is_dir():
            tables = sorted(root.glob("*.csv"))
            named = root / "manifest.csv"
            if named in tables or len(tables) == 1:
                return named if named in tables else tables[0]
            raise DatasetError(
                f"no manifest: looked for manifest.csv, or one single .csv, in {root}, which holds {len(tables)}. "
                f"Give the CSV file itself; its columns are {', '.join((*REQUIRED, *OPTIONAL))}."
            )
        if not root.is_file():
            raise DatasetError(
                f"no manifest: {root} is not there. Give a CSV file with the columns file and pathology."
            )
        return root

    def _list(self) -> Iterable[CaseFiles]:
        cases, wrong = [], []
        for row in read_table(self.root, requires=REQUIRED, allows=(*REQUIRED, *OPTIONAL)):
            try:
                cases.append(self._case(row))
            except InvalidValueError as error:
                wrong.append(f"{row.origin}: {error}")
        if wrong:
            more = f"\n… and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
            raise DatasetError(
                f"{self.root} has {len(wrong)} wrong row{'s' if len(wrong) > 1 else ''}; correct and try again.\n"
                + "\n".join(wrong[:SHOWN])
                + more
            )
        return cases

    def _case(self, row: Row) -> CaseFiles:
        file = _path(row["file"])
        if not file:
            raise InvalidValueError("the cell file is empty; it names the scan. Fill it in or remove the row.")
        frame = parse_number(row.get("frame", ""), name="frame", above=-1, up_to=1e6)
        if frame is not None and not frame.is_integer():
            raise InvalidValueError(f"frame is {row['frame']!r}; frames are counted 0, 1, 2 …")
        default_id = file if frame is None else f"{file}#{frame:g}"
        stated = _text(row, "patient")
        placeholder = stated if stated is not None and is_placeholder(stated) else None
        patient = None if placeholder else stated
        record = CaseRecord(
            case_id=_text(row, "case_id") or default_id,
            dataset=_text(row, "dataset") or self.name,
            pathology=parse_pathology(row["pathology"]),
            patient_id=patient,
            group=_text(row, "group") or patient,
            birads=parse_birads(row.get("birads", "")),
            histology=_text(row, "histology"),
            device=_text(row, "device"),
            age_years=parse_age(row.get("age", "")),
            acquired=parse_date(row.get("acquired", "")),
            licence=_text(row, "licence") or self.licence,
            descriptors=parse_descriptors({feature: row.get(feature, "") for feature in DESCRIPTORS}),
        )
        masks = [part.strip() for part in row.get("mask", "").split(MASK_SEPARATOR)]
        return CaseFiles(
            record=record,
            scan=listed_file(self.root.parent, file),
            masks=tuple(listed_file(self.root.parent, _path(mask)) for mask in masks if mask),
            laterality=_side(row.get("laterality", "")),
            view=_text(row, "view"),
            patient_placeholder=placeholder,
            spacing_mm=parse_spacing(row.get("spacing_mm", "")),
            frame=int(frame or 0),
            origin=row.origin,
            named_by_file=_text(row, "case_id") is None,
        )


def _text(row: Row, column: str) -> str | None:
    text = row.get(column, "")
    return None if is_empty(text) else text


def _side(text: str) -> Laterality | None:
    side = parse_laterality(text)
    if side is None and not is_empty(text):
        raise InvalidValueError(f"laterality is {text!r}; it must be left, right or empty.")
    return side


def _path(text: str) -> str:
    """With forward slashes, which every system understands; tables from Windows have the others."""
    return text.replace("\\", "/")
