"""How long a query and an index build take, against the network alone in the same run.

Ratios, not absolute times, are compared with a target: machines are noisy, a ratio within one run is not.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import CaseRecord, InvalidValueError, Scan
from sonoseek.datasets import Dataset
from sonoseek.encoder import Bundle, Encoder, open_encoder, to_input
from sonoseek.engine import SearchEngine
from sonoseek.gallery import create_gallery
from sonoseek.indexing.build import build_index
from sonoseek.preprocessing import preprocess

SAMPLE = 160
"""Cases whose canvases the network is timed on."""
BATCH = 8
"""Canvases per run of the network in batches."""


@dataclass(frozen=True, kw_only=True)
class QuerySpeed:
    """Milliseconds, medians over the rounds. `ratio` = warm / network."""

    network_ms: float
    warm_ms: float
    scans: int
    rounds: int

    @property
    def ratio(self) -> float:
        """Whole warm query over the network's run alone."""
        return self.warm_ms / self.network_ms


@dataclass(frozen=True, kw_only=True)
class IngestSpeed:
    """Scans a second.

    Attributes:
        network_per_s: the network alone as an encoder comes: batches on all cores.
        fastest_per_s: the network alone as fast as it gets here: that, or one run at a time on each core.
        build_per_s: the whole build, from files to a gallery on disk.
        scans, refused: of the build.
    """

    network_per_s: float
    fastest_per_s: float
    build_per_s: float
    scans: int
    refused: int

    @property
    def ratio(self) -> float:
        """Build over the network as an encoder comes."""
        return self.build_per_s / self.network_per_s

    @property
    def ratio_to_fastest(self) -> float:
        """Build over the network as fast as it gets."""
        return self.build_per_s / self.fastest_per_s


def measure_query(engine: SearchEngine, scans: Sequence[Scan], *, rounds: int = 5) -> QuerySpeed:
    """Time whole queries (canvas, network, search, heatmap, report) and the network alone, alternating, in one process.

    Args:
        engine: as a user opens it.
        scans: already read; each is queried `rounds` times, and each time the network runs once alone beside it.
        rounds: at least 1.
    """
    if not scans or rounds < 1:
        raise InvalidValueError(f"{len(scans)} scans, {rounds} rounds; both must be at least 1.")
    inputs = [to_input(preprocess(scan, engine.encoder.bundle.recipe))[None] for scan in scans]
    for scan, canvas in zip(scans, inputs, strict=True):  # warm up: lazy imports, caches, pages
        engine.encoder.encode(canvas)
        engine.query(scan)
    network, warm = [], []
    for _ in range(rounds):
        for scan, canvas in zip(scans, inputs, strict=True):
            network.append(seconds(lambda canvas=canvas: engine.encoder.encode(canvas)))  # type: ignore[misc]
            warm.append(seconds(lambda scan=scan: engine.query(scan)))  # type: ignore[misc]
    return QuerySpeed(
        network_ms=1e3 * float(np.median(network)),
        warm_ms=1e3 * float(np.median(warm)),
        scans=len(scans),
        rounds=rounds,
    )


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure_cold(arguments: Sequence[str], *, repeats: int = 3) -> float:
    """Seconds that `sonoseek ARGUMENTS` takes as a new process, the best of `repeats`."""
    command = [sys.executable, "-m", "sonoseek.apps.cli", *arguments]
    # our own command line
    return min(seconds(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(repeats))


def measure_import(*, repeats: int = 3) -> float:
    """Seconds that `import sonoseek` takes in a new process, without the interpreter's own start; best of `repeats`."""
    code = "import time; t = time.perf_counter(); import sonoseek; print(time.perf_counter() - t)"
    done = (
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True) for _ in range(repeats)
    )
    return min(float(run.stdout) for run in done)


def measure_ingest(
    dataset: Dataset, bundle: Bundle, *, on_progress: Callable[[int, int], None] | None = None
) -> IngestSpeed:
    """Build a gallery of the whole dataset in a scratch folder, and run the network alone on its first canvases.

    The network alone is timed both ways, batches on all cores and one run per core, before and after the build; of each
    the faster counts.

    Args:
        dataset: what to index.
        bundle: whose network.
        on_progress: (scans done, scans in all) of the build.
    """
    records: Sequence[CaseRecord] = dataset.records()
    if not records:
        raise InvalidValueError(f"dataset {dataset.name!r} has no cases; there is nothing to time.")
    scans = [scan for r in records[:SAMPLE] for scan in dataset.load(r.case_id, masks=False).scans]
    canvases = np.stack([to_input(preprocess(scan, bundle.recipe)) for scan in scans])
    one, every = open_encoder(bundle, threads=1), open_encoder(bundle)
    before = _network_per_second(one, every, canvases)
    with tempfile.TemporaryDirectory(prefix="sonoseek-bench-") as scratch:
        path = Path(scratch) / "gallery"
        with create_gallery(path, bundle_id=bundle.bundle_id, dimension=bundle.embedding_dim) as gallery:
            result = build_index(dataset, gallery, one, on_progress=on_progress)
            stored = gallery.count()
    after = _network_per_second(one, every, canvases)
    batched, singly = (max(pair) for pair in zip(before, after, strict=True))
    return IngestSpeed(
        network_per_s=batched,
        fastest_per_s=max(batched, singly),
        build_per_s=stored / result.seconds,
        scans=stored,
        refused=len(result.refused),
    )


def _network_per_second(one: Encoder, every: Encoder, canvases: NDArray[np.float32]) -> tuple[float, float]:
    """Canvases a second: in batches on all cores by `every`; one by one on each core by `one`."""
    batches = [canvases[i : i + BATCH] for i in range(0, len(canvases), BATCH)]
    every.encode(batches[0])
    batched = seconds(lambda: [every.encode(batch) for batch in batches])
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        singly = seconds(lambda: list(pool.map(one.encode, np.split(canvases, len(canvases)))))
    return len(canvases) / batched, len(canvases) / singly
