"""The server's settings: frozen, and validated once."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from sonoseek.core import InvalidValueError
from sonoseek.core.cores import available_cores

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
MIN_TOKEN_LENGTH = 16
"""Characters; a shorter token could be guessed."""
HEADER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
OTHER_HEADERS = ("authorization", "connection", "content-length", "content-type", "cookie", "host", "origin", "referer")
"""Headers that every client sends for another purpose."""
MAX_RETENTION_H = 87_600
"""Hours, ten years."""


@dataclass(frozen=True, kw_only=True)
class WebSettings:
    """Network, access, limits and retention of the server.

    Attributes:
        host: address to listen on; one that is not loopback needs a token.
        port: 0: any that is free.
        root_path: prefix of every path behind a reverse proxy, "/sonoseek"; "" for none.
        token: that a reader must give; None: none, on loopback without a proxy only.
        user_header: header in which a proxy on this machine names the reader whom it let in, "X-Remote-User"; None:
            none does. Requests without it are refused, whether they have the token or not.
        allowed_hosts: names by which the server is reached besides those of loopback, such as a proxy's.
        writable: whether batch jobs may add to the archive.
        folders: a folder of this machine whose sub-folders batch jobs may read; None: none.
        examples: a folder of example scans for the start page, PNG or JPEG; None: none.
        pacs: file of settings of the listener beside a PACS, whose studies are the worklist; None: there is none.
        state: folder for batch jobs and uploads; None: a temporary one, deleted with the server.
        workers: threads for the network and for drawing; 0: one per core.
        max_upload_mb: MiB of one request's files.
        max_batch_mb: MiB of one batch job's files.
        upload_timeout_s: seconds that one request may take; 30 without a byte end it as well.
        uploads_at_once: requests with files that are received at once; others wait.
        cache_minutes: after its last use, how long an uploaded scan stays on the server.
        cache_mb: MiB of uploaded scans at most; the least recently used is evicted first.
        batch_retention_hours: after its end, how long the files of a batch job stay, so that a row of its table opens
            its scan; 0: they are deleted with its end; ten years at most.
        batch_retention_mb: MiB of such files at most; those of the jobs that ended first are deleted first.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    root_path: str = ""
    token: str | None = None
    user_header: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    writable: bool = False
    folders: Path | None = None
    examples: Path | None = None
    pacs: Path | None = None
    state: Path | None = None
    workers: int = 0
    max_upload_mb: int = 128
    max_batch_mb: int = 8192
    upload_timeout_s: float = 120.0
    uploads_at_once: int = 16
    cache_minutes: float = 240.0
    cache_mb: int = 1024
    batch_retention_hours: float = 24.0
    batch_retention_mb: int = 8192

    def __post_init__(self) -> None:
        if self.token is not None and (len(self.token) < MIN_TOKEN_LENGTH or not self.token.isascii()):
            raise InvalidValueError(
                f"the token has {len(self.token)} characters; it must have {MIN_TOKEN_LENGTH} ASCII ones at least. "
                'Make one: python -c "import secrets; print(secrets.token_urlsafe(32))"'
            )
        if self.root_path and not (self.root_path.startswith("/") and not self.root_path.endswith("/")):
            raise InvalidValueError(
                f"root path is {self.root_path!r}; it begins with a slash and ends with none: /sonoseek. '' for none."
            )
        self._check_access()
        numbers = (self.max_upload_mb, self.max_batch_mb, self.upload_timeout_s, self.uploads_at_once, self.cache_mb)
        if min(*numbers, self.cache_minutes) <= 0 or self.workers < 0 or not 0 <= self.port < 65_536:
            raise InvalidValueError(f"{self}: limits must be above 0, workers 0 or more, and the port 0 … 65535.")
        if not 0 <= self.batch_retention_hours <= MAX_RETENTION_H or self.batch_retention_mb < 0:
            raise InvalidValueError(
                f"files of ended batch jobs are kept for {self.batch_retention_hours} hours and "
                f"{self.batch_retention_mb} MiB; these are 0 … {MAX_RETENTION_H} hours, and 0 MiB or more. "
                "0 hours keep none."
            )

    def _check_access(self) -> None:
        if self.user_header is not None:
            if not HEADER_NAME.fullmatch(self.user_header) or self.user_header.lower() in OTHER_HEADERS:
                raise InvalidValueError(
                    f"the proxy's header is {self.user_header!r}; it is a header of its own for the reader's name, "
                    "such as X-Remote-User."
                )
            if not is_loopback(self.host):
                raise InvalidValueError(
                    f"host is {self.host!r}, and {self.user_header} names the reader; others than the proxy could "
                    "reach this address and write any name there. Listen on 127.0.0.1, with the proxy on this machine."
                )
        if self.token is not None or self.user_header is not None:
            return
        if not is_loopback(self.host):
            raise InvalidValueError(
                f"host is {self.host!r}, which others can reach, and there is no token; whoever can reach the page "
                "could read the archive. Set SONOSEEK_TOKEN, or listen on 127.0.0.1."
            )
        if self.behind_proxy:
            given = f"--allow-host {self.allowed_hosts[0]}" if self.allowed_hosts else f"--root-path {self.root_path}"
            raise InvalidValueError(
                f"{given} is given, so a proxy lets others in, and nobody is asked who they are. Set SONOSEEK_TOKEN or "
                "--token-file, or name the header in which the proxy gives the reader whom it has checked, with "
                "--proxy-authenticates X-Remote-User."
            )

    @property
    def behind_proxy(self) -> bool:
        """Whether requests come through a proxy, whose X-Forwarded headers then count."""
        return bool(self.allowed_hosts or self.root_path or self.user_header)

    @property
    def cores(self) -> int:
        """Threads for the network."""
        return self.workers or available_cores()


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own and nobody else's."""
    if host in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
