"""Walk through what sonoseek needs of a peer, and say for each step what to change."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from sonoseek.core import SonoseekError
from sonoseek.pacs.archive.dimse import FIND, GET, MOVE
from sonoseek.pacs.association import associate
from sonoseek.pacs.check_commitment import COMMITMENT, ask_commitment
from sonoseek.pacs.check_step import Step
from sonoseek.pacs.check_web import check_web
from sonoseek.pacs.peer import Peer
from sonoseek.pacs.test_object import make_test_object

if TYPE_CHECKING:
    from pynetdicom.association import Association

__all__ = ["Purpose", "Step", "check_peer"]

VERIFICATION = "1.2.840.10008.1.1"
Purpose = Literal["import", "results", "all"]
"""What the peer is wanted for: scans from it, results to it, or both."""
QUERIES = {FIND: "Study Root C-FIND", GET: "Study Root C-GET", MOVE: "Study Root C-MOVE"}
PICTURES = {
    "1.2.840.10008.5.1.4.1.1.6.1": "Ultrasound Image Storage",
    "1.2.840.10008.5.1.4.1.1.3.1": "Ultrasound Multi-frame Image Storage",
}
RESULTS = {
    "1.2.840.10008.5.1.4.1.1.88.34": "Comprehensive 3D SR Storage",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture Image Storage",
}
DUPLICATE = 0x0111
_STORE = {
    0x0122: "it does not take this SOP class",
    0x0124: "our AE title may not store there",
    0xA700: "it is out of resources: its disk may be full",
    0xA900: "it finds that the object does not match its SOP class",
    0xC000: "it cannot understand the object",
}


def check_peer(
    peer: Peer,
    *,
    purpose: Purpose = "all",
    store: bool = False,
    commit: tuple[str, int] | None = None,
) -> tuple[Step, ...]:
    """Try what is needed of a peer. Nothing is stored there unless asked for.

    Args:
        peer: the archive or router; its DICOMweb address is checked too where it has one.
        purpose: which presentation contexts must be accepted.
        store: send the test object (`test_object.make_test_object`): a phantom marked TEST, in a study of its own.
        commit: with `store`, ask for storage commitment; the address and port that the answer may come to.

    Returns:
        The steps, in order. What is wrong is in them; no error of the peer is raised.

    Raises:
        MissingExtraError: the extra `pacs` is not installed.
        InvalidValueError: a login would go unencrypted; the TLS files do not load.
    """
    steps: list[Step] = []
    if peer.host:
        steps += _dimse(peer, purpose=purpose, store=store, commit=commit)
    if peer.dicomweb:
        steps += check_web(peer, store=store and not peer.host)
    return tuple(steps)


def _dimse(peer: Peer, *, purpose: Purpose, store: bool, commit: tuple[str, int] | None) -> Iterator[Step]:
    from pynetdicom.presentation import build_context

    try:
        association = associate(peer, [build_context(VERIFICATION)])
    except SonoseekError as error:
        yield Step.failed("association", error)
        yield from (Step(name=name, passed=None) for name in ("C-ECHO", "presentation contexts", "C-FIND", "C-STORE"))
        return
    yield Step(name="association", passed=True, detail=f"{peer.place} accepts {peer.our_ae_title}")
    try:
        yield _echo(association)
    finally:
        association.release()
    wanted = _needed(purpose, commit=commit is not None)
    contexts = [build_context(uid) for uid in wanted]
    try:
        association = associate(peer, contexts)
    except SonoseekError as error:
        yield Step.failed("presentation contexts", error)
        return
    try:
        accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
        yield from _contexts(wanted, accepted, peer=peer)
        yield _query(association) if FIND in accepted else Step(name="C-FIND", passed=None)
        if store:
            yield from _store(association, accepted, peer=peer, commit=commit)
        else:
            yield Step(name="C-STORE", passed=None, detail="not asked for (--store)")
    finally:
        association.release()


def _needed(purpose: Purpose, *, commit: bool) -> dict[str, str]:
    wanted: dict[str, str] = {}
    if purpose in ("import", "all"):
        wanted |= QUERIES
    wanted |= PICTURES
    if purpose in ("results", "all"):
        wanted |= RESULTS
    if commit:
        wanted[COMMITMENT] = "Storage Commitment Push Model"
    return wanted


def _echo(association: Association) -> Step:
    status = association.send_c_echo()
    code = status.get("Status")
    if code == 0:
        return Step(name="C-ECHO", passed=True)
    detail = "no answer" if code is None else f"status 0x{code:04X}"
    return Step(name="C-ECHO", passed=False, detail=detail, remedy="Look into the peer's log; it answers no echo.")


def _contexts(wanted: dict[str, str], accepted: set[str], *, peer: Peer) -> Iterator[Step]:
    """One step for each context; of C-GET and C-MOVE one is enough."""
    for uid, name in wanted.items():
        taken = uid in accepted
        other = {GET: MOVE, MOVE: GET}.get(uid)
        if not taken and other in accepted:
            yield Step(name=name, passed=None, detail=f"not accepted; {QUERIES[other]} is, and is enough")
        elif taken:
            yield Step(name=name, passed=True, detail="accepted")
        else:
            remedy = f"Allow {name} ({uid}) for {peer.our_ae_title} there."
            yield Step(name=name, passed=False, detail="not accepted", remedy=remedy)


def _query(association: Association) -> Step:
    from pydicom.dataset import Dataset

    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = "1.2.3"  # none: what is checked is whether a query is answered
    code = None
    for status, _ in association.send_c_find(identifier, FIND):
        code = status.get("Status")
    if code == 0:
        return Step(name="C-FIND", passed=True)
    detail = "no answer" if code is None else f"status 0x{code:04X}"
    return Step(name="C-FIND", passed=False, detail=detail, remedy="Allow our AE title to query there.")


def _store(
    association: Association, accepted: set[str], *, peer: Peer, commit: tuple[str, int] | None
) -> Iterator[Step]:
    from pydicom import dcmread

    made = make_test_object()
    if made.sop_class_uid not in accepted:
        yield Step(name="C-STORE", passed=None, detail="its presentation context was not accepted")
        return
    status = association.send_c_store(dcmread(io.BytesIO(made.content)))
    code = status.get("Status")
    if code == 0 or code == DUPLICATE or (code is not None and code & 0xF000 == 0xB000):
        again = ", again" if code == DUPLICATE else ""
        yield Step(name="C-STORE", passed=True, detail=f"test object {made.sop_instance_uid}{again}")
    else:
        detail = "no answer" if code is None else f"status 0x{code:04X}: {_STORE.get(code, 'no known reason')}"
        remedy = f"Allow {peer.our_ae_title} to store {PICTURES[made.sop_class_uid]} there; its log says more."
        yield Step(name="C-STORE", passed=False, detail=detail, remedy=remedy)
        return
    if commit is not None:
        yield (
            ask_commitment(association, made, peer=peer, listen=commit)
            if COMMITMENT in accepted
            else Step(name="storage commitment", passed=None, detail="its presentation context was not accepted")
        )
