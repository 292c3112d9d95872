"""The storage SCP that takes what an archive sends after a C-MOVE. It runs for the time of an import alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonoseek.core import InvalidValueError
from sonoseek.pacs.association import application_entity
from sonoseek.pacs.peer import Peer

if TYPE_CHECKING:
    from pynetdicom.transport import ThreadedAssociationServer

ASSOCIATIONS = 4
"""At once; an archive sends one move over one or two."""


class Receiver:
    """A storage SCP under our AE title. It takes pictures while a move is under way, and refuses all else."""

    def __init__(self, peer: Peer, *, host: str = "127.0.0.1", port: int) -> None:
        """Prepare; `host` is the address to listen on, loopback unless named; `port` 0 takes any free one."""
        self._peer = peer
        self._address = (host, port)
        self._server: ThreadedAssociationServer | None = None
        self._store: Callable[[str, Path], int] | None = None

    def __enter__(self) -> Receiver:
        from pynetdicom import evt

        from sonoseek.pacs.archive.dimse import TRANSFER_SYNTAXES
        from sonoseek.pacs.archive.values import PICTURE_CLASSES

        entity = application_entity(self._peer)
        entity.maximum_associations = ASSOCIATIONS
        entity.require_called_aet = True
        entity.require_calling_aet = [self._peer.ae_title]
        for uid in PICTURE_CLASSES:
            entity.add_supported_context(uid, list(TRANSFER_SYNTAXES))
        entity.add_supported_context("1.2.840.10008.1.1")  # C-ECHO
        try:
            server = entity.start_server(self._address, block=False, evt_handlers=[(evt.EVT_C_STORE, self._on_store)])
        except OSError as error:
            host, port = self._address
            raise InvalidValueError(
                f"{host}:{port} cannot be listened on ({error.strerror or error}); a C-MOVE is sent to an address of "
                "this machine and a free port. Give another one with --listen."
            ) from error
        self._server = server
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server = None

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
