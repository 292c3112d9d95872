"""The journal of studies: what was received, what is to be queried, and for which pictures a result was made."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sonoseek.pacs.database import Database
from sonoseek.pacs.outbox_rows import OutboxRows, Parcel
from sonoseek.pacs.study_key import study_key

Outcome = Literal["new", "same", "replaced", "differs", "foreign"]


@dataclass(frozen=True, kw_only=True)
class ReceivedObject:
    """One object, as its header and its association describe it.

    Attributes:
        sop_uid, sop_class, study_uid, series_uid: of its header.
        modality, body_part, patient_id, patient_name, accession, study_date: of its header; "" where empty.
        sender, address: calling AE title and IP address.
        file: name in the store.
        digest: of the content.
        size: bytes.
    """

    sop_uid: str
    sop_class: str
    study_uid: str
    series_uid: str
    modality: str
    body_part: str
    patient_id: str
    patient_name: str
    accession: str
    study_date: str
    sender: str
    address: str
    file: str
    digest: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What became of an object that was received.

    Attributes:
        outcome: "new"; "same", it was here already; "replaced", its content was another, and its study has no result
            yet: the later one counts; "differs", the study has one: the first stays; "foreign", its SOP Instance UID is
            that of an object of another study: nothing was written down.
        stray: name in the store of a file that is not needed any more; None: there is none.
    """

    outcome: Outcome
    stray: str | None = None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A study that is being queried.

    Attributes:
        study_uid: of the study.
        key: of its pictures; see `study_key`.
        rule: name of the rule that it falls under.
        files: SOP Instance UID and file name in the store of each picture, in the order of the UIDs; None: removed.
        patients: patient ids that the pictures name, one of a sound study.
        attempts: with this one.
    """

    study_uid: str
    key: str
    rule: str
    files: tuple[tuple[str, str | None], ...]
    patients: tuple[str, ...]
    attempts: int


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The frame with the highest likelihood of malignancy.

    Attributes:
        malignant: likelihood, 0 … 1; None: the bundle has no such class.
        sop_uid: of the picture.
        frame: counted from 1, as DICOM counts.
    """

    malignant: float | None
    sop_uid: str
    frame: int


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """A study as `status` and the worklist show it.

    Attributes:
        study_uid, patient_id, patient_name, accession, study_date: of its header.
        state: "waiting", "querying", "queried", "sent", "committed", "failed" or "alarm".
        objects: received.
        received, queried: seconds since 1970; `queried` None before.
        finding: None before.
        message: of the last failure, and of pictures that came again with other content; "" without.
        rule: that it falls under.
    """

    study_uid: str
    patient_id: str
    patient_name: str
    accession: str
    study_date: str
    state: str
    objects: int
    received: float
    queried: float | None
    finding: Finding | None
    message: str
    rule: str


class Journal:
    """All that must survive a crash. Safe for several threads; see `Database` for what is durable."""

    def __init__(self, folder: Path, *, create: bool = True) -> None:
        """Open or make it.

        Raises:
            NotFoundError, SonoseekError, TemporaryError, OSError: as `Database`.
        """
        self.database = Database(folder, create=create)
        self.outbox = OutboxRows(self.database)

    def receive(self, item: ReceivedObject, *, rule: str, quiet_s: float) -> Receipt:
        """Write down an object whose file lies under its final name, flushed to disk.

        A new one makes its study wait for `quiet_s` from now. One that was there before changes nothing of a study that
        was queried, but that its file is there again: only of one that failed, or still waits.
        """
        now = time.time()
        with self.database.writing() as db:
            known = db.execute(_KNOWN, (item.sop_uid,)).fetchone()
            outcome = _outcome(known, item)
            if outcome == "differs":
                db.execute("UPDATE studies SET conflicts = conflicts + 1 WHERE study_uid = ?", (item.study_uid,))
            if outcome in ("differs", "foreign"):
                return Receipt(outcome=outcome, stray=item.file)
            db.execute(
                "INSERT OR REPLACE INTO received VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(item.sop_uid, item.sop_class, item.study_uid, item.series_uid, item.modality, item.body_part),
                    *(item.patient_id, item.sender, item.address, item.file, item.digest, item.size, now),
                ),
            )
            described = (item.patient_id, item.patient_name, item.accession, item.study_date)
            db.execute(
                """INSERT INTO studies (study_uid, patient_id, patient_name, accession, study_date, rule, state, due,
                received) VALUES (?, ?, ?, ?, ?, ?, 'waiting', ?, ?) ON CONFLICT DO NOTHING""",
                (item.study_uid, *described, rule, now + quiet_s, now),
            )
            if item.patient_id and outcome != "same":  # it may have been corrected
                db.execute(
                    """UPDATE studies SET patient_id = ?, patient_name = ?, accession = ?, study_date = ?
                    WHERE study_uid = ?""",
                    (*described, item.study_uid),
                )
            if known is not None and known["file"] is None:  # it was removed, and is to stay as long as others
                db.execute("UPDATE studies SET received = ? WHERE study_uid = ?", (now, item.study_uid))
            db.execute(
                f"""UPDATE studies SET state = 'waiting', attempts = 0, message = '', due = ?, received = ?, rule = ?
                WHERE study_uid = ? {"" if outcome == "new" else "AND state IN ('waiting', 'failed')"}""",  # noqa: S608  # ours
                (now + quiet_s, now, rule, item.study_uid),
            )
        return Receipt(outcome=outcome, stray=known["file"] if outcome == "replaced" else None)

    def discard(self, sop_class: str) -> None:
        """Count an object that was acknowledged and not kept."""
        with self.database.writing() as db:
            db.execute(
                "INSERT INTO discarded VALUES (?, 1) ON CONFLICT DO UPDATE SET objects = objects + 1", (sop_class[:64],)
            )

    def claim(self) -> Claim | None:
        """Take the study that is due first; None: none is.

        A study whose pictures have a result is "queried" at once: no second one is made.
        """
        while True:
            with self.database.writing() as db:
                row = db.execute(
                    "SELECT * FROM studies WHERE state = 'waiting' AND due <= ? ORDER BY due LIMIT 1", (time.time(),)
                ).fetchone()
                if row is None:
                    return None
                uid = row["study_uid"]
                pictures = db.execute(
                    "SELECT sop_uid, file, patient_id FROM received WHERE study_uid = ? ORDER BY sop_uid", (uid,)
                ).fetchall()
                key = study_key(each["sop_uid"] for each in pictures)
                if db.execute("SELECT 1 FROM done WHERE key = ?", (key,)).fetchone():
                    db.execute("UPDATE studies SET state = 'queried', key = ? WHERE study_uid = ?", (key, uid))
                    continue
                attempts = row["attempts"] + 1
                db.execute(
                    "UPDATE studies SET state = 'querying', attempts = ?, key = ? WHERE study_uid = ?",
                    (attempts, key, uid),
                )
            files = tuple((each["sop_uid"], each["file"]) for each in pictures)
            patients = tuple(sorted({each["patient_id"] for each in pictures} - {""}))
            return Claim(study_uid=uid, key=key, rule=row["rule"], files=files, patients=patients, attempts=attempts)

    def finish(self, claim: Claim, parcels: Sequence[Parcel], finding: Finding, *, message: str = "") -> bool:
        """Write down a result, and what of it goes where, in one transaction.

        Returns:
            False: the study was sent further pictures meanwhile; nothing is written, and it waits again.
        """
        now = time.time()
        with self.database.writing() as db:
            changed = db.execute(
                """UPDATE studies SET state = 'queried', queried = ?, malignant = ?, frame_uid = ?, frame = ?,
                message = ?
                WHERE study_uid = ? AND state = 'querying' AND key = ?""",
                (now, finding.malignant, finding.sop_uid, finding.frame, message, claim.study_uid, claim.key),
            )
            if not changed.rowcount:
                return False
            objects = len({parcel.sop_uid for parcel in parcels})
            db.execute("INSERT INTO done VALUES (?, ?, ?, ?)", (claim.key, claim.study_uid, objects, now))
            self.outbox.add(db, parcels, now=now)
        return True

    def fail(self, claim: Claim, message: str, *, again_at: float | None) -> None:
        """Write down that a query failed; again at this time, or, with None, not by itself."""
        with self.database.writing() as db:
            db.execute(
                "UPDATE studies SET state = ?, due = ?, message = ? WHERE study_uid = ? AND state = 'querying'",
                ("failed" if again_at is None else "waiting", again_at or 0.0, message[:1000], claim.study_uid),
            )

    def recover(self) -> None:
        """Put back what a process that ended was doing. Only while no other process runs."""
        with self.database.writing() as db:
            db.execute("UPDATE studies SET state = 'waiting', due = ? WHERE state = 'querying'", (time.time(),))

    def follow_clock(self, longest_s: float) -> None:
        """Make due what would wait for longer than any setting has it: the system's clock was set back meanwhile."""
        now = time.time()
        last = self.database.one("SELECT max(due) FROM studies WHERE state = 'waiting'")
        if last is not None and last > now + longest_s:
            with self.database.writing() as db:
                db.execute("UPDATE studies SET due = ? WHERE state = 'waiting' AND due > ?", (now, now + longest_s))

    def next_due(self) -> float | None:
        """When the next study is due, seconds since 1970; None: none waits."""
        first = self.database.one("SELECT min(due) FROM studies WHERE state = 'waiting'")
        return None if first is None else float(first)

    def files(self) -> set[str]:
        """Names in the store of every file that is written down."""
        return {row[0] for row in self.database.all("SELECT file FROM received WHERE file IS NOT NULL")}

    def next_expiry(self, keep_s: float) -> float | None:
        """When the next files may be removed; None: there are none."""
        first = (
            self.database.one(f"SELECT min(received) FROM studies WHERE {_REMOVABLE}"),  # noqa: S608  # our own words
            self.database.one(f"SELECT min(sent) FROM outbox WHERE {_DELIVERED}"),  # noqa: S608  # our own words
        )
        return min((float(each) + keep_s for each in first if each is not None), default=None)

    def expire(self, keep_s: float) -> tuple[list[str], list[str]]:
        """Forget the files of studies that were queried, and of results that were delivered, longer ago than this.

        Their rows stay.

        Returns:
            Names of received files and of results, for whoever removes them.
        """
        before = time.time() - keep_s
        old = f"SELECT study_uid FROM studies WHERE received <= ? AND {_REMOVABLE}"  # noqa: S608  # our own words
        with self.database.writing() as db:
            rows = db.execute(
                f"SELECT file FROM received WHERE file IS NOT NULL AND study_uid IN ({old})",  # noqa: S608  # ours
                (before,),
            ).fetchall()
            db.execute(f"UPDATE received SET file = NULL WHERE study_uid IN ({old})", (before,))  # noqa: S608  # ours
            delivered = f"sent <= ? AND {_DELIVERED}"
            results = db.execute(f"SELECT DISTINCT file FROM outbox WHERE {delivered}", (before,)).fetchall()  # noqa: S608
            db.execute(f"UPDATE outbox SET file = '' WHERE {delivered}", (before,))  # noqa: S608  # our own words
            needed = {row[0] for row in db.execute("SELECT file FROM outbox WHERE file != ''")}
        return [row[0] for row in rows], [row[0] for row in results if row[0] not in needed]

    def retry(self) -> int:
        """Let every failed study and every failed parcel begin anew; returns how many."""
        with self.database.writing() as db:
            studies = db.execute(
                "UPDATE studies SET state = 'waiting', attempts = 0, due = ? WHERE state = 'failed'", (time.time(),)
            )
            return studies.rowcount + self.outbox.retry(db)

    def studies(self, *, limit: int = 1000) -> list[StudyRow]:
        """The newest studies first."""
        rows = self.database.all(f"{_STUDIES} ORDER BY s.received DESC LIMIT ?", (limit,))
        return [_study(row) for row in rows]

    def study(self, study_uid: str) -> StudyRow | None:
        """One study; None: there is none of this UID."""
        rows = self.database.all(f"{_STUDIES} WHERE s.study_uid = ?", (study_uid,))
        return _study(rows[0]) if rows else None

    def patient(self, study_uid: str) -> str:
        """(0010,0020) of a study; "" where it is empty, or there is no such study."""
        return str(self.database.one("SELECT patient_id FROM studies WHERE study_uid = ?", (study_uid,)) or "")

    def classes(self, study_uid: str) -> list[str]:
        """SOP class of each received object of a study."""
        rows = self.database.all("SELECT sop_class FROM received WHERE study_uid = ?", (study_uid,))
        return [row[0] for row in rows]

    def counts(self) -> dict[str, int]:
        """Objects received and discarded; studies, by the state that `studies` shows."""
        states = self.database.all(f"SELECT state, count(*) FROM ({_STUDIES}) GROUP BY state")  # noqa: S608  # ours
        numbers = {row[0]: row[1] for row in states}
        return {
            "received": int(self.database.one("SELECT count(*) FROM received")),
            "discarded": int(self.database.one("SELECT coalesce(sum(objects), 0) FROM discarded")),
            **{name: numbers.get(name, 0) for name in STUDY_STATES},
        }

    def close(self) -> None:
        """Close the file. Closing twice is fine."""
        self.database.close()


# A picture of a study that has a result stays as the result was made of it.
_KNOWN = """SELECT r.study_uid, r.file, r.digest, s.queried IS NULL AND s.state IN ('waiting', 'failed') AS replaceable
FROM received r JOIN studies s USING (study_uid) WHERE r.sop_uid = ?"""
STUDY_STATES = ("waiting", "querying", "queried", "sent", "committed", "failed", "alarm")
"""States of a study; the last four from "sent" on are those of its results."""
# A study's results are as far as the one that is least far.
_STUDIES = """
SELECT s.study_uid, s.patient_id, s.patient_name, s.accession, s.study_date, s.rule, s.received, s.queried, s.malignant,
    s.frame_uid, s.frame, s.conflicts, (SELECT count(*) FROM received r WHERE r.study_uid = s.study_uid) AS objects,
    CASE WHEN s.state != 'queried' OR o.parcels IS NULL THEN s.state
        WHEN o.alarm THEN 'alarm' WHEN o.failed THEN 'failed' WHEN o.waiting THEN 'queried'
        WHEN o.uncommitted THEN 'sent' WHEN o.commitments THEN 'committed' ELSE 'sent' END AS state,
    CASE WHEN s.message != '' THEN s.message ELSE coalesce(o.message, '') END AS message
FROM studies s LEFT JOIN (
    SELECT study_uid, count(*) AS parcels, max(state = 'alarm') AS alarm, max(state = 'failed') AS failed,
        max(state = 'waiting') AS waiting, max(state = 'sent' AND commitment) AS uncommitted,
        max(commitment) AS commitments, max(message) AS message
    FROM outbox GROUP BY study_uid) o USING (study_uid)
"""
_REMOVABLE = """state IN ('queried', 'failed')
    AND study_uid IN (SELECT study_uid FROM received WHERE file IS NOT NULL)"""
_DELIVERED = "file != '' AND (state = 'committed' OR (state = 'sent' AND NOT commitment))"


def _outcome(known: Any, item: ReceivedObject) -> Outcome:
    """What an object is to the one that was written down under its UID; `known` is None where there is none."""
    if known is None:
        return "new"
    if known["study_uid"] != item.study_uid:
        return "foreign"
    if known["digest"] == item.digest:
        return "same"
    return "replaced" if known["replaceable"] else "differs"


def _study(row: Any) -> StudyRow:
    finding = None
    if row["frame"] is not None:
        finding = Finding(malignant=row["malignant"], sop_uid=row["frame_uid"], frame=row["frame"])
    conflict = ""
    if row["conflicts"]:
        conflict = f"{row['conflicts']} pictures came again with other content under the same UID; the first ones stay"
    names = ("study_uid", "patient_id", "patient_name", "accession", "study_date", "state", "objects", "received")
    return StudyRow(
        **{name: row[name] for name in (*names, "queried", "rule")},
        finding=finding,
        message="; ".join(filter(None, (row["message"], conflict))),
    )
