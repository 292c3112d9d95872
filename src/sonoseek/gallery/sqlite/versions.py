"""States of the SQLite file, and what changed between two of them.

Every change makes a new state, with a number that counts up and a stamp that is drawn. A cache names the state it was
made from; it can be followed up to the present while that very state, number and stamp, is among those that the file
remembers. The stamp is drawn, not counted: a copy that is restored and then changed would count to numbers that a cache
of the history it left already carries.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import GalleryError
from sonoseek.gallery.exact import normalised

_BATCH = 8_192
"""Embeddings decoded at once."""
_REMEMBERED = 10_000
"""States that can be followed; a cache of an older one is made anew."""

LONGEST_COUNT_S = 60.0
"""Seconds to count rows: ten million take less than one."""
_META = 100
"""Keys of the description that are read; a gallery has six."""


class State(NamedTuple):
    """One state of a gallery: its number, and the stamp that sets it apart from the same number of another history."""

    seq: int
    stamp: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Changes:
    """What became of a gallery between two states.

    Attributes:
        row_ids: int64 (n,), ascending: scans that were added or written again.
        unit: float32 (n, D), their unit vectors.
        removed: int64 (m,): scans that went.
    """

    row_ids: NDArray[np.int64]
    unit: NDArray[np.float32]
    removed: NDArray[np.int64]


def count_rows(connection: sqlite3.Connection, table: Literal["scans", "cases"] = "scans") -> int:
    """How many scans, or cases, there are.

    Raises:
        sqlite3.OperationalError: interrupted. SQLite counts in one step, which no limit on steps ends.
    """
    timer = threading.Timer(LONGEST_COUNT_S, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        (rows,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608  # one of two constants
    finally:
        timer.cancel()
    return int(rows)


def read_meta(connection: sqlite3.Connection) -> dict[str, Any]:
    """The gallery's description, key → value; values that are absurdly long are left out."""
    return dict(connection.execute(f"SELECT key, value FROM meta WHERE length(value) <= 1000 LIMIT {_META}"))  # noqa: S608


def current_state(connection: sqlite3.Connection) -> State:
    """The state that this transaction sees."""
    latest = connection.execute("SELECT seq, stamp FROM states ORDER BY seq DESC LIMIT 1").fetchone()
    if latest is None or not all(isinstance(number, int) for number in latest):
        raise GalleryError("the gallery has lost its list of states; it is damaged. Restore it from a copy.")
    return State(*latest)


def record_state(connection: sqlite3.Connection, seq: int) -> None:
    """Mark a new state, at the end of the transaction that made it."""
    connection.execute("INSERT INTO states VALUES (?, ?)", (seq, secrets.randbits(62)))
    connection.execute("DELETE FROM states WHERE seq <= ?", (seq - _REMEMBERED,))
    connection.execute("DELETE FROM removals WHERE changed <= ?", (seq - _REMEMBERED,))


def is_remembered(connection: sqlite3.Connection, state: State) -> bool:
    """Whether the present grew out of this state, and every change since then is still known."""
    return connection.execute("SELECT 1 FROM states WHERE seq = ? AND stamp = ?", state).fetchone() is not None


def count_changes(connection: sqlite3.Connection, since: State) -> int:
    """How many scans were added, written again or removed since a state."""
    (written,) = connection.execute("SELECT count(*) FROM scans WHERE changed > ?", (since.seq,)).fetchone()
    (removed,) = connection.execute("SELECT count(*) FROM removals WHERE changed > ?", (since.seq,)).fetchone()
    return int(written + removed)


def read_changes(connection: sqlite3.Connection, since: State, *, dimension: int) -> Changes:
    """What became of the scans since a state that is remembered."""
    # Sorted here: asked for an order, SQLite walks through all scans in it, rather than through the index of changes.
    written = np.sort(column(connection.execute("SELECT row_id FROM scans WHERE changed > ?", (since.seq,))))
    removed = column(connection.execute("SELECT row_id FROM removals WHERE changed > ?", (since.seq,)))
    return Changes(row_ids=written, unit=read_unit(connection, written, dimension=dimension), removed=removed)


def read_unit(connection: sqlite3.Connection, row_ids: NDArray[np.int64], *, dimension: int) -> NDArray[np.float32]:
    """Unit vectors of these scans, in their order: float32 (n, D).

    Raises:
        GalleryError: an embedding that is not there, or not usable.
    """
    blobs: list[bytes] = []
    for start in range(0, row_ids.size, _BATCH):
        wanted = row_ids[start : start + _BATCH].tolist()
        blob_of = dict(
            connection.execute(
                "SELECT row_id, iif(length(embedding) = ?, embedding, NULL) FROM scans "
                "WHERE row_id IN (SELECT value FROM json_each(?))",
                (2 * dimension, json.dumps(wanted)),
            ).fetchall()
        )
        if not blob_of.keys() >= set(wanted):
            raise GalleryError("a scan is not where its index says; run `sonoseek index verify` on the gallery.")
        blobs += [blob_of[row_id] for row_id in wanted]
    unit = _decoded(blobs, dimension)
    if not np.isfinite(unit).all():
        raise GalleryError("an embedding holds NaN or is all zero; run `sonoseek index verify` on the gallery.")
    return unit


def read_embeddings(
    connection: sqlite3.Connection, *, dimension: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Row ids, ascending, and unit vectors float32 (≤ 8192, D), block by block; NaN where one is not usable.

    Raises:
        GalleryError: an embedding of another length.
    """
    cursor = connection.execute(
        "SELECT row_id, iif(length(embedding) = ?, embedding, NULL) FROM scans ORDER BY row_id", (2 * dimension,)
    )
    while batch := cursor.fetchmany(_BATCH):
        yield np.array([row_id for row_id, _ in batch], np.int64), _decoded([blob for _, blob in batch], dimension)


def column(rows: Iterator[Sequence[int]] | sqlite3.Cursor) -> NDArray[np.int64]:
    """The first value of each row: int64 (n,)."""
    return np.fromiter((row[0] for row in rows), np.int64)


def _decoded(blobs: Sequence[object], dimension: int) -> NDArray[np.float32]:
    whole = [blob for blob in blobs if isinstance(blob, bytes) and len(blob) == 2 * dimension]
    if len(whole) != len(blobs):
        raise GalleryError(
            f"an embedding does not have {dimension} numbers; run `sonoseek index verify` on the gallery."
        )
    stored = np.frombuffer(b"".join(whole), "<f2").reshape(len(blobs), dimension)
    with np.errstate(invalid="ignore", divide="ignore"):  # NaN and zero vectors become NaN: the caller looks
        return normalised(stored.astype(np.float32))
