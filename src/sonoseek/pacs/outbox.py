"""Sends results to the peers: one thread a peer, with retries that double their distance, and storage commitment."""

from __future__ import annotations

import logging
import ssl
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dsutils import split_dataset
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from sonoseek.core import InvalidValueError, SonoseekError
from sonoseek.pacs.association_server import configure_pynetdicom
from sonoseek.pacs.audit import StudyOf
from sonoseek.pacs.listener import take_commitment
from sonoseek.pacs.outbox_rows import Parcel
from sonoseek.pacs.rules import ClientTls, Peer
from sonoseek.pacs.state import State
from sonoseek.pacs.waiting import AlarmThread

logger = logging.getLogger(__name__)

CONNECT_S = 10.0
ANSWER_S = 60.0
"""Seconds that a peer may take for an answer."""
_STORED = (0x0000, 0x0111)
"""Success, and "duplicate SOP instance": a result that is sent again is the same object."""
_UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


class PeerSender(AlarmThread):
    """The thread of one peer. It sleeps until something is due."""

    def __init__(
        self,
        peer: Peer,
        state: State,
        *,
        on_visit: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the parts; `start` begins.

        Args:
            peer: of this thread.
            state: of the folder.
            on_visit: called after an association with the peer.

        Raises:
            InvalidValueError: the files of the certificate do not load.
        """
        super().__init__(f"pacs-outbox-{peer.name}")
        configure_pynetdicom()
        self._peer = peer
        self._title = peer.calling_ae_title or state.config.listener.ae_title
        self._tls = None if peer.tls is None else (client_tls(peer.tls), peer.tls.server_name or peer.host)
        self._state = state
        self._rows = state.journal.outbox
        self._on_visit = on_visit
        self._failures = 0
        self._announced = {parcel.row for parcel in self._rows.alarms(peer.name)}

    def _run(self) -> None:
        while not self.alarm.stopped:
            try:
                until = self.work()
            except (SonoseekError, OSError):
                logger.exception("the outbox of %s could not be used; again in a minute", self._peer.name)
                until = time.time() + 60.0
            except Exception:  # one object must not end the others
                logger.exception("the outbox of %s: an error of ours; again in a minute", self._peer.name)
                until = time.time() + 60.0
            if until is None or until > time.time():
                self.alarm.wait(until=until)

    def work(self) -> float | None:
        """Do what is due now; returns when something is due next, seconds since 1970, or None."""
        name = self._peer.name
        self._rows.follow_clock(
            name, max(self._peer.retry_seconds, self._peer.retry_limit_seconds, self._peer.commitment_seconds)
        )
        self._rows.unanswered(name, again_at=time.time() + self._peer.retry_seconds)
        due = self._rows.due(name)
        if due or self._rows.uncommitted(name):
            pause = self._visit(due)
            self._announce()
            self._on_visit()
            if pause is not None:
                return pause
        else:
            self._announce()
        return self._rows.next_due(name)

    def _visit(self, due: Sequence[Parcel]) -> float | None:
        """One association: send what is due, ask for commitment; returns until when the peer is left alone."""
        syntaxes, uncommitted = {}, self._rows.uncommitted(self._peer.name)
        for parcel in due:
            try:
                syntaxes[parcel.row] = _syntax(self._state.store.outbox / parcel.file)
            except Exception as error:  # pydicom raises whatever a damaged file leads to
                message = f"its file does not read ({type(error).__name__}); make the result again"
                self._rows.not_sent(parcel, message, again_at=None, refused=True)
        due = [parcel for parcel in due if parcel.row in syntaxes]
        if not due and not uncommitted:
            return None
        try:
            association = self._associate({(parcel.sop_class, syntaxes[parcel.row]) for parcel in due})
        except OSError as error:  # a name without an address
            return self._put_off(due, f"no association with {self._peer.host}:{self._peer.port}: {error}")
        if not association.is_established:
            return self._put_off(due, f"no association with {self._peer.host}:{self._peer.port}: {_why(association)}")
        self._failures = 0
        try:
            for index, parcel in enumerate(due):
                if self.alarm.stopped:
                    return None
                if not self._send(association, parcel):
                    return self._put_off(due[index + 1 :], "the association ended")
            if self._peer.commitment:
                self._request(association, self._rows.uncommitted(self._peer.name))
        finally:
            if association.is_established:
                association.release()
        return None

    def _associate(self, kinds: set[tuple[str, UID]]) -> Association:
        ae = AE(self._title)
        ae.connection_timeout, ae.acse_timeout = CONNECT_S, CONNECT_S
        ae.dimse_timeout = ae.network_timeout = ANSWER_S
        for sop_class, syntax in sorted(kinds):
            for each in _UNCOMPRESSED if syntax in _UNCOMPRESSED else (syntax,):
                ae.add_requested_context(sop_class, each)
        if self._peer.commitment:
            ae.add_requested_context(StorageCommitmentPushModel)
        if not ae.requested_contexts:
            ae.add_requested_context("1.2.840.10008.1.1")
        return ae.associate(
            self._peer.host,
            self._peer.port,
            ae_title=self._peer.ae_title,
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._on_report)],
            tls_args=self._tls,
        )

    def _on_report(self, event: evt.Event) -> tuple[int, None]:
        """An answer on commitment that comes on the same association."""
        take_commitment(self._state.journal, event)
        self.alarm.ring()
        return 0x0000, None

    def _send(self, association: Association, parcel: Parcel) -> bool:
        """Send one object; returns whether the association goes on."""
        file = self._state.store.outbox / parcel.file
        syntax = _syntax(file)
        accepted = {
            context.transfer_syntax[0]
            for context in association.accepted_contexts
            if context.abstract_syntax == parcel.sop_class
        }
        content: Path | Dataset = file
        if syntax not in accepted and syntax in _UNCOMPRESSED and accepted & set(_UNCOMPRESSED):
            content = dcmread(file)  # ours; encoded again, in the one that the peer takes
        elif syntax not in accepted:
            self._refused(parcel, f"the peer takes no {parcel.sop_class} in {syntax}")
            return True
        try:
            answer = association.send_c_store(content)
        except Exception as error:  # the file is damaged behind its head, or the association is gone
            self._refused(parcel, f"it was not sent: {type(error).__name__}: {error}")
            return association.is_established
        if "Status" not in answer:
            self._again(parcel, "the peer did not answer")
            return False
        status = int(answer.Status)
        if status in _STORED or status & 0xF000 == 0xB000:  # warnings: stored, with some elements changed
            self._rows.sent(parcel)
            self._state.audit.sent(self._peer.ae_title, self._peer.host, self._study(parcel))
        elif status & 0xFF00 == 0xA700:
            self._again(parcel, f"the peer is out of resources (0x{status:04X})")
        else:
            comment = "".join(filter(str.isprintable, str(answer.get("ErrorComment", ""))))  # the peer chooses it
            self._refused(parcel, f"the peer refuses it with 0x{status:04X} {comment}".strip())
        return association.is_established

    def _request(self, association: Association, parcels: Sequence[Parcel]) -> None:
        """Ask for commitment to these objects. PS3.4 J.3.2."""
        if not parcels:
            return
        uid = str(generate_uid())
        request = Dataset()
        request.TransactionUID = uid
        request.ReferencedSOPSequence = [_reference(parcel) for parcel in parcels]
        self._rows.requested(parcels, uid, answer_by=time.time() + self._peer.commitment_seconds)
        try:
            status, _ = association.send_n_action(
                request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
            problem = "" if status.get("Status") == 0x0000 else f"refused with 0x{status.get('Status', 0):04X}"
        except (ValueError, RuntimeError) as error:  # the context was not accepted; the association is gone
            problem = str(error)
        if problem:
            self._rows.not_requested(uid, problem, again_at=time.time() + self._peer.retry_seconds)

    def _again(self, parcel: Parcel, message: str) -> None:
        wait = _back_off(self._peer, parcel.attempts)
        over = time.time() - parcel.created > self._peer.give_up_hours * 3600
        self._rows.not_sent(parcel, message, again_at=None if over else time.time() + wait, refused=False)

    def _refused(self, parcel: Parcel, message: str) -> None:
        last = parcel.refusals + 1 >= self._peer.attempts
        again = None if last else time.time() + _back_off(self._peer, parcel.refusals)
        self._rows.not_sent(parcel, message, again_at=again, refused=True)
        logger.error("%s: object %s: %s", self._peer.name, parcel.sop_uid, message)
        self._state.audit.sent(self._peer.ae_title, self._peer.host, self._study(parcel), failed=True)

    def _put_off(self, parcels: Sequence[Parcel], message: str) -> float:
        """The peer cannot be reached: everything that is due waits; returns until when."""
        until = time.time() + _back_off(self._peer, self._failures)
        if self._failures == 0:
            logger.warning("%s: %s; results wait", self._peer.name, message)
        self._failures += 1
        for parcel in parcels:
            self._again(parcel, message)
        return until

    def _announce(self) -> None:
        """Write down each new alarm once."""
        if not self._peer.commitment:
            return
        for parcel in self._rows.alarms(self._peer.name):
            if parcel.row not in self._announced:
                self._announced.add(parcel.row)
                logger.error("ALARM: %s has not committed to object %s", self._peer.name, parcel.sop_uid)
                self._state.audit.alarm(self._study(parcel), f"{self._peer.name}: {parcel.message}")

    def _study(self, parcel: Parcel) -> StudyOf:
        patient = self._state.journal.patient(parcel.study_uid)
        return StudyOf(study_uid=parcel.study_uid, patient_id=patient, classes=Counter({parcel.sop_class: 1}))


def client_tls(files: ClientTls) -> ssl.SSLContext:
    """TLS 1.2 or newer; the peer's certificate and name are checked.

    Raises:
        InvalidValueError: a file is not there, is no certificate or key, or they do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(files.ca)
        if files.certificate is not None and files.key is not None:
            context.load_cert_chain(files.certificate, files.key)
    except OSError as error:  # also those of ssl
        raise InvalidValueError(
            f"tls: ca {files.ca}, certificate {files.certificate} or key {files.key} does not load "
            f"({getattr(error, 'reason', None) or error.strerror or error}); they are PEM files that this user can "
            "read, and the key is the certificate's. Correct them."
        ) from error
    return context


def _syntax(file: Path) -> UID:
    meta, _ = split_dataset(file)
    return UID(meta.TransferSyntaxUID)


def _reference(parcel: Parcel) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = parcel.sop_class
    item.ReferencedSOPInstanceUID = parcel.sop_uid
    return item


def _back_off(peer: Peer, before: int) -> float:
    """Seconds until the next attempt, after so many."""
    return float(min(peer.retry_limit_seconds, peer.retry_seconds * 2 ** min(before, 30)))


def _why(association: Any) -> str:
    if association.is_rejected:
        primitive = association.acceptor.primitive
        return f"rejected ({getattr(primitive, 'reason_str', '')})"
    return "it does not answer, or ends it; `sonoseek pacs check` says what to change"
