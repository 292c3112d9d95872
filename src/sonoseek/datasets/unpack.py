"""Unpack a zip archive from the internet without trusting it."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from sonoseek.core import DatasetError
from sonoseek.datasets.resume import disk_trouble

MAX_MEMBERS = 200_000
MAX_BYTES = 32 << 30
"""Unpacked, all together: several times the largest public ultrasound archive."""
MAX_RATIO = 200
"""Unpacked to packed size of the whole archive: pictures are compressed already and stay far below."""
SMALL = 1 << 20
"""Bytes below which the ratio says nothing."""
CHUNK = 1 << 18
JUNK = ("__MACOSX", ".DS_Store")


def unpack(archive: Path, destination: Path) -> tuple[Path, ...]:
    """Unpack into a folder of its own, then move what came out into `destination`, whole or not at all.

    Returns:
        The files and folders that now lie in `destination`.

    Raises:
        DatasetError: not a zip, damaged, encrypted, larger than the limits, a path that leads out, a link, or something
            of the same name is already there.
        TemporaryError: disk full.
    """
    destination.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=destination) as staging:
        try:
            with zipfile.ZipFile(archive) as content:
                members = [m for m in content.infolist() if not any(p in JUNK for p in PurePosixPath(m.filename).parts)]
                _check(members, archive=archive)
                budget = min(MAX_BYTES, max(SMALL, MAX_RATIO * archive.stat().st_size))
                for member in members:
                    budget -= _extract(content, member, Path(staging), budget=budget)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise DatasetError(
                f"{archive.name} does not unpack: {error}. Download it again; if that does not help, its source offers "
                "something else under this address, perhaps a page: open it in a browser."
            ) from error
        except OSError as error:
            raise disk_trouble(error, destination) from error
        return _move(Path(staging), destination)


def _check(members: list[zipfile.ZipInfo], *, archive: Path) -> None:
    if len(members) > MAX_MEMBERS:
        raise DatasetError(f"{archive.name} holds {len(members)} files; at most {MAX_MEMBERS} are unpacked.")
    for member in members:
        path = PurePosixPath(member.filename)
        kind = stat.S_IFMT(member.external_attr >> 16)
        if path.is_absolute() or ".." in path.parts or "\\" in member.filename or ":" in member.filename:
            raise DatasetError(
                f"{archive.name} holds {member.filename!r}, which leads out of its folder. Do not use it."
            )
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DatasetError(f"{archive.name} holds {member.filename!r}, which is no plain file. Do not use it.")


def _extract(content: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, *, budget: int) -> int:
    """Write one member; returns its bytes, counted as they come, for a header may lie."""
    target = folder / member.filename
    if member.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with content.open(member) as source, target.open("xb") as output:
        while chunk := source.read(CHUNK):
            written += len(chunk)
            if written > budget:
                raise DatasetError(
                    f"{content.filename} unpacks to more than {MAX_RATIO} times its size, or {MAX_BYTES} bytes, "
                    f"at {member.filename!r}. Do not use it."
                )
            output.write(chunk)
    return written


def _move(staging: Path, destination: Path) -> tuple[Path, ...]:
    arrived = sorted(staging.iterdir())
    for path in arrived:
        if (destination / path.name).exists():
            raise DatasetError(
                f"{destination / path.name} is already there, and is not overwritten. Move it away and try again."
            )
    return tuple(Path(shutil.move(path, destination / path.name)) for path in arrived)
