"""A recipe of seconds and a dataset that lives in memory."""

import numpy as np
import pytest

from sonoseek.core import Case, CaseRecord, DatasetError, Scan
from sonoseek.training.recipe import parse_recipe

TINY = """
name = "tiny"
backbone = "tiny"
embedding_dim = 16
folds = 3
validation = 0.25
[preprocessing]
canvas_size = 64
[[datasets]]
name = "phantom"
count = 36
[optimiser]
epochs = 2
batch = 8
average = 0.5
"""


@pytest.fixture(scope="session")
def tiny_recipe():
    return parse_recipe(TINY)


class MemoryDataset:
    """Noise with a class-dependent brightness; every third pair of cases shares a group; one case is broken."""

    name = "memory"
    licence = "CC0-1.0"
    citation = "Nobody, nowhere."

    def __init__(self, count=30, broken=()):
        self.loads = 0
        self._broken = set(broken)
        self._records = tuple(
            CaseRecord(
                case_id=f"case {i}",
                dataset=self.name,
                pathology=("normal", "benign", "malignant")[i % 3],
                group=f"g{i - i % 6}" if i % 6 in (0, 3) else None,
            )
            for i in range(count)
        )

    def records(self):
        return self._records

    def load(self, case_id, *, masks=True):
        self.loads += 1
        if case_id in self._broken:
            raise DatasetError(f"{case_id} is broken; it must not be. Mend it.")
        number = int(case_id.split()[1])
        rng = np.random.default_rng(number)
        pixels = rng.integers(20 + 60 * (number % 3), 80 + 60 * (number % 3), (60, 80), dtype=np.uint8)
        record = self._records[number]
        return Case(
            case_id=case_id,
            dataset=self.name,
            pathology=record.pathology,
            group=record.group,
            scans=(Scan(pixels=pixels),),
        )

    def fingerprint(self, case_id):
        return case_id.encode().hex()


@pytest.fixture
def memory_dataset():
    return MemoryDataset()


@pytest.fixture
def make_dataset():
    return MemoryDataset
