"""Storage commitment of the test object (PS3.4 Annex J): asked for, and its answer awaited."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from sonoseek.pacs.association import application_entity
from sonoseek.pacs.check_step import Step
from sonoseek.pacs.peer import Peer
from sonoseek.pacs.test_object import SyntheticObject

if TYPE_CHECKING:
    from pynetdicom.association import Association

COMMITMENT = "1.2.840.10008.1.20.1"
NAME = "storage commitment"
WAIT_S = 15.0
PUSH_INSTANCE = "1.2.840.10008.1.20.1.1"
"""Storage Commitment Push Model SOP Instance, the only one there is. PS3.4 J.3.5."""


def ask_commitment(association: Association, made: SyntheticObject, *, peer: Peer, listen: tuple[str, int]) -> Step:
    """Ask a peer to commit to an object that it was sent.

    The answer comes on a new association, to `listen`, where the peer must know our AE title.

    Args:
        association: with the context of storage commitment.
        made: what was stored.
        peer: whose association it is.
        listen: address and port for the answer.
    """
    from pydicom.dataset import Dataset
    from pydicom.uid import generate_uid
    from pynetdicom import evt

    request = Dataset()
    request.TransactionUID = generate_uid(prefix=None)
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = made.sop_class_uid, made.sop_instance_uid
    request.ReferencedSOPSequence = [item]
    answered = threading.Event()
    event_type: list[int] = []

    def on_report(event: Any) -> tuple[int, None]:
        report = event.event_information
        if str(report.get("TransactionUID", "")) == request.TransactionUID:
            event_type.append(int(event.event_type))
            answered.set()
        return 0x0000, None

    entity = application_entity(peer)
    entity.require_called_aet = True
    entity.add_supported_context(COMMITMENT, scu_role=True, scp_role=True)
    entity.add_supported_context("1.2.840.10008.1.1")
    try:
        server = entity.start_server(listen, block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)])
    except OSError as error:
        host, port = listen
        remedy = "Give an address of this machine and a free port with --listen."
        return Step(name=NAME, passed=False, detail=f"{host}:{port} cannot be listened on: {error}", remedy=remedy)
    try:
        association.bind(evt.EVT_N_EVENT_REPORT, on_report)  # some answer on the same association
        status, _ = association.send_n_action(request, 1, COMMITMENT, PUSH_INSTANCE)
        code = status.get("Status")
        if code != 0:
            detail = "no answer" if code is None else f"status 0x{code:04X}"
            return Step(name=NAME, passed=False, detail=detail, remedy="Switch storage commitment on there.")
        if not answered.wait(WAIT_S):
            host, port = listen
            remedy = (
                f"Enter {peer.our_ae_title} there with this machine's address and port {port}, and let the firewall "
                "pass it."
            )
            return Step(name=NAME, passed=False, detail=f"no answer within {WAIT_S:g} s", remedy=remedy)
    finally:
        if server is not None:
            server.shutdown()
    if event_type[0] == 1:
        return Step(name=NAME, passed=True, detail="committed")
    remedy = "Look into the peer's log: it took the object, but does not commit to it."
    return Step(name=NAME, passed=False, detail="the peer reports a failure", remedy=remedy)
