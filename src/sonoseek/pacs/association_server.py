"""The server below the listener: who may connect, and what a silent or hostile connection can cost.

pynetdicom negotiates and decodes. What it leaves open is closed here: addresses that are not known are dropped before a
byte is read; TLS is negotiated outside of the loop that accepts; every wait for bytes ends; sizes that a peer announces
are bounded; an object is written into the store, and what is left of it goes when its association ends.
"""

from __future__ import annotations

import errno
import logging
import selectors
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, cast

from pydicom import config as pydicom_config
from pynetdicom import AE, _config, dimse_messages, evt
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from sonoseek.pacs.file_store import ArrivingFile, FileStore
from sonoseek.pacs.uids import US_IMAGES

logger = logging.getLogger(__name__)

ACSE_S = 5.0
"""Seconds in which a connection must have negotiated TLS, and then an association."""
SILENT_PER_ADDRESS = 8
"""Connections of one address that have not yet asked for an association; a further one ends the oldest."""
SILENT = 64
"""The same, of all addresses."""
CONNECTIONS = 256
"""At once, in every state, also those that were rejected and do not go; a further one is dropped."""
PDU_BYTES = 128 << 10
"""Of a PDU that carries data, as it is negotiated."""
MOST_PDU_BYTES = 1 << 20
"""A PDU that announces more ends its connection."""
MOST_REQUEST_BYTES = 256 << 10
"""The same, of the PDU that asks for an association: it is parsed before it is known who asks. 128 contexts with
every transfer syntax take 160 KiB."""
MESSAGE_BYTES = 8 << 20
"""Of a message other than an object to store, which goes to a file."""

_named_temporary_file: Any = dimse_messages.NamedTemporaryFile  # type: ignore[attr-defined]


def configure_pynetdicom() -> None:
    """Set what pynetdicom has for a whole process: objects go from and to files, every storage class is taken."""
    _config.STORE_RECV_CHUNKED_DATASET = True
    _config.STORE_SEND_CHUNKED_DATASET = True
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    _config.LOG_HANDLER_LEVEL = "none"  # its own messages carry what is in the objects
    # UIDs are checked by the listener, which answers; pydicom would print each bad one.
    pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE
    dimse_messages.NamedTemporaryFile = _arriving_file  # type: ignore[attr-defined]


def _arriving_file(*values: Any, **named: Any) -> Any:
    """The file for an object that arrives, in the store of the server whose thread asks."""
    thread = threading.current_thread()
    association = thread.assoc if isinstance(thread, DULServiceProvider) else None
    server = getattr(association, "_server", None)
    if association is None or not isinstance(server, AssociationServer):
        return _named_temporary_file(*values, **named)
    return server.open_arriving(association)


class AssociationServer(ThreadedAssociationServer):
    """Accepts connections for a listener; one thread waits, without ticks."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(
        self,
        ae: AE,
        *,
        address: tuple[str, int],
        handlers: list[Any],
        store: FileStore | None,
        allows: Callable[[str], bool],
        on_refused: Callable[[str, str], None],
        on_end: Callable[[Association], None],
        tls: ssl.SSLContext | None,
        timeout_s: float,
    ) -> None:
        """Bind and listen.

        Args:
            ae: with its titles, contexts and timeouts.
            address: host and port; port 0: a free one.
            handlers: of pynetdicom's events.
            store: for arriving objects; None: they go where `tempfile` has its files.
            allows: whether an IP address may connect.
            on_refused: address and reason of a connection that was ended.
            on_end: an association, or what did not become one, has ended.
            tls: None: not encrypted.
            timeout_s: without a byte, after which an association ends.

        Raises:
            OSError: the address is in use, or not of this machine.
        """
        self._store = store
        self._allows = allows
        self._on_refused = on_refused
        self._on_end = on_end
        self._tls = tls
        self.timeout_s = timeout_s
        self._lock = threading.Lock()
        self._silent: dict[Any, socket.socket] = {}  # by the address and port of the client
        self._open: set[Any] = set()  # address and port of each client
        self._arriving: dict[Association, set[ArrivingFile]] = {}
        self._wake_in, self._wake_out = socket.socketpair()
        try:
            super().__init__(
                ae, address, ae.ae_title, ae.supported_contexts, evt_handlers=handlers, request_handler=_Handler
            )
        except BaseException:
            self._wake_in.close()
            self._wake_out.close()
            raise
        self.timeout = 0  # `handle_request` is called only when there is one

    def start(self, name: str) -> None:
        """Accept connections, on a thread of this name, until `stop`."""
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(cast(socket.socket, self.socket), selectors.EVENT_READ)
            selector.register(self._wake_in, selectors.EVENT_READ)
            while True:
                if any(key.fileobj is self._wake_in for key, _ in selector.select()):
                    return
                self.handle_request()

    def stop(self, associations: Sequence[Association]) -> None:
        """End these associations, every connection that has none, and the port."""
        with suppress(OSError):
            self._wake_out.send(b"x")
        with self._lock:
            silent = list(self._silent.values())
        for connection in silent:
            _end(connection)
        for association in associations:
            with suppress(Exception):
                association.abort(block=False)
        if associations:
            time.sleep(0.05)  # for the A-ABORT to leave; one that is stuck in the middle of a PDU sends none
        for association in associations:
            transport = association.dul.socket
            if transport is not None and transport.socket is not None:
                _end(transport.socket)
        self._thread.join()
        self.server_close()
        self._wake_in.close()
        self._wake_out.close()
        for association in associations:
            association.join(timeout=5.0)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept; TLS is negotiated later, by a thread of its own."""
        try:
            return cast(socket.socket, self.socket).accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):  # the connection waits on, and would wake this loop at once
                time.sleep(0.1)
            raise

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Drop addresses that are not known before anything is read; make room among silent ones."""
        address = client_address[0]
        if not self._allows(address):
            with suppress(OSError):  # a reset at once, and no TIME_WAIT here
                request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.close()
            self._on_refused(address, "address not allowed")
            return False
        with self._lock:
            own = [client for client in self._silent if client[0] == address]
            excess = own[:1] if len(own) >= SILENT_PER_ADDRESS else []
            if not excess and len(self._silent) >= SILENT:
                excess = [next(iter(self._silent))]
            ended = [(client[0], self._silent.pop(client)) for client in excess]
            has_room = len(self._open) < CONNECTIONS
            if has_room:
                self._open.add(client_address)
                self._silent[client_address] = request
        for other, connection in ended:
            _end(connection)
            self._on_refused(other, "too many connections without an association")
        if not has_room:
            self._on_refused(address, "too many connections")
        return has_room

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Negotiate TLS, serve the association, tidy up."""
        connection = request
        try:
            request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                request.settimeout(ACSE_S)
                connection = self._tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
                with self._lock:
                    if client_address in self._silent:
                        self._silent[client_address] = connection
                connection.do_handshake()
            self.finish_request(connection, client_address)
        except (OSError, ValueError) as error:  # ValueError: it was ended meanwhile
            reason = getattr(error, "reason", None) or type(error).__name__
            self._on_refused(client_address[0], f"TLS: {reason}" if self._tls is not None else str(reason))
        except Exception:
            logger.exception("an association ended by an error of ours")
        finally:
            self._gone(client_address)
            self.shutdown_request(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  # as socketserver calls it
        """Log; the standard one prints to standard error."""
        self._gone(client_address)
        logger.exception("a connection from %s ended by an error of ours", client_address[0])

    def service_actions(self) -> None:
        """Nothing: no ticks."""

    def spoke(self, client_address: object) -> None:
        """A connection asks for an association: it is no silent one any more."""
        with self._lock:
            self._silent.pop(client_address, None)

    def _gone(self, client_address: object) -> None:
        with self._lock:
            self._silent.pop(client_address, None)
            self._open.discard(client_address)

    def serve_association(self, association: Association) -> None:
        """Run an association to its end, and remove what it leaves."""
        transport = association.dul.socket
        connected(transport).recv = _Bounded(association, self.timeout_s)  # type: ignore[method-assign]
        association.start()
        association.join()
        with self._lock:
            left = self._arriving.pop(association, set())
        for file in left:
            file.drop()
        self._on_end(association)

    def open_arriving(self, association: Association) -> Any:
        """The file for an object that begins to arrive."""
        if self._store is None:
            return _named_temporary_file(delete=False, suffix=".dcm")
        message = association.dimse.message
        sop_class = "" if message is None else str(message.command_set.get("AffectedSOPClassUID", ""))
        file = ArrivingFile(self._store, discard=sop_class not in US_IMAGES)
        with self._lock:
            self._arriving.setdefault(association, set()).add(file)
        return file

    def take(self, association: Association, file: ArrivingFile) -> None:
        """A handler has the object now; the end of the association no longer removes it."""
        with self._lock:
            self._arriving.get(association, set()).discard(file)


def connected(transport: AssociationSocket | None) -> AssociationSocket:
    """The connection of an association that has one."""
    if transport is None:
        raise OSError("the connection is gone")
    return transport


class _Handler(RequestHandler):
    """Runs an association in the thread of its connection."""

    server: AssociationServer

    def handle(self) -> None:
        association = self._create_association()
        evt.trigger(association, evt.EVT_CONN_OPEN, {"address": self.client_address})
        self.server.serve_association(association)


class _Bounded:
    """`AssociationSocket.recv` with a bound on the size and on the time of one PDU."""

    def __init__(self, association: Association, timeout_s: float) -> None:
        self._association = association
        self._timeout_s = timeout_s

    def __call__(self, nr_bytes: int) -> bytearray:
        most = MOST_PDU_BYTES if self._association.is_established else MOST_REQUEST_BYTES
        if nr_bytes > most:
            raise OSError(f"a PDU of {nr_bytes} bytes was announced; {most} are the most")
        connection = connected(self._association.dul.socket).socket
        if connection is None:
            raise OSError("the connection is gone")
        allowed = self._timeout_s if self._association.is_established else min(ACSE_S, self._timeout_s)
        connection.settimeout(allowed)
        until = time.monotonic() + allowed
        content = bytearray(nr_bytes)
        view, filled = memoryview(content), 0
        while filled < nr_bytes:
            count = connection.recv_into(view[filled:])
            if count == 0:
                break
            filled += count
            if time.monotonic() > until:
                raise TimeoutError("a PDU took too long")
        view.release()
        del content[filled:]
        return content


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def bound_message(event: evt.Event) -> None:
    """End a connection whose message, which is kept in memory, grows beyond what any sound one takes."""
    message = event.assoc.dimse.message
    if message is None:
        return
    size = message.encoded_command_set.tell() + (0 if message.data_set is None else message.data_set.tell())
    if size > MESSAGE_BYTES and event.assoc.dul.socket is not None:
        with suppress(OSError):
            event.assoc.dul.socket.close()
