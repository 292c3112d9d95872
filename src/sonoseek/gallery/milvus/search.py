"""Searches on a Milvus server: what it finds near, ranked exactly, and never short."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import GalleryError
from sonoseek.gallery.deduplicate import Hit, Independent, deduplicate, first_fetch
from sonoseek.gallery.exact import MARGIN, Nearest, exact_cosines
from sonoseek.gallery.filter.milvus import EVERYTHING, Values, among, compile_expression
from sonoseek.gallery.milvus import rows
from sonoseek.gallery.milvus.server import MOST, Server
from sonoseek.gallery.values import Exclusion, SearchResult, VectorSearch, search_result

MORE = 10
"""Hits beyond the requested `k`: equal ones at the end are ordered here."""
TOGETHER = 100
"""Queries in one request."""


@dataclass(frozen=True, slots=True)
class MilvusHit(Hit):
    """A hit with its row."""

    fields: dict[str, Any]
    unit: NDArray[np.float32]


def expressions(where: str | None, exclude: Exclusion | None, values: Values) -> tuple[str, str]:
    """What may be a match, and what may be compared at all (the same without the filter)."""
    parts = [f"not ({expression})" for expression in excluded(exclude or Exclusion()) if expression]
    allowed = " and ".join(parts) or EVERYTHING
    if where is None:
        return allowed, allowed
    return " and ".join([compile_expression(where, values), *parts]), allowed


def excluded(exclude: Exclusion) -> list[str]:
    """What an exclusion leaves out: by scan, by patient, by group; "" for none."""
    fields = (
        ("scan_id", exclude.scan_ids),
        ("patient_key", [rows.pair(*patient) for patient in exclude.patients]),
        ("group_key", [rows.pair(*group) for group in exclude.groups]),
    )
    return [among(field, texts) if texts else "" for field, texts in fields]


@dataclass(frozen=True)
class MilvusSearch:
    """One search: its server, its name, two expressions of `expressions`, and the cosine of near-duplicates.

    That cosine is of `deduplicate.lowest_cosine`.
    """

    server: Server
    name: str
    passing: str
    allowed: str
    lowest: float

    def matches(self, queries: NDArray[np.float32], options: VectorSearch) -> list[list[Independent[MilvusHit]]]:
        """The `k` best of each query, each with how many depend on it."""
        k = options.k
        if not k:
            return [[] for _ in queries]
        first = self._near(queries, self.passing, first_fetch(k) if options.deduplicates else k)
        if not options.deduplicates:
            return [[Independent(hit) for hit in hits] for hits in first]
        return [
            deduplicate(
                self._fetcher(query, hits, first_fetch(k)),
                k=k,
                per_patient=options.per_patient,
                duplicate_threshold=options.duplicate_threshold,
                vectors=lambda hits: np.stack([hit.unit for hit in hits]),
            )
            for query, hits in zip(queries, first, strict=True)
        ]

    def nearest(
        self, queries: NDArray[np.float32], unfiltered: Sequence[Sequence[Independent[MilvusHit]]] | None
    ) -> list[Nearest]:
        """The nearest scans that are not excluded, whatever the filter.

        Args:
            queries: float32 (Q, D), of length 1.
            unfiltered: the hits of an unfiltered search, or None.
        """
        if unfiltered is not None and all(unfiltered):
            near = [[hits[0].hit] for hits in unfiltered]
        else:
            near = self._near(queries, self.allowed, 1)
        return [self._nearest(query, hits) for query, hits in zip(queries, near, strict=True)]

    def _nearest(self, query: NDArray[np.float32], hits: list[MilvusHit]) -> Nearest:
        """From the best hit; from more where all are near-duplicates of the query."""
        best = max((hit.similarity for hit in hits), default=-np.inf)
        wanted = 1
        while len(hits) == wanted and hits[-1].similarity >= self.lowest:
            wanted *= MORE
            (hits,) = self._near(query[np.newaxis], self.allowed, wanted)
        return Nearest(best, max((hit.similarity for hit in hits if hit.similarity < self.lowest), default=-np.inf))

    def _fetcher(
        self, query: NDArray[np.float32], first: list[MilvusHit], fetched: int
    ) -> Callable[[int], list[MilvusHit]]:
        def fetch(n: int) -> list[MilvusHit]:
            return first if n == fetched else self._near(query[np.newaxis], self.passing, n)[0]

        return fetch

    def _near(self, queries: NDArray[np.float32], expression: str, k: int) -> list[list[MilvusHit]]:
        """The `k` best rows of each query, exactly ranked; fewer only where fewer pass."""
        limit = k + MORE
        ranked: list[list[MilvusHit]] = []
        for start in range(0, len(queries), TOGETHER):
            block = queries[start : start + TOGETHER]
            answers = (
                self.server.search(self.name, block, expression, limit=limit, fields=rows.MATCH_FIELDS)
                if limit <= MOST
                else [[] for _ in block]
            )
            for query, hits in zip(block, answers, strict=True):
                ranked.append(self._settled(query, hits, expression, k=k, limit=limit))
        return ranked

    def _settled(
        self, query: NDArray[np.float32], hits: list[dict[str, Any]], expression: str, *, k: int, limit: int
    ) -> list[MilvusHit]:
        while True:
            ranked = _ranked(query, hits)
            full = len(hits) == limit
            if full and ranked[-1].similarity < ranked[k - 1].similarity - MARGIN:
                return ranked[:k]
            if not full and (len(hits) >= k or self.server.count(self.name, expression, strong=False) <= len(hits)):
                return ranked[:k]
            # Too few, though more pass, or equal ones up to the end: more of them, and in the end all.
            if full and 4 * limit <= MOST:
                limit *= 4
                (hits,) = self.server.search(
                    self.name, query[np.newaxis], expression, limit=limit, fields=rows.MATCH_FIELDS
                )
                continue
            every = self.server.every(self.name, expression, rows.MATCH_FIELDS, strong=False)
            return _ranked(query, every)[:k]


def result(
    hits: Sequence[Independent[MilvusHit]],
    *,
    nearest: Nearest,
    reference_distances: NDArray[np.float32],
    pieces: dict[str, dict[str, bytes]],
) -> SearchResult:
    """Matches from hits."""
    return search_result(
        tuple(
            rows.read_match(
                each.hit.fields,
                rank=rank,
                similarity=each.hit.similarity,
                near_duplicates=each.near_duplicates,
                same_patient=each.same_patient,
                picture=pieces.get(rows.owner_of(each.hit.fields), {}).get("p"),
            )
            for rank, each in enumerate(hits, start=1)
        ),
        nearest,
        reference_distances=reference_distances,
    )


def read_pieces(
    server: Server, pieces_name: str, scans: Iterable[dict[str, Any]], kinds: str
) -> dict[str, dict[str, bytes]]:
    """Pictures ("p") and evidence ("e") of scans: owner → kind → data."""
    wanted = {rows.owner_of(row): json.loads(row["content"]) for row in scans}
    names = [
        f"{owner}/{kind}{number:04d}" for owner, content in wanted.items() for kind, number in _numbered(content, kinds)
    ]
    read: dict[str, Any] = {}
    for strong in (False, True):  # what an earlier request has seen is nearly always there already
        missing = [name for name in names if name not in read]
        fetched = server.among(pieces_name, "key", missing, ["key", "owner", "data"], strong=strong)
        read |= {row["key"]: row for row in fetched}
        if len(read) == len(names):
            break
    lost = {name.rsplit("/", 1)[0] for name in names if name not in read}
    joined = rows.join_pieces(read.values())
    return {owner_name: joined.get(owner_name, {}) for owner_name in wanted if owner_name not in lost}


def _numbered(content: dict[str, Any], kinds: str) -> Iterable[tuple[str, int]]:
    for kind, size in zip("pe", content["sizes"], strict=True):
        if kind in kinds:
            yield from ((kind, number) for number in range(-(-size // rows.PIECE)))


def _ranked(query: NDArray[np.float32], candidates: Iterable[dict[str, Any]]) -> list[MilvusHit]:
    """Rows as hits, best first by exact cosine, equal ones by scan_id, dataset and case_id."""
    listed = list(candidates)
    if not listed:
        return []
    unit = np.array([row.pop("embedding") for row in listed], np.float32)
    if unit.ndim != 2 or unit.shape[1] != query.shape[0]:
        raise GalleryError("the server gave vectors of another length; run `sonoseek index verify` on the gallery.")
    hits = []
    for row, vector, cosine in zip(listed, unit, exact_cosines(unit, query).tolist(), strict=True):
        case = rows.case_of(row)
        dataset, case_id, patient, group = (case[name] for name in ("dataset", "case_id", "patient_id", "group"))
        hits.append(MilvusHit(row["key"], cosine, dataset, case_id, patient, group, row, vector))
    return sorted(hits, key=lambda hit: (-hit.similarity, hit.fields["scan_id"], hit.dataset, hit.case_id))
