"""What must hold of a path and a frame number before anything is opened."""

from __future__ import annotations

import operator
import stat
from pathlib import Path
from typing import BinaryIO, SupportsIndex

from sonoseek.core import InvalidValueError, NotFoundError, ScanReadError


def checked_file(path: str | Path) -> Path:
    """Give back `path` when a regular file with something in it lies there.

    Pipes, sockets and devices are refused, since opening one may block for ever.

    Raises:
        NotFoundError: nothing is there.
        ScanReadError: a directory, an empty file, no regular file, or a path the system cannot follow.
    """
    place = Path(path)
    try:
        state = place.stat()
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{shown(place)}: there is no such file; a scan is read from an existing file. Check the path."
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise ScanReadError(
            f"{shown(place)}: the system cannot follow this path ({error}); a scan is a readable file. "
            "Check the path and its permissions."
        ) from error
    if stat.S_ISDIR(state.st_mode):
        raise ScanReadError(f"{shown(place)}: this is a directory; a scan is one file. Name a file inside it.")
    if not stat.S_ISREG(state.st_mode):
        raise ScanReadError(
            f"{shown(place)}: this is a device, a pipe or a socket; a scan is a regular file. Copy it to a file first."
        )
    if state.st_size == 0:
        raise ScanReadError(
            f"{shown(place)}: the file is empty (0 bytes); a scan has pixels. Fetch it again from its source."
        )
    return place


def shown(path: Path | str) -> str:
    """A path or a name for people, and for every encoder: bytes that are no UTF-8 become U+FFFD."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def checked_frame(frame: SupportsIndex) -> int:
    """Give back a frame number as an int; whether the file has it shows later.

    Raises:
        InvalidValueError: no whole number.
    """
    try:
        return operator.index(frame)
    except TypeError as error:
        raise InvalidValueError(
            f"frame is {frame!r}; it must be a whole number, 0 for the first. Pass an int."
        ) from error


def no_such_frame(frame: int, frames: int) -> InvalidValueError:
    """The error of a frame number that a file does not have."""
    return InvalidValueError(f"frame is {frame}; the file has {frames}, counted from 0. Choose 0 … {frames - 1}.")


def whole(file: BinaryIO) -> bytes:
    """Everything in an open file, which is left where it was."""
    place = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(place)
    return data
