"""Who learns, who calibrates, who is tested: rows of the prepared sets, never parting a group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import PATHOLOGIES, InvalidValueError, SplitError
from sonoseek.datasets import components, inner_validation, stratified_group_folds
from sonoseek.evaluate.protocols import Round
from sonoseek.training.prepare import PreparedSet
from sonoseek.training.recipe import DatasetChoice, Recipe


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Rows of one prepared set on one side.

    Attributes:
        source: the set. choice: how the recipe names it.
        rows: of `source`, sorted.
        groups: int64, one per row of `source` (not of `rows`): scans that must never part, or are the same scan.
    """

    source: PreparedSet
    choice: DatasetChoice
    rows: NDArray[np.int64]
    groups: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Of the rows."""
        return self.source.labels[self.rows]

    def counts(self) -> dict[str, int]:
        """Scans per class, in the order of `PATHOLOGIES`."""
        counts = Counter(int(label) for label in self.labels)
        return {name: counts[i] for i, name in enumerate(PATHOLOGIES) if counts[i]}


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """One part per dataset on each side; `test` is empty where all folds are trained on, or a set is not folded."""

    train: tuple[Part, ...]
    validation: tuple[Part, ...]
    test: tuple[Part, ...]


def split_sets(recipe: Recipe, sets: Sequence[PreparedSet], *, fold: int | None) -> Split:
    """Part every set.

    Args:
        recipe: names folds, validation share and seed.
        sets: in the order of `recipe.datasets`.
        fold: 0 … folds − 1 is tested on; None: none is.

    Raises:
        InvalidValueError: no such fold.
        SplitError: a set cannot be parted so.
    """
    if fold is not None and not 0 <= fold < recipe.folds:
        raise InvalidValueError(f"fold is {fold}; it must lie in 0 … {recipe.folds - 1}, or be None for no test fold.")
    ids: list[dict[str, tuple[str, ...]]] = []
    for choice, source in zip(recipe.datasets, sets, strict=True):
        training: tuple[str, ...] = tuple(record.case_id for record in source.records)
        test: tuple[str, ...] = ()
        if choice.folded and fold is not None:
            outer = stratified_group_folds(source.records, folds=recipe.folds, seed=recipe.seed)[fold]
            training, test = outer.train, outer.test
        inner = inner_validation(source.records, training, fraction=recipe.validation, seed=recipe.seed)
        ids.append({"train": inner.train, "validation": inner.test, "test": test})
    return _split(recipe, sets, ids)


def given_sets(recipe: Recipe, sets: Sequence[PreparedSet], round_: Round) -> Split:
    """Part every set as a protocol's round says; the test side stays empty: training never reads it.

    Sets that the round does not name are learnt from as a whole, but for their own validation part.

    Raises:
        SplitError: a set of the round holds test cases and is not folded, or cannot be parted.
    """
    ids: list[dict[str, tuple[str, ...]]] = []
    for source in sets:
        if source.name in round_.train:
            ids.append({"train": round_.train[source.name], "validation": round_.validation.get(source.name, ())})
        elif source.name in round_.test:
            raise SplitError(
                f"{source.name!r} is tested in round {round_.label}; it must not be learnt. Take it out of the recipe."
            )
        else:
            every = tuple(record.case_id for record in source.records)
            inner = inner_validation(source.records, every, fraction=recipe.validation, seed=recipe.seed)
            ids.append({"train": inner.train, "validation": inner.test})
    return _split(recipe, sets, ids)


def _split(recipe: Recipe, sets: Sequence[PreparedSet], ids: Sequence[Mapping[str, tuple[str, ...]]]) -> Split:
    """The parts of the cases that are named for each set and side."""
    sides: dict[str, list[Part]] = {"train": [], "validation": [], "test": []}
    for choice, source, ids_of in zip(recipe.datasets, sets, ids, strict=True):
        groups = _groups(source)
        for side, parts in sides.items():
            rows = source.rows(ids_of.get(side, ()))
            parts.append(Part(source=source, choice=choice, rows=rows, groups=groups))
    return Split(**{side: tuple(parts) for side, parts in sides.items()})


def _groups(source: PreparedSet) -> NDArray[np.int64]:
    group_of = {case_id: number for number, ids in enumerate(components(source.records)) for case_id in ids}
    return np.array([group_of[str(case_id)] for case_id in source.case_ids], dtype=np.int64)
