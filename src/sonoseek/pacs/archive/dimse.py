"""An archive by C-FIND and C-GET or C-MOVE, study root (PS3.4 Annex C). Imports pynetdicom when it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sonoseek.core import PeerError, SonoseekError, TemporaryError
from sonoseek.pacs.archive.folder import ImportFolder
from sonoseek.pacs.archive.receiver import Receiver
from sonoseek.pacs.archive.values import (
    PICTURE_CLASSES,
    TRANSFER_SYNTAXES,
    InstanceRef,
    SeriesRef,
    StudyQuery,
    wanted_series,
)
from sonoseek.pacs.association import associate, chunked_receive
from sonoseek.pacs.peer import Peer

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

_T = TypeVar("_T")
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
GET = "1.2.840.10008.5.1.4.1.2.2.3"
"""Study Root Query/Retrieve Information Model (PS3.4 C.6.2)."""
_STUDY_KEYS = ("StudyInstanceUID", "StudyDate", "AccessionNumber", "PatientID", "StudyDescription", "ModalitiesInStudy")
_SERIES_KEYS = (
    "SeriesInstanceUID",
    "Modality",
    "BodyPartExamined",
    "SeriesDescription",
    "NumberOfSeriesRelatedInstances",
)
_PENDING = (0xFF00, 0xFF01)
_FAILURES = {
    0x0122: "it has not this service (SOP class not supported)",
    0x0124: "it does not allow this to our AE title",
    0xA700: "it is out of resources",
    0xA701: "it is out of resources for counting the matches",
    0xA702: "it is out of resources for sending",
    0xA801: "it does not know the AE title that it is to send to",
    0xA900: "it does not understand the identifier",
    0xAA00: "none of the frames asked for are there",
    0xFE00: "it cancelled the operation",
}
"""Status of a C-FIND, C-GET or C-MOVE → what it means. PS3.4 C.4, PS3.7 Annex C."""


class DimseClient:
    """Query and retrieval over associations; one that broke is opened again, once an operation."""

    def __init__(self, peer: Peer, *, drafts: Path | None = None, receiver: Receiver | None = None) -> None:
        """Prepare; nothing is opened yet.

        Args:
            peer: the archive.
            drafts: where files are received; None: for queries alone.
            receiver: takes what a C-MOVE sends; None: C-GET.
        """
        self._peer = peer
        self._drafts = drafts
        self._receiver = receiver
        self._association: Association | None = None
        self._open = ExitStack()
        self._arriving: _Arriving | None = None

    def __enter__(self) -> DimseClient:
        if self._drafts is not None:
            self._open.enter_context(chunked_receive(self._drafts))
        if self._receiver is not None:
            self._open.enter_context(self._receiver)
        return self

    def __exit__(self, *_: object) -> None:
        if self._association is not None:
            self._association.release()
        self._open.close()

    def find_series(self, query: StudyQuery) -> Iterator[SeriesRef]:
        """See `ArchiveClient.find_series`."""
        keys = dict.fromkeys(_STUDY_KEYS, "")
        keys |= {"StudyDate": query.dates, "AccessionNumber": query.accession, "PatientID": query.patient_id}
        # Not all archives support the key; series are filtered again below.
        studies = self._find("STUDY", keys | {"ModalitiesInStudy": "US"})
        series_keys = dict.fromkeys(_SERIES_KEYS, "") | {"Modality": "US"}
        yield from wanted_series(
            query, studies, lambda uid: self._find("SERIES", series_keys | {"StudyInstanceUID": uid}), _text
        )

    def list_instances(self, series: SeriesRef) -> Sequence[InstanceRef]:
        """See `ArchiveClient.list_instances`."""
        keys = {"SOPInstanceUID": "", "SOPClassUID": ""} | _of(series)
        return [
            InstanceRef(sop_instance_uid=_text(item, "SOPInstanceUID"), sop_class_uid=_text(item, "SOPClassUID"))
            for item in self._find("IMAGE", keys)
        ]

    def fetch(self, series: SeriesRef, wanted: Sequence[str], folder: ImportFolder, *, whole: bool) -> dict[str, str]:
        """See `ArchiveClient.fetch`."""
        arriving = _Arriving(folder, wanted)
        reasons: dict[str, str] = {}
        if whole:
            reason = self._retrieve("SERIES", _of(series), arriving)
            reasons = dict.fromkeys(wanted, reason)
        for uid in [uid for uid in wanted if not folder.has(uid)]:  # all of them, or those that did not come
            reasons[uid] = self._retrieve("IMAGE", _of(series) | {"SOPInstanceUID": uid}, arriving)
        return {uid: reasons[uid] for uid in wanted if not folder.has(uid)}

    def _find(self, level: str, keys: Mapping[str, str]) -> list[Dataset]:
        """All answers to a C-FIND."""

        def once(association: Association) -> list[Dataset]:
            answers = []
            for status, identifier in association.send_c_find(_identifier(level, keys), FIND):
                code = _code(self._peer, "C-FIND", status)
                if code in _PENDING:
                    if identifier is None:  # passed over, an object would be missing, and nobody would know
                        raise TemporaryError(f"an answer of {self._peer.place} to C-FIND does not read; try again.")
                    answers.append(identifier)
                elif code != 0x0000:
                    raise _failure(self._peer, "C-FIND", code)
            return answers

        return self._with_association(once)

    def _retrieve(self, level: str, keys: Mapping[str, str], arriving: _Arriving) -> str:
        """One C-GET or C-MOVE; why objects may be missing after it, as text."""
        arriving.folder.check_space()

        def once(association: Association) -> str:
            identifier = _identifier(level, keys)
            if self._receiver is None:
                operation = "C-GET"
                answers = association.send_c_get(identifier, GET)
            else:
                operation = "C-MOVE"
                answers = association.send_c_move(identifier, self._peer.our_ae_title, MOVE)
            code, failed = 0, 0
            for status, _ in answers:
                code = _code(self._peer, operation, status)
                failed = int(status.get("NumberOfFailedSuboperations") or 0)
            if arriving.trouble is not None:
                raise arriving.trouble
            if code in (0x0122, 0x0124, 0xA801):
                raise _failure(self._peer, operation, code)
            if code == 0:
                return "the archive reports success, but did not send it"
            reason = f"the archive could not send {failed or 'some'} objects (status 0x{code:04X})"
            if self._receiver is None:
                return reason
            return f"{reason}; it must know our AE title {self._peer.our_ae_title!r} at port {self._receiver.port}"

        self._arriving = arriving
        if self._receiver is None:
            return self._with_association(once)
        with self._receiver.expecting(arriving.store):
            return self._with_association(once)

    def _with_association(self, operation: Callable[[Association], _T]) -> _T:
        """Do an operation; if its association broke, once more on a new one."""
        association = self._connected()
        try:
            return self._once(operation, association)
        except TemporaryError:
            with suppress(RuntimeError):
                association.abort()
            self._association = None
        return self._once(operation, self._connected())

    def _once(self, operation: Callable[[Association], _T], association: Association) -> _T:
        """Do an operation; what pynetdicom raises for it becomes an error of ours."""
        try:
            return operation(association)
        except SonoseekError:
            raise
        except RuntimeError as error:  # it ended just now
            raise TemporaryError(f"{self._peer.place} ended the association. Try again.") from error
        except ValueError as error:  # no accepted presentation context
            accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
            lacking = [
                name for uid, name in ((FIND, "C-FIND"), (MOVE, "C-MOVE"), (GET, "C-GET")) if uid not in accepted
            ]
            way = "move" if self._receiver is None else "get"
            raise PeerError(
                f"{self._peer.place} does not accept {' or '.join(lacking)} from {self._peer.our_ae_title!r} "
                f"(study root, PS3.4 C.6.2). Allow it there, or fetch another way (--by {way})."
            ) from error

    def _connected(self) -> Association:
        if self._association is not None and self._association.is_established:
            return self._association
        from pynetdicom import evt
        from pynetdicom.presentation import build_context, build_role

        contexts = [build_context(uid) for uid in (FIND, MOVE if self._receiver else GET)]
        roles, handlers = [], []
        if self._drafts is not None and self._receiver is None:
            contexts += picture_contexts()
            roles = [build_role(uid, scp_role=True) for uid in PICTURE_CLASSES]
            handlers = [(evt.EVT_C_STORE, self._on_store)]
        self._association = associate(self._peer, contexts, roles=roles, handlers=handlers)
        return self._association

    def _on_store(self, event: Any) -> int:
        draft = event.dataset_path
        try:
            event.request._dataset_file.close()
            if self._arriving is None:
                return 0xA900
            return self._arriving.store(str(event.request.AffectedSOPInstanceUID), draft)
        finally:
            draft.unlink(missing_ok=True)


class _Arriving:
    """Objects on their way into a folder. `store` is called by the thread of an association."""

    def __init__(self, folder: ImportFolder, wanted: Sequence[str]) -> None:
        self.folder = folder
        self.wanted = frozenset(wanted)
        self.trouble: OSError | None = None

    def store(self, uid: str, draft: Path) -> int:
        """Take a received file; returns the status of the C-STORE (PS3.4 B.2.3)."""
        if uid not in self.wanted:
            return 0xA900  # never asked for
        if self.folder.path(uid).exists():  # of a retrieval that broke and is done again
            return 0x0000
        try:
            self.folder.check_space()
            self.folder.take(draft, uid)
        except OSError as error:
            self.trouble = error
            return 0xA700
        return 0x0000


def picture_contexts() -> list[PresentationContext]:
    """One context for each picture class and transfer syntax."""
    from pynetdicom.presentation import build_context

    return [build_context(uid, syntax) for uid in PICTURE_CLASSES for syntax in TRANSFER_SYNTAXES]


def _of(series: SeriesRef) -> dict[str, str]:
    return {"StudyInstanceUID": series.study_uid, "SeriesInstanceUID": series.series_uid}


def _identifier(level: str, keys: Mapping[str, str]) -> Dataset:
    from pydicom.dataset import Dataset

    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    if any(not value.isascii() for value in keys.values()):
        identifier.SpecificCharacterSet = "ISO_IR 192"
    for name, value in keys.items():
        setattr(identifier, name, value)
    return identifier


def _text(identifier: Dataset, name: str) -> str:
    try:
        value = identifier.get(name)
    except Exception:  # a value that breaks its VR; the key counts as empty
        return ""
    return "" if value is None else str(value).strip("\0 ")


def _code(peer: Peer, operation: str, status: Dataset) -> int:
    """The status of an answer.

    Raises:
        TemporaryError: there is no answer.
    """
    if "Status" not in status:
        raise TemporaryError(
            f"{peer.place} does not answer the {operation}, or ends the association; a PACS answers within a minute. "
            "Try again: what is here is not fetched again."
        )
    return int(status.Status)


def _failure(peer: Peer, operation: str, code: int) -> PeerError:
    reason = _FAILURES.get(code) or "its log says why"
    remedy = (
        f"Enter {peer.our_ae_title!r} there with this machine's address and the port of --listen"
        if code == 0xA801
        else f"Allow {operation} to our AE title {peer.our_ae_title!r} there"
    )
    return PeerError(f"{peer.place} refuses the {operation} with status 0x{code:04X}: {reason}. {remedy}.")
