"""The search cache beside a gallery: files that can always be rebuilt, mapped into memory by every reader.

`gallery.db.vectors`, little-endian: head (`_HEAD`), row_ids int64 (N,), reference distances float32 (R,), CRC-32 of
each MiB of the body uint32 (B,), CRC-32 of all this, zeros up to a multiple of 64. Then the body of an exact cache
follows: the matrix float32 (N, D). The body of an inverted file is faiss's own file, `gallery.db.<stamp>.ivf`.
"""

from __future__ import annotations

import logging
import os
import stat
import struct
import uuid
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from sonoseek.core.files import open_atomically
from sonoseek.gallery.sqlite.ivf import InvertedFile
from sonoseek.gallery.sqlite.ivf_layout import check_layout
from sonoseek.gallery.sqlite.versions import State

log = logging.getLogger(__name__)

_MAGIC = b"SONOVEC2"
_HEAD = struct.Struct("<8s36s4xqqqqqqqd")
"""Magic, gallery_id, seq, stamp, rows, dimension, reference distances, bytes of the body, nprobe (0: exact), recall."""
_BLOCK = 1 << 20
_CHECKED = 64
"""Blocks of the body that are checked when the file is opened: all of them in files up to 64 MiB, else 64 spread
evenly. So opening a large archive does not read it whole. `verify` reads everything."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchIndex:
    """What a search needs of every scan, for one state of the gallery.

    Attributes:
        gallery_id, state: the gallery, and the state it was made from.
        row_ids: int64 (N,), ascending.
        reference_distances: float32 (R,), ascending: distances of a sample of rows to their nearest scan of another
            patient; see `novelty_sample`.
        unit: float32 (N, D), embeddings of length 1; None where there is an inverted file.
        inverted: the inverted file; None where there is a matrix.
        recall: share of the sample's ten nearest rows that the inverted file finds; 1 for a matrix.
    """

    gallery_id: str
    state: State
    row_ids: NDArray[np.int64]
    reference_distances: NDArray[np.float32]
    unit: NDArray[np.float32] | None = None
    inverted: InvertedFile | None = None
    recall: float = 1.0

    @property
    def kind(self) -> str:
        """Of `Index`: "exact" or "ivf"."""
        return "exact" if self.inverted is None else "ivf"

    def places_of(self, row_ids: NDArray[np.int64]) -> NDArray[np.intp]:
        """Where those of these ids that it holds stand in it, ascending."""
        wanted = np.sort(row_ids)
        at = np.searchsorted(self.row_ids, wanted)
        at = at[at < self.row_ids.size]
        there: NDArray[np.intp] = at[self.row_ids[at] == wanted[: at.size]]
        return there


def cache_path(database: Path) -> Path:
    """The cache of a gallery file."""
    return database.with_name(database.name + ".vectors")


def cache_files(database: Path) -> list[Path]:
    """Every file of a gallery's cache, drafts of killed processes among them."""
    names = (f"{database.name}.vectors", f"{database.name}.*.ivf", f".{database.name}.*")
    return [path for name in names for path in database.parent.glob(name)]


def save_index(database: Path, index: SearchIndex) -> bool:
    """Write the cache; it appears whole or not at all. False where it cannot be written: searches work without."""
    path = cache_path(database)
    body_draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.ivf")
    try:
        mode = stat.S_IMODE(database.stat().st_mode)  # who reads the gallery reads its cache
        if index.inverted is None:
            assert index.unit is not None  # noqa: S101  # for the type checker
            matrix = np.ascontiguousarray(index.unit, "<f4")
            body = matrix.reshape(-1).view(np.uint8).data
            head = _head(index, matrix.shape[1], len(body), _crcs(body))
        else:
            os.close(os.open(body_draft, os.O_CREAT | os.O_EXCL, mode))
            index.inverted.save(body_draft)
            with body_draft.open("rb") as file:
                os.fsync(file.fileno())
                size = os.fstat(file.fileno()).st_size
                head = _head(index, index.inverted.index.d, size, _crcs(file))
            body = memoryview(b"")
            body_draft.replace(_body_path(database, index.state))
        if path.is_symlink() or not path.is_file():  # a link or a pipe from elsewhere would be written through
            path.unlink(missing_ok=True)
        with open_atomically(path, mode=mode) as file:
            file.write(head + b"\0" * (-len(head) % 64))
            file.write(body)
    except OSError as error:  # a read-only folder, a full disk, a file that another process has mapped (Windows)
        log.info("the search cache %s was not written (%s); this process keeps it in memory", path, error)
        with suppress(OSError):
            body_draft.unlink(missing_ok=True)
        return False
    for older in database.parent.glob(f"{database.name}.*.ivf"):
        if index.inverted is None or older != _body_path(database, index.state):
            with suppress(OSError):
                older.unlink()
    return True


def load_index(database: Path, *, gallery_id: str, dimension: int) -> SearchIndex | None:
    """The cache, if it is there, whole, and of this gallery; else None. Its `state` may be an earlier one."""
    path = cache_path(database)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise ValueError("it is no ordinary file")  # noqa: TRY301  # one message for all that is not used
        return _read(path, database, gallery_id=gallery_id, dimension=dimension)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, OverflowError) as error:
        log.warning("the search cache %s is not used (%s); it is made again from the gallery", path, error)
        return None


def damaged_block(database: Path) -> int | None:
    """The first block of the cache's body that is not what was written; None where all are. Reads everything."""
    with cache_path(database).open("rb") as file:
        head, rows, references, size, body = _open_head(file, database)
        crcs = np.frombuffer(head, "<u4", -(-size // _BLOCK), _HEAD.size + 8 * rows + 4 * references)
    for block in range(crcs.size):
        if zlib.crc32(body[block * _BLOCK : (block + 1) * _BLOCK].data) != crcs[block]:
            return block
    return None


def _body_path(database: Path, state: State) -> Path:
    return database.with_name(f"{database.name}.{state.stamp:016x}.ivf")


def _head(index: SearchIndex, dimension: int, size: int, crcs: list[int]) -> bytes:
    inverted = index.inverted
    head = _HEAD.pack(
        _MAGIC,
        index.gallery_id.encode(),
        *index.state,
        index.row_ids.size,
        dimension,
        index.reference_distances.size,
        size,
        0 if inverted is None else inverted.nprobe,
        index.recall,
    )
    head += index.row_ids.astype("<i8").tobytes() + index.reference_distances.astype("<f4").tobytes()
    head += np.array(crcs, "<u4").tobytes()
    return head + zlib.crc32(head).to_bytes(4, "little")


def _crcs(body: memoryview | BinaryIO) -> list[int]:
    if isinstance(body, memoryview):
        return [zlib.crc32(body[at : at + _BLOCK]) for at in range(0, len(body), _BLOCK)]
    return [zlib.crc32(block) for block in iter(lambda: body.read(_BLOCK), b"")]


def _open_head(file: BinaryIO, database: Path) -> tuple[NDArray[np.uint8], int, int, int, NDArray[np.uint8]]:
    """Head, rows, reference distances, bytes of the body, and the body, mapped; lengths and checksum are right."""
    raw = file.read(_HEAD.size)
    if len(raw) < _HEAD.size:
        raise ValueError("it is cut short")
    magic, _, seq, stamp, rows, columns, references, size, nprobe, _ = _HEAD.unpack(raw)
    if magic != _MAGIC:
        raise ValueError("it is of another version")
    length = _HEAD.size + 8 * rows + 4 * references + 4 * -(-size // _BLOCK) + 4
    start = length + -length % 64
    inside = 0 if nprobe else size
    if min(rows, references, size, columns) < 0 or os.fstat(file.fileno()).st_size != start + inside:
        raise ValueError("its length is wrong")
    if not nprobe and size != 4 * rows * columns:
        raise ValueError("its matrix has another size")
    # Mapped through the open file: its name may by now belong to a newer cache.
    mapped = np.memmap(file, np.uint8, mode="r", shape=(start + inside,))
    head = np.asarray(mapped[:length])
    if zlib.crc32(head[:-4].data) != int.from_bytes(head[-4:].tobytes(), "little"):
        raise ValueError("its head is damaged")
    if mapped[length:start].any():
        raise ValueError("there is something between its head and its body")
    if not nprobe:
        return head, rows, references, size, np.asarray(mapped[start:])
    path_of_body = _body_path(database, State(seq, stamp))
    if not stat.S_ISREG(path_of_body.stat().st_mode):
        raise ValueError("its inverted file is no ordinary file")
    with path_of_body.open("rb") as file_of_body:
        if os.fstat(file_of_body.fileno()).st_size != size:
            raise ValueError("the length of its inverted file is wrong")
        return head, rows, references, size, np.asarray(np.memmap(file_of_body, np.uint8, mode="r", shape=(size,)))


def _read(path: Path, database: Path, *, gallery_id: str, dimension: int) -> SearchIndex | None:
    """The same as `load_index`; damage raises ValueError."""
    with path.open("rb") as file:
        head, rows, references, size, body = _open_head(file, database)
    _, owner, seq, stamp, _, columns, _, _, nprobe, recall = _HEAD.unpack(head[: _HEAD.size].tobytes())
    if (owner, columns) != (gallery_id.encode(), dimension):
        return None
    blocks = -(-size // _BLOCK)
    crcs = np.frombuffer(head, "<u4", blocks, _HEAD.size + 8 * rows + 4 * references)
    for block in np.unique(np.linspace(0, blocks - 1, min(blocks, _CHECKED)).astype(int)):
        if zlib.crc32(body[block * _BLOCK : (block + 1) * _BLOCK].data) != crcs[block]:
            raise ValueError(f"block {block} of its body is damaged")
    row_ids = np.frombuffer(head, "<i8", rows, _HEAD.size)
    distances = np.frombuffer(head, "<f4", references, _HEAD.size + 8 * rows)
    if not (row_ids[1:] > row_ids[:-1]).all():
        raise ValueError("its scans are not in order")
    if not (
        (distances[1:] >= distances[:-1]).all() and ((distances >= 0) & (distances <= 2)).all() and 0 <= recall <= 1
    ):
        raise ValueError("its reference distances or its recall are none")
    if nprobe:
        check_layout(body, rows=rows, dimension=dimension, nprobe=nprobe)
    state = State(seq, stamp)
    inverted = InvertedFile.open(_body_path(database, state), nprobe=nprobe) if nprobe else None
    if inverted is not None and (inverted.rows, inverted.index.d) != (rows, dimension):
        raise ValueError("its inverted file has another size")
    return SearchIndex(
        gallery_id=gallery_id,
        state=state,
        row_ids=row_ids,
        reference_distances=distances,
        unit=None if nprobe else body.view("<f4").reshape(rows, columns),
        inverted=inverted,
        recall=recall,
    )
