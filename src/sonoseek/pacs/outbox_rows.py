"""The journal's outbox: each object that goes to a peer, and how far it has come."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sonoseek.pacs.database import Database
from sonoseek.pacs.file_store import FileStore
from sonoseek.pacs.rules import Peer

if TYPE_CHECKING:
    from sonoseek.reports.dicom import DicomResult

ParcelState = Literal["waiting", "sent", "committed", "failed", "alarm"]
COMMIT_TRIES = 3
"""Requests for commitment that a peer leaves unanswered, after which its objects count as alarms."""
_OPEN = "peer = ? AND (state = 'waiting' OR (state = 'sent' AND commitment))"


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """One object for one peer.

    Attributes:
        study_uid, key: of the study; the key is "" of a file that a person sends.
        kind: "sr", "sc" …; "file" of a file that a person sends.
        sop_class, sop_uid: of the object.
        file: name in the outbox folder.
        peer: name.
        commitment: whether the peer is asked to commit to it.
        row: number in the journal; 0 before it is written down.
        attempts: to send it, so far.
        refusals: of these, those that the peer answered.
        created: seconds since 1970.
        state: "waiting" to be sent; "sent", "committed", "failed" for good, or "alarm": accepted, yet not committed.
        message: of the last failure.
    """

    study_uid: str
    key: str
    kind: str
    sop_class: str
    sop_uid: str
    file: str
    peer: str
    commitment: bool
    row: int = 0
    attempts: int = 0
    refusals: int = 0
    created: float = 0.0
    state: ParcelState = "waiting"
    message: str = ""


def make_parcels(
    results: Sequence[DicomResult], store: FileStore, *, study_uid: str, key: str, peers: Sequence[Peer]
) -> list[Parcel]:
    """Write the objects of a study into the outbox folder, flushed to disk; a parcel of each for each peer.

    Raises:
        OSError: the disk is full.
    """
    files = [store.put_out(result.sop_instance_uid, result.content) for result in results]
    return [
        Parcel(
            study_uid=study_uid,
            key=key,
            kind=result.kind,
            sop_class=result.sop_class_uid,
            sop_uid=result.sop_instance_uid,
            file=file,
            peer=peer.name,
            commitment=peer.commitment,
        )
        for result, file in zip(results, files, strict=True)
        for peer in peers
    ]


class OutboxRows:
    """Rows of the table `outbox`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, db: sqlite3.Connection, parcels: Sequence[Parcel], *, now: float) -> None:
        """Write down parcels within a transaction. One that is there already is sent again."""
        for each in parcels:
            db.execute(
                """INSERT INTO outbox (study_uid, key, kind, sop_class, sop_uid, file, peer, state, due, created,
                commitment) VALUES (?, ?, ?, ?, ?, ?, ?, 'waiting', ?, ?, ?)
                ON CONFLICT (sop_uid, peer) DO UPDATE SET state = 'waiting', due = excluded.due, attempts = 0,
                refusals = 0, commit_tries = 0, commit_failures = 0, transaction_uid = NULL, file = excluded.file,
                created = excluded.created""",
                (
                    *(each.study_uid, each.key, each.kind, each.sop_class, each.sop_uid, each.file, each.peer),
                    *(now, now, int(each.commitment)),
                ),
            )

    def queue(self, parcels: Sequence[Parcel]) -> None:
        """Write down parcels that a person sends."""
        with self._database.writing() as db:
            self.add(db, parcels, now=time.time())

    def due(self, peer: str) -> list[Parcel]:
        """Parcels of a peer that are to be sent now, the oldest first, 100 at most."""
        return self._parcels("peer = ? AND state = 'waiting' AND due <= ? ORDER BY id LIMIT 100", peer, time.time())

    def uncommitted(self, peer: str) -> list[Parcel]:
        """Parcels of a peer for which commitment is to be requested now, 100 at most."""
        return self._parcels(
            "peer = ? AND state = 'sent' AND commitment AND transaction_uid IS NULL AND due <= ? ORDER BY id LIMIT 100",
            *(peer, time.time()),
        )

    def recover(self) -> None:
        """Ask for commitment again where the answer may have come while nobody listened; that counts as no try."""
        with self._database.writing() as db:
            db.execute(
                """UPDATE outbox SET transaction_uid = NULL, due = 0, commit_tries = max(commit_tries - 1, 0)
                WHERE state = 'sent' AND transaction_uid IS NOT NULL"""
            )

    def alarms(self, peer: str) -> list[Parcel]:
        """Parcels that a peer has accepted and does not commit to."""
        return self._parcels("peer = ? AND state = 'alarm' ORDER BY id", peer)

    def adapt(self, peers: Mapping[str, bool]) -> None:
        """Fit the rows to the settings, which may have changed since they were written.

        Args:
            peers: name → whether the peer is asked for commitment. Parcels for others fail; commitment that is not
                asked for any more is not waited for.
        """
        with self._database.writing() as db:
            for (peer,) in db.execute("SELECT DISTINCT peer FROM outbox WHERE state IN ('waiting', 'sent')").fetchall():
                if peer not in peers:
                    db.execute(
                        "UPDATE outbox SET state = 'failed', message = ? WHERE peer = ? AND state = 'waiting'",
                        (f"the settings have no peer {peer!r} any more", peer),
                    )
                if not peers.get(peer, False):
                    db.execute(
                        "UPDATE outbox SET commitment = 0 WHERE peer = ? AND state IN ('waiting', 'sent')", (peer,)
                    )

    def all(self) -> list[Parcel]:
        """Every parcel."""
        return self._parcels("1 ORDER BY id")

    def files(self) -> set[str]:
        """Names in the outbox folder of every file that is written down."""
        return {row[0] for row in self._database.all("SELECT file FROM outbox WHERE file != ''")}

    def sent(self, parcel: Parcel) -> None:
        """The peer has accepted it."""
        self._set(parcel, "state = 'sent', sent = ?, due = ?, message = '', transaction_uid = NULL", time.time(), 0.0)

    def not_sent(self, parcel: Parcel, message: str, *, again_at: float | None, refused: bool) -> None:
        """It was not accepted; again at this time, or, with None, not by itself."""
        self._set(
            parcel,
            "state = ?, due = ?, message = ?, attempts = attempts + 1, refusals = refusals + ?",
            *("failed" if again_at is None else "waiting", again_at or 0.0, message[:1000], int(refused)),
        )

    def requested(self, parcels: Sequence[Parcel], transaction_uid: str, *, answer_by: float) -> None:
        """Commitment is about to be requested; the answer may come before the request's own."""
        with self._database.writing() as db:
            db.executemany(
                """UPDATE outbox SET transaction_uid = ?, due = ?, commit_tries = commit_tries + 1
                WHERE id = ? AND state = 'sent'""",
                [(transaction_uid, answer_by, parcel.row) for parcel in parcels],
            )

    def not_requested(self, transaction_uid: str, message: str, *, again_at: float) -> None:
        """The request did not arrive; again at this time, after `COMMIT_TRIES` an alarm."""
        with self._database.writing() as db:
            self._unanswered(db, transaction_uid, message, again_at)

    def unanswered(self, peer: str, *, again_at: float) -> None:
        """Requests of a peer whose time is over: again at this time, after `COMMIT_TRIES` an alarm."""
        overdue = self._database.all(
            """SELECT DISTINCT transaction_uid FROM outbox
            WHERE peer = ? AND state = 'sent' AND transaction_uid IS NOT NULL AND due <= ?""",
            (peer, time.time()),
        )
        if overdue:
            with self._database.writing() as db:
                for (uid,) in overdue:
                    self._unanswered(db, uid, "the peer did not answer in time", again_at)

    def _unanswered(self, db: sqlite3.Connection, transaction_uid: str, message: str, again_at: float) -> None:
        db.execute(
            """UPDATE outbox SET transaction_uid = NULL, due = ?, message = ?,
            state = CASE WHEN commit_tries >= ? THEN 'alarm' ELSE 'sent' END
            WHERE state = 'sent' AND transaction_uid = ?""",
            (again_at, f"commitment: {message}"[:1000], COMMIT_TRIES, transaction_uid),
        )

    def report(self, transaction_uid: str, *, committed: Collection[str], failed: Collection[str]) -> int:
        """A peer's answer on a transaction. What it committed to is through; what failed is sent once more, then alarm.

        Returns:
            Objects of this transaction that the answer names; 0: no such transaction is open.
        """
        now = time.time()
        changed = 0
        with self._database.writing() as db:
            # One that is in both lists is not safe.
            for uid in failed:
                changed += db.execute(
                    """UPDATE outbox SET state = CASE WHEN commit_failures > 0 THEN 'alarm' ELSE 'waiting' END, due = ?,
                    commit_failures = commit_failures + 1, transaction_uid = NULL, commit_tries = 0,
                    message = 'commitment: the peer reports a failure for this object'
                    WHERE transaction_uid = ? AND sop_uid = ? AND state = 'sent'""",
                    (now, transaction_uid, uid),
                ).rowcount
            for uid in committed:
                changed += db.execute(
                    """UPDATE outbox SET state = 'committed', committed = ?, message = '', transaction_uid = NULL
                    WHERE transaction_uid = ? AND sop_uid = ? AND state = 'sent'""",
                    (now, transaction_uid, uid),
                ).rowcount
        return changed

    def follow_clock(self, peer: str, longest_s: float) -> None:
        """As `Journal.follow_clock`, for what a peer's parcels wait for."""
        now = time.time()
        last = self._database.one(f"SELECT max(due) FROM outbox WHERE {_OPEN}", (peer,))  # noqa: S608  # our own words
        if last is not None and last > now + longest_s:
            with self._database.writing() as db:
                db.execute(
                    f"UPDATE outbox SET due = ? WHERE {_OPEN} AND due > ?",  # noqa: S608  # our own words
                    (now, peer, now + longest_s),
                )

    def next_due(self, peer: str) -> float | None:
        """When something is to be done for a peer, seconds since 1970; None: nothing."""
        first = self._database.one(
            f"SELECT min(due) FROM outbox WHERE {_OPEN}",  # noqa: S608  # our own words
            (peer,),
        )
        return None if first is None else float(first)

    def retry(self, db: sqlite3.Connection) -> int:
        """Let failed parcels and alarms begin anew, within a transaction; returns how many."""
        return db.execute(
            """UPDATE outbox SET state = 'waiting', due = ?1, created = ?1, attempts = 0, refusals = 0,
            commit_tries = 0, commit_failures = 0, transaction_uid = NULL WHERE state IN ('failed', 'alarm')""",
            (time.time(),),
        ).rowcount

    def counts(self) -> dict[str, int]:
        """Parcels by state."""
        numbers = {row[0]: row[1] for row in self._database.all("SELECT state, count(*) FROM outbox GROUP BY state")}
        return {name: numbers.get(name, 0) for name in ("waiting", "sent", "committed", "failed", "alarm")}

    def _set(self, parcel: Parcel, values: str, *given: object) -> None:
        with self._database.writing() as db:
            db.execute(f"UPDATE outbox SET {values} WHERE id = ?", (*given, parcel.row))  # noqa: S608  # our own words

    def _parcels(self, where: str, *values: object) -> list[Parcel]:
        names = "study_uid, key, kind, sop_class, sop_uid, file, peer, attempts, refusals, created, state, message"
        rows = self._database.all(f"SELECT id, commitment, {names} FROM outbox WHERE {where}", values)  # noqa: S608
        return [
            Parcel(
                row=row["id"],
                commitment=bool(row["commitment"]),
                **{name: row[name] for name in names.split(", ")},
            )
            for row in rows
        ]
