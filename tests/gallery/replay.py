"""From a log of what a process wrote (`powercut.c`) to the files that a power cut could leave.

What is certain after a cut is what was flushed; of the rest, any part may have reached the disk, in any order, in whole
512-byte sectors. The names in a folder become certain in the order in which they changed: when the folder is flushed,
and under `kind` names also when the file itself is (as ext4, xfs and btrfs do).
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal, Self

_HEAD = struct.Struct("<IIQQQ")
_SECTOR = 512
Survival = Literal["synced", "all", "some"]
"""What reached the disk: only what was flushed; everything; some sectors of what was not flushed."""


@dataclass(frozen=True)
class Record:
    """One call. `op`: C made, W written, T cut to a size, S flushed, R renamed, L linked, U unlinked, M folder made."""

    op: str
    inode: int
    offset: int
    path: str
    data: bytes

    @property
    def name(self) -> str:
        return Path(self.path).name


def read_log(log: Path) -> list[Record]:
    raw, at, records = log.read_bytes(), 0, []
    while at < len(raw):
        op, path_length, inode, offset, length = _HEAD.unpack_from(raw, at)
        at += _HEAD.size
        path = raw[at : at + path_length].decode()
        at += path_length
        records.append(Record(chr(op), inode, offset, path, raw[at : at + length]))
        at += length
    return records


@dataclass(eq=False)
class File:
    """What is certain, and what has been asked for since: (offset, data), or a size to cut to."""

    synced: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes] | int] = field(default_factory=list)

    def sync(self) -> None:
        for change in self.pending:
            _apply(self.synced, change)
        self.pending.clear()

    def content(self, survival: Survival, chance: random.Random) -> bytes:
        content = bytearray(self.synced)
        if survival == "all":
            for change in self.pending:
                _apply(content, change)
        elif survival == "some":
            share = chance.choice((0.1, 0.5, 0.9))
            for change in _reordered(self.pending, chance):
                if chance.random() < share:
                    _apply(content, change)
        return bytes(content)


def _apply(content: bytearray, change: tuple[int, bytes] | int) -> None:
    if isinstance(change, int):
        del content[change:]
        content.extend(bytes(change - len(content)))
        return
    offset, data = change
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


def _reordered(pending: list[tuple[int, bytes] | int], chance: random.Random) -> Iterator[tuple[int, bytes] | int]:
    """The sectors of each write, in any order; nothing moves past a change of size."""
    sectors: list[tuple[int, bytes]] = []
    for change in [*pending, None]:
        if isinstance(change, tuple):
            offset, data = change
            edges = [offset, *range((offset // _SECTOR + 1) * _SECTOR, offset + len(data), _SECTOR), offset + len(data)]
            sectors += [(a, data[a - offset : b - offset]) for a, b in pairwise(edges)]
            continue
        chance.shuffle(sectors)
        yield from sectors
        sectors = []
        if change is not None:
            yield change


Names = dict[str, File | None]
"""Path → file, or None for a folder."""


@dataclass
class Disk:
    """A disk on which records happen, one after the other.

    Attributes:
        root: the folder that was there before.
        kind: a flush of a file makes its names certain too.
        honest: False: a disk, or a program, that never flushes, but answers as if.
        acknowledged: lines that were written to the file `acks`.
    """

    root: str
    kind: bool
    honest: bool = True
    acknowledged: int = 0
    syncs: int = 0
    _names: Names = field(default_factory=dict)
    _certain: Names = field(default_factory=dict)
    _changes: list[Record] = field(default_factory=list)
    _inodes: dict[int, File] = field(default_factory=dict)
    _made: dict[int, File] = field(default_factory=dict)
    """By the record that made it."""

    def run(self, record: Record) -> Self:
        if record.name.endswith("-shm"):
            return self
        file = self._inodes.get(record.inode)
        if record.name == "acks":
            self.acknowledged += record.data.count(b"\n")
        elif record.op in "WT":
            assert file is not None, f"{record.path} was there before the recording"
            file.pending.append((record.offset, record.data) if record.op == "W" else record.offset)
        elif record.op == "S":
            self.syncs += 1
            if self.honest:
                self._sync(record, file)
        else:
            if record.op == "C":
                self._inodes[record.inode] = self._made[id(record)] = File()
            self._changes.append(record)
            self._rename(self._names, record)
        return self

    def _sync(self, record: Record, file: File | None) -> None:
        certain: list[bool] = []
        if file is None:
            certain = [str(Path(change.path).parent) == record.path for change in self._changes]
        else:
            file.sync()
            mine = [i for i, change in enumerate(self._changes) if self.kind and self._concerns(change, file)]
            certain = [i <= max(mine, default=-1) for i in range(len(self._changes))]
        for change, is_certain in zip(self._changes, certain, strict=True):
            if is_certain:
                self._rename(self._certain, change)
        self._changes = [c for c, is_certain in zip(self._changes, certain, strict=True) if not is_certain]

    def _concerns(self, change: Record, file: File) -> bool:
        paths = {change.path, change.data.decode()} if change.op in "RL" else {change.path}
        return self._made.get(id(change)) is file or any(self._names.get(path) is file for path in paths)

    def _rename(self, names: Names, change: Record) -> None:
        if change.op == "C":
            names[change.path] = self._made[id(change)]
        elif change.op == "M":
            names[change.path] = None
        elif change.op == "L" and change.path in names:
            names[change.data.decode()] = names[change.path]
        elif change.op == "R" and change.path in names:
            names[change.data.decode()] = names.pop(change.path)
        elif change.op == "U":
            names.pop(change.path, None)

    def files(self, survival: Survival, *, seed: int = 0) -> dict[str, bytes | None]:
        """Path → content of every file that survives; None for a folder."""
        chance = random.Random(seed)
        names = dict(self._certain)
        if survival != "synced":
            count = len(self._changes) if survival == "all" else chance.randint(0, len(self._changes))
            for change in self._changes[:count]:
                self._rename(names, change)
        left: dict[str, bytes | None] = {}
        for path, file in sorted(names.items()):  # folders before what is in them
            if (folder := str(Path(path).parent)) == self.root or folder in left:
                left[path] = None if file is None else file.content(survival, chance)
        return left
