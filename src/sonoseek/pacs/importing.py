"""An import: fetch ultrasound of an archive, join it with pathology, write the table that `index build` reads."""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from sonoseek.core.csv_cells import csv_cell
from sonoseek.core.files import PRIVATE, write_atomically
from sonoseek.pacs.archive import ArchiveClient, Imported, ImportFolder, StudyQuery, fetch_series
from sonoseek.pacs.archive.values import Progress
from sonoseek.pacs.pathology import Joined, JoinedPicture, JoinRules, Listed, Result, join_results

__all__ = ["Cine", "FetchedArchive", "JoinedTable", "fetch_archive", "join_folder"]

MANIFEST = "manifest.csv"
REPORT = "not-joined.csv"
_KEY = "group.key"
_COLUMNS = (
    *("file", "pathology", "case_id", "group", "birads", "histology", "device", "acquired", "laterality", "frame"),
    "dataset",
)
_REPORT_COLUMNS = tuple(field.name for field in fields(Listed))

Cine = Literal["list", "middle"]
"""What becomes of a cine: listed, since the frame that shows the lesion is not known; or its middle frame is taken."""


@dataclass(frozen=True, kw_only=True)
class FetchedArchive:
    """What a fetch did.

    Attributes:
        series: that met the query.
        added: objects that were fetched now.
        present: objects that were there before.
        refused: SOP Instance UID → why it is not there.
    """

    series: int
    added: int
    present: int
    refused: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class JoinedTable:
    """What a join wrote.

    Attributes:
        manifest: the table for `index build`, a row per picture with a reference standard.
        report: what was not joined, with the reason. It names patients.
        cases: rows of the manifest for each class.
        listed: rows of the report for each status.
    """

    manifest: Path
    report: Path
    cases: Counter[str]
    listed: Counter[str]


def fetch_archive(
    archive: ArchiveClient, query: StudyQuery, folder: ImportFolder, *, on_progress: Progress | None = None
) -> FetchedArchive:
    """Fetch every series that meets the query. What is in the folder is not fetched again.

    Args:
        archive: open.
        query: which series.
        folder: where the files go.
        on_progress: called with (series done, series in all).

    Raises:
        PeerError, TemporaryError: the archive refuses, or does not answer; what was fetched until then stays.
        OSError: the folder cannot be written.
    """
    # An archive may list a series twice.
    wanted = list({(each.study_uid, each.series_uid): each for each in archive.find_series(query)}.values())
    added = present = 0
    refused: dict[str, str] = {}
    for number, series in enumerate(wanted):
        if on_progress is not None:
            on_progress(number, len(wanted))
        result = fetch_series(archive, series, folder)
        added += result.added
        present += result.present
        refused |= result.refused
    if on_progress is not None:
        on_progress(len(wanted), len(wanted))
    return FetchedArchive(series=len(wanted), added=added, present=present, refused=refused)


def join_folder(
    folder: ImportFolder,
    results: Sequence[Result],
    *,
    rules: JoinRules | None = None,
    cine: Cine = "list",
    dataset: str = "archive",
) -> JoinedTable:
    """Write the table of all pictures of a folder whose reference standard is known, and the list of the others.

    Both files are private, and are written whole or not at all. The table holds no patient id: the DICOM files name the
    patient, of which the gallery keeps a pseudonym; `group` is an HMAC by a key that stays in the folder.

    Args:
        folder: of an import.
        results: of pathology.
        rules: None: the defaults.
        cine: what becomes of files with several frames.
        dataset: name of the archive in the gallery.

    Raises:
        OSError: the files cannot be written.
    """
    joined = join_results(folder.all(), results, rules)
    if cine == "list":
        joined = _without_cines(joined)
    key = _key(folder)
    manifest, report = folder.root / MANIFEST, folder.root / REPORT
    rows = [_row(picture, key=key, dataset=dataset) for picture in joined.pictures]
    write_atomically(manifest, _csv(_COLUMNS, rows), mode=PRIVATE)
    unjoined = [{**vars(each), "results": "; ".join(each.results)}.values() for each in joined.listed]
    write_atomically(report, _csv(_REPORT_COLUMNS, unjoined), mode=PRIVATE)
    return JoinedTable(
        manifest=manifest,
        report=report,
        cases=Counter(picture.pathology for picture in joined.pictures),
        listed=Counter(listed.status for listed in joined.listed),
    )


def _without_cines(joined: Joined) -> Joined:
    cines = [picture.entry for picture in joined.pictures if picture.entry.frames > 1]
    listed = [
        Listed(
            status="not used",
            reason=f"a cine of {entry.frames} frames: which shows the lesion is not known (--cine middle takes one)",
            accession=entry.accession,
            patient_id=entry.patient_id,
            study_date=entry.study_date,
            side=entry.side,
            pictures=1,
        )
        for entry in cines
    ]
    stills = tuple(picture for picture in joined.pictures if picture.entry.frames == 1)
    return Joined(pictures=stills, listed=(*joined.listed, *listed))


def _row(picture: JoinedPicture, *, key: bytes, dataset: str) -> tuple[object, ...]:
    entry = picture.entry
    return (
        entry.file,
        picture.pathology,
        Path(entry.file).stem,
        _group(entry, key),
        picture.birads,
        picture.histology,
        entry.device,
        entry.study_date.isoformat() if entry.study_date else "",
        entry.side if entry.side in ("left", "right") else "",
        entry.frames // 2 if entry.frames > 1 else "",
        dataset,
    )


def _group(entry: Imported, key: bytes) -> str:
    """One for all scans of a patient, or of a study without a patient id; whoever lacks the key cannot undo it."""
    name = f"patient {entry.patient_id}" if entry.patient_id else f"study {entry.study_uid}"
    return "g-" + hmac.new(key, name.encode("utf-8"), hashlib.sha256).hexdigest()[:16]


def _key(folder: ImportFolder) -> bytes:
    path = folder.root / _KEY
    if not path.exists():
        write_atomically(path, secrets.token_hex(32), mode=PRIVATE)
    return bytes.fromhex(path.read_text("ascii").strip())


def _csv(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([csv_cell(cell) for cell in row] for row in rows)
    return stream.getvalue()
