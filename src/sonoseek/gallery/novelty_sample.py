"""A sample of the gallery's scans compared with all of them: reference nearest-neighbour distances, and neighbours."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import InvalidValueError
from sonoseek.gallery.exact import FEWEST
from sonoseek.gallery.sqlite.versions import column, read_unit

Item = TypeVar("Item")
MOST = 1_000
"""Scans in the sample; fewer in galleries so large that comparing them would take more than seconds."""
_BUDGET = 100_000_000
"""Products that the sample may cost, beyond a hundred scans."""
NEIGHBOURS = 10

_KEYS = {
    "scan": ("s.scan_id", "SELECT row_id FROM scans WHERE scan_id = ?"),
    "case": ("s.case_key", "SELECT row_id FROM scans WHERE case_key = ?"),
    "patient": (
        "CASE WHEN c.patient_id IS NOT NULL THEN json_array(c.dataset, c.patient_id) END",
        "SELECT row_id FROM cases JOIN scans USING (case_key) WHERE dataset = ? AND patient_id = ?",
    ),
    "group": (
        """CASE WHEN c."group" IS NOT NULL THEN json_array(c.dataset, c."group") END""",
        """SELECT row_id FROM cases JOIN scans USING (case_key) WHERE dataset = ? AND "group" = ?""",
    ),
}
"""What relates two scans: SQL of the key, and of the scans that share it."""


def drawn(items: Sequence[Item], count: int, *, seed: int) -> list[Item]:
    """`count` items at random, in their order; all of them where there are no more.

    Raises:
        InvalidValueError: a count below 0.
    """
    if count < 0:
        raise InvalidValueError(f"count is {count}; it is the number of scans to draw, 0 or more.")
    if count >= len(items):
        return list(items)
    picked = np.sort(np.random.default_rng(seed).choice(len(items), count, replace=False))
    return [items[place] for place in picked.tolist()]


class ReferenceSample:
    """A sample of scans that is compared with all of them, block by block."""

    def __init__(
        self, connection: sqlite3.Connection, row_ids: NDArray[np.int64], *, dimension: int, lowest: float = np.inf
    ) -> None:
        """Draw it.

        Args:
            connection: in the transaction that sees these scans.
            row_ids: int64 (N,), ascending, of all scans.
            dimension: numbers per embedding.
            lowest: cosine from which on two scans are near-duplicates, which no record need mark; infinity: none are.
        """
        self._lowest = lowest
        size = 0 if row_ids.size < FEWEST else min(row_ids.size, MOST, max(100, _BUDGET // row_ids.size))
        self.places = (
            np.sort(np.random.default_rng(0).choice(row_ids.size, size, replace=False))
            if size
            else np.empty(0, np.intp)
        )
        self.unit = read_unit(connection, row_ids[self.places], dimension=dimension)
        self._related = _related_places(connection, row_ids, self.places)
        self._nearest = np.full(size, -np.inf, np.float32)
        self._best = np.full((size, NEIGHBOURS), -np.inf, np.float32)
        self._who = np.full((size, NEIGHBOURS), -1, np.intp)

    def see(self, at: int, unit: NDArray[np.float32], *, neighbours: bool) -> None:
        """Take in rows at … at + n: float32 (n, D).

        Args:
            at: place of the first one.
            unit: their unit vectors.
            neighbours: also remember which rows are nearest, the scan itself left out.
        """
        if not self.places.size:
            return
        cosines = self.unit @ unit.T
        inside = np.flatnonzero((self.places >= at) & (self.places < at + len(unit)))
        cosines[inside, self.places[inside] - at] = -np.inf
        if neighbours:
            few = min(NEIGHBOURS, len(unit))
            top = np.argpartition(cosines, len(unit) - few, axis=1)[:, len(unit) - few :]
            values = np.concatenate([self._best, np.take_along_axis(cosines, top, axis=1)], axis=1)
            rows = np.concatenate([self._who, top + at], axis=1)
            order = np.argsort(-values, axis=1, kind="stable")[:, :NEIGHBOURS]
            self._best, self._who = np.take_along_axis(values, order, axis=1), np.take_along_axis(rows, order, axis=1)
        for number, related in enumerate(self._related):
            for places in related:
                first, last = np.searchsorted(places, (at, at + len(unit)))
                cosines[number, places[first:last] - at] = -np.inf
        cosines[cosines >= self._lowest] = -np.inf
        np.maximum(self._nearest, cosines.max(axis=1), out=self._nearest)

    @property
    def distances(self) -> NDArray[np.float32]:
        """The reference nearest-neighbour distances, ascending; empty for fewer than `FEWEST` scans.

        Each is from a scan of the sample to its nearest scan of another case, patient and group that has other pixels
        and is no near-duplicate.
        """
        distances = np.clip(1.0 - self._nearest[self._nearest > -np.inf], 0.0, 2.0)
        return np.sort(distances).astype(np.float32)

    @property
    def neighbours(self) -> list[NDArray[np.intp]]:
        """Of each of the sample, the places of the rows nearest to it, itself left out."""
        return [row[row >= 0] for row in self._who]


def _related_places(
    connection: sqlite3.Connection, row_ids: NDArray[np.int64], places: NDArray[np.intp]
) -> list[list[NDArray[np.intp]]]:
    """Of each sampled scan, the places of the scans related to it, key by key; a key that many share is read once."""
    keys = ", ".join(sql for sql, _ in _KEYS.values())
    sampled = connection.execute(
        f"SELECT s.row_id, {keys} FROM scans s JOIN cases c USING (case_key) "  # noqa: S608  # constants
        "WHERE s.row_id IN (SELECT value FROM json_each(?)) ORDER BY s.row_id",
        (json.dumps(row_ids[places].tolist()),),
    ).fetchall()
    read: dict[tuple[str, str | int], NDArray[np.intp]] = {}
    related: list[list[NDArray[np.intp]]] = []
    for _, *values in sampled:
        mine = []
        for (kind, (_, sql)), value in zip(_KEYS.items(), values, strict=True):
            if value is None:
                continue
            if (kind, value) not in read:
                parameters = json.loads(value) if kind in ("patient", "group") else [value]
                read[kind, value] = np.searchsorted(row_ids, np.sort(column(connection.execute(sql, parameters))))
            mine.append(read[kind, value])
        related.append(mine)
    return related
