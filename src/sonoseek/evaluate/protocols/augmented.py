"""A dataset augmented before it is split: every scan again, rotated, flipped, zoomed, with another contrast.

The paper augments 548 scans to 3,840, which is seven pictures of each, one way of altering at a time.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Case, CaseRecord, InvalidValueError, Scan
from sonoseek.datasets import Dataset, Subset

ROTATION = 20.0
"""Degrees, largest."""
ZOOM = (0.85, 1.2)
CONTRAST = (0.75, 1.3)
Way = Literal["rotate", "mirror", "zoom", "contrast", "flip"]
WAYS: tuple[Way, ...] = ("rotate", "mirror", "zoom", "contrast", "flip")
"""In turn: the first altered picture of every scan is rotated, the second mirrored …"""


class AugmentedDataset(Subset):
    """`count` pictures: the scans themselves, then altered ones in turn, "benign (1) #1", "benign (1) #2": cases all.

    No group holds them together: that is the mistake which this shows. `true_records` keeps the groups.
    """

    def __init__(self, dataset: Dataset, *, count: int, seed: int) -> None:
        """Augment a dataset; nothing is drawn yet.

        Args:
            dataset: of single-scan cases.
            count: pictures in all.
            seed: of the alterations.

        Raises:
            InvalidValueError: `count` is below the number of cases.
        """
        base = dataset.records()
        if count < len(base):
            raise InvalidValueError(
                f"count is {count}, {dataset.name} has {len(base)} cases; augmenting never drops any."
            )
        super().__init__(dataset, (record.case_id for record in base))
        self._seed = seed
        self._origin: dict[str, tuple[str, int]] = {}
        records, true = [], []
        for number in range(count):
            record, turn = base[number % len(base)], number // len(base)
            case_id = f"{record.case_id} #{turn}" if turn else record.case_id
            self._origin[case_id] = (record.case_id, turn)
            records.append(replace(record, case_id=case_id, group=None, patient_id=None))
            true.append(replace(record, case_id=case_id, group=record.group or f"alone:{record.case_id}"))
        self._records, self._true = tuple(records), tuple(true)

    def true_records(self) -> tuple[CaseRecord, ...]:
        """Every picture with the group of the scan that it was made from."""
        return self._true

    def load(self, case_id: str, *, masks: bool = True) -> Case:
        """The scan, altered; masks are left out: nothing here may be scored inside a lesion."""
        del masks
        base, turn = self._origin[case_id]
        case = self._dataset.load(base, masks=False)
        record = {"case_id": case_id, "group": None, "patient_id": None}
        if not turn:
            return replace(case, **record)  # type: ignore[arg-type]  # plain fields
        rng = np.random.default_rng((self._seed, zlib.crc32(case_id.encode())))
        way = WAYS[(turn - 1) % len(WAYS)]
        scans = tuple(
            Scan(pixels=alter(scan.pixels, way, rng=rng), source=f"{scan.source} #{turn}") for scan in case.scans
        )
        return replace(case, **record, scans=scans, lesion_masks=())  # type: ignore[arg-type]  # plain fields

    def fingerprint(self, case_id: str) -> str:
        """The scan's, and which alteration of it."""
        base, turn = self._origin[case_id]
        return f"{self._dataset.fingerprint(base)}-{self._seed}-{turn}-{WAYS[(turn - 1) % len(WAYS)]}"


def alter(pixels: NDArray[np.uint8], way: Way, *, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One of the ways that the paper's summary lists: uint8 (H, W) → uint8 (H, W).

    Args:
        pixels: of a scan.
        way: "rotate" by up to 20° either way, "mirror" left–right, "zoom" by 0.85 … 1.2, "contrast" by 0.75 … 1.3
            around the mean, or "flip" upside down.
        rng: draws how far.
    """
    height, width = pixels.shape
    if way == "mirror":
        return np.ascontiguousarray(pixels[:, ::-1])
    if way == "flip":
        return np.ascontiguousarray(pixels[::-1])
    if way == "contrast":
        mean, factor = float(pixels.mean()), rng.uniform(*CONTRAST)
        stretched = (pixels.astype(np.float32) - mean) * factor + mean
        return np.asarray(np.clip(stretched + 0.5, 0, 255), dtype=np.uint8)
    angle = rng.uniform(-ROTATION, ROTATION) if way == "rotate" else 0.0
    zoom = rng.uniform(*ZOOM) if way == "zoom" else 1.0
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, zoom)
    return np.asarray(cv2.warpAffine(pixels, turn, (width, height), flags=cv2.INTER_LINEAR), dtype=np.uint8)
