"""Who a PACS is: address, AE titles, TLS, and its DICOMweb address."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from sonoseek.core import InvalidValueError

OUR_AE_TITLE = "SONOSEEK"
"""The AE title under which sonoseek calls, where none is given."""
_AE_TITLE = re.compile(r"(?=.*[^ ])[\x20-\x5b\x5d-\x7e]{1,16}")
"""PS3.5 6.2, VR AE: at most 16 characters of the default repertoire without backslash, not only spaces."""


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """How a peer is reached by TLS 1.2 or newer.

    Attributes:
        ca: certificates that the peer's must be signed by, PEM; None: those of the system.
        certificate: our own, PEM, or None where the peer asks for none.
        key: of `certificate`, PEM; None where it is in the same file.
        host_name: that stands in the peer's certificate; None: the peer's host.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    host_name: str | None = None

    def context(self) -> ssl.SSLContext:
        """What the socket needs.

        Raises:
            InvalidValueError: a file is missing or is no PEM.
        """
        try:
            context = ssl.create_default_context(cafile=None if self.ca is None else os.fspath(self.ca))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(str(file) for file in (self.ca, self.certificate, self.key) if file)
            raise InvalidValueError(
                f"the TLS files {files} do not load ({error}); each is a PEM file, and the key belongs to the "
                "certificate. Correct the paths."
            ) from error
        return context


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A PACS that sonoseek calls.

    Attributes:
        name: for messages.
        host: name or address; "" where the peer is reached by DICOMweb alone.
        port: of its DICOM service.
        ae_title: of the peer (the called AE title).
        our_ae_title: the calling AE title, which the peer must know.
        tls: None: plain.
        dicomweb: address of its DICOMweb service, as in "https://pacs.example/dicom-web"; None where there is none.
    """

    name: str
    host: str = ""
    port: int = 104
    ae_title: str = "ANY-SCP"
    our_ae_title: str = OUR_AE_TITLE
    tls: TlsFiles | None = None
    dicomweb: str | None = None

    def __post_init__(self) -> None:
        for title in (self.ae_title, self.our_ae_title):
            if not _AE_TITLE.fullmatch(title):
                raise InvalidValueError(
                    f"the AE title is {title!r}; it has 1 to 16 ASCII characters without backslash (PS3.5 6.2, VR AE). "
                    "Take the one that the PACS has for this system."
                )
        if not 0 < self.port < 1 << 16:
            raise InvalidValueError(f"the port is {self.port}; a port is 1 … 65535. Take that of the DICOM service.")
        if not self.host and not self.dicomweb:
            raise InvalidValueError(
                f"the peer {self.name!r} has no address; give host and port of its DICOM service, or the address of "
                "its DICOMweb service."
            )
        if self.dicomweb is not None:
            check_web_address(self.dicomweb)

    @property
    def place(self) -> str:
        """The address, for messages: "ORTHANC at 10.0.0.5:104"."""
        return f"{self.ae_title} at {self.host}:{self.port}" if self.host else str(self.dicomweb)


@dataclass(frozen=True, kw_only=True)
class WebLogin:
    """How a DICOMweb server knows us. Not in any log: the values do not stand in its text.

    Attributes:
        token: bearer token, or "".
        user: of basic authentication, or "".
        password: of `user`.
    """

    token: str = field(default="", repr=False)
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> WebLogin:
        """Read `SONOSEEK_DICOMWEB_TOKEN`, or `SONOSEEK_DICOMWEB_USER` and `SONOSEEK_DICOMWEB_PASSWORD`.

        A command line is seen by every user of a machine; the environment is not.

        Raises:
            InvalidValueError: both a token and a user are set.
        """
        source = os.environ if environment is None else environment
        login = cls(**{name: source.get(f"SONOSEEK_DICOMWEB_{name.upper()}", "") for name in cls.__annotations__})
        if login.token and login.user:
            raise InvalidValueError(
                "SONOSEEK_DICOMWEB_TOKEN and SONOSEEK_DICOMWEB_USER are both set; a server takes one. Unset the other."
            )
        return login

    def __bool__(self) -> bool:
        return bool(self.token or self.user)


def check_web_address(url: str) -> None:
    """See that a text is the address of a DICOMweb service.

    Raises:
        InvalidValueError: it is none, or holds a user or a query.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise InvalidValueError(
            f"the DICOMweb address has scheme {parts.scheme!r} and host {parts.hostname!r}; it is http:// or https:// "
            "with a host, without user, password or query. User and password come from the environment."
        )


def is_loopback(url: str) -> bool:
    """Whether an address is this machine's own."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
