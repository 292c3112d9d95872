"""Batches of augmented views, drawn anew each epoch, the same for the same seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sonoseek.core import PATHOLOGIES, InvalidValueError
from sonoseek.encoder.canvas_input import canvas_to_input
from sonoseek.networks.two_readings import FINENESS
from sonoseek.training.augment import View, augment
from sonoseek.training.descriptors import descriptor_targets, suspicion
from sonoseek.training.recipe import Recipe
from sonoseek.training.splits import Part


class Batch(NamedTuple):
    """Views of n scans, first views before second; v is 1 or 2.

    canvases: float32 (vn, 1, S, S). labels, groups: int64 (vn,). targets: float32 (vn, C), the share of each class.
    known: bool (vn, C), the classes that the scan's archive could have shown. lesions: uint8 (vn, 1, S, S), 255 in the
    lesion. drawn: bool (vn,), whether `lesions` says what the scan holds. descriptors: float32 (vn, 4) as
    `descriptor_targets`, or (vn, 0) where the recipe does not ask for them.
    """

    canvases: Tensor
    labels: Tensor
    targets: Tensor
    groups: Tensor
    known: Tensor
    lesions: Tensor
    drawn: Tensor
    descriptors: Tensor


def input_side(recipe: Recipe) -> int:
    """Side of what the network reads at once, pixels: the canvas, or half of it where it reads a close-up too."""
    side = recipe.preprocessing_recipe.canvas_size
    return side // FINENESS if recipe.close_up else side


class TrainingBatches:
    """An epoch's batches: each scan in two views. An iterable of known length, as Lightning takes it.

    The next batch is made by one thread while the network works on this one.
    """

    def __init__(self, parts: Sequence[Part], recipe: Recipe, *, side: int | None = None) -> None:
        """Prepare to draw from `parts`.

        Args:
            parts: the training side; the canvases may be finer than the views.
            recipe: of the run.
            side: of the views, pixels; None: what the network reads at once.
        """
        self._parts = tuple(parts)
        self._recipe = recipe
        self._side = side or input_side(recipe)
        self._items = [(p, int(row)) for p, part in enumerate(self._parts) for row in part.rows]
        targets = [group_targets(part) for part in self._parts]
        clear = [shares.max(axis=1) == 1 for shares in targets]
        if recipe.loss.conflicts != "soften":
            targets = [np.eye(len(PATHOLOGIES), dtype=np.float32)[part.labels] for part in self._parts]
        self._targets = np.concatenate(targets)
        self._expected = expected_draws(
            self._parts, balance=recipe.loss.balance, archive_balance=recipe.loss.archive_balance
        )
        if recipe.loss.conflicts == "drop":
            self._expected *= np.concatenate(clear)
        if recipe.optimiser.epoch_scans:
            self._expected *= min(1.0, recipe.optimiser.epoch_scans / float(self._expected.sum()))
        self._known = [
            np.array([name in part.choice.classes for name in PATHOLOGIES], dtype=np.bool_) for part in self._parts
        ]
        self._suspicion = [suspicion(part.source) for part in self._parts] if recipe.loss.descriptors > 0 else []
        self.epoch = 0
        self.start = 0
        """Batches of this epoch that are done already: they are skipped, not made."""
        self.share = (0, 1)
        """(number of this process, number of all): each takes its part of every batch."""

    def __len__(self) -> int:
        return max(1, round(float(self._expected.sum()) / self._recipe.optimiser.batch))

    def __iter__(self) -> Iterator[Batch]:
        rng = np.random.default_rng((self._recipe.seed, self.epoch))
        drawn = draw(self._expected, rng=rng)
        chunks = np.array_split(drawn, len(self))
        seeds = rng.integers(0, 2**63, len(chunks))
        chunks, seeds = _own(chunks, self.share)[self.start :], seeds[self.start :]
        with ThreadPoolExecutor(max_workers=1) as pool:
            waiting = pool.submit(self._make, chunks[0], int(seeds[0]))
            for chunk, seed in zip(chunks[1:], seeds[1:], strict=True):
                ready = waiting.result()
                waiting = pool.submit(self._make, chunk, int(seed))
                yield ready
            yield waiting.result()

    def _make(self, chunk: NDArray[np.int64], seed: int) -> Batch:
        rank, size = self.share
        rng = np.random.default_rng(seed if size == 1 else (seed, rank))
        count = self._recipe.optimiser.views
        items = [self._items[i] for i in chunk]
        views = [self._view(item, rng) for _ in range(count) for item in items]
        labels = np.array([self._parts[p].source.labels[row] for p, row in items])
        groups = np.array([self._parts[p].groups[row] * len(self._parts) + p for p, row in items])
        known = np.stack([self._known[p] for p, _ in items])
        drawn = np.array([self._parts[p].source.drawn[row] for p, row in items])
        descriptors = np.zeros((len(views), 0), dtype=np.float32)
        if self._suspicion:
            birads = [float(self._suspicion[p][row]) for p, row in items] * count
            descriptors = descriptor_targets([view.lesion for view in views], birads)
        return Batch(
            canvases=torch.from_numpy(np.stack([view.canvas for view in views])[:, None]),
            labels=torch.from_numpy(np.tile(labels, count)),
            targets=torch.from_numpy(np.tile(self._targets[chunk], (count, 1))),
            groups=torch.from_numpy(np.tile(groups, count)),
            known=torch.from_numpy(np.tile(known, (count, 1))),
            lesions=torch.from_numpy(np.stack([view.lesion for view in views])[:, None]),
            drawn=torch.from_numpy(np.tile(drawn, count)),
            descriptors=torch.from_numpy(descriptors),
        )

    def _view(self, item: tuple[int, int], rng: np.random.Generator) -> View:
        source, row = self._parts[item[0]].source, item[1]
        style = None
        if self._recipe.augmentation.style > 0:
            other, at = self._items[int(rng.integers(len(self._items)))]
            top, left, bottom, right = self._parts[other].source.contents[at]
            style = self._parts[other].source.canvases[at][top:bottom, left:right]
        return augment(
            source.canvases[row],
            source.contents[row],
            switches=self._recipe.augmentation,
            rng=rng,
            lesion=source.lesions[row],
            style=style,
            side=self._side,
        )


def group_targets(part: Part) -> NDArray[np.float32]:
    """(n, C): the share of each class in each row's group, so that a group with two labels says both."""
    own = np.eye(len(PATHOLOGIES), dtype=np.float64)[part.labels]
    groups = part.groups[part.rows]
    counts = np.zeros((int(groups.max(initial=-1)) + 1, len(PATHOLOGIES)))
    np.add.at(counts, groups, own)
    shares: NDArray[np.float32] = (counts[groups] / counts[groups].sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def _own(chunks: list[NDArray[np.int64]], share: tuple[int, int]) -> list[NDArray[np.int64]]:
    """A process's part of each batch.

    Raises:
        InvalidValueError: a batch has fewer scans than there are processes.
    """
    rank, size = share
    if size == 1:
        return chunks
    if min(map(len, chunks)) < size:
        raise InvalidValueError(
            f"a batch of {min(map(len, chunks))} scans cannot be split over {size} processes; each needs one. "
            "Raise batch in the recipe, or take fewer devices."
        )
    return [np.array_split(chunk, size)[rank] for chunk in chunks]


def expected_draws(parts: Sequence[Part], *, balance: float, archive_balance: float = 0.0) -> NDArray[np.float64]:
    """How often each scan is drawn per epoch, on average, in the order of parts and rows.

    Copies of one scan share one scan's turns half-way (1/√size); classes are balanced within their dataset; each
    dataset gives `share` times its size in all, where sizes are levelled: raised to 1 − `archive_balance`.
    """
    pieces = []
    size = np.array([len(part) for part in parts], dtype=np.float64)
    levelled = np.where(size > 0, size ** (1 - archive_balance), 0.0)
    totals = levelled * size.sum() / max(levelled.sum(), 1.0)
    for part, total in zip(parts, totals, strict=True):
        sizes = np.bincount(part.groups[part.rows])[part.groups[part.rows]]
        weight = sizes**-0.5
        classes = np.bincount(part.labels, weights=weight, minlength=len(PATHOLOGIES))[part.labels]
        weight = weight * classes**-balance
        pieces.append(weight / weight.sum() * total * part.choice.share)
    return np.concatenate(pieces)


def draw(expected: NDArray[np.float64], *, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices in random order, each as often as expected, give or take less than one (systematic resampling)."""
    order = rng.permutation(len(expected))
    edges = np.cumsum(expected[order])
    ticks = np.arange(max(1, round(float(edges[-1])))) + rng.random()
    drawn = order[np.searchsorted(edges, np.minimum(ticks, edges[-1] * (1 - 1e-12)), side="right")]
    return np.asarray(rng.permutation(drawn), dtype=np.int64)


class PlainBatches:
    """Canvases as they are, in order, for validation: (canvases (n, 1, S, S), labels (n,))."""

    def __init__(self, parts: Sequence[Part], *, batch: int) -> None:
        """Take all rows of `parts`."""
        self._items = [(part.source, int(row)) for part in parts for row in part.rows]
        self._batch = batch
        self.share = (0, 1)
        """(number of this process, number of all): each takes its part of the scans, in equally many batches."""

    def __len__(self) -> int:
        return -(-len(self._items) // (self._batch * self.share[1]))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rank, size = self.share
        own = self._items[rank::size]
        if not own and self._items:
            raise InvalidValueError(
                f"{len(self._items)} scans to validate on cannot be split over {size} processes; each needs one. Raise "
                "validation in the recipe, or take fewer devices."
            )
        edges = [round(i * len(own) / len(self)) if size > 1 else i * self._batch for i in range(len(self) + 1)]
        for start, end in pairwise(edges):
            items = own[start:end]
            canvases = []
            for source, row in items:
                top, left, bottom, right = (int(edge) for edge in source.contents[row])
                canvases.append(canvas_to_input(source.canvases[row], top=top, left=left, bottom=bottom, right=right))
            labels = np.array([source.labels[row] for source, row in items])
            yield torch.from_numpy(np.stack(canvases)), torch.from_numpy(labels)
