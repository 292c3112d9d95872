"""From the rows of the SQLite file to what searches use, in one walk through the embeddings."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import GalleryError
from sonoseek.gallery.deduplicate import lowest_cosine
from sonoseek.gallery.novelty_sample import NEIGHBOURS, ReferenceSample
from sonoseek.gallery.sqlite.index_files import SearchIndex
from sonoseek.gallery.sqlite.ivf import PER_LIST, InvertedFile, lists_for
from sonoseek.gallery.sqlite.versions import column, current_state, read_embeddings, read_unit
from sonoseek.gallery.values import Index

EXACT_UP_TO = 200_000
"""Scans, under `index="auto"`: a matrix product with so many takes some milliseconds on two cores."""
_STEP = 4
"""Blocks of `read_embeddings` that are taken in at once."""


def kind_for(index: Index, rows: int) -> Index:
    """What an index comes to for so many rows: "exact" or "ivf"."""
    if index == "auto":
        return "exact" if rows <= EXACT_UP_TO else "ivf"
    return "exact" if rows == 0 else index


def candidates_for(k: int) -> int:
    """How many hits of an inverted file are ranked again exactly."""
    return max(2 * k, k + 16)


def build_index(
    connection: sqlite3.Connection,
    *,
    gallery_id: str,
    dimension: int,
    index: Index,
    duplicate_threshold: float | None = None,
) -> SearchIndex:
    """Everything that searches of this state need, made from the stored embeddings, in memory.

    Raises:
        GalleryError: an embedding of another length, or one that points nowhere.
    """
    row_ids = np.sort(column(connection.execute("SELECT row_id FROM scans")))
    (room,) = connection.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").fetchone()
    if 2 * dimension * row_ids.size > room:  # before memory is allocated
        raise GalleryError(
            f"{row_ids.size:,} scans with embeddings of {dimension} numbers do not fit into the {room:,} bytes of the "
            "gallery; it is damaged. Restore it from a copy, or build it anew."
        )
    sample = ReferenceSample(connection, row_ids, dimension=dimension, lowest=lowest_cosine(duplicate_threshold))
    exact = kind_for(index, row_ids.size) == "exact"
    unit = np.empty((row_ids.size if exact else 0, dimension), np.float32)
    inverted = None if exact else _trained(connection, row_ids, dimension=dimension)
    at = 0
    for block_ids, block in _steps(connection, dimension=dimension):
        if not np.array_equal(block_ids, row_ids[at : at + block_ids.size]):
            raise GalleryError("scans and their index disagree; run `sonoseek index verify` on the gallery.")
        if not np.isfinite(block).all():
            raise GalleryError("an embedding holds NaN or is all zero; run `sonoseek index verify` on the gallery.")
        if inverted is None:
            unit[at : at + block_ids.size] = block
        else:
            inverted.add(block)
        sample.see(at, block, neighbours=inverted is not None)
        at += block_ids.size
    recall = 1.0
    if inverted is not None:
        recall = inverted.calibrate(sample.unit, sample.neighbours, candidates=candidates_for(NEIGHBOURS))
    return SearchIndex(
        gallery_id=gallery_id,
        state=current_state(connection),
        row_ids=row_ids,
        reference_distances=sample.distances,
        unit=unit if exact else None,
        inverted=inverted,
        recall=recall,
    )


def _trained(connection: sqlite3.Connection, row_ids: NDArray[np.int64], *, dimension: int) -> InvertedFile:
    few = min(row_ids.size, max(1_000, PER_LIST * lists_for(row_ids.size)))
    drawn = np.sort(np.random.default_rng(1).choice(row_ids, few, replace=False))
    return InvertedFile.train(read_unit(connection, drawn, dimension=dimension), rows=row_ids.size)


def _steps(
    connection: sqlite3.Connection, *, dimension: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    blocks = read_embeddings(connection, dimension=dimension)
    while together := list(islice(blocks, _STEP)):
        yield np.concatenate([ids for ids, _ in together]), np.concatenate([unit for _, unit in together])
