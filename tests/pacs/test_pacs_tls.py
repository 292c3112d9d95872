"""TLS: to the listener, to a peer, to an audit repository. Certificates are made by `openssl`."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from certificates import OPENSSL, make_authority, make_certificate
from fake_archive import FakeArchive
from pacs_parts import association, fake_tools, picture, store, wait_for, write_settings

from sonoseek.core import InvalidValueError
from sonoseek.pacs.listener import server_tls
from sonoseek.pacs.outbox import client_tls
from sonoseek.pacs.rules import ClientTls, ServerTls, load_config
from sonoseek.pacs.service import Service

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="the program openssl makes the certificates")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    for authority in ("site", "other"):
        make_authority(folder, authority)
    for name, authority in (("server", "site"), ("modality", "site"), ("stranger", "other")):
        make_certificate(folder, name, authority)
    return folder


def _client(folder: Path, name: str | None, *, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=folder / "site.pem")
    if name is not None:
        context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    if version is not None:
        context.maximum_version = version
    return context


def test_only_clients_with_a_certificate_of_the_site_get_in(made: Path, tmp_path: Path) -> None:
    tables = [f'{key} = "{made / name}"' for key, name in (("certificate", "server.pem"), ("key", "server.key"))]
    tls = "\n".join(["[listener.tls]", *tables, f'client_ca = "{made / "site.pem"}"'])
    with Service(load_config(write_settings(tmp_path, listener=tls)), tools=fake_tools()) as service:
        port = service.listener.port
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
        began = time.monotonic()
        with association(port, tls_args=(_client(made, "modality"), "127.0.0.1")) as assoc:
            assert assoc.is_established
            assert assoc.send_c_echo().Status == 0x0000
            assert time.monotonic() - began < 1.0
            assert assoc.send_c_store(picture()).Status == 0x0000
        for name in ("stranger", None):
            with association(port, tls_args=(_client(made, name), "127.0.0.1")) as assoc:
                assert not assoc.is_established
        with association(port) as assoc:  # not encrypted
            assert not assoc.is_established
        wait_for(lambda: "TLS: " in service.audit.file.read_text())
        for each in silent:
            each.close()


def test_tls_below_1_2_is_refused(made: Path) -> None:
    files = ServerTls(certificate=made / "server.pem", key=made / "server.key", client_ca=made / "site.pem")
    assert server_tls(files).minimum_version == ssl.TLSVersion.TLSv1_2
    assert server_tls(files).verify_mode == ssl.CERT_REQUIRED
    assert client_tls(ClientTls(ca=made / "site.pem")).minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_key_of_another_certificate_is_named(made: Path) -> None:
    with pytest.raises(InvalidValueError, match="the key is the certificate's"):
        server_tls(ServerTls(certificate=made / "server.pem", key=made / "stranger.key", client_ca=made / "site.pem"))


def test_a_file_that_is_not_there_is_named(made: Path) -> None:
    none = made / "none.pem"
    with pytest.raises(InvalidValueError, match=r"none\.pem.*does not load \(No such file"):
        server_tls(ServerTls(certificate=none, key=made / "server.key", client_ca=made / "site.pem"))
    with pytest.raises(InvalidValueError, match=r"none\.pem.*does not load \(No such file"):
        client_tls(ClientTls(ca=none))


@pytest.mark.parametrize(("authority", "state"), [("site", "sent"), ("other", "queried")])
def test_results_go_to_a_peer_whose_certificate_is_the_site_s(
    made: Path, tmp_path: Path, authority: str, state: str
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=made / "site.pem")
    context.load_cert_chain(made / "server.pem", made / "server.key")
    archive = FakeArchive()
    archive.tls = context
    archive.start()
    peer = f'retry_seconds = 0.2\n[peers.tls]\nca = "{made / authority}.pem"'
    try:
        settings = write_settings(tmp_path, peers=[(archive.title, archive.port, peer)])
        with Service(load_config(settings), tools=fake_tools()) as service:
            store(service.listener.port, picture())
            wait_for(lambda: [row.state for row in service.journal.studies()] == [state])
            wait_for(lambda: any(each.attempts or each.state == "sent" for each in service.journal.outbox.all()))
            assert len(archive.stored) == (2 if state == "sent" else 0)
    finally:
        archive.stop()


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("echoscu") is None, reason="without dcmtk's echoscu")
def test_dcmtk_gets_in_with_a_certificate_of_the_site_alone(made: Path, tmp_path: Path) -> None:
    tables = [f'{key} = "{made / name}"' for key, name in (("certificate", "server.pem"), ("key", "server.key"))]
    tls = "\n".join(["[listener.tls]", *tables, f'client_ca = "{made / "site.pem"}"'])
    with Service(load_config(write_settings(tmp_path, listener=tls)), tools=fake_tools()) as service:

        def echo(*options: object) -> int:
            command = ["echoscu", "-aet", "US1", "-aec", "SONOSEEK", "-to", "5", *map(str, options)]
            return subprocess.run([*command, "127.0.0.1", str(service.listener.port)], capture_output=True).returncode

        checked = ("+cf", made / "site.pem")
        assert echo("+tls", made / "modality.key", made / "modality.pem", *checked) == 0
        assert echo("+tls", made / "stranger.key", made / "stranger.pem", *checked) != 0
        assert echo("+tla", *checked) != 0
        assert echo() != 0
