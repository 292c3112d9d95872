"""Files of the wing beside a PACS: what arrives, what was received, what goes out. All lie on one file system."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Self

from sonoseek.core.files import PRIVATE, make_private_folder, open_private, sync_folder, write_atomically
from sonoseek.pacs.uids import file_name

logger = logging.getLogger(__name__)

CHECK_BYTES = 4 << 20
"""Bytes of an arriving object, after which the free space is looked at again."""


NEW_S = 60.0
"""Seconds for which a result in the outbox folder may not stand in the journal yet."""


class FileStore:
    """The folders `incoming`, `received` and `outbox`. File names are hashes of ours, never of a sender's choice."""

    def __init__(self, folder: Path, *, min_free_bytes: int, max_object_bytes: int) -> None:
        """Make the folders.

        Args:
            folder: of the state.
            min_free_bytes: of the disk that stay free.
            max_object_bytes: of one object, at most.

        Raises:
            OSError: they cannot be made.
        """
        self.min_free_bytes = min_free_bytes
        self.max_object_bytes = max_object_bytes
        self.incoming = folder / "incoming"
        self.received = folder / "received"
        self.outbox = folder / "outbox"
        for each in (self.incoming, self.received, self.outbox):
            make_private_folder(each)

    def has_room(self) -> bool:
        """Whether more than `min_free_bytes` of the disk are free."""
        try:
            state = os.statvfs(self.incoming)
        except OSError:
            return False
        return state.f_bavail * state.f_frsize > self.min_free_bytes

    def keep(self, arrived: ArrivingFile, sop_uid: str) -> str:
        """Give an object its final name; on disk, with its name, when this returns.

        Returns:
            The name, for `path`: of the UID and the content, so that no object takes the place of another.

        Raises:
            OSError: the disk is full.
        """
        arrived.sync()
        name = file_name(f"{sop_uid} {arrived.digest}")
        target = self.path(name)
        make_private_folder(target.parent)
        Path(arrived.name).replace(target)
        sync_folder(target.parent)
        return name

    def path(self, name: str) -> Path:
        """Of a received file; 256 folders share them."""
        return self.received / name[:2] / name

    def put_out(self, sop_uid: str, content: bytes) -> str:
        """Write a result for the outbox, flushed to disk; the same object has the same name.

        Returns:
            The name in the folder `outbox`.

        Raises:
            OSError: the disk is full.
        """
        name = file_name(sop_uid)
        write_atomically(self.outbox / name, content, mode=PRIVATE)
        return name

    def remove(self, received: Collection[str], outbox: Collection[str]) -> None:
        """Remove received files and results."""
        for path in [*map(self.path, received), *(self.outbox / name for name in outbox)]:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def sweep(self, *, received: Collection[str], outbox: Collection[str]) -> int:
        """Remove what a process that ended has left behind: parts, and files that the journal does not name.

        Only while no other process receives. A new result may be of one that is about to write it down: it stays.

        Returns:
            Files removed.
        """
        stray = [path for path in self.incoming.iterdir() if path.is_file()]
        stray += [path for path in self.received.glob("*/*") if path.is_file() and path.name not in received]
        before = time.time() - NEW_S
        stray += [
            path
            for path in self.outbox.iterdir()
            if path.is_file() and path.name not in outbox and path.stat().st_mtime < before
        ]
        for path in stray:
            with suppress(OSError):
                path.unlink()
        return len(stray)


class ArrivingFile:
    """What pynetdicom writes an arriving object into; the interface is that of `tempfile.NamedTemporaryFile`.

    Attributes:
        name: path; it need not exist any more.
        full: the disk had no room for it, or it is larger than allowed: what was written is gone.
    """

    def __init__(self, store: FileStore, *, discard: bool = False) -> None:
        """Open a file under a name of ours.

        Args:
            store: whose.
            discard: nothing is written at all: the object is of a class that is not kept.
        """
        self.name = os.fspath(store.incoming / f"{secrets.token_hex(16)}.part")
        self.full = False
        self.size = 0
        self._store = store
        self._checked = 0
        self._hash = hashlib.sha256()
        self._file = None
        if discard:
            return
        try:
            if store.has_room():
                self._file = open_private(Path(self.name), "xb")
            else:
                self.full = True
        except OSError:
            self.full = True

    @property
    def file(self) -> Self:
        """As `NamedTemporaryFile` has it."""
        return self

    @property
    def digest(self) -> str:
        """Sha256 of what was written so far, 64 hex digits."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> int:
        """Write, or, once there is no room, pass over."""
        self.size += len(data)
        if self._file is not None:
            try:
                if self.size - self._checked > CHECK_BYTES:
                    self._checked = self.size
                    if self.size > self._store.max_object_bytes or not self._store.has_room():
                        self._give_up()
                        return len(data)
                self._file.write(data)
                self._hash.update(data)
            except OSError as error:
                logger.warning("an object was not written: %s", error.strerror)
                self._give_up()
        return len(data)

    def flush(self) -> None:
        """Nothing: what is kept is flushed once, by `sync`."""

    def finish(self) -> None:
        """Hand what was written to the system, so that others can read it."""
        if self._file is not None:
            try:
                self._file.flush()
            except OSError:
                self._give_up()

    def sync(self) -> None:
        """Flush to disk, and close.

        Raises:
            OSError: the disk is full.
        """
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def close(self) -> None:
        """Close. Closing twice is fine."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None

    def drop(self) -> None:
        """Close and remove it."""
        self.close()
        with suppress(OSError):
            Path(self.name).unlink(missing_ok=True)

    def _give_up(self) -> None:
        self.full = True
        self.drop()
