"""A job's files, and which names are accepted."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from sonoseek.core import InvalidValueError

MAX_NAME_BYTES = 400
"""Bytes of a file's name with its folders."""
MAX_DEPTH = 12
"""Nested folders."""


def safe_name(name: str) -> str:
    """A file's name within its folder, with forward slashes.

    Raises:
        InvalidValueError: it is empty, too long or deep, absolute, climbs upwards, or holds control characters.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    valid = (
        0 < len(parts) <= MAX_DEPTH
        and len(name.encode("utf-8", "replace")) <= MAX_NAME_BYTES
        and not any(part in ("", ".", "..", "/") or len(part.encode("utf-8", "replace")) > 240 for part in parts)
        and name.isprintable()
        and ":" not in parts[0]
    )
    if not valid:
        raise InvalidValueError(
            f"{name[:80]!r} is no name of a file within a folder; give it relative, with forward slashes, "
            f"{MAX_NAME_BYTES} bytes and {MAX_DEPTH} folders at most, and without '..'."
        )
    return "/".join(parts)


def scan_names(folder: Path) -> list[str]:
    """Every file below a folder, hidden ones left out, in a stable order."""
    return sorted(_walk(folder, folder))


def _walk(folder: Path, root: Path) -> Iterator[str]:
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path, root)
        elif path.is_file():
            yield path.relative_to(root).as_posix()


def check_inside(path: Path, folder: Path) -> None:
    """Check that a file, all links followed, lies within the folder that may be read.

    Raises:
        InvalidValueError: it is, or lies behind, a link that leads out of the folder.
    """
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # links in a circle
        inside = False
    if not inside:
        raise InvalidValueError(
            f"{path.name} is a link that leads out of its folder, and is not followed; put the file itself there."
        )


def without_folder(text: str, *folders: Path) -> str:
    """An error's text without the path of a folder: files keep their names within it.

    Folders that were given relative to the working directory reveal nothing of the machine, and stay.
    """
    for folder in folders:
        if folder.is_absolute():
            text = text.replace(f"{folder}/", "").replace(str(folder), "the folder")
    return text


def folder_bytes(folder: Path) -> int:
    """Bytes of every file below a folder; 0 where it is missing."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def remove_folder(folder: Path) -> None:
    """Delete a job's files; a missing folder is fine."""
    shutil.rmtree(folder, ignore_errors=True)
