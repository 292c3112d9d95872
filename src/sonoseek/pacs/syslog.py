"""Sends the audit trail to a repository: RFC 5424 messages, framed as RFC 5425 says, over TLS.

The file is the queue: how far it was sent stands beside it, so that a repository that is away loses nothing.
"""

from __future__ import annotations

import glob
import logging
import os
import re
import socket
import ssl
import time
from contextlib import suppress
from pathlib import Path

from sonoseek.core.files import PRIVATE, write_atomically
from sonoseek.pacs.outbox import client_tls
from sonoseek.pacs.rules import Syslog
from sonoseek.pacs.waiting import AlarmThread

logger = logging.getLogger(__name__)

PRIORITY = 10 * 8 + 5
"""Facility 10 (security), severity 5 (notice): PS3.15 A.5.1."""
MESSAGE_ID = "IHE+RFC-3881"
CONNECT_S = 10.0
RETRY_S = 5.0
RETRY_LIMIT_S = 300.0
_TIME = re.compile(rb'EventDateTime="([^"]+)"')


class SyslogForwarder(AlarmThread):
    """One thread, which sleeps until a message is written."""

    def __init__(self, settings: Syslog, *, file: Path, state: Path) -> None:
        """Take the parts; `start` begins.

        Args:
            settings: of the repository.
            file: the audit trail.
            state: folder for the offset.

        Raises:
            InvalidValueError: a certificate does not load.
        """
        super().__init__("pacs-syslog")
        self._settings = settings
        self._tls = client_tls(settings.tls)
        self._file = file
        self._offset_file = state / "audit.sent"
        self._connection: ssl.SSLSocket | None = None
        self._failures = 0

    def stop(self) -> None:
        """End; what was not sent is sent at the next start. Stopping twice is fine."""
        super().stop()
        self._close()

    def _run(self) -> None:
        while True:
            until = None
            try:
                self._send_all()
                self._failures = 0
            except (OSError, ValueError) as error:  # ValueError: a host that is no name
                self._close()
                if self._failures == 0:
                    logger.warning("the audit repository %s does not answer: %s", self._settings.host, error)
                until = time.time() + min(RETRY_LIMIT_S, RETRY_S * 2 ** min(self._failures, 20))
                self._failures += 1
            if self.alarm.stopped:
                return
            self.alarm.wait(until=until)

    def _send_all(self) -> None:
        inode, offset = self._sent()
        if not inode and self._file.exists():  # so that it is known again where it is rotated before the first message
            inode = self._file.stat().st_ino
            write_atomically(self._offset_file, f"{inode} 0", mode=PRIVATE)
        if (former := self._rotated(inode)) is not None:
            with suppress(FileNotFoundError):
                self._send_rest(former, offset)
        with suppress(FileNotFoundError):
            state = self._file.stat()
            if state.st_ino != inode or state.st_size < offset:  # another file, or cut by a program that rotates
                offset = 0
            self._send_rest(self._file, offset)

    def _send_rest(self, path: Path, offset: int) -> None:
        with path.open("rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._send(line.rstrip(b"\n"))
                offset += len(line)
                write_atomically(self._offset_file, f"{inode} {offset}", mode=PRIVATE)

    def _rotated(self, inode: int) -> Path | None:
        """The file of which the last message was sent, where it has another name now; it lies beside the new one."""
        for path in self._file.parent.glob(f"{glob.escape(self._file.name)}?*"):
            with suppress(OSError):
                if path.stat().st_ino == inode:
                    return path
        return None

    def _send(self, message: bytes) -> None:
        if self._connection is not None and _is_closed(self._connection):  # else the message would be lost in it
            self._close()
        if self._connection is None:
            plain = socket.create_connection((self._settings.host, self._settings.port), timeout=CONNECT_S)
            try:
                name = self._settings.tls.server_name or self._settings.host
                self._connection = self._tls.wrap_socket(plain, server_hostname=name)
            except BaseException:
                plain.close()
                raise
        self._connection.sendall(framed(message))

    def _sent(self) -> tuple[int, int]:
        """Inode of the file whose messages were sent last, and how far; 0 and 0 before the first."""
        try:
            inode, offset = self._offset_file.read_text().split()
            return int(inode), int(offset)
        except (FileNotFoundError, ValueError):
            return 0, 0

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
            self._connection = None


def _is_closed(connection: ssl.SSLSocket) -> bool:
    """Whether the repository has ended a connection; it sends nothing else."""
    connection.settimeout(0.0)
    try:
        return connection.recv(1) == b""
    except ssl.SSLWantReadError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(CONNECT_S)


def framed(message: bytes) -> bytes:
    """An audit message as RFC 5424 has it, with its length before it (RFC 5425 4.3)."""
    stated = _TIME.search(message)
    when = stated[1].decode() if stated else "-"
    head = f"<{PRIORITY}>1 {when} {socket.gethostname()} sonoseek {os.getpid()} {MESSAGE_ID} - "
    body = head.encode("ascii", "replace") + b"\xef\xbb\xbf" + message
    return str(len(body)).encode() + b" " + body
