"""Atomic writes: a file is replaced whole, or stays as it was, also across a power cut."""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

PRIVATE = 0o600
"""Mode of a new file with patients' data: its owner reads and writes it, nobody else."""
_STREAMS = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/")
"""Names of streams that are already open: a file behind them is written into, never replaced."""


def write_atomically(path: str | Path, content: str | bytes, *, mode: int | None = None) -> Path:
    """Write a whole file; see `open_atomically`.

    Args:
        path: of the file.
        content: a str is written as UTF-8, its line ends as they are.
        mode: of a new file; None: as the umask has it.

    Returns:
        `path`.

    Raises:
        OSError: as `open_atomically`.
    """
    with open_atomically(path, mode=mode) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)
    return Path(path)


@contextmanager
def open_atomically(path: str | Path, *, mode: int | None = None) -> Iterator[BinaryIO]:
    """Open a file for writing; it gets its new content, flushed to disk, when the block ends without an error.

    The content is written into a draft in the same folder, which then replaces the file. A file that is replaced keeps
    its mode and, where the system allows it, its owner. A symbolic link stays, and the file that it names is replaced.
    Pipes and devices are written into directly, and stay.

    Args:
        path: of the file; its folder exists.
        mode: of a new file; None: as the umask has it.

    Yields:
        The draft, open for writing in binary mode.

    Raises:
        OSError: it cannot be written; `filename` is `path`, not the draft's. The old file is still there.
    """
    named = os.fspath(path)
    draft: Path | None = None
    try:
        if _is_written_directly(named):
            with Path(named).open("wb") as file:
                yield file
            return
        target = Path(named).resolve()
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), named)
        # A name has 255 bytes at most; the draft's begins like it and has room for the rest.
        begin = os.fsencode(target.name)[:80].decode("utf-8", "ignore")
        draft = target.with_name(f".{begin}.{uuid.uuid4().hex[:12]}.part")
        with open(draft, "xb", opener=_opener(0o666 if mode is None else mode)) as file:
            yield file
            file.flush()
            _take_over(target, file.fileno())
            os.fsync(file.fileno())
        draft.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        if error.errno is not None and error.filename in (None, named, None if draft is None else os.fspath(draft)):
            error.filename, error.filename2 = named, None
        raise
    finally:
        if draft is not None:
            with suppress(OSError):
                draft.unlink(missing_ok=True)


def open_private(path: Path, how: str = "wb") -> IO[Any]:
    """Open a file as `open` does; a new one gets the mode `PRIVATE`, an existing one keeps its own."""
    return open(path, how, opener=_opener(PRIVATE))


def lock_file(path: Path) -> IO[Any] | None:
    """Take the lock that a file is, for this process; it ends when the file is closed, or with the process.

    Returns:
        The file; None: another process has the lock.

    Raises:
        OSError: the file cannot be made or locked.
    """
    file = open_private(path, "ab")
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows
        pass
    except OSError as error:
        file.close()
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return None
    return file


def make_private_folder(folder: Path) -> None:
    """Make a folder and those above it; new ones are for their owner alone, and each survives a power cut.

    Raises:
        OSError: it cannot be made.
    """
    for each in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
        each.mkdir(mode=0o700, exist_ok=True)
        sync_folder(each.parent)
    folder.mkdir(exist_ok=True)  # a file in its place is an error


def sync_folder(folder: Path) -> None:
    """Make a new name in a folder survive a power cut, where the system can."""
    with suppress(OSError):  # Windows opens no folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _opener(mode: int) -> Callable[[str, int], int]:
    return lambda path, flags: os.open(path, flags, mode)


def _is_written_directly(named: str) -> bool:
    """Whether a path names an open stream, a pipe or a device."""
    if named.startswith(_STREAMS):
        return True
    try:
        mode = Path(named).stat().st_mode
    except OSError:  # nothing there yet; whatever else is wrong is met when the draft is opened
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _take_over(target: Path, draft: int) -> None:
    """Give the open draft the owner and mode of the file that it replaces, if there is one."""
    try:
        before = target.stat()
    except FileNotFoundError:
        return
    if not hasattr(os, "fchown"):  # Windows
        return
    now = os.fstat(draft)
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        with suppress(PermissionError):  # only root may give a file away
            os.fchown(draft, before.st_uid, before.st_gid)
    os.fchmod(draft, stat.S_IMODE(before.st_mode))
