"""From the rows of the SQLite file to the vectors that searches use."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Hashable, Iterator

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import GalleryError
from sonoseek.gallery.exact import normalised, own_distances
from sonoseek.gallery.vectors import Vectors

_BATCH = 4_096
"""Embeddings decoded at once."""


def current_stamp(connection: sqlite3.Connection) -> int:
    """Number of the state that this transaction sees: drawn anew with every change, never twice the same."""
    return int(connection.execute("SELECT value FROM meta WHERE key = 'stamp'").fetchone()[0])


def advance_stamp(connection: sqlite3.Connection) -> None:
    """Mark a new state, at the end of the transaction that made it.

    Drawn, not counted: a copy that is restored and then changed would count to numbers that a cache already carries.
    """
    connection.execute("UPDATE meta SET value = ? WHERE key = 'stamp'", (secrets.randbits(62),))


def build_vectors(connection: sqlite3.Connection, *, gallery_id: str, dimension: int, stamp: int) -> Vectors:
    """Unit vectors of every scan, and the gallery's own distances, from the truth.

    Raises:
        GalleryError: an embedding of another length, or one that points nowhere.
    """
    row_ids, same = _identities(connection)
    unit = np.empty((row_ids.size, dimension), np.float32)
    at = 0
    for found, block in read_embeddings(connection, dimension=dimension):
        if not np.array_equal(found, row_ids[at : at + found.size]):
            raise GalleryError("scans and their cases disagree; run `sonoseek index verify` on the gallery.")
        unit[at : at + found.size] = block
        at += found.size
    if not np.isfinite(unit).all():
        raise GalleryError("an embedding holds NaN or is all zero; run `sonoseek index verify` on the gallery.")
    order = np.lexsort((same[:, 1], same[:, 0]))  # by scan_id, then dataset and case_id
    unit, row_ids, same = unit[order], row_ids[order], same[order]
    return Vectors(gallery_id=gallery_id, stamp=stamp, row_ids=row_ids, unit=unit, own=own_distances(unit, same))


def read_embeddings(
    connection: sqlite3.Connection, *, dimension: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Row ids, ascending, and unit vectors float32 (≤ 4096, D), block by block; NaN where one is not usable.

    Raises:
        GalleryError: an embedding of another length.
    """
    cursor = connection.execute("SELECT row_id, embedding FROM scans ORDER BY row_id")
    while batch := cursor.fetchmany(_BATCH):
        if any(len(blob) != 2 * dimension for _, blob in batch):
            raise GalleryError(
                f"an embedding does not have {dimension} numbers; run `sonoseek index verify` on the gallery."
            )
        stored = np.frombuffer(b"".join(blob for _, blob in batch), "<f2").reshape(len(batch), dimension)
        with np.errstate(invalid="ignore", divide="ignore"):  # NaN and zero vectors become NaN: the caller looks
            yield np.array([row_id for row_id, _ in batch], np.int64), normalised(stored.astype(np.float32))


def _identities(connection: sqlite3.Connection) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row ids, ascending, and int64 (N, 4): numbers of scan, case, patient and group; −1 where there is none.

    Numbers of scans and cases count up in the order of scan_id, and of (dataset, case_id).
    """
    found = connection.execute(
        """SELECT s.row_id, s.scan_id, c.dataset, c.case_id, c.patient_id, c."group"
        FROM scans s JOIN cases c USING (case_key) ORDER BY s.row_id"""
    ).fetchall()
    row_ids = np.array([row[0] for row in found], np.int64)
    columns: list[list[Hashable]] = [
        [row[1] for row in found],
        [(row[2], row[3]) for row in found],
        [None if row[4] is None else (row[2], row[4]) for row in found],
        [None if row[5] is None else (row[2], row[5]) for row in found],
    ]
    same = np.full((len(found), 4), -1, np.int64)
    for place, column in enumerate(columns):
        numbers = {value: number for number, value in enumerate(sorted({v for v in column if v is not None}))}  # type: ignore[type-var]
        same[:, place] = [numbers.get(value, -1) for value in column]
    return row_ids, same
