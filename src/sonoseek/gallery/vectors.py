"""The cache of unit vectors beside a gallery: a file that can always be rebuilt, mapped into memory by every reader.

Layout, little-endian: head (`_HEAD`), row_ids int64 (N,), own distances float32 (R,), CRC-32 of each MiB of the matrix
uint32 (B,), CRC-32 of all this, zeros up to a multiple of 64, then the matrix float32 (N, D).
"""

from __future__ import annotations

import logging
import os
import struct
import uuid
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

_MAGIC = b"SONOVEC1"
_HEAD = struct.Struct("<8s36sqqqq")
"""Magic, gallery_id, stamp, rows, dimension, number of own distances."""
_BLOCK = 1 << 20
_CHECKED = 64
"""Blocks of the matrix that are checked when the file is opened: all of them in files up to 64 MiB, else as many spread
evenly, so that opening a large archive does not read it whole. `verify` reads everything."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Vectors:
    """What a search needs of every scan, for one state of the gallery.

    Attributes:
        gallery_id, stamp: the gallery and its state.
        row_ids: int64 (N,), in the order of scan_id, dataset, case_id: rows that are equally similar are ranked so.
        unit: float32 (N, D), embeddings of length 1.
        own: float32 (R,), ascending: distances of a sample of rows to their nearest stranger; see `own_distances`.
    """

    gallery_id: str
    stamp: int
    row_ids: NDArray[np.int64]
    unit: NDArray[np.float32]
    own: NDArray[np.float32]
    _ascending: NDArray[np.int64] = field(init=False, repr=False)
    _sorter: NDArray[np.intp] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sorter = np.argsort(self.row_ids)
        object.__setattr__(self, "_sorter", sorter)
        object.__setattr__(self, "_ascending", self.row_ids[sorter])

    def rows_of(self, row_ids: NDArray[np.int64]) -> NDArray[np.intp]:
        """Where these ids, all of them present, stand in `unit`, ascending."""
        return np.sort(self._sorter[np.searchsorted(self._ascending, row_ids)])

    def unit_of(self, row_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Unit vectors of these ids, all of them present, in the order given: float32 (n, D)."""
        return self.unit[self._sorter[np.searchsorted(self._ascending, row_ids)]]


def cache_path(database: Path) -> Path:
    """The cache of a gallery file."""
    return database.with_name(database.name + ".vectors")


def save_vectors(path: Path, vectors: Vectors) -> bool:
    """Write the cache; it appears whole or not at all. False where it cannot be written: searches work without."""
    matrix = np.ascontiguousarray(vectors.unit, "<f4")
    body = matrix.reshape(-1).view(np.uint8).data
    crcs = np.array([zlib.crc32(body[at : at + _BLOCK]) for at in range(0, len(body), _BLOCK)], "<u4")
    head = _HEAD.pack(_MAGIC, vectors.gallery_id.encode(), vectors.stamp, *matrix.shape, vectors.own.size)
    head += vectors.row_ids.astype("<i8").tobytes() + vectors.own.astype("<f4").tobytes() + crcs.tobytes()
    head += zlib.crc32(head).to_bytes(4, "little")
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with draft.open("wb") as file:
            file.write(head + b"\0" * (-len(head) % 64))
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:  # a read-only folder, a full disk, a file that another process has mapped (Windows)
        log.info("the search cache %s was not written (%s); this process keeps it in memory", path, error)
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        return False
    return True


def load_vectors(path: Path, *, gallery_id: str, stamp: int, dimension: int) -> Vectors | None:
    """The cache, if it is there, whole, and of this state of this gallery; else None."""
    try:
        return _read(path, gallery_id=gallery_id, stamp=stamp, dimension=dimension)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("the search cache %s is not used (%s); it is made again from the gallery", path, error)
        return None


def _read(path: Path, *, gallery_id: str, stamp: int, dimension: int) -> Vectors | None:
    """The same; damage raises ValueError."""
    with path.open("rb") as file:
        raw = file.read(_HEAD.size)
        if len(raw) < _HEAD.size:
            raise ValueError("it is cut short")
        magic, owner, found_stamp, rows, columns, own = _HEAD.unpack(raw)
        if (magic, owner, found_stamp, columns) != (_MAGIC, gallery_id.encode(), stamp, dimension):
            return None
        blocks = -(-4 * rows * columns // _BLOCK)
        length = _HEAD.size + 8 * rows + 4 * own + 4 * blocks + 4
        start = length + -length % 64
        if min(rows, own) < 0 or os.fstat(file.fileno()).st_size != start + 4 * rows * columns:
            raise ValueError("its length is wrong")
        head = raw + file.read(length - _HEAD.size)
        if zlib.crc32(head[:-4]) != int.from_bytes(head[-4:], "little"):
            raise ValueError("its head is damaged")
        unit = np.empty((0, dimension), np.float32)
        if rows:  # mapped through the open file: its name may by now belong to a newer cache
            unit = np.asarray(np.memmap(file, "<f4", mode="r", offset=start, shape=(rows, columns)))
    crcs = np.frombuffer(head, "<u4", blocks, _HEAD.size + 8 * rows + 4 * own)
    body = unit.reshape(-1).view(np.uint8).data
    for block in np.unique(np.linspace(0, blocks - 1, min(blocks, _CHECKED)).astype(int)):
        if zlib.crc32(body[block * _BLOCK : (block + 1) * _BLOCK]) != crcs[block]:
            raise ValueError(f"block {block} of its matrix is damaged")
    return Vectors(
        gallery_id=gallery_id,
        stamp=stamp,
        row_ids=np.frombuffer(head, "<i8", rows, _HEAD.size).astype(np.int64),
        unit=unit,
        own=np.frombuffer(head, "<f4", own, _HEAD.size + 8 * rows).astype(np.float32),
    )
