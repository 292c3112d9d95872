"""Which scans are worth comparing: a vote of visual words.

Every feature is assigned to the nearest of a few thousand visual words, which are features of the dataset itself. A
scan is then a row of word counts, with a larger weight for rare words (Sivic & Zisserman, "Video Google", ICCV 2003).
Similar rows share many features. The cost grows with the number of scans, not of pairs, except for one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sonoseek.core.arrays import unit_rows
from sonoseek.datasets.audit.features import Fingerprint, mirror_descriptors, unit_descriptors

WORDS = 4096
NEIGHBOURS = 15
"""Nearest scans that are compared with each."""
MIRRORED_NEIGHBOURS = 4
"""Nearest mirrored scans that are compared with each: copies come mirrored seldom, and stand out when they do."""
ROWS = 2048
"""Rows of one matrix product, to bound memory."""
SEED = 0

Pair = tuple[int, int]


def candidates(fingerprints: Sequence[Fingerprint]) -> tuple[list[Pair], list[Pair]]:
    """Pairs of scans that share unusually many features.

    Args:
        fingerprints: of different pictures; copies of one would crowd out others.

    Returns:
        Pairs to compare as they are, and pairs to compare with the second one mirrored; (i, j) with i < j, sorted.
    """
    count = len(fingerprints)
    if count <= NEIGHBOURS + 1:  # few enough to compare all
        every = [(i, j) for i in range(count) for j in range(i + 1, count)]
        return every, every
    descriptors = [item.descriptors for item in fingerprints]
    words = _vocabulary(descriptors)
    if not len(words):
        return [], []
    counts = _word_counts(descriptors, words)
    rarity = np.log(count / np.maximum((counts > 0).sum(axis=0), 1)).astype(np.float32)
    rows = unit_rows(counts * rarity)
    mirrored = unit_rows(_word_counts([mirror_descriptors(item) for item in descriptors], words) * rarity)
    return _nearest(rows, rows, NEIGHBOURS), _nearest(mirrored, rows, MIRRORED_NEIGHBOURS)


def _vocabulary(descriptors: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Unit rows (≤ WORDS, 128): features drawn at random, which serve as well as cluster centres and cost nothing."""
    everything = np.concatenate(descriptors)
    drawn = np.random.default_rng(SEED).permutation(len(everything))[:WORDS]
    return unit_descriptors(everything[np.sort(drawn)])


def _word_counts(descriptors: Sequence[NDArray[np.uint8]], words: NDArray[np.float32]) -> NDArray[np.float32]:
    """(scans, words): the square root of how often each word occurs, so that repeated patterns count less."""
    flat = np.concatenate(descriptors)
    nearest = np.empty(len(flat), np.int64)
    for start in range(0, len(flat), ROWS):
        part = unit_descriptors(flat[start : start + ROWS])
        nearest[start : start + ROWS] = (part @ words.T).argmax(axis=1)
    counts = np.zeros((len(descriptors), len(words)), np.float32)
    start = 0
    for row, item in zip(counts, descriptors, strict=True):
        row += np.bincount(nearest[start : start + len(item)], minlength=len(words))
        start += len(item)
    return np.asarray(np.sqrt(counts), np.float32)


def _nearest(queries: NDArray[np.float32], rows: NDArray[np.float32], number: int) -> list[Pair]:
    """The `number` nearest `rows` of each query but itself, as sorted pairs; those that share no word are left out."""
    found: set[Pair] = set()
    for start in range(0, len(queries), ROWS):
        likeness = queries[start : start + ROWS] @ rows.T
        here = np.arange(len(likeness))
        likeness[here, start + here] = -1.0
        best = np.argpartition(-likeness, number - 1, axis=1)[:, :number]
        for offset, neighbours in enumerate(best):
            item = start + offset
            found.update(
                (min(item, int(other)), max(item, int(other))) for other in neighbours if likeness[offset, other] > 0.0
            )
    return sorted(found)
