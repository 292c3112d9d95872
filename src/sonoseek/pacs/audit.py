"""The audit trail: who sent what, what was queried, what was sent where, who was refused. DICOM PS3.15 A.5.

Each message is one line of XML in an append-only file. A repository, where there is one, gets the same messages as
RFC 5424 syslog over TLS (RFC 5425); the file is its queue, so that a repository that is away loses none.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import time
import xml.etree.ElementTree as ET
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sonoseek.core.files import PRIVATE, make_private_folder

logger = logging.getLogger(__name__)

UNWRITTEN = 10_000
"""Messages that are kept in memory while the file cannot be written; beyond, the oldest are lost."""
REFUSED_EVERY_S = 60.0
"""One message in this time for one address and reason; a flood must not fill the disk."""
MOST_REFUSED = 1024
"""Addresses and reasons that are remembered for this."""
_ACTIVITY = ("110100", "Application Activity")
_ACCESSED = ("110103", "DICOM Instances Accessed")
_TRANSFERRED = ("110104", "DICOM Instances Transferred")
_ALERT = ("110113", "Security Alert")
_STARTED = ("110120", "Application Start")
_STOPPED = ("110121", "Application Stop")
_NODE_AUTHENTICATION = ("110126", "Node Authentication")
_SOURCE = ("110153", "Source Role ID")
_DESTINATION = ("110152", "Destination Role ID")
_APPLICATION = ("110150", "Application")


@dataclass
class StudyOf:
    """Objects of one study, for a message.

    Attributes:
        study_uid: Study Instance UID.
        patient_id: (0010,0020).
        classes: SOP class → number of objects.
    """

    study_uid: str
    patient_id: str
    classes: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Participant:
    """An application that takes part: AE title, IP address or host name, whether it began, its role."""

    title: str
    address: str
    requestor: bool
    role: tuple[str, str]


class AuditTrail:
    """Appends to a file of mode 0600. Safe for several threads."""

    def __init__(self, file: Path, *, ae_title: str) -> None:
        """Take the file; it is opened anew for each message, so that it may be rotated.

        Args:
            file: made with its folder if need be.
            ae_title: of this application, as the source of the messages.

        Raises:
            OSError: the folder cannot be made, or the file not be written.
        """
        make_private_folder(file.parent)
        os.close(_open(file))
        self.file = file
        self._ae_title = ae_title
        self.on_message: Callable[[], None] = lambda: None  # called after each
        self._lock = threading.Lock()
        self._unwritten: deque[bytes] = deque(maxlen=UNWRITTEN)
        self._refused: dict[tuple[str, str, str], tuple[float, int]] = {}

    def started(self) -> None:
        """The application begins."""
        self._write(_ACTIVITY, "E", event_type=_STARTED, participants=[self._self(requestor=False, role=_APPLICATION)])

    def stopped(self) -> None:
        """The application ends."""
        self._write(_ACTIVITY, "E", event_type=_STOPPED, participants=[self._self(requestor=False, role=_APPLICATION)])

    def received(self, sender: str, address: str, study: StudyOf) -> None:
        """Objects of a study have come in."""
        parts = [_Participant(sender, address, True, _SOURCE), self._self(requestor=False, role=_DESTINATION)]
        self._write(_TRANSFERRED, "C", participants=parts, study=study)

    def sent(self, peer: str, address: str, study: StudyOf, *, failed: bool = False) -> None:
        """Objects of a study have gone out, or were refused."""
        parts = [self._self(requestor=True, role=_SOURCE), _Participant(peer, address, False, _DESTINATION)]
        self._write(_TRANSFERRED, "R", participants=parts, study=study, failed=failed)

    def queried(self, study: StudyOf, *, failed: bool = False) -> None:
        """A study was queried."""
        parts = [self._self(requestor=True, role=_APPLICATION)]
        self._write(_ACCESSED, "R", participants=parts, study=study, failed=failed)

    def decided(self, reader: str, signed_in: str, study: StudyOf) -> None:
        """A reader has accepted or corrected a result.

        Args:
            reader: name that the report carries.
            signed_in: name by which a proxy knows the reader; "": it is not known.
            study: with the class of the report.
        """
        parts = [self._self(requestor=False, role=_APPLICATION)]
        self._write(_ACCESSED, "U", participants=parts, person=(signed_in or reader, reader), study=study)

    def alarm(self, study: StudyOf, reason: str) -> None:
        """A peer has accepted objects and does not commit to them."""
        parts = [self._self(requestor=True, role=_SOURCE)]
        self._write(_ALERT, "E", participants=parts, study=study, failed=True, reason=reason)

    def refused(self, address: str, ae_title: str, reason: str) -> None:
        """A connection, an association or an object was refused; repetitions are counted and not written."""
        key, now = (address, ae_title, reason), time.monotonic()
        with self._lock:
            last, passed = self._refused.pop(key, (-REFUSED_EVERY_S, 0))
            silent = now - last < REFUSED_EVERY_S
            self._refused[key] = (last, passed + 1) if silent else (now, 0)
            if len(self._refused) > MOST_REFUSED:
                del self._refused[next(iter(self._refused))]
        if not silent:
            text = f"{reason} ({passed} more since the last message)" if passed else reason
            parts = [_Participant(ae_title, address, True, _SOURCE), self._self(requestor=False, role=_DESTINATION)]
            self._write(_ALERT, "E", event_type=_NODE_AUTHENTICATION, participants=parts, failed=True, reason=text)

    def _self(self, *, requestor: bool, role: tuple[str, str]) -> _Participant:
        return _Participant(self._ae_title, socket.gethostname(), requestor, role)

    def _write(
        self,
        event: tuple[str, str],
        action: str,
        *,
        participants: list[_Participant],
        person: tuple[str, str] | None = None,
        event_type: tuple[str, str] | None = None,
        study: StudyOf | None = None,
        failed: bool = False,
        reason: str = "",
    ) -> None:
        root = ET.Element("AuditMessage")
        what = ET.SubElement(
            root,
            "EventIdentification",
            EventActionCode=action,
            EventDateTime=datetime.now(UTC).isoformat(timespec="milliseconds"),
            EventOutcomeIndicator="4" if failed else "0",
        )
        _code(what, "EventID", event)
        if event_type is not None:
            _code(what, "EventTypeCode", event_type)
        if reason:
            ET.SubElement(what, "EventOutcomeDescription").text = _clean(reason)
        if person is not None:
            user, name = map(_clean, person)
            ET.SubElement(root, "ActiveParticipant", UserID=user, UserName=name, UserIsRequestor="true")
        for each in participants:
            _participant(root, each)
        source = ET.SubElement(root, "AuditSourceIdentification", AuditSourceID=_clean(self._ae_title))
        ET.SubElement(source, "AuditSourceTypeCode", {"csd-code": "4"})
        if study is not None:
            _study(root, study)
        self._append(ET.tostring(root, encoding="unicode").encode("utf-8", "replace") + b"\n")

    def _append(self, line: bytes) -> None:
        """Write a message, and those before it that could not be written; a full disk must not end what it is about."""
        with self._lock:
            began = not self._unwritten
            self._unwritten.append(line)
            try:
                handle = _open(self.file)
                try:
                    while self._unwritten:
                        _write_whole(handle, self._unwritten[0])
                        self._unwritten.popleft()
                    os.fsync(handle)
                finally:
                    os.close(handle)
            except OSError as error:
                if began:
                    logger.error("the audit trail is not written, its messages wait: %s", error)  # noqa: TRY400
        self.on_message()


def _open(file: Path) -> int:
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE)


def _write_whole(handle: int, line: bytes) -> None:
    """Append a line, or nothing: half a line would spoil the next one."""
    size = os.fstat(handle).st_size
    if os.write(handle, line) != len(line):
        os.ftruncate(handle, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _code(parent: ET.Element, name: str, code: tuple[str, str], system: str = "DCM") -> ET.Element:
    return ET.SubElement(parent, name, {"csd-code": code[0], "codeSystemName": system, "originalText": code[1]})


def _participant(root: ET.Element, each: _Participant) -> None:
    numeric = (bool(each.address) and all(part.isdigit() for part in each.address.split("."))) or ":" in each.address
    part = ET.SubElement(
        root,
        "ActiveParticipant",
        UserID=_clean(each.title) or "unknown",
        AlternativeUserID=f"AETITLES={_clean(each.title)}",
        UserIsRequestor="true" if each.requestor else "false",
        NetworkAccessPointID=_clean(each.address),
        NetworkAccessPointTypeCode="2" if numeric else "1",
    )
    _code(part, "RoleIDCode", each.role)


def _study(root: ET.Element, study: StudyOf) -> None:
    about = ET.SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=_clean(study.study_uid),
        ParticipantObjectTypeCode="2",
        ParticipantObjectTypeCodeRole="3",
    )
    _code(about, "ParticipantObjectIDTypeCode", ("110180", "Study Instance UID"))
    description = ET.SubElement(about, "ParticipantObjectDescription")
    for uid, count in sorted(study.classes.items()):
        ET.SubElement(description, "SOPClass", UID=_clean(uid), NumberOfInstances=str(count))
    patient = ET.SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=_clean(study.patient_id) or "unknown",
        ParticipantObjectTypeCode="1",
        ParticipantObjectTypeCodeRole="1",
    )
    _code(patient, "ParticipantObjectIDTypeCode", ("2", "Patient Number"), "RFC-3881")


def _clean(text: str) -> str:
    """What XML can carry: without control characters, which a sender might choose."""
    return "".join(character for character in text if character.isprintable())
