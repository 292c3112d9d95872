"""The audit trail at a repository: syslog over TLS, and what happens while the repository is away."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import OPENSSL, make_authority, make_certificate
from pacs_parts import wait_for

from sonoseek.pacs.audit import AuditTrail
from sonoseek.pacs.rules import ClientTls, Syslog
from sonoseek.pacs.syslog import SyslogForwarder

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="without openssl")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("site", "other"):
        make_authority(folder, name)
    make_certificate(folder, "server", "site")
    return folder


@contextlib.contextmanager
def forwarding(trail: AuditTrail, port: int, ca: Path) -> Iterator[SyslogForwarder]:
    settings = Syslog(host="127.0.0.1", port=port, tls=ClientTls(ca=ca))
    forwarder = SyslogForwarder(settings, file=trail.file, state=trail.file.parent)
    trail.on_message = forwarder.wake
    forwarder.start()
    try:
        yield forwarder
    finally:
        trail.on_message = lambda: None
        forwarder.stop()


class Repository:
    """Takes syslog over TLS, and splits it by the lengths that RFC 5425 puts before each message."""

    def __init__(self, made: Path, *, port: int = 0) -> None:
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(made / "server.pem", made / "server.key")
        self.messages: list[bytes] = []
        self.connections: list[ssl.SSLSocket] = []
        self.socket = socket.create_server(("127.0.0.1", port))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
                with self.context.wrap_socket(connection, server_side=True) as tls, tls.makefile("rb") as stream:
                    self.connections.append(tls)
                    while length := self._length(stream):
                        self.messages.append(stream.read(length))
            except OSError:
                return

    def stop(self) -> None:
        for each in (self.socket, *self.connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    @staticmethod
    def _length(stream: object) -> int:
        digits = b""
        while (byte := stream.read(1)) not in (b"", b" "):  # type: ignore[attr-defined]
            digits += byte
        return int(digits or 0)


def test_the_audit_trail_reaches_a_repository_also_one_that_was_away(made: Path, tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / "audit.log", ae_title="SONOSEEK")
    trail.started()
    repository = Repository(made)
    settings = Syslog(host="127.0.0.1", port=repository.port, tls=ClientTls(ca=made / "site.pem"))
    forwarder = SyslogForwarder(settings, file=trail.file, state=tmp_path)
    trail.on_message = forwarder.wake
    forwarder.start()
    trail.refused("10.0.0.7", "EVIL", "calling AE title not allowed from this address")
    wait_for(lambda: len(repository.messages) == 2)
    forwarder.stop()
    trail.on_message = lambda: None
    trail.stopped()
    forwarder = SyslogForwarder(settings, file=trail.file, state=tmp_path)
    forwarder.start()
    wait_for(lambda: len(repository.messages) == 3)
    forwarder.stop()
    repository.stop()
    for message, written in zip(repository.messages, trail.file.read_bytes().splitlines(), strict=True):
        head, _, body = message.partition(b"\xef\xbb\xbf")
        assert head.startswith(b"<85>1 20")
        assert b" sonoseek " in head
        assert b" IHE+RFC-3881 - " in head
        assert body == written
        assert ET.fromstring(body).tag == "AuditMessage"  # noqa: S314  # ours


def test_a_repository_that_is_started_anew_misses_no_message(made: Path, tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / "audit.log", ae_title="SONOSEEK")
    first = Repository(made)
    with forwarding(trail, first.port, made / "site.pem"):
        trail.started()
        wait_for(lambda: len(first.messages) == 1)
        first.stop()
        second = Repository(made, port=first.port)
        for number in range(3):
            trail.refused(f"10.0.0.{number}", "EVIL", "why")
        wait_for(lambda: len(second.messages) == 3)
        second.stop()


def test_a_trail_that_was_rotated_is_sent_to_its_end(made: Path, tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / "audit.log", ae_title="SONOSEEK")
    first = Repository(made)
    first.stop()
    with forwarding(trail, first.port, made / "site.pem") as forwarder:
        trail.started()
        wait_for(lambda: (tmp_path / "audit.sent").exists())
        trail.file.rename(tmp_path / "audit.log.1")
        for number in range(9):  # the new file is longer than the old one
            trail.refused(f"10.0.0.{number}", "EVIL", "why")
        second = Repository(made, port=first.port)
        forwarder.wake()
        wait_for(lambda: len(second.messages) == 10)
        second.stop()
    assert b"Application Start" in second.messages[0]


def test_a_certificate_of_another_authority_ends_no_thread(made: Path, tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / "audit.log", ae_title="SONOSEEK")
    trail.started()
    repository = Repository(made)
    with forwarding(trail, repository.port, made / "other.pem") as forwarder:
        wait_for(lambda: forwarder._failures)
        assert forwarder._thread.is_alive()
        assert not repository.messages
        repository.stop()


def test_a_host_that_is_no_name_ends_no_thread(made: Path, tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / "audit.log", ae_title="SONOSEEK")
    trail.started()
    settings = Syslog(host=64 * "a", port=1, tls=ClientTls(ca=made / "site.pem"))
    forwarder = SyslogForwarder(settings, file=trail.file, state=tmp_path)
    forwarder.start()
    wait_for(lambda: forwarder._failures)
    assert forwarder._thread.is_alive()
    forwarder.stop()
