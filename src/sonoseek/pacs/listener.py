"""The receiving AE: C-ECHO, C-STORE, and a peer's answers on commitment to our own results.

Every storage class is taken, since a refused one makes many senders give up the whole study; what is no ultrasound
picture, or falls under no rule, is acknowledged and not kept. Commitment to what is received is not offered: this is no
archive, and a modality would delete what only lies here.
"""

from __future__ import annotations

import ipaddress
import logging
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from sonoseek.core import InvalidValueError, NotFoundError, ScanReadError, TemporaryError
from sonoseek.io import read_source_header
from sonoseek.pacs.association_server import ACSE_S, PDU_BYTES, AssociationServer, bound_message, configure_pynetdicom
from sonoseek.pacs.audit import StudyOf
from sonoseek.pacs.file_store import ArrivingFile
from sonoseek.pacs.journal import Journal, ReceivedObject
from sonoseek.pacs.rules import ServerTls, network
from sonoseek.pacs.state import State
from sonoseek.pacs.uids import US_IMAGES, is_uid

logger = logging.getLogger(__name__)

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000


@dataclass
class _Session:
    """One association: who it is, and what it has brought."""

    sender: str
    address: str
    studies: dict[str, StudyOf] = field(default_factory=dict)


class Listener:
    """Receives for one state folder, on a thread of its own."""

    def __init__(
        self,
        state: State,
        *,
        on_received: Callable[[], None] = lambda: None,
        on_report: Callable[[], None] = lambda: None,
    ) -> None:
        """Bind the port and begin to receive.

        Args:
            state: of the folder.
            on_received: called after an object was written down.
            on_report: called after a peer's answer on commitment.

        Raises:
            OSError: the port is in use.
            InvalidValueError: the files of the certificate do not load.
        """
        configure_pynetdicom()
        self._state = state
        self._on_received = on_received
        self._on_report = on_report
        self._allowed = [
            (each.ae_title, [network(address) for address in each.addresses]) for each in state.config.senders
        ]
        self._sessions: dict[Association, _Session] = {}
        self._lock = threading.Lock()
        settings = state.config.listener
        ae = AE(settings.ae_title)
        ae.maximum_associations = 1_000_000  # counted here, by what is negotiated: silent ones do not count
        ae.maximum_pdu_size = PDU_BYTES
        ae.acse_timeout = ACSE_S
        ae.network_timeout = ae.dimse_timeout = settings.timeout_seconds
        ae.add_supported_context(Verification)
        # The peer that reports is the provider of this service: it proposes to be SCP, and is accepted as such.
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
        self._server = AssociationServer(
            ae,
            address=(settings.address, settings.port),
            handlers=[
                (evt.EVT_REQUESTED, self._on_requested),
                (evt.EVT_PDU_RECV, bound_message),
                (evt.EVT_C_STORE, self._on_store),
                (evt.EVT_N_EVENT_REPORT, self._on_commitment),
            ],
            store=state.store,
            allows=self._allows,
            on_refused=lambda address, reason: state.audit.refused(address, "", reason),
            on_end=self._on_end,
            tls=None if settings.tls is None else server_tls(settings.tls),
            timeout_s=settings.timeout_seconds,
        )
        self.port: int = self._server.server_address[1]
        self._stopped = False
        self._server.start("pacs-listener")

    def stop(self) -> None:
        """End every association, and the port. Stopping twice is fine."""
        if not self._stopped:
            self._stopped = True
            with self._lock:
                admitted = list(self._sessions)
            self._server.stop(admitted)

    def _allows(self, address: str) -> bool:
        place = _place(address)
        return any(place in each for _, networks in self._allowed for each in networks)

    def _allows_title(self, title: str, address: str) -> bool:
        place = _place(address)
        return any(title == own and any(place in each for each in networks) for own, networks in self._allowed)

    def _on_requested(self, event: evt.Event) -> None:
        """Admit an association, or reject it with the reason that PS3.8 9.3.4 has for it."""
        association = event.assoc
        requestor = association.requestor
        client = requestor.address_info.as_tuple if requestor.address_info is not None else ("", 0)
        address = client[0]
        primitive = requestor.primitive
        title = "" if primitive is None else str(primitive.calling_ae_title or "").strip()
        called = "" if primitive is None else str(primitive.called_ae_title or "").strip()
        self._server.spoke(client)
        with self._lock:
            if not self._allows_title(title, address):
                refusal = (0x01, 0x01, 0x03), "calling AE title not allowed from this address"
            elif called != self._state.config.listener.ae_title:
                refusal = (0x01, 0x01, 0x07), "called AE title not known"
            elif len(self._sessions) >= self._state.config.listener.max_associations:
                refusal = (0x02, 0x03, 0x02), "too many associations"
            else:
                self._sessions[association] = _Session(title, address)
                return
        association.acse.send_reject(*refusal[0])
        evt.trigger(association, evt.EVT_REJECTED, {})
        association.kill()
        self._state.audit.refused(address, title, refusal[1])

    def _on_end(self, association: Association) -> None:
        with self._lock:
            session = self._sessions.pop(association, None)
        if session is not None:
            for study in session.studies.values():
                self._state.audit.received(session.sender, session.address, study)

    def _on_store(self, event: evt.Event) -> int:
        """Receive one object; PS3.4 B.2.3 has the statuses."""
        association = event.assoc
        arrived = getattr(event.request, "_dataset_file", None)
        with self._lock:
            session = self._sessions.get(association)
        if session is None or not isinstance(arrived, ArrivingFile):
            return CANNOT_UNDERSTAND
        self._server.take(association, arrived)
        try:
            arrived.finish()
            sop_class = str(event.request.AffectedSOPClassUID)
            sop_uid = str(event.request.AffectedSOPInstanceUID)  # type: ignore[union-attr]
            return self._receive(arrived, session, sop_class, sop_uid)
        except (OSError, TemporaryError) as error:
            logger.error("an object of %s was not received: %s", session.sender, error)  # noqa: TRY400  # no trace
            return OUT_OF_RESOURCES
        finally:
            arrived.drop()

    def _receive(self, arrived: ArrivingFile, session: _Session, sop_class: str, sop_uid: str) -> int:
        state = self._state
        if not is_uid(sop_uid) or not is_uid(sop_class):
            state.audit.refused(session.address, session.sender, "a SOP Instance UID that breaks PS3.5 9.1")
            return CANNOT_UNDERSTAND
        if sop_class not in US_IMAGES:
            state.journal.discard(sop_class)
            return SUCCESS
        if arrived.full:
            logger.error("no room for an object of %s: the disk is full, or it exceeds max_object_mb", session.sender)
            return OUT_OF_RESOURCES
        try:
            header = read_source_header(Path(arrived.name))
        except (ScanReadError, NotFoundError, InvalidValueError) as error:
            logger.warning("an object of %s does not read: %s", session.sender, error)
            return CANNOT_UNDERSTAND
        if (header.sop_class_uid, header.sop_instance_uid) != (sop_class, sop_uid):
            state.audit.refused(session.address, session.sender, "the data set's UIDs are not those of the request")
            return DOES_NOT_MATCH
        if not is_uid(header.study_instance_uid):
            return CANNOT_UNDERSTAND
        rule = state.config.fitting_rule(sender=session.sender, modality=header.modality, body_part=header.body_part)
        if rule is None:
            state.journal.discard(sop_class)
            return SUCCESS
        item = ReceivedObject(
            sop_uid=sop_uid,
            sop_class=sop_class,
            study_uid=header.study_instance_uid,
            series_uid=header.series_instance_uid,
            modality=header.modality,
            body_part=header.body_part,
            patient_id=header.patient_id,
            patient_name=header.patient_name,
            accession=header.accession_number,
            study_date=header.study_date,
            sender=session.sender,
            address=session.address,
            file=state.store.keep(arrived, sop_uid),
            digest=arrived.digest,
            size=arrived.size,
        )
        receipt = state.journal.receive(item, rule=rule.name, quiet_s=rule.quiet_seconds)
        if receipt.stray is not None:
            state.store.remove([receipt.stray], [])
        if receipt.outcome == "foreign":
            state.audit.refused(session.address, session.sender, "a SOP Instance UID of an object of another study")
            return DOES_NOT_MATCH
        if receipt.outcome == "differs":
            logger.warning("an object of %s was here before with other content; the first stays", session.sender)
            return SUCCESS
        study = session.studies.setdefault(
            item.study_uid, StudyOf(study_uid=item.study_uid, patient_id=item.patient_id, classes=Counter())
        )
        study.classes[sop_class] += 1
        self._on_received()
        return SUCCESS

    def _on_commitment(self, event: evt.Event) -> tuple[int, None]:
        """A peer's answer: event type 1, all is committed to; 2, something failed. PS3.4 J.3.3."""
        answered = take_commitment(self._state.journal, event)
        if answered:
            self._on_report()
        return SUCCESS, None


def take_commitment(journal: Journal, event: evt.Event) -> int:
    """Write down a peer's answer on commitment; returns how many of our objects it names."""
    answer = event.event_information

    def uids(sequence: str) -> list[str]:
        return [str(item.get("ReferencedSOPInstanceUID", "")) for item in answer.get(sequence) or ()]

    return journal.outbox.report(
        str(answer.get("TransactionUID", "")), committed=uids("ReferencedSOPSequence"), failed=uids("FailedSOPSequence")
    )


def server_tls(files: ServerTls) -> ssl.SSLContext:
    """TLS 1.2 or newer; clients must show a certificate of `client_ca`.

    Raises:
        InvalidValueError: a file is not there, is no certificate or key, or they do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(files.certificate, files.key)
        context.load_verify_locations(files.client_ca)
    except OSError as error:  # also those of ssl
        raise InvalidValueError(
            f"listener.tls: certificate {files.certificate}, key {files.key} or client_ca {files.client_ca} does not "
            f"load ({getattr(error, 'reason', None) or error.strerror or error}); they are PEM files that this user "
            "can read, and the key is the certificate's. Correct them."
        ) from error
    return context


def _place(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address without its zone; one of IPv4 that came in by IPv6 as what it is."""
    place = ipaddress.ip_address(address.partition("%")[0])
    return place.ipv4_mapped or place if isinstance(place, ipaddress.IPv6Address) else place
