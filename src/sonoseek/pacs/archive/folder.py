"""The folder of an import: files by the hash of their UID, and a table of what their headers state. Private."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from datetime import date
from pathlib import Path
from typing import BinaryIO, Literal, cast

from sonoseek.core import InvalidValueError, PeerError, ScanReadError, TemporaryError
from sonoseek.core.files import PRIVATE, lock_file, make_private_folder, open_private, sync_folder
from sonoseek.core.scan import Laterality
from sonoseek.io.dicom.source_header import SourceHeader, read_source_header
from sonoseek.pacs.uids import is_uid

FILES = "files"
DRAFTS = "incoming"
TABLE = "imported.db"
LOCK = "lock"
MIN_FREE = 256 << 20
"""Bytes that stay free on the disk: a full one would damage more than this import."""
_IMAGE_LATERALITY, _LATERALITY = "00200062", "00200060"
_SIDES: dict[str, Laterality | Literal["both"]] = {"L": "left", "R": "right", "B": "both"}


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What the header of an imported file states. It names a patient.

    Attributes:
        file: relative to the folder.
        sop_instance_uid, study_uid, series_uid, sop_class_uid: of the file.
        patient_id, accession: as in the file, or "".
        study_date: or None.
        side: "left", "right", "both"; "" where the file states none.
        frames: 1 for a still picture.
        device: manufacturer and model, or "".
    """

    file: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    sop_class_uid: str
    patient_id: str
    accession: str
    study_date: date | None
    side: str
    frames: int
    device: str


_COLUMNS = tuple(field.name for field in fields(Imported))


class ImportFolder:
    """The files of an import and the table over them. Used by one process at a time.

    A file is complete when it has its name: it is written into `incoming/`, flushed, and renamed. The table repeats
    what headers state; a file that is not in it yet is read again.
    """

    def __init__(self, root: Path) -> None:
        """Make or open the folder; what an earlier, interrupted import left in `incoming/` is removed.

        Raises:
            OSError: it cannot be made or written.
            TemporaryError: another process uses it.
            InvalidValueError: its table is no table of an import.
        """
        self.root = root
        for folder in (root, root / FILES, root / DRAFTS):
            make_private_folder(folder)
        lock = lock_file(root / LOCK)
        if lock is None:
            raise TemporaryError(
                f"another import uses {root}; one process at a time may. Wait for it, or name another folder."
            )
        self._lock = lock
        self._sweep()
        open_private(root / TABLE, "ab").close()
        try:
            self._table = sqlite3.connect(root / TABLE, isolation_level=None, check_same_thread=False)
            self._table.execute("PRAGMA synchronous = FULL")
            self._table.execute(
                f"CREATE TABLE IF NOT EXISTS imported ({', '.join(_COLUMNS)}, PRIMARY KEY (sop_instance_uid))"
            )
            self._table.execute("CREATE TABLE IF NOT EXISTS refused (sop_instance_uid PRIMARY KEY, reason)")
        except sqlite3.DatabaseError as error:
            self._lock.close()
            raise InvalidValueError(
                f"{root / TABLE} is no table of an import ({error}); each import has a folder of its own. Name another "
                "folder, or remove this file: it is made again from the files."
            ) from error

    def __enter__(self) -> ImportFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the table, remove what did not arrive whole, and let another process use the folder."""
        self._table.close()
        self._sweep()
        self._lock.close()

    def _sweep(self) -> None:
        for left in self.drafts.iterdir():
            left.unlink(missing_ok=True)

    @property
    def drafts(self) -> Path:
        """Where files are until they are complete; on the file system of those that are."""
        return self.root / DRAFTS

    def path(self, uid: str) -> Path:
        """Where the file of a SOP Instance UID lies: named by our own hash, never by what the sender wrote.

        Raises:
            PeerError: it is no UID.
        """
        if not is_uid(uid):
            raise PeerError(
                f"the archive names an object {uid[:80]!r}; a UID has digits and dots alone (PS3.5 9.1). Have it "
                "corrected there."
            )
        name = hashlib.sha256(uid.encode("ascii")).hexdigest()[:40]
        return self.root / FILES / name[:2] / f"{name}.dcm"

    def has(self, uid: str) -> bool:
        """Whether the object is here, or was refused for what it is."""
        if not is_uid(uid):
            return False
        return self.path(uid).exists() or self.refusal(uid) is not None

    def take(self, draft: Path, uid: str) -> None:
        """Give a complete draft its name; it then survives a power cut.

        Raises:
            PeerError: `uid` is no UID.
            OSError: the disk does not take it.
        """
        target = self.path(uid)
        self._table.execute("DELETE FROM imported WHERE sop_instance_uid = ?", (uid,))  # its header is read anew
        make_private_folder(target.parent)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.chmod(PRIVATE)
        draft.replace(target)
        sync_folder(target.parent)

    @contextmanager
    def draft(self) -> Iterator[tuple[Path, BinaryIO]]:
        """Open a file in `incoming/`; it is gone when the block ends, unless it was taken."""
        path = self.drafts / f"{secrets.token_hex(8)}.dcm"
        try:
            with open_private(path, "xb") as file:
                yield path, cast("BinaryIO", file)
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def check_space(self) -> None:
        """See that the disk has room.

        Raises:
            OSError: less than `MIN_FREE` bytes are free (ENOSPC).
        """
        if shutil.disk_usage(self.root).free < MIN_FREE:
            raise OSError(errno.ENOSPC, f"less than {MIN_FREE >> 20} MiB are free", str(self.root))

    def refusal(self, uid: str) -> str | None:
        """Why an object is not kept, or None."""
        row = self._table.execute("SELECT reason FROM refused WHERE sop_instance_uid = ?", (uid,)).fetchone()
        return None if row is None else str(row[0])

    def refuse(self, uid: str, reason: str) -> None:
        """Note that an object is not kept, so that it is not fetched again; its file is removed."""
        with suppress(OSError):
            self.path(uid).unlink(missing_ok=True)
        self._table.execute("INSERT OR REPLACE INTO refused VALUES (?, ?)", (uid, reason))

    def forget_refusals(self) -> None:
        """Let objects that were refused be fetched again."""
        self._table.execute("DELETE FROM refused")

    def read(self, uid: str, *, study_uid: str = "") -> Imported | str:
        """What the header of an object's file states, from the table, else from the file by the sandbox.

        Args:
            uid: of a file that is here.
            study_uid: that the header must have; "" for any.

        Returns:
            The row; or, as text, why the file is not kept: it is removed and noted as refused, unless it is an object
            of another study, which stays.
        """
        columns = ", ".join(_COLUMNS)
        row = self._table.execute(f"SELECT {columns} FROM imported WHERE sop_instance_uid = ?", (uid,)).fetchone()  # noqa: S608
        if row is not None:
            entry = _from_row(row)
            if study_uid not in ("", entry.study_uid):
                return f"its SOP Instance UID is that of an object of study {entry.study_uid}; that one stays."
            return entry
        path = self.path(uid)
        try:
            header = read_source_header(path)
        except ScanReadError as error:
            reason = str(error)
        else:
            reason = _contradiction(header, uid=uid, study_uid=study_uid)
        if reason:
            self.refuse(uid, reason)
            return reason
        entry = _entry(header, file=path.relative_to(self.root).as_posix())
        values = [value.isoformat() if isinstance(value, date) else value for value in astuple(entry)]
        marks = ", ".join("?" * len(values))
        self._table.execute(f"INSERT OR REPLACE INTO imported VALUES ({marks})", values)  # noqa: S608
        return entry

    def all(self) -> Iterator[Imported]:
        """Every imported object whose file is there, by study, series and UID."""
        columns = ", ".join(_COLUMNS)
        rows = self._table.execute(f"SELECT {columns} FROM imported ORDER BY study_uid, series_uid, sop_instance_uid")  # noqa: S608
        for row in rows:
            entry = _from_row(row)
            if (self.root / entry.file).exists():
                yield entry


def _from_row(row: tuple[object, ...]) -> Imported:
    values = dict(zip(_COLUMNS, row, strict=True))
    day = values["study_date"]
    values["study_date"] = date.fromisoformat(str(day)) if day else None
    return Imported(**values)  # type: ignore[arg-type]  # as they were written


def _contradiction(header: SourceHeader, *, uid: str, study_uid: str) -> str:
    """Why a header cannot be the object's that was asked for; "" where it can."""
    for name, stated, wanted in (
        ("SOPInstanceUID", header.sop_instance_uid, uid),
        ("StudyInstanceUID", header.study_instance_uid, study_uid or header.study_instance_uid),
    ):
        if stated != wanted:
            return f"its {name} is {stated[:64]!r}, but {wanted!r} was asked for; the object is damaged or forged."
    if not is_uid(header.study_instance_uid):
        return f"its StudyInstanceUID is {header.study_instance_uid[:64]!r}, which is no UID (PS3.5 9.1)."
    if header.modality != "US":
        return f"its Modality is {header.modality[:16]!r}; ultrasound is imported alone."
    if not header.rows:
        return "it holds no picture."
    return ""


def _entry(header: SourceHeader, *, file: str) -> Imported:
    side = header.text(_IMAGE_LATERALITY) or header.text(_LATERALITY)
    return Imported(
        file=file,
        sop_instance_uid=header.sop_instance_uid,
        study_uid=header.study_instance_uid,
        series_uid=header.series_instance_uid,
        sop_class_uid=header.sop_class_uid,
        patient_id=header.patient_id,
        accession=header.accession_number,
        study_date=parse_day(header.study_date),
        side=_SIDES.get(side.upper(), ""),
        frames=header.frames,
        device=" ".join(filter(None, (header.text("00080070"), header.text("00081090")))),
    )


def parse_count(text: str) -> int | None:
    """A number that an archive states; None where it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def parse_day(text: str) -> date | None:
    """A DICOM date (VR DA), None where it is none."""
    plain = text.strip().replace(".", "")
    try:
        return date(int(plain[:4]), int(plain[4:6]), int(plain[6:8])) if len(plain) >= 8 else None
    except ValueError:
        return None
