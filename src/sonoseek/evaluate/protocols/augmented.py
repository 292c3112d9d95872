"""A dataset grown before it is split: every scan again, rotated, flipped, zoomed, with another contrast."""

from __future__ import annotations

import zlib
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Case, CaseRecord, InvalidValueError, Scan
from sonoseek.datasets import Dataset

ROTATION = 20.0
"""Degrees, largest."""
ZOOM = (0.85, 1.2)
CONTRAST = (0.75, 1.3)


class AugmentedDataset:
    """`count` pictures: the scans themselves, then altered ones in turn, "benign (1) #1", "benign (1) #2".

    No group says that they belong together: that is the mistake which this shows. `true_records` tells.
    """

    def __init__(self, dataset: Dataset, *, count: int, seed: int) -> None:
        """Grow a dataset; nothing is drawn yet.

        Args:
            dataset: of single-scan cases.
            count: pictures in all.
            seed: of the alterations.

        Raises:
            InvalidValueError: `count` is below the number of cases.
        """
        base = dataset.records()
        if count < len(base):
            raise InvalidValueError(f"count is {count}, {dataset.name} has {len(base)} cases; growing never drops any.")
        self._dataset, self._seed = dataset, seed
        self._origin: dict[str, tuple[str, int]] = {}
        records, true = [], []
        for number in range(count):
            record, turn = base[number % len(base)], number // len(base)
            case_id = f"{record.case_id} #{turn}" if turn else record.case_id
            self._origin[case_id] = (record.case_id, turn)
            records.append(replace(record, case_id=case_id, group=None, patient_id=None))
            true.append(replace(record, case_id=case_id, group=record.group or f"alone:{record.case_id}"))
        self._records, self._true = tuple(records), tuple(true)

    @property
    def name(self) -> str:
        """Of the dataset."""
        return self._dataset.name

    @property
    def licence(self) -> str:
        """Of the dataset."""
        return self._dataset.licence

    @property
    def citation(self) -> str:
        """Of the dataset."""
        return self._dataset.citation

    def records(self) -> tuple[CaseRecord, ...]:
        """Every picture as if it were a case of its own."""
        return self._records

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
        scans = tuple(Scan(pixels=alter(scan.pixels, rng=rng), source=f"{scan.source} #{turn}") for scan in case.scans)
        return replace(case, **record, scans=scans, lesion_masks=())  # type: ignore[arg-type]  # plain fields

    def fingerprint(self, case_id: str) -> str:
        """The scan's, and which alteration of it."""
        base, turn = self._origin[case_id]
        return f"{self._dataset.fingerprint(base)}-{self._seed}-{turn}"


def alter(pixels: NDArray[np.uint8], *, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Rotation, flips, zoom and contrast, as the paper's summary lists them. uint8 (H, W) → uint8 (H, W)."""
    height, width = pixels.shape
    angle, zoom = rng.uniform(-ROTATION, ROTATION), rng.uniform(*ZOOM)
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, zoom)
    altered = np.asarray(cv2.warpAffine(pixels, turn, (width, height), flags=cv2.INTER_LINEAR), dtype=np.float32)
    for axis in (0, 1):
        if rng.random() < 0.5:
            altered = np.flip(altered, axis)
    mean = float(altered.mean())
    contrast = rng.uniform(*CONTRAST)
    return np.ascontiguousarray(np.clip((altered - mean) * contrast + mean + 0.5, 0, 255), dtype=np.uint8)
