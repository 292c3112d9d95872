"""Searches in one state of an SQLite gallery: the cache that was built, what has changed since, and the two as one.

A cache is never rebuilt for a handful of new scans. What was written since it was made stands beside it in memory and
is compared exactly; what was written again or removed is masked in it. Only when the changes are more than a tenth of
it is it made anew.
"""

# ruff: noqa: S608  # SQL is put together from constants alone; values travel as parameters

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import GalleryError
from sonoseek.gallery import exact
from sonoseek.gallery.exact import Nearest, Selection
from sonoseek.gallery.sqlite import rows
from sonoseek.gallery.sqlite.index import candidates_for
from sonoseek.gallery.sqlite.index_files import SearchIndex
from sonoseek.gallery.sqlite.versions import Changes, State, column, read_unit
from sonoseek.gallery.values import Exclusion

_REMEMBERED = 8
"""Filters whose selections are cached; each takes about four bytes per scan that passes it."""
NARROW = 16_384
"""Scans. A filter of an inverted file that leaves no more has their vectors cached, four bytes a number."""
SMALL = 1_000
"""Scans. A smaller cache is made anew with every change."""
TOLERATED = 0.1
"""Changes, as a share of the cache, up to which it is followed."""
FURTHER = 4
"""Times as many rows are fetched where all fetched ones are near-duplicates of the query."""
LARGEST_COSINE = 1.001
"""Of vectors of length 1, with room for rounding."""
_CODE_MARGIN = 1e-6
"""Quantised cosines this close to the last one taken belong to the same vectors: more are taken."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Excluded:
    """Rows that must not answer: places in the index (the masked ones among them), and in the changes."""

    indexed: NDArray[np.intp]
    fresh: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class _Request:
    """What is sought, the same for all queries; as in `Snapshot.search`, with the rows that pass the filter."""

    connection: sqlite3.Connection
    k: int
    selection: tuple[Selection, NDArray[np.bool_]] | None
    excluded: Excluded
    novelty: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class RankedRows:
    """What one query found: row_ids int64 (n,), best first, their cosines, and the nearest of the whole gallery."""

    row_ids: NDArray[np.int64]
    cosines: NDArray[np.float64]
    nearest: Nearest


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """One state of the gallery, ready to be searched.

    Attributes:
        state: which one.
        index: what was built from an earlier state, or from this one.
        fresh_ids: int64 (n,), ascending: scans written since the index was made.
        fresh: float32 (n, D), their unit vectors.
        masked: places in the index of scans that were written again, or removed, since.
        lowest: cosine from which on a scan is a near-duplicate of a query; see `deduplicate.lowest_cosine`.
    """

    state: State
    index: SearchIndex
    fresh_ids: NDArray[np.int64]
    fresh: NDArray[np.float32]
    masked: NDArray[np.intp]
    lowest: float = np.inf
    selections: dict[str, Selection] = field(default_factory=dict)
    """Of the index; they stay right in every later state, since rows whose case has changed are masked."""
    fresh_selections: dict[str, NDArray[np.bool_]] = field(default_factory=dict)

    @classmethod
    def of(cls, index: SearchIndex, *, dimension: int, lowest: float = np.inf) -> Snapshot:
        """The state that an index was made from."""
        nothing = np.empty(0, np.int64)
        return cls(
            state=index.state,
            index=index,
            fresh_ids=nothing,
            fresh=np.empty((0, dimension), np.float32),
            masked=nothing.astype(np.intp),
            lowest=lowest,
        )

    def follow(self, changes: Changes, state: State) -> Snapshot:
        """A later state, from what changed since this one."""
        gone = np.concatenate([changes.row_ids, changes.removed])
        unchanged = ~np.isin(self.fresh_ids, gone)
        ids = np.concatenate([self.fresh_ids[unchanged], changes.row_ids])
        order = np.argsort(ids)
        return replace(
            self,
            state=state,
            fresh_ids=ids[order],
            fresh=np.concatenate([self.fresh[unchanged], changes.unit])[order],
            masked=np.union1d(self.masked, self.index.places_of(gone)),
            fresh_selections={},
        )

    # Who may answer

    def selection(self, connection: sqlite3.Connection, where: str) -> tuple[Selection, NDArray[np.bool_]]:
        """Rows of the index, and of the changes, that pass a filter; compiled once, then remembered."""
        selected = self.selections.get(where)
        if selected is None:
            passing = np.sort(_passing(connection, where))
            places = self.index.places_of(passing).astype(np.int32)
            few = self.index.inverted is not None and places.size <= NARROW
            unit = read_unit(connection, self.index.row_ids[places], dimension=self.fresh.shape[1]) if few else None
            selected = Selection(rows=places, total=self.index.row_ids.size, unit=unit)
            _remember(self.selections, where, selected)
        fresh = self.fresh_selections.get(where)
        if fresh is None:
            fresh = np.isin(self.fresh_ids, _passing(connection, where, among=self.fresh_ids))
            _remember(self.fresh_selections, where, fresh)
        return selected, fresh

    def excluded(self, connection: sqlite3.Connection, exclude: Exclusion | None) -> Excluded:
        """Rows that an exclusion, and the changes, take out."""
        row_ids: set[int] = set()
        if exclude is not None:
            for sql, names in rows.select_excluded(exclude):
                row_ids.update(row_id for (row_id,) in connection.execute(sql, (names,)))
        if not row_ids:
            return Excluded(indexed=self.masked, fresh=np.empty(0, np.intp))
        ids = np.fromiter(row_ids, np.int64, len(row_ids))
        places = self.index.places_of(ids)
        return Excluded(
            indexed=np.union1d(self.masked, places) if self.masked.size else places,
            fresh=np.flatnonzero(np.isin(self.fresh_ids, ids)),
        )

    def vectors(self, connection: sqlite3.Connection, row_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Unit vectors of these scans, in their order: float32 (n, D)."""
        if self.index.unit is None:
            return read_unit(connection, row_ids, dimension=self.fresh.shape[1])
        unit = np.empty((row_ids.size, self.fresh.shape[1]), np.float32)
        fresh = np.isin(row_ids, self.fresh_ids)
        unit[fresh] = self.fresh[np.searchsorted(self.fresh_ids, row_ids[fresh])]
        unit[~fresh] = self.index.unit[np.searchsorted(self.index.row_ids, row_ids[~fresh])]
        return unit

    # Search

    def search(
        self,
        connection: sqlite3.Connection,
        queries: NDArray[np.float32],
        *,
        k: int,
        where: str | None,
        excluded: Excluded,
        novelty: bool,
    ) -> list[RankedRows]:
        """The `k` best rows for each query, ranked exactly.

        Args:
            connection: in the transaction that sees this state.
            queries: float32 (Q, D), of length 1.
            k: how many.
            where: filter, or None.
            excluded: of `excluded`.
            novelty: also find the nearest rows of the whole gallery; else `RankedRows.nearest` is −inf.
        """
        selection = None if where is None else self.selection(connection, where)
        request = _Request(connection, k, selection, excluded, novelty)
        if self.index.inverted is not None:
            return self._by_lists(queries, request) if len(queries) else []
        results: list[RankedRows] = []
        step = max(1, exact.AT_ONCE // max(1, self.index.row_ids.size))
        for start in range(0, len(queries), step):
            results += self._by_product(queries[start : start + step], request)
        return results

    def _by_product(self, queries: NDArray[np.float32], request: _Request) -> list[RankedRows]:
        unit, k, excluded = self.index.unit, request.k, request.excluded
        assert unit is not None  # noqa: S101  # for the type checker
        places = None if request.selection is None else request.selection[0].rows
        narrow = places is not None and not request.novelty and places.size * exact.GATHER < unit.shape[0]
        products = None if narrow else exact.products(unit, queries, without=excluded.indexed)
        results = []
        for number, query in enumerate(queries):
            if products is None:
                assert places is not None  # noqa: S101
                scores = exact.gathered(unit[places], query, rows=places, without=excluded.indexed)
            else:
                scores = products[number] if places is None else products[number][places]
            if not scores.max(initial=-np.inf) <= LARGEST_COSINE:  # NaN too
                raise GalleryError(
                    "the search cache holds vectors that are not of length 1; it is damaged. Make it again with "
                    "`sonoseek index optimise`."
                )
            near = exact.contenders(scores, k) if k else np.empty(0, np.intp)
            at = near if places is None else places[near]
            ids, cosines = self.index.row_ids[at], exact.exact_cosines(unit[at], query)
            nearest = Nearest()
            if products is not None and request.novelty:
                best = float(cosines.max(initial=-np.inf)) if places is None and k else np.inf
                if best < self.lowest:
                    nearest = Nearest(best, best)
                else:
                    nearest = exact.nearest_cosines(unit, query, products[number], lowest=self.lowest)
            results.append(self._joined(query, ids, cosines, nearest, request))
        return results

    def _by_lists(self, queries: NDArray[np.float32], request: _Request) -> list[RankedRows]:
        chosen = None if request.selection is None else request.selection[0]
        ranked: list[tuple[NDArray[np.int64], NDArray[np.float64]]] | None
        if chosen is not None and chosen.unit is not None:
            ranked = [self._narrow(query, chosen, request) for query in queries]
        else:
            ranked = self._ranked(queries, request.k, chosen, request) if request.k else None
        if not request.novelty:
            near = None
        elif ranked is not None and chosen is None:
            near = ranked
        else:
            near = self._ranked(queries, 1, None, request)
        results = []
        for number, query in enumerate(queries):
            ids, cosines = (np.empty(0, np.int64), np.empty(0)) if ranked is None else ranked[number]
            nearest = Nearest() if near is None else self._nearest(query, near[number][1], request)
            results.append(self._joined(query, ids, cosines, nearest, request))
        return results

    def _nearest(self, query: NDArray[np.float32], cosines: NDArray[np.float64], request: _Request) -> Nearest:
        """Of the inverted file, from the cosines of its best rows; of more rows where all of these are copies."""
        best = float(cosines.max(initial=-np.inf))
        wanted = 1
        while not (cosines < self.lowest).any() and cosines.size >= wanted:
            wanted = FURTHER * max(wanted, cosines.size)
            ((_, cosines),) = self._ranked(query[np.newaxis], wanted, None, request)
        return Nearest(best, float(cosines[cosines < self.lowest].max(initial=-np.inf)))

    def _narrow(
        self, query: NDArray[np.float32], selection: Selection, request: _Request
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Row ids and exact cosines under a filter that leaves few rows: a product with all of them."""
        unit = selection.unit
        assert unit is not None  # noqa: S101  # for the type checker
        scores = exact.gathered(unit, query, rows=selection.rows, without=request.excluded.indexed)
        near = exact.contenders(scores, request.k) if request.k else np.empty(0, np.intp)
        return self.index.row_ids[selection.rows[near]], exact.exact_cosines(unit[near], query)

    def _ranked(
        self, queries: NDArray[np.float32], k: int, selection: Selection | None, request: _Request
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Row ids and exact cosines of the inverted file's hits; at least the `k` best, where there are so many."""
        inverted = self.index.inverted
        assert inverted is not None  # noqa: S101  # for the type checker
        passing = inverted.rows if selection is None else selection.rows.size
        if not passing:
            return [(np.empty(0, np.int64), np.empty(0))] * len(queries)
        taken = min(passing, candidates_for(k))
        everywhere = taken == passing
        while True:
            scores, places = inverted.search(
                queries, taken, selection=selection, without=request.excluded.indexed, everywhere=everywhere
            )
            short = bool((places[:, -1] < 0).any())
            if taken == passing or (short and everywhere):
                break
            tied = not short and bool((scores[:, -1] >= scores[:, k - 1] - _CODE_MARGIN).any())
            if not (short or tied):
                break
            # What is excluded may be all that the lists hold; identical vectors may be more than were taken.
            everywhere = short
            taken = min(passing, 4 * taken)
        flat = [row[row >= 0] for row in places]
        ids = self.index.row_ids[np.unique(np.concatenate(flat))]
        unit = read_unit(request.connection, ids, dimension=queries.shape[1])
        ranked = []
        for query, row in zip(queries, flat, strict=True):
            mine = self.index.row_ids[row]
            ranked.append((mine, exact.exact_cosines(unit[np.searchsorted(ids, mine)], query)))
        return ranked

    def _joined(
        self,
        query: NDArray[np.float32],
        ids: NDArray[np.int64],
        cosines: NDArray[np.float64],
        nearest: Nearest,
        request: _Request,
    ) -> RankedRows:
        """The index's best and the changes' best as one list of `k`."""
        k = request.k
        if self.fresh_ids.size:
            products = self.fresh @ query
            products[request.excluded.fresh] = -np.inf
            if request.novelty:
                fresh = exact.nearest_cosines(self.fresh, query, products, lowest=self.lowest)
                nearest = Nearest(*map(max, nearest, fresh))
            if request.selection is not None:
                products = np.where(request.selection[1], products, np.float32(-np.inf))
            near = exact.contenders(products, k) if k else np.empty(0, np.intp)
            ids = np.concatenate([ids, self.fresh_ids[near]])
            cosines = np.concatenate([cosines, exact.exact_cosines(self.fresh[near], query)])
        ids, cosines = _settled(request.connection, ids, cosines, k)
        return RankedRows(row_ids=ids, cosines=cosines, nearest=nearest)


def _settled(
    connection: sqlite3.Connection, ids: NDArray[np.int64], cosines: NDArray[np.float64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The `k` best, best first; equal ones in the order of scan_id, dataset, case_id."""
    order = np.argsort(-cosines, kind="stable")
    if k < order.size:
        order = order[cosines[order] >= cosines[order[k - 1]]] if k else order[:0]
    ids, cosines = ids[order], cosines[order]
    equal = np.flatnonzero(cosines[1:] == cosines[:-1])
    if equal.size:
        tied = ids[np.union1d(equal, equal + 1)]
        keys = {
            row_id: key
            for row_id, *key in connection.execute(
                "SELECT s.row_id, s.scan_id, c.dataset, c.case_id FROM scans s JOIN cases c USING (case_key) "
                "WHERE s.row_id IN (SELECT value FROM json_each(?))",
                (json.dumps(tied.tolist()),),
            )
        }
        ranks = {row_id: rank for rank, row_id in enumerate(sorted(keys, key=keys.__getitem__))}
        order = np.lexsort((np.array([ranks.get(row_id, -1) for row_id in ids.tolist()]), -cosines))
        ids, cosines = ids[order], cosines[order]
    return ids[:k], cosines[:k]


def _passing(
    connection: sqlite3.Connection, where: str, *, among: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Row ids that pass a filter: of all scans, or of some."""
    if among is not None and not among.size:
        return np.empty(0, np.int64)
    from sonoseek.gallery.filter.sql import compile_where, install_functions  # loads the parser when needed

    condition, parameters = compile_where(where)
    install_functions(connection)
    if among is None:  # cases first: they are narrow, and an index leads from them to their scans
        sql = f"SELECT s.row_id FROM cases c CROSS JOIN scans s USING (case_key) WHERE {condition}"
        return column(connection.execute(sql, parameters))
    sql = f"""SELECT s.row_id FROM json_each(?) j CROSS JOIN scans s ON s.row_id = j.value
        CROSS JOIN cases c USING (case_key) WHERE {condition}"""
    return column(connection.execute(sql, (json.dumps(among.tolist()), *parameters)))


def _remember(cache: dict[str, Any], where: str, value: Any) -> None:
    if len(cache) >= _REMEMBERED:
        cache.clear()
    cache[where] = value
