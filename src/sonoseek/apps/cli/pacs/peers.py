"""How the verbs name a PACS: a peer of the settings, or options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from sonoseek.core import InvalidValueError
from sonoseek.pacs.peer import OUR_AE_TITLE, Peer, TlsFiles

Config = Annotated[Path | None, typer.Option(help="File of settings with [[peers]], TOML; see docs/how-to/pacs.md.")]
Name = Annotated[str, typer.Option("--peer", help="A peer of the settings.", show_default=False)]
CheckedName = Annotated[str, typer.Argument(metavar="PEER", help="A peer of the settings.", show_default=False)]
Listen = Annotated[
    str, typer.Option(metavar="HOST:PORT", help="Where a C-MOVE or a commitment is sent to; the PACS must know it.")
]


@dataclass(frozen=True)
class Address:
    """The options of an address."""

    ae_title: Annotated[str, typer.Option(help="AE title of the PACS.", show_default=False)] = ""
    host: Annotated[str, typer.Option(help="Name or address of its DICOM service.", show_default=False)] = ""
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of its DICOM service.")] = 104
    our_ae_title: Annotated[str, typer.Option(help="AE title under which sonoseek calls; the PACS must know it.")] = (
        OUR_AE_TITLE
    )
    dicomweb: Annotated[
        str, typer.Option("--dicomweb", metavar="URL", help="Its DICOMweb service; the login is in the environment.")
    ] = ""
    tls: Annotated[bool, typer.Option("--tls", help="DICOM over TLS.")] = False
    tls_ca: Annotated[Path | None, typer.Option(help="Certificates that the peer's must be signed by, PEM.")] = None
    tls_certificate: Annotated[Path | None, typer.Option(help="Our own certificate, PEM.")] = None
    tls_key: Annotated[Path | None, typer.Option(help="The key of our certificate, PEM.")] = None
    tls_host_name: Annotated[str, typer.Option(help="Name in the peer's certificate, where it is not the host.")] = ""

    def __bool__(self) -> bool:
        return bool(self.host or self.ae_title or self.dicomweb)


def make_peer(name: str, config: Path | None, address: Address) -> Peer:
    """Make a peer from the settings, or from the options.

    Raises:
        InvalidValueError: the options name no address, or half of one; or a peer and an address.
        NotFoundError: the settings have no such peer.
    """
    if config is not None or (name and not (address.host or address.dicomweb)):
        return _of_settings(name, config, options=bool(address))
    if bool(address.host) != bool(address.ae_title):
        raise InvalidValueError(
            f"--host is {address.host!r} and --ae-title {address.ae_title!r}; a DICOM service has both. Give both, or "
            "--dicomweb alone."
        )
    tls = TlsFiles(
        ca=address.tls_ca,
        certificate=address.tls_certificate,
        key=address.tls_key,
        host_name=address.tls_host_name or None,
    )
    return Peer(
        name=name or "archive",
        host=address.host,
        port=address.port,
        ae_title=address.ae_title or "ANY-SCP",
        our_ae_title=address.our_ae_title,
        tls=tls if address.tls or tls.ca or tls.certificate or tls.key else None,
        dicomweb=address.dicomweb or None,
    )


def _of_settings(name: str, config: Path | None, *, options: bool) -> Peer:
    if config is None or not name or options:
        raise InvalidValueError(
            f"the peer is {name!r} and --config {config}; a peer is named in a file of settings without other options, "
            "or is given by --ae-title, --host and --port, or by --dicomweb."
        )
    from sonoseek.pacs.rules import load_config

    settings = load_config(config)
    peer = settings.peer(name)
    tls = peer.tls
    return Peer(
        name=peer.name,
        host=peer.host,
        port=peer.port,
        ae_title=peer.ae_title,
        our_ae_title=peer.calling_ae_title or settings.listener.ae_title,
        tls=None
        if tls is None
        else TlsFiles(ca=tls.ca, certificate=tls.certificate, key=tls.key, host_name=tls.server_name or None),
        dicomweb=peer.dicomweb or None,
    )


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port of "127.0.0.1:11112".

    Raises:
        InvalidValueError: it is none.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise InvalidValueError(
            f"--listen is {text!r}; it is an address of this machine and a port, as 127.0.0.1:11112."
        )
    return host.strip("[]"), int(port)
