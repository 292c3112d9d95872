"""The reference nearest-neighbour distances of a Milvus gallery; see `SearchResult.novelty`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoseek.gallery.exact import FEWEST, exact_cosines
from sonoseek.gallery.filter.milvus import EVERYTHING, among
from sonoseek.gallery.milvus.collections import read_meta
from sonoseek.gallery.milvus.search import MORE, TOGETHER
from sonoseek.gallery.milvus.server import MOST, Server
from sonoseek.gallery.novelty_sample import drawn

_SAMPLE = 1_000
_AROUND = 64
"""Hits among which a scan of another patient is looked for, before it is searched for by itself."""
_SMALL = 2_000
"""Scans. In a smaller gallery the distances are computed anew with every change."""
_TOLERATED = 0.1
"""Changes, as a share of the scans, up to which earlier distances are used."""


class ReferenceDistances:
    """The distances of one gallery, from memory, from the server, or computed anew."""

    def __init__(self, server: Server, name: str, *, lowest: float, store: Callable[..., None] | None) -> None:
        """Read nothing yet.

        Args:
            server: that holds the gallery.
            name: of the gallery.
            lowest: cosine from which on two scans are near-duplicates; see `deduplicate.lowest_cosine`.
            store: changes the gallery's description; None where it is open for reading.
        """
        self._server, self._name, self._lowest, self._store = server, name, lowest, store
        self._cached: tuple[int, int, NDArray[np.float32]] | None = None
        """State, scans that there were, distances."""

    def current(self) -> NDArray[np.float32]:
        """float32 (R,), ascending; computed anew when the gallery is small or a tenth larger or smaller."""
        meta = read_meta(self._server, self._name)
        stamp, cached = int(meta["stamp"]), self._cached
        if cached is None and "own" in meta:
            stored = meta["own"]
            cached = stored["stamp"], stored["rows"], np.asarray(stored["distances"], np.float32)
        if cached is None or cached[0] != stamp:
            scans = self._server.count(self._name, EVERYTHING)
            if cached is None or scans < _SMALL or abs(scans - cached[1]) > _TOLERATED * cached[1]:
                cached = stamp, scans, reference_distances(self._server, self._name, lowest=self._lowest)
                if self._store is not None:
                    distances = [float(distance) for distance in cached[2]]
                    self._store(own={"stamp": stamp, "rows": scans, "distances": distances})
            else:
                cached = stamp, cached[1], cached[2]
        self._cached = cached
        return cached[2]


def reference_distances(server: Server, name: str, *, lowest: float) -> NDArray[np.float32]:
    """Distances, ascending, of a sample of scans to their nearest scan of another patient; see `ReferenceSample`."""
    keys = sorted(row["key"] for row in server.every(name, EVERYTHING, ["key"]))
    if len(keys) < FEWEST:
        return np.empty(0, np.float32)
    fields = ["key", "scan_id", "case_key", "patient_key", "group_key", "embedding"]
    sample = list(server.among(name, "key", drawn(keys, _SAMPLE, seed=0), fields, strong=False))
    distances = []
    for start in range(0, len(sample), TOGETHER):
        block = sample[start : start + TOGETHER]
        queries = np.array([row["embedding"] for row in block], np.float32)
        limit = min(_AROUND, max(2, len(keys)))
        for row, query, hits in zip(
            block, queries, server.search(name, queries, EVERYTHING, limit=limit, fields=fields), strict=True
        ):
            best = _best_distinct(query, [hit for hit in hits if not _related(row, hit)], lowest)
            unrelated = " and ".join(f"not ({among(field, [row[field]])})" for field in _KEYS if row[field])
            full, wanted = len(hits) == limit, MORE
            while best == -np.inf and full and wanted <= MOST:
                (hits,) = server.search(name, query[np.newaxis], unrelated, limit=wanted, fields=fields)
                best = _best_distinct(query, hits, lowest)
                full, wanted = len(hits) == wanted, MORE * wanted
            if best > -np.inf:
                distances.append(1.0 - best)
    return np.sort(np.clip(np.array(distances), 0.0, 2.0)).astype(np.float32)


def _best_distinct(query: NDArray[np.float32], hits: list[dict[str, Any]], lowest: float) -> float:
    """The largest cosine below `lowest` of a query with rows; −inf without one."""
    if not hits:
        return -np.inf
    cosines = exact_cosines(np.array([hit["embedding"] for hit in hits], np.float32), query)
    return float(cosines[cosines < lowest].max(initial=-np.inf))


_KEYS = ("scan_id", "case_key", "patient_key", "group_key")


def _related(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return any(one[field] and one[field] == other[field] for field in _KEYS)
