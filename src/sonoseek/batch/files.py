"""Where a job's files lie, and which names are let in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from sonoseek.core import InvalidValueError

LONGEST = 400
"""Characters of a file's name with its folders."""
DEEPEST = 12
"""Folders one in another."""


def safe_name(name: str) -> str:
    """A file's name within its folder, with forward slashes.

    Raises:
        InvalidValueError: it is empty, too long or deep, absolute, climbs upwards, or holds control characters.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    sound = (
        0 < len(parts) <= DEEPEST
        and len(name.encode("utf-8", "replace")) <= LONGEST
        and not any(part in ("", ".", "..", "/") or len(part.encode("utf-8", "replace")) > 240 for part in parts)
        and name.isprintable()
        and ":" not in parts[0]
    )
    if not sound:
        raise InvalidValueError(
            f"{name[:80]!r} is no name of a file within a folder; give it relative, with forward slashes, "
            f"{LONGEST} bytes and {DEEPEST} folders at most, and without '..'."
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


def without_folder(text: str, *folders: Path) -> str:
    """An error's sentence without where on this machine a folder lies: files are told by their names within it.

    Folders that were named relative to where the program runs tell nothing of the machine, and are left as they are.
    """
    for folder in folders:
        if folder.is_absolute():
            text = text.replace(f"{folder}/", "").replace(str(folder), "the folder")
    return text


def remove_folder(folder: Path) -> None:
    """Take a job's files off the disk; one that is not there is fine."""
    shutil.rmtree(folder, ignore_errors=True)
