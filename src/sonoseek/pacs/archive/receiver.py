"""The storage SCP that takes what an archive sends after a C-MOVE. It runs for the time of an import alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonoseek.core import InvalidValueError
from sonoseek.pacs.archive.values import PICTURE_CLASSES, TRANSFER_SYNTAXES
from sonoseek.pacs.association import ANSWER_S, application_entity
from sonoseek.pacs.peer import Peer

if TYPE_CHECKING:
    from sonoseek.pacs.association_server import AssociationServer

ASSOCIATIONS = 4
"""At once; an archive sends one move over one or two."""


class Receiver:
    """A storage SCP under our AE title. It takes pictures while a move is under way, and refuses all else."""

    def __init__(self, peer: Peer, *, host: str = "127.0.0.1", port: int) -> None:
        """Prepare; `host` is the address to listen on, loopback unless named; `port` 0 takes any free one."""
        self._peer = peer
        self._address = (host, port)
        self._server: AssociationServer | None = None
        self._store: Callable[[str, Path], int] | None = None
        self._open: set[Any] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Receiver:
        from pynetdicom import evt

        from sonoseek.pacs.association_server import ACSE_S, PDU_BYTES, AssociationServer, bound_message

        entity = application_entity(self._peer)
        entity.maximum_associations = 1_000_000  # counted here, by what is negotiated: silent ones do not count
        entity.maximum_pdu_size, entity.acse_timeout = PDU_BYTES, ACSE_S
        entity.require_called_aet = True
        entity.require_calling_aet = [self._peer.ae_title]
        for uid in PICTURE_CLASSES:
            entity.add_supported_context(uid, list(TRANSFER_SYNTAXES))
        entity.add_supported_context("1.2.840.10008.1.1")  # C-ECHO
        handlers = [
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_PDU_RECV, bound_message),
            (evt.EVT_C_STORE, self._on_store),
        ]
        try:
            self._server = AssociationServer(
                entity,
                address=self._address,
                handlers=handlers,
                store=None,
                allows=lambda _: True,  # an archive may send from another address than it answers at
                on_refused=lambda *_: None,
                on_end=self._on_end,
                tls=None,
                timeout_s=ANSWER_S,
            )
        except OSError as error:
            host, port = self._address
            raise InvalidValueError(
                f"{host}:{port} cannot be listened on ({error.strerror or error}); a C-MOVE is sent to an address of "
                "this machine and a free port. Give another one with --listen."
            ) from error
        self._server.start("pacs-receiver")
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            with self._lock:
                associations = list(self._open)
            self._server.stop(associations)
            self._server = None

    def _on_requested(self, event: Any) -> None:
        """Count associations; pynetdicom compares the titles."""
        from pynetdicom import evt

        association, server = event.assoc, self._server
        client = association.requestor.address_info
        if server is not None and client is not None:
            server.spoke(client.as_tuple)
        with self._lock:
            if len(self._open) < ASSOCIATIONS:
                self._open.add(association)
                return
        association.acse.send_reject(0x02, 0x03, 0x02)
        evt.trigger(association, evt.EVT_REJECTED, {})
        association.kill()

    def _on_end(self, association: Any) -> None:
        with self._lock:
            self._open.discard(association)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1]) if self._server is not None else self._address[1]

    @contextmanager
    def expecting(self, store: Callable[[str, Path], int]) -> Iterator[None]:
        """Hand what arrives to `store` until the block ends."""
        self._store = store
        try:
            yield
        finally:
            self._store = None

    def _on_store(self, event: Any) -> int:
        store = self._store
        if store is None:  # nothing is asked for now
            return 0xA900
        return store(str(event.request.AffectedSOPInstanceUID), event.dataset_path)
