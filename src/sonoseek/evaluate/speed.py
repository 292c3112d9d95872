"""How long a query and an index build take, against the network alone in the same run.

Ratios, not absolute times, are what a target is held to: machines are noisy, a ratio within one run is not.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sonoseek.cleaning import clean
from sonoseek.core import CaseRecord, InvalidValueError, Scan
from sonoseek.datasets import Dataset
from sonoseek.encoder import Encoder, to_input
from sonoseek.engine import SearchEngine
from sonoseek.gallery import create_gallery
from sonoseek.ingest import build_index


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
    """Scans a second. `ratio` = build / network."""

    network_per_s: float
    build_per_s: float
    scans: int
    refused: int

    @property
    def ratio(self) -> float:
        """Throughput of the whole build over that of the network alone."""
        return self.build_per_s / self.network_per_s


def measure_query(engine: SearchEngine, scans: Sequence[Scan], *, rounds: int = 5, k: int = 10) -> QuerySpeed:
    """Time whole queries (canvas, network, search, heatmap, report) and the network alone, alternating, in one process.

    Args:
        engine: as a user opens it.
        scans: already read; each is asked `rounds` times, and each time the network runs once alone beside it.
        rounds: at least 1.
        k: matches per query.
    """
    if not scans or rounds < 1:
        raise InvalidValueError(f"{len(scans)} scans, {rounds} rounds; both must be at least 1.")
    inputs = [to_input(clean(scan, engine.encoder.bundle.recipe))[None] for scan in scans]
    for scan, canvas in zip(scans, inputs, strict=True):  # warm up: lazy imports, caches, pages
        engine.encoder.encode(canvas)
        engine.query(scan, k=k)
    network, warm = [], []
    for _ in range(rounds):
        for scan, canvas in zip(scans, inputs, strict=True):
            network.append(_seconds(lambda canvas=canvas: engine.encoder.encode(canvas)))  # type: ignore[misc]
            warm.append(_seconds(lambda scan=scan: engine.query(scan, k=k)))  # type: ignore[misc]
    return QuerySpeed(
        network_ms=1e3 * float(np.median(network)),
        warm_ms=1e3 * float(np.median(warm)),
        scans=len(scans),
        rounds=rounds,
    )


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure_cold(arguments: Sequence[str], *, repeats: int = 3) -> float:
    """Seconds that `sonoseek ARGUMENTS` takes as a new process, the best of `repeats`."""
    command = [sys.executable, "-m", "sonoseek.apps.cli", *arguments]
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)  # our own command line
        times.append(time.perf_counter() - start)
    return min(times)


def measure_import(*, repeats: int = 3) -> float:
    """Seconds that `import sonoseek` takes in a new process, without the interpreter's own start; best of `repeats`."""
    code = "import time; t = time.perf_counter(); import sonoseek; print(time.perf_counter() - t)"
    done = (
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True) for _ in range(repeats)
    )
    return min(float(run.stdout) for run in done)


def measure_ingest(
    dataset: Dataset,
    encoder: Encoder,
    *,
    folder: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    batch: int = 8,
) -> IngestSpeed:
    """Build a gallery of the whole dataset in a scratch folder, and run the network alone on as many canvases.

    The network alone is timed as it is fastest here: by the encoder's own batches on all its threads, before and after
    the build; the faster of the two counts.

    Args:
        dataset: what to index.
        encoder: the network.
        folder: where the scratch gallery goes; the system's temporary folder by default.
        on_progress: (scans done, scans in all) of the build.
        batch: canvases per run of the network when it runs alone.
    """
    records: Sequence[CaseRecord] = dataset.records()
    if not records:
        raise InvalidValueError(f"dataset {dataset.name!r} has no cases; there is nothing to time.")
    sample = [
        to_input(clean(scan, encoder.bundle.recipe))
        for record in records[:32]
        for scan in dataset.load(record.case_id, masks=False).scans
    ]
    canvases = np.stack(sample)
    before = _network_per_second(encoder, canvases, batch=batch, runs=max(64, min(256, len(records))))
    with tempfile.TemporaryDirectory(dir=folder, prefix="sonoseek-bench-") as scratch:
        path = Path(scratch) / "gallery"
        with create_gallery(
            path, bundle_id=encoder.bundle.bundle_id, dimension=encoder.bundle.embedding_dim
        ) as gallery:
            start = time.perf_counter()
            result = build_index(dataset, gallery, encoder, on_progress=on_progress)
            seconds = time.perf_counter() - start
            stored = gallery.count()
    after = _network_per_second(encoder, canvases, batch=batch, runs=max(64, min(256, len(records))))
    return IngestSpeed(
        network_per_s=max(before, after), build_per_s=stored / seconds, scans=stored, refused=len(result.refused)
    )


def _network_per_second(encoder: Encoder, canvases: np.ndarray, *, batch: int, runs: int) -> float:
    encoder.encode(canvases[:batch])
    done, start = 0, time.perf_counter()
    while done < runs:
        part = canvases[(np.arange(batch) + done) % len(canvases)]
        encoder.encode(part)
        done += len(part)
    return done / (time.perf_counter() - start)
