"""Associations with a peer, and what is wrong where there is none. Imports pynetdicom when it is used."""

from __future__ import annotations

import logging
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonoseek.core import PeerError, SonoseekError, TemporaryError
from sonoseek.core.extras import require_extra
from sonoseek.pacs.peer import Peer

if TYPE_CHECKING:
    from pynetdicom.ae import ApplicationEntity
    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

CONNECT_S = 5.0
ANSWER_S = 60.0
"""Seconds until a message has its answer: an archive may first fetch a study from a slow store."""
REJECTED = {
    (1, 1): "it gives no reason. Look into its log",
    (1, 2): "it does not know this application context. Call a DICOM service, not another one",
    (1, 3): "it does not know the calling AE title {ours!r}. Enter that title, with the address of this machine, there",
    (1, 7): "it is not called {theirs!r}. Give its own AE title (--ae-title)",
    (2, 1): "it gives no reason. Look into its log",
    (2, 2): "it has another version of the protocol. Look into its log",
    (3, 1): "it is busy. Try again later",
    (3, 2): "it has as many associations as it takes. Try again later, or raise its limit",
}
"""(source, diagnostic) of an A-ASSOCIATE-RJ → what it means and the remedy. PS3.8 9.3.4."""
_TRANSIENT = 2
"""Result of an A-ASSOCIATE-RJ that may pass."""


@contextmanager
def chunked_receive(folder: Path) -> Iterator[None]:
    """Have pynetdicom write what it receives into files of `folder` and not into memory, and log no identifier.

    pynetdicom has module-wide switches alone; they are as before when the block ends. `folder` is on the file system
    where the files are to stay, so that a name is all that is changed then.
    """
    from pynetdicom import _config

    names = ("STORE_RECV_CHUNKED_DATASET", "LOG_RESPONSE_IDENTIFIERS", "LOG_REQUEST_IDENTIFIERS")
    before = {name: getattr(_config, name) for name in names}
    place = tempfile.tempdir
    for name, value in zip(names, (True, False, False), strict=True):
        setattr(_config, name, value)
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(_config, name, value)
        tempfile.tempdir = place


def application_entity(peer: Peer) -> ApplicationEntity:
    """Make our side of an association, with time limits, which logs nothing that comes from the peer.

    Raises:
        MissingExtraError: pynetdicom is not installed.
    """
    require_extra("pacs")
    from pynetdicom.ae import ApplicationEntity

    # It logs identifiers and values, which name patients; what goes wrong is an error of ours.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    entity = ApplicationEntity(ae_title=peer.our_ae_title)
    entity.connection_timeout, entity.acse_timeout = CONNECT_S, 2 * CONNECT_S
    entity.dimse_timeout = entity.network_timeout = ANSWER_S
    return entity


def associate(
    peer: Peer,
    contexts: Sequence[PresentationContext],
    *,
    roles: Sequence[Any] = (),
    handlers: Sequence[tuple[Any, Callable[..., Any]]] = (),
) -> Association:
    """Open an association; whoever gets it releases it.

    Args:
        peer: whom to call.
        contexts: to propose, at most 128.
        roles: SCP/SCU role selection items (PS3.7 D.3.3.4).
        handlers: of events, as pynetdicom takes them.

    Raises:
        PeerError: it refuses, for a reason that stays.
        TemporaryError: it does not answer, or is busy.
        InvalidValueError: the TLS files do not load.
        MissingExtraError: pynetdicom is not installed.
    """
    entity = application_entity(peer)
    from pynetdicom import evt

    tls = None
    if peer.tls is not None:
        tls = (peer.tls.context(), peer.tls.host_name or peer.host)
    try:
        association = entity.associate(
            _address(peer),
            peer.port,
            contexts=list(contexts),
            ae_title=peer.ae_title,
            ext_neg=list(roles),
            evt_handlers=[(evt.EVT_CONN_OPEN, _send_at_once), *handlers],
            tls_args=tls,
        )
    except (OSError, RuntimeError, ValueError) as error:  # an unknown host, an address that does not parse
        raise _without_association(peer) or TemporaryError(f"{peer.place} is not reached: {error}.") from error
    if association.is_established:
        return association
    raise _refusal(peer, association)


def _send_at_once(event: Any) -> None:
    """Switch Nagle's algorithm off: a command and its identifier are two small packets, each else 40 ms late."""
    connection = event.assoc.dul.socket.socket
    if connection is not None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _address(peer: Peer) -> str:
    """The host's address; pynetdicom takes addresses, not every name.

    Raises:
        PeerError: no such host.
    """
    try:
        return str(socket.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise PeerError(
            f"the host {peer.host!r} of {peer.name} is unknown here ({error}); it needs an address. Correct --host, or "
            "enter it in the DNS."
        ) from error


def _refusal(peer: Peer, association: Association) -> SonoseekError:
    """Say why there is no association."""
    if association.is_rejected:
        answer = association.acceptor.primitive
        source, diagnostic = answer.result_source, answer.diagnostic  # type: ignore[union-attr]
        reason = REJECTED.get((int(source or 0), int(diagnostic or 0)), "it gives an unknown reason. Look into its log")
        text = f"{peer.place} refuses the association: {reason.format(ours=peer.our_ae_title, theirs=peer.ae_title)}."
        return TemporaryError(text) if answer.result == _TRANSIENT else PeerError(text)  # type: ignore[union-attr]
    if (error := _without_association(peer)) is not None:
        return error
    if not association.accepted_contexts and association.rejected_contexts:
        names = ", ".join(
            sorted(
                {context.abstract_syntax.name for context in association.rejected_contexts if context.abstract_syntax}
            )
        )
        return PeerError(
            f"{peer.place} accepts the association but none of what it is to be used for: {names}. Switch these "
            "services on there for our AE title."
        )
    return TemporaryError(
        f"{peer.place} takes the connection but ends it without an answer (within {2 * CONNECT_S:g} s); a PACS may "
        "drop an unknown address or an AE title that way, or want TLS. Enter this machine there, or give --tls-ca."
    )


def _without_association(peer: Peer) -> SonoseekError | None:
    """What is wrong below DICOM: host, port, TLS; None where a connection is made."""
    try:
        with socket.create_connection((_address(peer), peer.port), timeout=CONNECT_S) as plain:
            if peer.tls is not None:
                with peer.tls.context().wrap_socket(plain, server_hostname=peer.tls.host_name or peer.host) as wrapped:
                    wrapped.settimeout(0.3)
                    _read_alert(wrapped)
    except ssl.SSLError as error:
        return PeerError(
            f"{peer.place}: the TLS handshake fails ({error.reason or error}); both sides need TLS 1.2 or newer and "
            "certificates that the other trusts. Check --tls-ca, --tls-certificate and --tls-key, and that the port "
            "is the one for TLS."
        )
    except ConnectionRefusedError:
        return TemporaryError(
            f"{peer.place}: the port is closed; a DICOM service listens on it. Start the PACS, or correct --port and "
            "the firewall."
        )
    except TimeoutError:
        return TemporaryError(
            f"{peer.place} does not answer within {CONNECT_S:g} s; a connection is made in milliseconds. Check host, "
            "port and firewall."
        )
    except OSError as error:
        if peer.tls is not None:
            return PeerError(
                f"{peer.place}: the TLS handshake is cut off ({error}); the port may be one without TLS. Check --port."
            )
        return TemporaryError(f"{peer.place} is not reached: {error.strerror or error}. Check host, port and network.")
    except PeerError as error:
        return error
    return None


def _read_alert(wrapped: ssl.SSLSocket) -> None:
    """Read an alert, an SSLError: with TLS 1.3 a client certificate is refused after the handshake."""
    try:
        wrapped.recv(1)
    except TimeoutError:
        return
