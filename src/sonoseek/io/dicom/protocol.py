"""How parent and child talk: a length, a JSON header, then raw bytes. Nothing is pickled.

One message is: 4 bytes, the header's length, big endian; the header, UTF-8 JSON, an object; then `header["payload"]`
raw bytes. Either side treats the other's lengths as untrusted.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

HEADER_LIMIT = 1 << 20
"""Bytes. A header holds a path and a few numbers; paths are at most 4 KiB on common systems."""


def write_message(stream: BinaryIO, header: Mapping[str, object], payload: memoryview | None = None) -> None:
    """Write one message and flush it.

    Args:
        stream: a binary pipe.
        header: what JSON can hold; the key "payload" is set here.
        payload: raw bytes, C-contiguous, or None.
    """
    data = memoryview(b"") if payload is None else payload.cast("B")
    text = json.dumps({**header, "payload": data.nbytes}).encode()
    _write_all(stream, memoryview(struct.pack(">I", len(text)) + text))
    _write_all(stream, data)
    stream.flush()


def read_message(stream: BinaryIO, *, payload_limit: int) -> tuple[dict[str, Any], bytearray]:
    """Read one message.

    Args:
        stream: a binary pipe.
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


def _write_all(stream: BinaryIO, data: memoryview) -> None:
    while data.nbytes:  # an unbuffered pipe may take less than it is given
        data = data[stream.write(data) :]


def _read_exactly(stream: BinaryIO, size: int) -> bytearray:
    buffer = bytearray(size)
    view = memoryview(buffer)
    done = 0
    while done < size:
        got: int = stream.readinto(view[done:])  # type: ignore[attr-defined]  # raw and buffered pipes both have it
        if not got:
            raise EOFError(f"the pipe ended {size - done} bytes early.")
        done += got
    return buffer
