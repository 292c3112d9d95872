"""An archive in this process: takes objects, commits to them by an association of its own, or misbehaves."""

from __future__ import annotations

import threading
import time
from typing import Any

from pacs_parts import free_port
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance


class FakeArchive:
    """Attributes: `stored`, SOP Instance UIDs in the order of their arrival, also repeated ones; `commitments`."""

    def __init__(self, *, port: int | None = None, title: str = "ARCHIVE") -> None:
        self.port = port or free_port()
        self.title = title
        self.stored: list[str] = []
        self.classes: dict[str, str] = {}
        self.comments: dict[str, str] = {}
        self.commitments: list[list[str]] = []
        self.report_to: int | None = None
        self.fails: set[str] = set()  # SOP classes that it does not commit to
        self.silent = False
        self.status = 0x0000
        self.delay_s = 0.0
        self.tls: Any = None
        self._server: Any = None

    def start(self) -> FakeArchive:
        ae = AE(self.title)
        ae.supported_contexts = AllStoragePresentationContexts
        ae.add_supported_context("1.2.840.10008.1.1")
        ae.add_supported_context(StorageCommitmentPushModel)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._commit)]
        self._server = ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=handlers, ssl_context=self.tls
        )
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def _store(self, event: Any) -> int:
        if self.status:
            return self.status
        time.sleep(self.delay_s)
        dataset = event.dataset
        self.stored.append(str(dataset.SOPInstanceUID))
        self.classes[str(dataset.SOPInstanceUID)] = str(dataset.SOPClassUID)
        self.comments[str(dataset.SOPInstanceUID)] = str(dataset.get("ImageComments", ""))
        return 0x0000

    def _commit(self, event: Any) -> tuple[int, None]:
        request = event.action_information
        items = [(str(i.ReferencedSOPClassUID), str(i.ReferencedSOPInstanceUID)) for i in request.ReferencedSOPSequence]
        self.commitments.append([uid for _, uid in items])
        if not self.silent:
            threading.Thread(target=self._report, args=(str(request.TransactionUID), items), daemon=True).start()
        return 0x0000, None

    def _report(self, transaction: str, items: list[tuple[str, str]]) -> None:
        time.sleep(0.05)
        answer = Dataset()
        answer.TransactionUID = transaction
        answer.ReferencedSOPSequence = [_item(*each) for each in items if each[0] not in self.fails]
        failed = [_item(*each) for each in items if each[0] in self.fails]
        for each in failed:
            each.FailureReason = 0x0112
        if failed:
            answer.FailedSOPSequence = failed
        ae = AE(self.title)
        ae.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        association = ae.associate("127.0.0.1", self.report_to or 0, ae_title="SONOSEEK", ext_neg=[role])
        if association.is_established:
            association.send_n_event_report(
                answer, 2 if failed else 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
            association.release()


def _item(sop_class: str, uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
    return item
