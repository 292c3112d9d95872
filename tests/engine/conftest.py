"""Engines, galleries and datasets for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from fake_encoder import DIMENSION, FakeEncoder, draw_scan

from sonoseek.core import PATHOLOGIES, Case, CaseRecord, NotFoundError, Scan, ScanReadError
from sonoseek.gallery import Gallery, create_gallery
from sonoseek.indexing.build import make_entry


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def make_encoder() -> type[FakeEncoder]:
    return FakeEncoder


@pytest.fixture
def make_scan() -> Callable[..., Scan]:
    return draw_scan


@dataclass
class FakeDataset:
    """Cases in memory; `broken` says which cannot be read, and why; the first `one_patient` are of "A17"."""

    count: int = 12
    name: str = "fake"
    licence: str = "none"
    citation: str = "nobody"
    broken: dict[str, Exception] = field(default_factory=dict)
    edited: set[str] = field(default_factory=set)
    touched: set[str] = field(default_factory=set)
    loaded: list[str] = field(default_factory=list)
    one_patient: int = 0
    placeholders: dict[str, str] = field(default_factory=dict)

    def records(self) -> tuple[CaseRecord, ...]:
        return tuple(
            CaseRecord(
                case_id=f"case {index:03d}",
                dataset=self.name,
                pathology=PATHOLOGIES[index % 3],
                patient_id="A17" if index < self.one_patient else f"p{index // 2}",
                group=f"g{index // 4}",
                birads=("2", "3", "5")[index % 3],
                device=("GE Logiq 7", "Siemens")[index % 2],
            )
            for index in range(self.count)
        )

    def load(self, case_id: str, *, masks: bool = True) -> Case:
        self.loaded.append(case_id)
        if case_id in self.broken:
            raise self.broken[case_id]
        for index, record in enumerate(self.records()):
            if record.case_id == case_id:
                scan = draw_scan(index + 1000 * (case_id in self.edited))
                values = {name: getattr(record, name) for name in CaseRecord.__dataclass_fields__}
                scan = replace(
                    scan,
                    source=case_id,
                    view=("left", "right")[index % 2],
                    patient_placeholder=self.placeholders.get(case_id),
                )
                return Case(**values, scans=(scan,))
        raise NotFoundError(f"no case {case_id!r}; there are {self.count}.")

    def fingerprint(self, case_id: str) -> str:
        if isinstance(self.broken.get(case_id), FileNotFoundError):
            raise self.broken[case_id]
        return f"{case_id} {case_id in self.edited} {case_id in self.touched}"


@pytest.fixture
def dataset() -> FakeDataset:
    return FakeDataset()


@pytest.fixture
def unreadable() -> Exception:
    return ScanReadError("a.png: the PNG is truncated. Fetch it again.")


@pytest.fixture
def empty_gallery(tmp_path: Path, encoder: FakeEncoder) -> Iterator[Gallery]:
    with create_gallery(tmp_path / "empty", bundle_id=encoder.bundle.bundle_id, dimension=DIMENSION) as gallery:
        yield gallery


@pytest.fixture
def gallery(tmp_path: Path, encoder: FakeEncoder, dataset: FakeDataset) -> Iterator[Gallery]:
    """Forty cases of twenty patients in ten groups."""
    dataset.count = 40
    with create_gallery(tmp_path / "forty", bundle_id=encoder.bundle.bundle_id, dimension=DIMENSION) as opened:
        opened.add(
            make_entry(dataset.load(record.case_id).scans[0], record, encoder, fingerprint=record.case_id)
            for record in dataset.records()
        )
        yield opened
