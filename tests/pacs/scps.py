"""An archive in this process, made with pynetdicom: it can also do what no sound archive does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from archive_peers import OURS
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.presentation import PresentationContext

from sonoseek.pacs.archive.dimse import FIND, GET, MOVE, picture_contexts
from sonoseek.pacs.peer import Peer


class FakeArchive:
    """Answers C-FIND from its datasets, and sends them by C-GET and C-MOVE."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self.datasets = list(datasets)
        self.requests: list[tuple[str, str]] = []  # (operation, level)
        self.find_status = 0x0000
        self.instead: Callable[[Dataset], Dataset] = lambda dataset: dataset  # what is sent in its place
        self.abort_after: int | None = None  # objects, over all operations
        self.move_to: tuple[str, int] | None = None

    def matching(self, identifier: Dataset) -> list[Dataset]:
        names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "AccessionNumber", "PatientID")
        wanted = {name: str(identifier.get(name) or "") for name in names}
        return [
            dataset
            for dataset in self.datasets
            if all(not value or str(dataset.get(name)) == value for name, value in wanted.items())
        ]

    def on_find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        identifier = event.identifier
        self.requests.append(("find", identifier.QueryRetrieveLevel))
        if self.find_status:
            yield self.find_status, None
            return
        key = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
        unique = {
            str(dataset[key[identifier.QueryRetrieveLevel]].value): dataset for dataset in self.matching(identifier)
        }
        for dataset in unique.values():
            answer = Dataset()
            for element in identifier:
                if element.keyword in dataset:
                    answer[element.tag] = dataset[element.tag]
            if "ModalitiesInStudy" in identifier:
                answer.ModalitiesInStudy = "US"
            yield 0xFF00, answer

    def on_get(self, event: Any) -> Iterator[object]:
        self.requests.append(("get", event.identifier.QueryRetrieveLevel))
        yield from self._sent(event)

    def on_move(self, event: Any) -> Iterator[object]:
        self.requests.append(("move", event.identifier.QueryRetrieveLevel))
        if self.move_to is None:
            yield None, None
            return
        yield (*self.move_to, {"contexts": storage_contexts()})
        yield from self._sent(event)

    def _sent(self, event: Any) -> Iterator[object]:
        matches = self.matching(event.identifier)
        yield len(matches)
        for dataset in matches:
            if self.abort_after is not None:
                self.abort_after -= 1
                if self.abort_after < 0:
                    self.abort_after = None
                    event.assoc.abort()
                    return
            yield 0xFF00, self.instead(dataset)


def storage_contexts() -> list[PresentationContext]:
    return picture_contexts()


@contextmanager
def running(
    archive: FakeArchive, *, contexts: Sequence[str] = (FIND, GET, MOVE), tls: object = None, **options: object
) -> Iterator[Peer]:
    """The archive on a free port; its AE title is FAKE, and it takes SONOSEEK alone."""
    entity = AE(ae_title="FAKE")
    entity.require_called_aet = True
    entity.require_calling_aet = [OURS]
    for name, value in options.items():
        setattr(entity, name, value)
    entity.add_supported_context("1.2.840.10008.1.1")
    for uid in contexts:
        entity.add_supported_context(uid)
    for context in storage_contexts():
        entity.add_supported_context(
            context.abstract_syntax or "", context.transfer_syntax, scu_role=True, scp_role=True
        )
    handlers = [
        (evt.EVT_C_FIND, archive.on_find),
        (evt.EVT_C_GET, archive.on_get),
        (evt.EVT_C_MOVE, archive.on_move),
        (evt.EVT_C_STORE, lambda _: 0x0000),
    ]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=tls)
    assert server is not None
    try:
        port = server.server_address[1]
        yield Peer(name="fake", host="127.0.0.1", port=port, ae_title="FAKE", our_ae_title=OURS)
    finally:
        server.shutdown()
