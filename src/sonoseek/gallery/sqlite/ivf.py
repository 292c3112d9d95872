"""An inverted file of 8-bit vectors (faiss): candidates for exact ranking, among millions of rows.

k-means divides the vectors into lists. A query searches the `nprobe` lists whose centres are nearest, at one byte per
number. `nprobe` is measured when the index is made, on rows of the gallery itself (`calibrate`). Under a filter only
lists with a selected row are searched, nearest first, until enough selected rows were compared. So recall does not fall
under a filter that leaves one row in a hundred, or only rows far from the query.
"""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import GalleryError
from sonoseek.gallery.exact import Selection

ITERATIONS = 10
"""Of k-means; more do not find more."""
PER_LIST = 40
"""Rows per list that k-means sees."""
FEWEST = 1_500
"""Selected rows that a filtered search compares at least, where there are so many."""
AROUND = 8
"""The nearest one in so many of the lists of an unfiltered search is what lies around a query."""
DEPLETED = 0.5
"""Share of the rows around a query, relative to that of all rows, below which a filter has removed them. The rest is
then far away and spread over more lists, so `DEEPER` times as much is searched."""
DEEPER = 10
PASSED = 12
"""Times as many rows as an unfiltered search sees may be passed by, once `FEWEST` selected ones were seen."""
RECALL = 0.998
"""Of the ten nearest of a sample of rows, found by the `nprobe` that is chosen. Above the 0.99 that is promised:
queries come from outside, and lie a little further off than the rows that it is measured on."""

_FORGED = (
    "the search cache names scans that it does not hold; it is damaged. Make it again with `sonoseek index optimise`."
)


class InvertedFile:
    """An index over rows 0 … N − 1."""

    def __init__(self, index: Any, *, nprobe: int = 1) -> None:
        """Wrap a trained faiss index."""
        self.index = index
        self.nprobe = nprobe

    @classmethod
    def train(cls, sample: NDArray[np.float32], *, rows: int) -> InvertedFile:
        """An empty index with lists for `rows` vectors, from a sample of them: float32 (n, D), of length 1."""
        import faiss

        dimension = sample.shape[1]
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(dimension),
            dimension,
            lists_for(rows),
            faiss.ScalarQuantizer.QT_8bit,
            faiss.METRIC_INNER_PRODUCT,
            True,  # by residual: what is quantised is the distance from the list's centre
        )
        index.cp.niter = ITERATIONS
        index.cp.min_points_per_centroid = 1  # small ones are made for tests; faiss would warn
        index.cp.max_points_per_centroid = PER_LIST
        index.cp.seed = 0
        index.train(np.ascontiguousarray(sample))
        return cls(index)

    @classmethod
    def open(cls, path: Path, *, nprobe: int) -> InvertedFile:
        """Map a file of `save`: its lists stay on disk, shared by every process.

        Raises:
            ValueError: it does not read.
        """
        import faiss

        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
        except RuntimeError as error:
            raise ValueError(str(error).strip().rsplit("\n", 1)[-1]) from error
        return cls(index, nprobe=nprobe)

    def save(self, path: Path) -> None:
        """Write it.

        Raises:
            OSError: it cannot be written.
        """
        import faiss

        try:
            faiss.write_index(self.index, str(path))
        except RuntimeError as error:
            raise OSError(f"{path} cannot be written: {error}") from error

    def add(self, unit: NDArray[np.float32]) -> None:
        """Append rows: float32 (n, D), of length 1."""
        self.index.add(np.ascontiguousarray(unit))

    @property
    def rows(self) -> int:
        """How many it holds."""
        return int(self.index.ntotal)

    @property
    def lists(self) -> int:
        """How many lists it has."""
        return int(self.index.nlist)

    @cached_property
    def list_of(self) -> NDArray[np.int32]:
        """The list of each row: int32 (N,)."""
        import faiss

        lists = np.full(self.rows, -1, np.int32)
        inverted_lists = self.index.invlists
        for number in range(self.lists):
            if size := inverted_lists.list_size(number):
                ids = faiss.rev_swig_ptr(inverted_lists.get_ids(number), size)
                _check_rows(ids, self.rows)
                lists[ids] = number
        if (lists < 0).any():
            raise GalleryError(_FORGED)
        return lists

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Rows in each list: int64 (L,)."""
        inverted_lists = self.index.invlists
        return np.array([inverted_lists.list_size(number) for number in range(self.lists)], np.int64)

    def search(
        self,
        queries: NDArray[np.float32],
        n: int,
        *,
        selection: Selection | None = None,
        without: NDArray[np.intp] | None = None,
        everywhere: bool = False,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The rows that look most similar.

        Args:
            queries: float32 (Q, D), of length 1.
            n: how many.
            selection: the only rows that may answer; None for all.
            without: rows that must not answer; None for none.
            everywhere: search every list.

        Returns:
            Quantised cosines float32 (Q, n), best first, and rows int64 (Q, n), −1 where there is none.
        """
        import faiss

        parameters = faiss.SearchParametersIVF()
        bits = _bits(self.rows, selection, without)
        selector = None
        if bits is not None:
            selector = faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg,arg-type]  # as its wrapper takes it
            parameters.sel = selector
        probed = self.lists if everywhere else min(self.lists, max(self.nprobe, -(-8 * n * self.lists // self.rows)))
        if selection is None or everywhere:
            nearness, order = self.index.quantizer.search(queries, probed)
        else:
            nearness, order = self._worthwhile(queries, selection, least=probed, fewest=max(FEWEST, 8 * n))
        parameters.nprobe = order.shape[1]
        scores = np.empty((len(queries), n), np.float32)
        rows = np.empty((len(queries), n), np.int64)
        pointer = faiss.swig_ptr
        # `index.search` does the same and starts, for a mapped file, a thread per list to read ahead: 1 ms a query.
        self.index.search_preassigned_c(
            len(queries),
            pointer(queries),
            n,
            pointer(order),
            pointer(nearness),
            pointer(scores),
            pointer(rows),
            False,
            parameters,
        )
        del selector, bits  # faiss holds bare pointers to them
        _check_rows(rows + 1, self.rows + 1)  # −1: there is none
        return scores, rows

    def _worthwhile(
        self, queries: NDArray[np.float32], selection: Selection, *, least: int, fewest: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The lists to search under a filter, and their nearness: (Q, L), −1 where a query needs fewer.

        The nearest lists with selected rows are taken, until as many selected rows were compared as an unfiltered
        search compares (see `DEPLETED`). Where the filter leaves few in each list, `fewest` selected rows are enough,
        and `PASSED` times as many rows.
        """
        nearness, order = self.index.quantizer.search(queries, self.lists)
        selected_in = selection.per_list(self.list_of, self.lists)
        usual = self.nprobe * self.rows // self.lists
        chosen: list[NDArray[np.intp]] = []
        for row in order:
            holding = np.flatnonzero(selected_in[row] > 0)
            seen = np.cumsum(selected_in[row[holding]])
            touched = np.cumsum(self.sizes[row[holding]])
            around = row[: max(1, self.nprobe // AROUND)]
            left = selected_in[around].sum() * self.rows / max(1, self.sizes[around].sum() * selection.rows.size)
            wanted = usual * (DEEPER if left < DEPLETED else 1)
            enough = (seen >= wanted) | ((touched >= PASSED * wanted) & (seen >= fewest))
            until = int(np.argmax(enough)) + 1 if enough.any() else holding.size
            chosen.append(holding[: max(least, until)])
        width = max(1, max((each.size for each in chosen), default=1))
        lists = np.full((len(chosen), width), -1, np.int64)
        near = np.zeros((len(chosen), width), np.float32)
        for number, each in enumerate(chosen):
            lists[number, : each.size] = order[number, each]
            near[number, : each.size] = nearness[number, each]
        return near, lists

    def calibrate(self, queries: NDArray[np.float32], nearest: list[NDArray[np.intp]], *, candidates: int) -> float:
        """Choose `nprobe`: the smallest power of two that finds `RECALL` of the nearest rows; returns what it finds.

        Args:
            queries: float32 (Q, D), of length 1.
            nearest: of each, the rows that are to be found.
            candidates: how many rows are taken for the exact ranking.
        """
        nprobe, recall = 4, 0.0
        while True:
            nprobe = min(self.lists, 2 * nprobe)
            self.nprobe = nprobe
            _, rows = self.search(queries, candidates)
            hits = sum(int(np.isin(wanted, got).sum()) for wanted, got in zip(nearest, rows, strict=True))
            recall = hits / max(1, sum(wanted.size for wanted in nearest))
            if recall >= RECALL or nprobe == self.lists:
                return recall


def _check_rows(rows: NDArray[np.int64], total: int) -> None:
    if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < total:
        raise GalleryError(_FORGED)


def lists_for(rows: int) -> int:
    """How many lists: twice the root, and no list of fewer than some twenty rows."""
    return max(1, min(round(2 * math.sqrt(rows)), rows // 20))


def _bits(rows: int, selection: Selection | None, without: NDArray[np.intp] | None) -> NDArray[np.uint8] | None:
    """A bit per row that may answer, lowest first; None where all may."""
    none = without is None or not without.size
    if selection is None and none:
        return None
    bits = np.full(-(-rows // 8), 0xFF, np.uint8) if selection is None else selection.bits
    if none:
        return bits
    assert without is not None  # noqa: S101  # for the type checker
    bits = bits.copy()
    np.bitwise_and.at(bits, without >> 3, ~(np.uint8(1) << (without & 7).astype(np.uint8)))
    return bits
