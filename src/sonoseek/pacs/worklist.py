"""The studies of a listener, for the reading room: their pictures, priors of the patient, and the readers' decisions.

The reading room is another process than the listener. Both use one journal; a decision wakes the listener, which sends
the verified report.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sonoseek.core import InvalidValueError, NotFoundError, TemporaryError
from sonoseek.pacs.audit import StudyOf
from sonoseek.pacs.journal import Finding, StudyRow
from sonoseek.pacs.outbox_rows import make_parcels
from sonoseek.pacs.rules import PacsConfig, Rule
from sonoseek.pacs.state import State

# A study whose present pictures have a result; further ones, or a failure, end that.
_RESULT = "SELECT 1 FROM studies WHERE study_uid = ? AND key = ? AND state = 'queried'"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A received picture of a study.

    Attributes:
        sop_uid: SOP Instance UID.
        path: of its file; None: it was removed after `keep_days`.
    """

    sop_uid: str
    path: Path | None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a reader decided on a study's result.

    Attributes:
        reader: name.
        decided: seconds since 1970.
        corrected: the class that the reader states instead; None: the result is accepted.
    """

    reader: str
    decided: float
    corrected: str | None


def person_name(text: str) -> str:
    """A name as DICOM writes it, the family name first: "Marie Curie" as "Curie^Marie". PS3.5 6.2.1.

    Raises:
        InvalidValueError: it is no name that DICOM can hold.
    """
    name = text.strip()
    if name and "^" not in name:
        *given, family = name.split()
        name = f"{family}^{' '.join(given)}"
    signs = set(text)
    if not any(map(str.isalpha, signs)) or not text.isprintable() or signs & set("\\=") or len(name) > 64:
        raise InvalidValueError(
            f"the reader is {text[:80]!r}; a name has a letter, at most 64 characters, and no control character, = or "
            "backslash. Correct it."
        )
    if name.count("^") > 4:
        raise InvalidValueError(
            f"the reader is {text[:80]!r}; a name has five parts at most (PS3.5 6.2.1). Correct it."
        )
    return name


class Worklist:
    """A listener's journal and files, as another process sees them. Safe for several threads."""

    def __init__(self, config: PacsConfig) -> None:
        """Open the journal; the listener need not run.

        Raises:
            SonoseekError, TemporaryError, OSError: as `State`.
        """
        self._deciding = threading.Lock()
        self._state = State(config)

    @property
    def folder(self) -> Path:
        """Of the listener's state."""
        return self._state.config.state

    def studies(self, *, limit: int = 500) -> list[StudyRow]:
        """The newest first."""
        return self._state.journal.studies(limit=limit)

    def counts(self) -> dict[str, int]:
        """As `Journal.counts`."""
        return self._state.journal.counts()

    def study(self, study_uid: str) -> StudyRow:
        """One study.

        Raises:
            NotFoundError: no such study.
        """
        row = self._state.journal.study(study_uid)
        if row is None:
            raise NotFoundError(f"no study {study_uid[:64]!r} was received; take one of the worklist.")
        return row

    def pictures(self, study_uid: str) -> list[Picture]:
        """The pictures of a study, in the order in which they are queried.

        Raises:
            NotFoundError: no such study.
        """
        self.study(study_uid)
        rows = self._state.journal.database.all(
            "SELECT sop_uid, file FROM received WHERE study_uid = ? ORDER BY sop_uid", (study_uid,)
        )
        return [
            Picture(sop_uid=row["sop_uid"], path=None if row["file"] is None else self._state.store.path(row["file"]))
            for row in rows
        ]

    def priors(self, study_uid: str) -> list[StudyRow]:
        """Other studies of the same patient id, the newest first; none of a study without one.

        Raises:
            NotFoundError: no such study.
        """
        patient = self.study(study_uid).patient_id
        if not patient:
            return []
        rows = self._state.journal.database.all(
            """SELECT study_uid FROM studies WHERE patient_id = ? AND study_uid != ?
            ORDER BY study_date DESC, received DESC""",
            (patient, study_uid),
        )
        return [self.study(row["study_uid"]) for row in rows]

    def decisions(self) -> dict[str, Decision]:
        """Study UID → the last decision on its present result; a result of further pictures has none yet."""
        rows = self._state.journal.database.all(
            "SELECT d.* FROM decisions d JOIN studies s ON s.study_uid = d.study_uid AND s.key = d.key"
        )
        return {
            row["study_uid"]: Decision(reader=row["reader"], decided=row["decided"], corrected=row["corrected"])
            for row in rows
        }

    def decide(
        self, study_uid: str, *, reader: str, corrected: str | None, engine: Any, signed_in: str = ""
    ) -> Decision:
        """Accept or correct a study's result, and send it as a verified report that names the former one.

        The report is made anew, of the frame that the result names and with the gallery as it is now. Decisions follow
        one another; one that repeats the reader's own last one changes nothing.

        Args:
            study_uid: of a study that was queried.
            reader: name of who decides, "Marie Curie", or as DICOM writes it, "Curie^Marie".
            corrected: the class that the reader states instead; None: the result is accepted.
            engine: a `SearchEngine`.
            signed_in: name by which a proxy knows the reader, for the audit trail; "": it is not known.

        Raises:
            NotFoundError: no such study.
            InvalidValueError: it has no result yet, its picture was removed, its rule is not in the settings any more,
                or the class or the name is none.
            TemporaryError: further pictures of the study came meanwhile.
            MissingExtraError: the extra `pacs` is not installed.
        """
        from sonoseek.pacs.service import wake_service

        name, classes = person_name(reader), tuple(engine.bundle.classes)
        if corrected is not None and corrected not in classes:
            raise InvalidValueError(f"corrected_class is {corrected[:40]!r}; it is one of {', '.join(classes)}.")
        with self._deciding:
            last = self.decisions().get(study_uid)
            if last is not None and (last.reader, last.corrected) == (reader, corrected):
                return last
            made = Decision(reader=reader, decided=float(int(time.time())), corrected=corrected)
            sop_class = self._send(study_uid, made, name=name, engine=engine)
            patient = self._state.journal.patient(study_uid)
            written = StudyOf(study_uid=study_uid, patient_id=patient, classes=Counter({sop_class: 1}))
            self._state.audit.decided(reader, signed_in, written)
        wake_service(self._state.config.state)
        return made

    def _send(self, study_uid: str, made: Decision, *, name: str, engine: Any) -> str:
        """Make the verified report, and write decision and report down together; returns the report's SOP class."""
        from sonoseek.io import read_scan, read_source_header
        from sonoseek.reports.dicom import QueriedFrame, Verification, render_dicom

        key, rule, finding, path = self._result(study_uid)
        verification = Verification(
            observer_name=name,
            organisation=self._state.config.organisation,
            when=datetime.fromtimestamp(made.decided, UTC),
            accepted=made.corrected is None,
            corrected_class=made.corrected,
        )
        report = engine.query(engine.read(read_scan(path, frame=finding.frame - 1)))
        shown = QueriedFrame(sop_instance_uid=finding.sop_uid, frame=finding.frame, malignant=finding.malignant or 0.0)
        (result,) = render_dicom(
            report,
            read_source_header(path),
            kinds=("sr",),
            study_key=key,
            queried=(shown,),
            verification=verification,
            predecessor=self._last_report(study_uid),
        )
        peers = [self._state.config.peer(name) for name in rule.send_to]
        parcels = make_parcels([result], self._state.store, study_uid=study_uid, key=key, peers=peers)
        with self._state.journal.database.writing() as db:
            if db.execute(_RESULT, (study_uid, key)).fetchone() is None:
                raise TemporaryError(
                    "further pictures of the study came meanwhile; look at its new result, then decide."
                )
            db.execute(
                "INSERT OR REPLACE INTO decisions VALUES (?, ?, ?, ?, ?)",
                (study_uid, key, made.reader, made.decided, made.corrected),
            )
            self._state.journal.outbox.add(db, parcels, now=time.time())
        return str(result.sop_class_uid)

    def close(self) -> None:
        """Close the journal. Closing twice is fine."""
        self._state.journal.close()

    def _result(self, study_uid: str) -> tuple[str, Rule, Finding, Path]:
        """Key, rule, frame and picture of a study's present result."""
        study = self.study(study_uid)
        key = str(self._state.journal.database.one("SELECT key FROM studies WHERE study_uid = ?", (study_uid,)))
        if study.finding is None or self._state.journal.database.one(_RESULT, (study_uid, key)) is None:
            raise InvalidValueError(
                f"the study is {study.state}; a reader decides on a result. Wait until it was queried."
            )
        finding, rule = study.finding, self._state.config.rule(study.rule)
        if rule is None:
            raise InvalidValueError(
                f"the rule {study.rule!r} of the study is not in the settings any more, and says where a report goes. "
                "Put it back."
            )
        path = next((each.path for each in self.pictures(study_uid) if each.sop_uid == finding.sop_uid), None)
        if path is None:
            raise InvalidValueError(
                f"the picture of the result was removed after {self._state.config.listener.keep_days:g} days "
                "(`keep_days`); send the study again."
            )
        return key, rule, finding, path

    def _last_report(self, study_uid: str) -> str | None:
        sop_uid = self._state.journal.database.one(
            "SELECT sop_uid FROM outbox WHERE study_uid = ? AND kind = 'sr' ORDER BY id DESC LIMIT 1", (study_uid,)
        )
        return None if sop_uid is None else str(sop_uid)
