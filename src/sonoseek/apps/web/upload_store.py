"""Uploaded files on disk, in a folder that is emptied when a server starts and when it ends."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from sonoseek.core.files import make_private_folder, open_private

CHUNK = 1 << 20
MAX_NAME_BYTES = 240
"""Bytes of a file's name; a file system takes 255, and a character may have four."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """An uploaded file.

    Attributes:
        upload_id: sha256 of its bytes, 64 hex digits: the same file has the same id, whoever sends it.
        name: the sender's name of it, without folders.
        path: of the stored file.
        size: bytes.
        frames: number of pictures in it.
        deleted: set when a reader deletes it: results that are being computed from it must not be cached either.
    """

    upload_id: str
    name: str
    path: Path
    size: int
    frames: int
    deleted: threading.Event = field(default_factory=threading.Event, compare=False, repr=False)


class UploadStore:
    """The folder with the uploaded files. Readable by this user alone."""

    def __init__(self, folder: Path) -> None:
        """Make the folder, or empty it: files of a server that was killed belong to nobody."""
        shutil.rmtree(folder, ignore_errors=True)
        make_private_folder(folder)
        self._folder = folder

    def save(self, file: BinaryIO, name: str) -> tuple[str, Path]:
        """Copy a file into a folder of its own: deleting another upload cannot remove it.

        Returns:
            sha256 of its bytes; and its path, whose last part is its name in a form that messages may show.
        """
        bare = name.replace("\\", "/").rsplit("/", 1)[-1]
        shown = "".join(c if c.isprintable() else "_" for c in bare)[-120:]
        shown = shown.encode()[-MAX_NAME_BYTES:].decode(errors="ignore").strip(". ") or "scan"
        folder = self._folder / secrets.token_hex(12)
        folder.mkdir(mode=0o700)
        digest = hashlib.sha256()
        try:
            file.seek(0)
            with open_private(folder / shown) as out:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
                    out.write(chunk)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return digest.hexdigest(), folder / shown

    @staticmethod
    def remove(path: Path) -> None:
        """Delete a stored file."""
        shutil.rmtree(path.parent, ignore_errors=True)

    def close(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)
