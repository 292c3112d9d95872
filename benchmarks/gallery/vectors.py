"""Synthetic embeddings as hard as real ones: clusters of unequal size, each a low-dimensional sheet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import InvalidValueError

BLOCK = 8_192
"""Rows that are made at once."""
LATENT = 26
"""Directions in which the members of a cluster differ; the two-nearest-neighbours estimate of it comes out near 20."""
SHEETS = 32
"""Different low-dimensional subspaces; clusters share them, so that not every cluster needs its own."""
_SPREAD = 0.9
_NOISE = 0.01

FILTERS = ("half", "one", "half_correlated", "one_correlated")
"""Bits of a row's flags, lowest first: 50 % and 1 % of the rows by chance; about as many by cluster."""
WHERE = {
    "half": "device = 'half'",
    "one": "birads = '6'",
    "half_correlated": "pathology = 'malignant'",
    "one_correlated": "histology = 'rare'",
}
"""The same in the language of `where`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SyntheticVectors:
    """A synthetic archive, drawn block by block: the same arguments give the same rows.

    Attributes:
        rows, dims, seed: how many vectors, how long, which draw.
    """

    rows: int
    dims: int
    seed: int
    _centres: NDArray[np.float32] = field(init=False, repr=False)
    _sheets: NDArray[np.float32] = field(init=False, repr=False)
    _weights: NDArray[np.float64] = field(init=False, repr=False)
    _rare: NDArray[np.bool_] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.rows < 1 or self.dims < 2:
            raise InvalidValueError(f"{self.rows} rows of {self.dims} numbers; at least 1 row of 2 numbers is needed.")
        rng = np.random.default_rng([self.seed, 0])
        clusters = int(np.clip(np.sqrt(self.rows), 8, 4_000))  # larger ones than an index's lists: it must part them
        latent = min(LATENT, self.dims)
        centres = rng.normal(size=(clusters, self.dims)).astype(np.float32)
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        sheets = np.empty((SHEETS, latent, self.dims), np.float32)
        for number in range(SHEETS):
            sheets[number] = np.linalg.qr(rng.normal(size=(self.dims, latent)))[0].T
        weights = rng.lognormal(sigma=0.8, size=clusters)
        weights /= weights.sum()
        order = np.argsort(weights)
        rare = np.zeros(clusters, np.bool_)  # the smallest clusters that together hold about 1 % of the rows
        rare[order[: 1 + int(np.searchsorted(np.cumsum(weights[order]), 0.01))]] = True
        for name, value in (("_centres", centres), ("_sheets", sheets), ("_weights", weights), ("_rare", rare)):
            object.__setattr__(self, name, value)

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.uint8]]]:
        """(first row, vectors float32 (B, D) of length about 1, flags uint8 (B,): bits of `FILTERS`), B ≤ `BLOCK`.

        The numbers are float16 values, so that an engine that keeps float16 keeps them all.
        """
        for number, first in enumerate(range(0, self.rows, BLOCK)):
            rng = np.random.default_rng([self.seed, 1, number])
            size = min(BLOCK, self.rows - first)
            vectors, cluster = self._draw(rng, size)
            flags = (rng.random(size) < 0.5).astype(np.uint8)
            flags |= (rng.random(size) < 0.01).astype(np.uint8) << 1
            flags |= (cluster % 2 == 0).astype(np.uint8) << 2
            flags |= self._rare[cluster].astype(np.uint8) << 3
            yield first, vectors, flags

    def matrix(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """All rows at once: vectors float32 (N, D), flags uint8 (N,)."""
        vectors, flags = np.empty((self.rows, self.dims), np.float32), np.empty(self.rows, np.uint8)
        for first, block, bits in self.blocks():
            vectors[first : first + len(block)], flags[first : first + len(block)] = block, bits
        return vectors, flags

    def queries(self, count: int) -> NDArray[np.float32]:
        """Vectors of the same kind that are no rows, float32 (count, D)."""
        return self._draw(np.random.default_rng([self.seed, 2]), count)[0]

    def _draw(self, rng: np.random.Generator, size: int) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        cluster = rng.choice(len(self._weights), size, p=self._weights)
        latent = self._sheets.shape[1]
        within = rng.normal(scale=_SPREAD / np.sqrt(latent), size=(size, latent)).astype(np.float32)
        vectors = self._centres[cluster]
        sheet = cluster % SHEETS
        for number in range(SHEETS):
            members = np.flatnonzero(sheet == number)
            vectors[members] += within[members] @ self._sheets[number]
        vectors += rng.normal(scale=_NOISE / np.sqrt(self.dims), size=vectors.shape).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors.astype(np.float16).astype(np.float32), cluster


def make_vectors(rows: int, dims: int, seed: int = 0) -> SyntheticVectors:
    """An archive of `rows` embeddings of `dims` numbers; nothing is drawn before it is needed.

    Raises:
        InvalidValueError: no row, or fewer than two numbers.
    """
    return SyntheticVectors(rows=rows, dims=dims, seed=seed)


def passes(flags: NDArray[np.uint8], name: str) -> NDArray[np.bool_]:
    """Which rows pass a filter of `FILTERS`, bool (N,)."""
    return np.asarray((flags >> FILTERS.index(name)) & 1, np.bool_)


def intrinsic_dimension(vectors: NDArray[np.float32], *, sample: int = 2_000, seed: int = 0) -> float:
    """Local dimension by the ratio of each row's two nearest distances (maximum likelihood of the two-NN model).

    Args:
        vectors: float32 (N, D), N ≥ 3, no two rows equal.
        sample: rows whose neighbours are looked for, among all rows.
        seed: of the sample.

    Raises:
        InvalidValueError: fewer than three rows.
    """
    if len(vectors) < 3:
        raise InvalidValueError(f"{len(vectors)} vectors; two neighbours each need at least 3.")
    rows = np.random.default_rng(seed).choice(len(vectors), min(sample, len(vectors)), replace=False)
    squares = (vectors * vectors).sum(axis=1)
    logs: list[NDArray[np.float64]] = []
    for start in range(0, len(rows), 256):
        block = rows[start : start + 256]
        distances = squares[block, None] + squares[None] - 2 * (vectors[block] @ vectors.T)
        distances[np.arange(len(block)), block] = np.inf
        two = np.partition(distances, 1, axis=1)[:, :2].astype(np.float64)
        two = two[two[:, 0] > 0]
        logs.append(0.5 * np.log(two[:, 1] / two[:, 0]))
    ratios = np.sort(np.concatenate(logs))
    near = max(1, int(0.98 * len(ratios)))  # the far tail, rows between clusters, counts as "at least this"
    return float(near / (ratios[:near].sum() + (len(ratios) - near) * ratios[near - 1]))
