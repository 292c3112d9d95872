"""What a case is called in a gallery: file names of one's own archive name patients, so they become opaque.

Public datasets keep their names, and so do cases that a table names itself. An opaque id is the same whenever the same
file of the same archive is added again. Which file a case is, says a private table beside the gallery.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from sonoseek.core import CaseRecord, GalleryError
from sonoseek.core.csv_cells import csv_cell
from sonoseek.core.files import PRIVATE, make_private_folder, write_atomically
from sonoseek.core.site_key import derived, site_key_path
from sonoseek.datasets import Dataset
from sonoseek.datasets.case_files import FileDataset
from sonoseek.gallery import CaseKey, Gallery, GalleryEntry
from sonoseek.gallery.sqlite.database import database_path

CaseIds = Literal["opaque", "names"]
COLUMNS = ("dataset", "case_id", "file")
LONGEST_TABLE = 1 << 28
"""Bytes of a table that is read."""


def opaque_id(dataset: str, name: str) -> str:
    """An HMAC with the site key: "c-" and 16 hex digits.

    Args:
        dataset: the archive's name.
        name: the case's own, such as its path within the archive's folder.

    Raises:
        SiteKeyError: the site key cannot be read or made.
    """
    return "c-" + derived("case", f"{dataset}\0{name}")[:16]


@dataclass(frozen=True, kw_only=True)
class CaseNames:
    """How the cases of one build are called.

    Attributes:
        ids: (dataset, name) → opaque id, for those that get one.
        own_archive: whether file names are private; then no entry keeps one as its source.
        by_name: cases that the gallery holds under their file names already; they keep them.
    """

    ids: Mapping[CaseKey, str] = field(default_factory=dict)
    own_archive: bool = False
    by_name: Collection[CaseKey] = ()

    def of(self, record: CaseRecord) -> str:
        """The case's id in the gallery."""
        return self.ids.get((record.dataset, record.case_id), record.case_id)

    def fingerprint(self, record: CaseRecord, fingerprint: str) -> str:
        """The fingerprint that the gallery keeps: with the site key where the plain one is made of a file's name."""
        named = (record.dataset, record.case_id) in self.ids
        return derived("files", fingerprint) if named and fingerprint else fingerprint

    def renamed(self, entry: GalleryEntry) -> GalleryEntry:
        """An entry as the gallery keeps it."""
        if not self.own_archive:
            return entry
        case_id = self.of(entry.record)
        record = entry.record if case_id == entry.record.case_id else replace(entry.record, case_id=case_id)
        return replace(entry, record=record, source=f"{record.dataset}/{case_id}")

    @property
    def warnings(self) -> tuple[str, ...]:
        """As sentences, for `BuildResult.warnings`."""
        if not self.by_name:
            return ()
        return (
            f"{len(self.by_name)} cases are in the gallery under the names of their files, which may name patients, "
            "and stay so. Build a new gallery for opaque case ids.",
        )


def choose_names(dataset: Dataset, gallery: Gallery, case_ids: CaseIds) -> CaseNames:
    """How a dataset's cases are called in a gallery.

    Args:
        dataset: of `open_dataset`.
        gallery: that they are added to.
        case_ids: "names" keeps the names of files.

    Raises:
        SiteKeyError: the site key cannot be read or made.
    """
    if case_ids == "names" or not isinstance(dataset, FileDataset) or not dataset.own_archive:
        return CaseNames()
    records = [record for record in dataset.records() if dataset.files(record.case_id).named_by_file]
    known = {name: gallery.fingerprints(name) for name in {record.dataset for record in records}}
    by_name = {(r.dataset, r.case_id) for r in records if r.case_id in known[r.dataset]}
    keys = [(record.dataset, record.case_id) for record in records]
    return CaseNames(
        ids={key: opaque_id(*key) for key in keys if key not in by_name}, own_archive=True, by_name=by_name
    )


def table_path(location: str | Path) -> Path:
    """Where the table of a gallery lies: beside its file; of one on a server beside the site key."""
    if "://" in str(location) and not str(location).startswith("sqlite://"):
        return site_key_path().with_name(re.sub(r"[^\w.-]+", "_", str(location)) + ".case_ids.csv")
    path = database_path(location)
    return path.with_name(f"{path.name}.case_ids.csv")


def note_files(location: str | Path, files: Iterable[Sequence[str]]) -> None:
    """Add (dataset, case id, file) to a gallery's private table; what is there stays.

    Raises:
        GalleryError: the table cannot be read or written.
    """
    path = table_path(location)
    try:
        rows = {(row[0], row[1]): tuple(row) for row in _rows(path)}
        new = {(row[0], row[1]): tuple(str(csv_cell(cell)) for cell in row) for row in files}
        if new.items() <= rows.items():
            return
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(sorted({**rows, **new}.values()))
        make_private_folder(path.parent)
        write_atomically(path, text.getvalue().encode("utf-8", "surrogateescape"), mode=PRIVATE)
    except (OSError, UnicodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise GalleryError(
            f"{path}, which says which file a case is, cannot be read or written ({reason}). Move it away, and build "
            "again."
        ) from error


def _rows(path: Path) -> list[list[str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        lines = list(csv.reader(io.StringIO(file.read(LONGEST_TABLE))))
    return [line for line in lines[1:] if len(line) == len(COLUMNS)]
