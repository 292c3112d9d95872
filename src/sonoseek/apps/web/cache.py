"""What the server keeps at hand for a while: files that were sent, what the network read in them, and reports.

All of it is bounded in number, size and time; nothing of it outlives the server. Files lie in a folder that only this
user can read and that is emptied when a server starts and ends.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from numpy.typing import NDArray

from sonoseek.core import NotFoundError, Report
from sonoseek.engine import EncodedScan

T = TypeVar("T")
READINGS, READINGS_MB = 48, 192
"""Some 1 MB each of an ordinary scan, pixels and evidence; of a large one many times that."""
REPORTS, REPORTS_MB = 192, 512
"""Some 3 MB each with ten matches, readings included; of a large scan, or with two hundred matches, many times that."""
CHUNK = 1 << 20
LONGEST = 240
"""Bytes of a file's name; a file system takes 255, and a character may be four."""


class Shelf(Generic[T]):
    """Things by name, the longest unused thrown out first. Thread-safe."""

    def __init__(
        self,
        what: str,
        *,
        count: int,
        seconds: float,
        most: int | None = None,
        size: Callable[[T], int] = lambda _: 0,
        on_leave: Callable[[T], None] = lambda _: None,
    ) -> None:
        """An empty one.

        Args:
            what: for messages, "scan".
            count: things at most.
            seconds: since its last use that a thing is kept.
            most: sum of the sizes, at most.
            size: of a thing.
            on_leave: called for each that is thrown out.
        """
        self._what = what
        self._count, self._seconds, self._most = count, seconds, most
        self._size, self._leave = size, on_leave
        self._things: OrderedDict[str, tuple[float, T]] = OrderedDict()
        self._total = 0
        self._lock = threading.Lock()

    def put(self, key: str, thing: T) -> T:
        """Keep a thing, in place of one of the same name."""
        with self._lock:
            self._drop(key)
            self._things[key] = (time.monotonic(), thing)
            self._total += self._size(thing)
            self._tidy()
        return thing

    def find(self, key: str) -> T | None:
        """The thing of this name, or None."""
        with self._lock:
            self._tidy()
            held = self._things.get(key)
            if held is None:
                return None
            self._things[key] = (time.monotonic(), held[1])
            self._things.move_to_end(key)
            return held[1]

    def get(self, key: str) -> T:
        """The thing of this name.

        Raises:
            NotFoundError: it was never here, or has left.
        """
        held = self.find(key)
        if held is None:
            raise NotFoundError(
                f"{self._what} {key[:16]!r} is not at hand any more; the server keeps it for "
                f"{self._seconds / 60:g} minutes, and no longer than it runs. Send the scan again."
            )
        return held

    def drop(self, key: str) -> bool:
        """Throw a thing out; says whether it was there."""
        with self._lock:
            return self._drop(key)

    def drop_all(self, unwanted: Callable[[str, T], bool]) -> None:
        """Throw out the things of which `unwanted(key, thing)` is true."""
        with self._lock:
            for key in [key for key, (_, thing) in self._things.items() if unwanted(key, thing)]:
                self._drop(key)

    def tidy(self) -> None:
        """Throw out what has had its time: without this, the last things would wait for the next use of the shelf."""
        with self._lock:
            self._tidy()

    def clear(self) -> None:
        """Throw everything out."""
        with self._lock:
            for key in list(self._things):
                self._drop(key)

    def __len__(self) -> int:
        return len(self._things)

    def _tidy(self) -> None:
        now = time.monotonic()
        while self._things:
            key, (used, _) = next(iter(self._things.items()))
            heavy = self._most is not None and self._total > self._most and len(self._things) > 1
            if not (heavy or len(self._things) > self._count or now - used > self._seconds):
                return
            self._drop(key)

    def _drop(self, key: str) -> bool:
        held = self._things.pop(key, None)
        if held is None:
            return False
        self._total -= self._size(held[1])
        self._leave(held[1])
        return True


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A file that was sent.

    Attributes:
        upload_id: sha256 of its bytes, 64 hex digits: the same file has the same id, whoever sends it.
        name: as the sender called it, without folders.
        path: where it lies.
        size: bytes.
        frames: how many pictures it holds.
        deleted: set when a reader has it taken away: what is being made of it meanwhile must not be kept either.
    """

    upload_id: str
    name: str
    path: Path
    size: int
    frames: int
    deleted: threading.Event = field(default_factory=threading.Event, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldReport:
    """A report, with what it was made of: for its pictures.

    Attributes:
        report: as the engine gave it.
        readings: one per view.
        uploads: the files, one per view; empty for a case of the archive.
        frame: that was asked of the first.
    """

    report: Report
    readings: tuple[EncodedScan, ...]
    uploads: tuple[Upload, ...] = ()
    frame: int = 0


def reading_bytes(reading: EncodedScan) -> int:
    """What a reading takes of memory, but for small things."""
    arrays: list[NDArray[Any]] = [reading.scan.pixels, reading.evidence, reading.within]
    if reading.preprocessed is not None:
        arrays += [reading.preprocessed.canvas, reading.preprocessed.area]
        arrays += [] if reading.preprocessed.marks is None else [reading.preprocessed.marks]
    return sum(array.nbytes for array in arrays)


def report_bytes(held: HeldReport) -> int:
    """What a report takes of memory with its readings, but for small things: mostly how heatmaps lie on their scans."""
    report = held.report
    told = [*report.explanations, *(each for view in report.views for each in view.explanations)]
    told += [match.explanation for match in report.matches if match.explanation is not None]
    ways = {id(each.upsampling): each.upsampling for each in told}.values()  # heatmaps of one scan share theirs
    return (
        sum(reading_bytes(reading) for reading in held.readings)
        + sum(each.evidence_map.nbytes for each in told)
        + sum(way.rows.nbytes + way.columns.nbytes for way in ways)
    )


class Spool:
    """The folder in which files that were sent lie until they leave."""

    def __init__(self, folder: Path) -> None:
        """Empty it: what a server that was killed left is nobody's."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        self._folder = folder

    def keep(self, file: BinaryIO, name: str) -> tuple[str, Path]:
        """Copy a file in, into a folder of its own: nobody else's upload can take it away.

        Returns:
            sha256 of its bytes; and its path, whose last part is its name as readers' messages may show it.
        """
        bare = name.replace("\\", "/").rsplit("/", 1)[-1]
        shown = "".join(c if c.isprintable() else "_" for c in bare)[-120:]
        shown = shown.encode()[-LONGEST:].decode(errors="ignore").strip(". ") or "scan"
        place = self._folder / secrets.token_hex(12)
        place.mkdir(mode=0o700)
        digest = hashlib.sha256()
        try:
            file.seek(0)
            with (place / shown).open("wb") as out:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
                    out.write(chunk)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        return digest.hexdigest(), place / shown

    @staticmethod
    def remove(path: Path) -> None:
        """Take a file off the disk."""
        shutil.rmtree(path.parent, ignore_errors=True)

    def close(self) -> None:
        """Take the folder off the disk."""
        shutil.rmtree(self._folder, ignore_errors=True)
