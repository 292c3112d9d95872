"""How parent and child talk: a length, a JSON header, then raw bytes. Nothing is pickled.

One message is: 4 bytes, the header's length, big endian; the header, UTF-8 JSON, an object; then `header["payload"]`
raw bytes. Before each request one byte comes alone, with the opened file attached to it where there is one: the child
needs no right to open any. Either side treats the other's lengths as untrusted.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Protocol

HEADER_LIMIT = 1 << 20
"""Bytes. A header holds a few numbers."""
ATTRIBUTES_LIMIT = 1 << 20
"""Bytes of the JSON of a DICOM header, which comes as a payload; those of ultrasound have some 5 kB."""
PIPE_SIZE = 1 << 20
"""Bytes; the most that a process may ask for by Linux's default."""


class Stream(Protocol):
    """A binary stream without a buffer, such as a socket's."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill a part of `buffer`; how many bytes, 0 at the end."""

    def write(self, data: memoryview, /) -> int | None:
        """Write a part of `data`; how many bytes."""


class Connection:
    """The parent's end: requests through a socket, answers through a pipe; each ends at a moment, whatever comes.

    A pipe, because it can be made to hold an ordinary picture whole: the child then writes it at once and need not take
    turns with the parent.
    """

    def __init__(self) -> None:
        """Make both; `child_socket` and `child_pipe` are for the child, and are closed by `give_away`."""
        self._socket, self.child_socket = socket.socketpair()
        self._pipe, self.child_pipe = os.pipe()
        with contextlib.suppress(AttributeError, OSError):  # Linux alone; others keep the size that they have
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLIN)
        self._ends = self._slow_at = float("inf")
        self._when_slow: Callable[[], None] = lambda: None

    def give_away(self) -> None:
        """Close the child's ends here."""
        self.child_socket.close()
        os.close(self.child_pipe)

    def set_times(
        self, *, timeout_s: float, slow_s: float = float("inf"), when_slow: Callable[[], None] = lambda: None
    ) -> None:
        """From now on: end with TimeoutError after `timeout_s`, and call `when_slow` once after `slow_s`."""
        now = time.monotonic()
        self._ends, self._slow_at, self._when_slow = now + timeout_s, now + slow_s, when_slow

    def has_answer(self) -> bool:
        """Whether something can be read without waiting."""
        return bool(self._poll.poll(0))

    def readinto(self, buffer: memoryview) -> int:
        """See `Stream`; raises TimeoutError."""
        while True:
            now = time.monotonic()
            if now >= self._ends:
                raise TimeoutError
            if self._poll.poll(1e3 * (min(self._slow_at, self._ends) - now)):
                return os.readv(self._pipe, [buffer])
            if time.monotonic() >= self._slow_at:
                self._slow_at = float("inf")
                self._when_slow()

    def write(self, data: memoryview) -> int:
        """See `Stream`; raises TimeoutError."""
        self._socket.settimeout(max(self._ends - time.monotonic(), 0.001))
        return self._socket.send(data)

    def send_file(self, file: BinaryIO | None) -> None:
        """The byte that goes before a request, and the file."""
        self._socket.settimeout(max(self._ends - time.monotonic(), 0.001))
        socket.send_fds(self._socket, [b"."], [] if file is None else [file.fileno()])

    def close(self) -> None:
        """Close the parent's ends."""
        self._socket.close()
        os.close(self._pipe)


def receive_file(connection: socket.socket) -> BinaryIO | None:
    """The child's side of `Connection.send_file`.

    Raises:
        EOFError: the parent is gone.
    """
    data, files, _, _ = socket.recv_fds(connection, 1, 1)
    if not data:
        raise EOFError("the parent is gone.")
    return os.fdopen(files[0], "rb") if files else None


def write_message(stream: Stream | BinaryIO, header: Mapping[str, object], payload: memoryview | None = None) -> None:
    """Write one message.

    Args:
        stream: a binary stream.
        header: what JSON can hold; the key "payload" is set here.
        payload: raw bytes, C-contiguous, or None.
    """
    data = memoryview(b"") if payload is None else payload.cast("B")
    text = json.dumps({**header, "payload": data.nbytes}).encode()
    _write_all(stream, memoryview(struct.pack(">I", len(text)) + text))
    _write_all(stream, data)


def read_message(stream: Stream | BinaryIO, *, payload_limit: int) -> tuple[dict[str, Any], bytearray]:
    """Read one message.

    Args:
        stream: a binary stream.
        payload_limit: bytes; a longer payload is refused before memory is taken for it.

    Returns:
        Header and payload.

    Raises:
        EOFError: the other side is gone.
        ValueError: what came is no message.
    """
    (length,) = struct.unpack(">I", _read_exactly(stream, 4))
    if length > HEADER_LIMIT:
        raise ValueError(f"a header of {length} bytes; at most {HEADER_LIMIT} are allowed.")
    header = json.loads(_read_exactly(stream, length))
    size = header.get("payload") if isinstance(header, dict) else None
    if not isinstance(size, int) or not 0 <= size <= payload_limit:
        raise ValueError(f"a payload of {size!r} bytes; 0 … {payload_limit} are allowed.")
    return header, _read_exactly(stream, size)


def _write_all(stream: Stream | BinaryIO, data: memoryview) -> None:
    while data.nbytes:  # a stream without a buffer may take less than it is given
        data = data[stream.write(data) :]


def _read_exactly(stream: Stream | BinaryIO, size: int) -> bytearray:
    buffer = bytearray(size)
    view = memoryview(buffer)
    done = 0
    while done < size:
        got = stream.readinto(view[done:])  # type: ignore[union-attr]  # every binary stream here has it
        if not got:
            raise EOFError(f"the stream ended {size - done} bytes early.")
        done += got
    return buffer
