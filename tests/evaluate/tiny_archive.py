"""A small archive in memory whose classes differ by brightness and grain, and a protocol on it."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from sonoseek.core import Case, CaseRecord, Scan
from sonoseek.datasets import Dataset
from sonoseek.evaluate import SYSTEMS, evaluate, open_context
from sonoseek.evaluate.protocols import Round
from sonoseek.evaluate.protocols.busi import repeated_folds

CLASSES = ("normal", "benign", "malignant")


class TinyDataset:
    """Blobs whose place tells the class, give or take; cases 2n and 2n + 1 are one group, `twins` show one picture."""

    licence = "CC0-1.0"
    citation = "Nobody, nowhere."

    def __init__(
        self,
        count: int = 120,
        *,
        name: str = "tiny",
        classes: tuple[str, ...] = CLASSES,
        grouped: bool = True,
        twins: tuple[tuple[int, int], ...] = (),
        patients: bool = False,
        noise: float = 40.0,
        blob: float = 150.0,
    ) -> None:
        self.name, self._noise, self._blob, self.loads = name, noise, blob, 0
        self._twin = {b: a for a, b in twins}
        self._classes = classes
        self._records = tuple(
            CaseRecord(
                case_id=f"case {i}",
                dataset=name,
                pathology=classes[i // 2 % len(classes)],
                group=f"g{i // 2}" if grouped else None,
                patient_id=f"p{i // 2}" if patients else None,
                birads=("1", "3", "5")[CLASSES.index(classes[i // 2 % len(classes)])],
                device=("A", "B")[i % 2],
            )
            for i in range(count)
        )

    def records(self) -> tuple[CaseRecord, ...]:
        return self._records

    def relabelled(self, labels: Mapping[str, str]) -> TinyDataset:
        """The same pictures under other labels."""
        other = TinyDataset(2, name=self.name, noise=self._noise, blob=self._blob)
        other._twin, other._classes = self._twin, self._classes
        other._records = tuple(replace(r, pathology=labels[r.case_id]) for r in self._records)
        return other

    def load(self, case_id: str, *, masks: bool = True) -> Case:
        self.loads += 1
        number = int(case_id.split()[1])
        record = next(r for r in self._records if r.case_id == case_id)
        drawn = self._twin.get(number, number)
        kind = CLASSES.index(self._classes[drawn // 2 % len(self._classes)])
        rng = np.random.default_rng(drawn)
        rows, columns = np.mgrid[:96, :96]
        blob = self._blob * np.exp(-(((rows - 20 - 25 * kind) / 14) ** 2) - ((columns - 48) / 20) ** 2)
        grain = rng.normal(0, 1, (96, 96)) * self._noise + rng.normal(0, 25)
        pixels = np.clip(60 + blob + grain, 0, 255).astype(np.uint8)
        fields = {name: getattr(record, name) for name in record.__dataclass_fields__}
        return Case(**fields, scans=(Scan(pixels=pixels),))

    def fingerprint(self, case_id: str) -> str:
        number = int(case_id.split()[1])
        return f"{self._twin.get(number, number)} {self._noise} {self._blob} {self._classes}".encode().hex()


class TinyProtocol:
    """Three folds for each seed."""

    name = "tiny"
    title = "a tiny archive"
    description = "Blobs, three classes, three folds."
    exclusions = "nothing"
    drops_near_duplicates = False

    def __init__(self, dataset: Dataset | None = None, *, guarded: bool = True, seeds: tuple[int, ...] = (0,)) -> None:
        self._dataset, self.guarded, self._seeds = dataset or TinyDataset(), guarded, seeds

    def open(self, data_root: Path | None) -> Mapping[str, Dataset]:
        return {self._dataset.name: self._dataset}

    def rounds(self, datasets: Mapping[str, Dataset]) -> tuple[Round, ...]:
        return repeated_folds(self._dataset, seeds=self._seeds, folds=3)


CACHE = Path(tempfile.mkdtemp(prefix="sonoseek-test-"))
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)
"""Which pictures of the tiny archive are copies is found once for all tests."""


def run_protocol(protocol: object, folder: Path, *, system: str = "nearest-pixels", **options: object) -> Path:
    """Score a peer under a protocol; returns the protocol's folder."""
    context = open_context(protocol, data_root=None, cache=CACHE)  # type: ignore[arg-type]
    made = SYSTEMS.load(system)()
    return evaluate(context, made, runs=folder / "runs", out=folder / "out", command="a test", **options)  # type: ignore[arg-type]
