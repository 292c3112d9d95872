"""A network for tests: instant, deterministic, and it keeps a bundle's promises exactly."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sonoseek.cleaning import CleaningRecipe
from sonoseek.core import PATHOLOGIES, Case, CaseRecord, NotFoundError, Scan, ScanReadError
from sonoseek.encoder import Bundle, Encoding, Novelty
from sonoseek.gallery import Gallery, create_gallery
from sonoseek.ingest import make_entry

DIMENSION = 24
CELLS = 14


class FakeEncoder:
    """Random projections of each cell's brightness, contrast and slope: similar scans are similar, all promises kept.

    evidence is exactly 0 in cells of padding, embedding its mean over cells, logits linear in the embedding.
    """

    def __init__(
        self,
        *,
        bundle_id: str = "fake-000000000000",
        abstain_below: float = 0.0,
        scale: float = 8.0,
        novelty: Novelty | None = None,
    ) -> None:
        rng = np.random.default_rng(7)
        self.calls = 0
        self.threads: set[str] = set()
        self._project = rng.normal(size=(DIMENSION, 4)).astype(np.float32)
        self._bundle = Bundle(
            path=Path("fake"),
            name="fake",
            version="1",
            bundle_id=bundle_id,
            classes=PATHOLOGIES,
            recipe=CleaningRecipe(),
            temperature=1.5,
            head_weight=(rng.normal(size=(3, DIMENSION)) * scale).astype(np.float32),
            head_bias=np.array([0.3, -0.1, -0.2], np.float32),
            abstain_below=abstain_below,
            conformal_quantile=0.7,
            operating_points={},
            training={},
            embedding_dim=DIMENSION,
            cells=(CELLS, CELLS),
            fine_cells=(2 * CELLS, 2 * CELLS),
            novelty=novelty,
            same_scan=0.99999,  # unlike scans are close together in this space
        )

    @property
    def bundle(self) -> Bundle:
        return self._bundle

    def encode(self, canvases: NDArray[np.float32]) -> Encoding:
        self.calls += 1
        self.threads.add(threading.current_thread().name)
        count, _, size, _ = canvases.shape
        side = size // CELLS
        tiles = canvases.reshape(count, CELLS, side, CELLS, side).transpose(0, 1, 3, 2, 4)
        seen = (tiles >= 0).any(axis=(3, 4))
        grey = np.where(tiles >= 0, tiles, 0.5) - 0.4
        features = np.stack(
            [
                grey.mean(axis=(3, 4)),
                grey.std(axis=(3, 4)),
                np.diff(grey, axis=3).mean(axis=(3, 4)) * 30,
                grey.max(axis=(3, 4)) * grey.min(axis=(3, 4)),
            ],
            axis=1,
        )
        evidence = np.tanh(np.einsum("df,nfhw->ndhw", self._project, features) * 2) * seen[:, None]
        evidence = np.ascontiguousarray(evidence, np.float32)
        embedding = evidence.mean(axis=(2, 3))
        logits = embedding @ self._bundle.head_weight.T + self._bundle.head_bias
        lit = 0.05 + np.clip(canvases, 0, 1).reshape(count, 2 * CELLS, side // 2, 2 * CELLS, side // 2).mean((2, 4))
        blocks = lit.reshape(count, CELLS, 2, CELLS, 2)
        within = (blocks / blocks.mean((2, 4), keepdims=True)).reshape(lit.shape).astype(np.float32)
        return Encoding(logits=logits, embedding=embedding, evidence=evidence, within=within)


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def make_encoder() -> type[FakeEncoder]:
    return FakeEncoder


def draw_scan(seed: int, *, shape: tuple[int, int] = (160, 220)) -> Scan:
    """Speckle with a dark blob: enough of a scan for cleaning to keep it, at a fraction of a phantom's cost."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=shape), (0, 0), 1.5) * 260 + 120
    rows, columns = np.indices(shape)
    centre, radius = rng.uniform(0.3, 0.7, 2) * shape, rng.uniform(0.08, 0.25) * min(shape)
    blob = np.exp(-(((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / radius**2))
    return Scan(pixels=np.clip(noise * (1 - 0.8 * blob), 4, 250).astype(np.uint8), source=f"scan {seed}")


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
