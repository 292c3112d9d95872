"""Entries of small made-up galleries."""

import gc
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from gallery_contract import BUNDLE_ID, DIMENSION, KINDS

from sonoseek.core import CaseRecord, Scan
from sonoseek.gallery import Gallery, GalleryEntry, create_gallery, encode_picture
from sonoseek.gallery.sqlite.index import EXACT_UP_TO


def _entry(number: int, *, pixels: int | None = None, embedding: Any = None, **record: Any) -> GalleryEntry:
    """Entry `number`: its own pixels (or those of entry `pixels`) and an embedding drawn from its number."""
    rng = np.random.default_rng(number if pixels is None else pixels)
    scan = Scan(pixels=rng.integers(0, 256, (24, 32), np.uint8), spacing_mm=(0.1, 0.2))
    if embedding is None:
        embedding = np.random.default_rng(10_000 + number).normal(size=DIMENSION).astype(np.float32)
    known = {
        "case_id": f"case {number:04d}",
        "dataset": "phantom",
        "pathology": ("normal", "benign", "malignant")[number % 3],
        "patient_id": f"p{number // 3}",
        "group": f"g{number // 2}",
        "birads": ("2", "4A", None, "4", "5")[number % 5],
        "device": ("GE Logiq 7", "Philips", None)[number % 3],
        "histology": ("fibroadenoma", None, "Invasive DUCTAL carcinoma")[number % 3],
        "age_years": None if number % 7 == 0 else 30.0 + number % 40,
        "acquired": None if number % 4 == 0 else date(2010 + number % 10, 1 + number % 12, 1 + number % 28),
        "licence": "CC0",
    }
    return GalleryEntry(
        record=CaseRecord(**{**known, **record}),
        scan_id=scan.scan_id,
        embedding=np.asarray(embedding, np.float32),
        picture=encode_picture(scan.pixels),
        scan_shape=scan.shape,
        spacing_mm=scan.spacing_mm,
        laterality=(None, "left", "right")[number % 3],
        view=("left", "right", "single", None)[number % 4],
        source=f"scan {number}.png",
        fingerprint=f"f{number}",
    )


@pytest.fixture(scope="session")
def milvus(tmp_path_factory) -> Iterator[str]:
    """Address of a Milvus server of one's own, "milvus://127.0.0.1:PORT"."""
    package = pytest.importorskip("milvus", reason="the package milvus, which carries a server, is not installed")
    server = package.MilvusServer()
    server.set_base_dir(str(tmp_path_factory.mktemp("milvus")))
    rooms = ("proxy", "rootCoord", "queryCoord", "queryNode", "dataCoord", "dataNode", "indexCoord", "indexNode")
    server.config.extra_configs = {
        # A strong read waits for the next tick; a new collection for the next check: in tests there are many of both.
        "proxy.timeTickInterval": 20,
        "queryCoord.checkInterval": 50,
        "queryCoord.distPullInterval": 50,
        **{f"{room}.ip": "127.0.0.1" for room in rooms},
    }
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ResourceWarning
        )  # it looks for free ports and leaves the sockets to the collector
        server.start()
        gc.collect()
    try:
        yield f"milvus://127.0.0.1:{server.listen_port}"
    finally:
        server.stop()


@pytest.fixture(scope="session")
def make_entry() -> Callable[..., GalleryEntry]:
    return _entry


@pytest.fixture(scope="session")
def make_entries() -> Callable[[int], list[GalleryEntry]]:
    return lambda count: [_entry(number) for number in range(count)]


@pytest.fixture(scope="session")
def brute_force() -> Callable[..., list[tuple[str, str, float]]]:
    """The k best of some entries by cosine in float64: (case_id, scan_id, cosine)."""

    def search(entries: Sequence[GalleryEntry], query: Any, k: int) -> list[tuple[str, str, float]]:
        found = []
        for entry in entries:
            a, b = entry.embedding.astype(np.float64), np.asarray(query, np.float64)
            found.append((entry.record.case_id, entry.scan_id, float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))))
        return sorted(found, key=lambda item: (-item[2], item[1], item[0]))[:k]

    return search


def place(kind: str, request: pytest.FixtureRequest, folder: Path, patch: pytest.MonkeyPatch) -> str:
    """Where a gallery of a kind goes."""
    if kind == "milvus":
        return f"{request.getfixturevalue('milvus')}/g{uuid4().hex}"
    # Small galleries are searched as large ones are, or, beside a gallery of the module that is, as they are.
    patch.setattr("sonoseek.gallery.sqlite.index.EXACT_UP_TO", 0 if kind == "sqlite ivf" else EXACT_UP_TO)
    return str(folder / "archive")


@pytest.fixture(params=KINDS)
def location(request, tmp_path, monkeypatch) -> str:
    return place(request.param, request, tmp_path, monkeypatch)


@pytest.fixture
def gallery(location) -> Iterator[Gallery]:
    with create_gallery(location, bundle_id=BUNDLE_ID, dimension=DIMENSION) as made:
        yield made


@pytest.fixture(scope="module")
def entries(make_entries) -> list[GalleryEntry]:
    return make_entries(60)


@pytest.fixture(scope="module", params=KINDS)
def filled(request, tmp_path_factory, entries) -> Iterator[Gallery]:
    """Sixty entries, as they come back: brute force sees the same rounded embeddings."""
    with pytest.MonkeyPatch.context() as patch:
        at = place(request.param, request, tmp_path_factory.mktemp("filled"), patch)
        with create_gallery(at, bundle_id=BUNDLE_ID, dimension=DIMENSION) as made:
            made.add(entries)
            entries[:] = list(made)
            yield made
