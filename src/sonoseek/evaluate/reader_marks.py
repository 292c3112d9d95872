"""Marks as a reader would draw them, made from drawn masks; and which systems can read them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Box, InvalidValueError
from sonoseek.datasets import Dataset
from sonoseek.evaluate.protocols.base import Protocol, Round
from sonoseek.evaluate.systems.base import LabelledScan, System

LOOSENESS = 0.15
"""Largest move of a mark's centre, in sides of the lesion's box, and largest relative change of each side."""


def gives_marks(protocol: Protocol) -> bool:
    """Whether a protocol's test scans are read with a reader's mark."""
    return bool(getattr(protocol, "reader_marks", False))


def check_reads_marks(system: System, rounds: Sequence[Round]) -> None:
    """Refuse a system whose network does not read marks.

    Args:
        system: reads marks where its method `reads_marks(round_)` returns True; systems without one read none.
        rounds: that it is to predict in.

    Raises:
        InvalidValueError: it reads no marks, in one of the rounds.
        NotFoundError, BundleError: it has no bundle for a round, or a damaged one.
    """
    reads = getattr(system, "reads_marks", None)
    if reads is None or not all(reads(round_) for round_ in rounds):
        raise InvalidValueError(
            f"{system.name!r} reads no marks, and this protocol gives a reader's mark with each test scan. Score a "
            "bundle whose `reads_marks` is true, or a recipe with close_up = true; for other systems take the protocol "
            "leave-one-hospital-out."
        )


def with_marks(samples: Sequence[LabelledScan], datasets: Mapping[str, Dataset]) -> list[LabelledScan]:
    """The samples, each with a mark where a mask was drawn; the same mark every time.

    Args:
        samples: of whole cases, the scans of a case in their order.
        datasets: name → dataset, read again with its masks.

    Raises:
        DatasetError: a mask does not read.
    """
    seen: dict[tuple[str, str], int] = {}
    marked = []
    masks: tuple[NDArray[np.bool_] | None, ...] = ()
    for sample in samples:
        key = (sample.record.dataset, sample.record.case_id)
        number = seen[key] = seen.get(key, -1) + 1
        if number == 0:
            masks = datasets[key[0]].load(key[1]).lesion_masks
        mask = masks[number]
        lesion = None if mask is None or not mask.any() else draw_mark(mask, name=f"{'/'.join(key)}/{number}")
        marked.append(replace(sample, lesion=lesion))
    return marked


def draw_mark(mask: NDArray[np.bool_], *, name: str) -> Box:
    """The box of a mask as a reader might have drawn it; cut at the scan's edges.

    Args:
        mask: bool (H, W), not empty.
        name: of the scan; decides how the box is moved and scaled.
    """
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
    shift, scale = rng.uniform(-LOOSENESS, LOOSENESS, 2), 1 + rng.uniform(-LOOSENESS, LOOSENESS, 2)
    indices = (np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0)))
    low, high = np.array([[each[0], each[-1] + 1] for each in indices], np.float64).T
    centre, half = (low + high) / 2 + shift * (high - low), scale * (high - low) / 2
    (top, left), (bottom, right) = np.maximum(centre - half, 0), np.minimum(centre + half, mask.shape)
    return Box(top=float(top), left=float(left), bottom=float(bottom), right=float(right))
