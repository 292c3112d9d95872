"""From ranked rows of one state to matches: one per patient and without near-duplicates, where that is wanted."""

from __future__ import annotations

import json
import sqlite3

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import GalleryError
from sonoseek.gallery.deduplicate import Hit, deduplicate, first_fetch
from sonoseek.gallery.sqlite import rows
from sonoseek.gallery.sqlite.search import RankedRows, Snapshot
from sonoseek.gallery.values import SearchResult, VectorSearch, search_result


def find_matches(
    connection: sqlite3.Connection, snapshot: Snapshot, queries: NDArray[np.float32], options: VectorSearch
) -> tuple[SearchResult, ...]:
    """Search one state.

    Args:
        connection: in the transaction that sees this state.
        snapshot: the state.
        queries: float32 (Q, D), of length 1.
        options: the same for all queries.
    """
    excluded = snapshot.excluded(connection, options.exclude)
    fetched = first_fetch(options.k) if options.deduplicates else options.k

    def rank(queries: NDArray[np.float32], n: int, *, novelty: bool = False) -> list[RankedRows]:
        return snapshot.search(connection, queries, k=n, where=options.where, excluded=excluded, novelty=novelty)

    results = []
    for query, ranked in zip(queries, rank(queries, fetched, novelty=options.novelty), strict=True):
        ids, cosines, dependent = ranked.row_ids.tolist(), ranked.cosines.tolist(), None
        if options.deduplicates and options.k:

            def fetch(n: int, query: NDArray[np.float32] = query, ranked: RankedRows = ranked) -> list[Hit]:
                return _hits(connection, ranked if n == fetched else rank(query[np.newaxis], n)[0])

            independent = deduplicate(
                fetch,
                k=options.k,
                per_patient=options.per_patient,
                duplicate_threshold=options.duplicate_threshold,
                vectors=lambda hits: snapshot.vectors(connection, np.array([hit.key for hit in hits], np.int64)),
            )
            ids, cosines = [int(each.hit.key) for each in independent], [each.hit.similarity for each in independent]
            dependent = [(each.near_duplicates, each.same_patient) for each in independent]
        matches = rows.read_matches(connection, ids, cosines, pictures=options.pictures, dependent=dependent)
        distances = snapshot.index.reference_distances
        results.append(search_result(matches, ranked.nearest, reference_distances=distances))
    return tuple(results)


def _hits(connection: sqlite3.Connection, ranked: RankedRows) -> list[Hit]:
    """Hits, each with its scan's case, patient and group."""
    ids = ranked.row_ids.tolist()
    cosines = dict(zip(ids, ranked.cosines.tolist(), strict=True))
    hits = {
        row_id: Hit(row_id, cosines[row_id], *names)
        for row_id, *names in connection.execute(
            """SELECT s.row_id, c.dataset, c.case_id, c.patient_id, c."group" FROM json_each(?) j
            CROSS JOIN scans s ON s.row_id = j.value CROSS JOIN cases c USING (case_key)""",
            (json.dumps(ids),),
        )
    }
    if not hits.keys() >= set(ids):
        raise GalleryError("a scan has lost its case; run `sonoseek index verify` on the gallery.")
    return [hits[row_id] for row_id in ids]
