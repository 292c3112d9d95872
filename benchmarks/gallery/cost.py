"""What 10⁴ … 10⁸ scans cost: bytes, memory, time and money, from constants that stand here alone.

`python -m benchmarks.gallery.cost` prints the tables of docs/concepts/scale.md.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

from sonoseek.core import InvalidValueError

SIZES = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
GIB = 2**30

# Measured
DIMENSION = 256
"""Of the bundle that ships."""
PICTURE_BYTES = 45_500
"""Mean JPEG of 40 phantoms (5 … 95 %: 33 … 63 kB), `sonoseek.indexing.build.make_entry`."""
EVIDENCE_BYTES = 19_500
"""Mean packed evidence of the same 40 phantoms (5 … 95 %: 17 … 23 kB)."""
EMBEDDING_BYTES = 2 * DIMENSION
"""float16, the truth."""
SCALARS_BYTES = 420
"""Rows and keys of one scan and its case in the SQLite file: `benchmarks.gallery --rows 2000`, less its embedding."""
SCANS_PER_S = 68.9
"""Index build on two cores, files to gallery: `bench ingest` on BUSI, docs/results/findings.md."""
BUILD_CORES = 2
EXACT_BYTES_PER_S = 27e9
"""Of float32, by one core: `benchmarks.gallery --rows 100000`, 102 MB in 3.8 ms."""
IVF_BYTES_PER_S = 9e9
"""Of lists and centres, by faiss alone: `benchmarks.gallery --rows 1000000`, 4.1 MB in 0.46 ms. One point, no fit."""
IVF_ALONG_MS = 0.4
"""Whatever the size: reading candidates and matches from the file; the same run, 0.84 ms less faiss's 0.46."""

# By construction
EXACT_MOST = 200_000
"""Scans up to which SQLite is searched exactly."""
MILVUS_MS = 60.0
"""One strongly consistent search over loopback among 20,000 scans, the server's clock ticking every 20 ms (with the
default, 200 ms: 600): `benchmarks/milvus_latency.py`. Its own search takes 2 ms of it, waiting for ticks the rest."""
MILVUS_SEARCH_MS = 2.0
"""Of it, what grows: taken to be 17 % more per factor of ten beyond a million scans."""
PROBED = 32
"""Lists that a search looks into: 16 to 32 of 632 at 100,000 scans, 16 of 2,000 at a million; beyond, not measured."""
MILVUS_TEXTS_BYTES = 1_400
"""What filters ask for and the rest of a row, as the Milvus engine writes it: mean of 200 scans of BUSI."""
BASE64 = 4 / 3
"""Of pictures and evidence on Milvus, whose fields hold no bytes."""
HNSW_LINKS_BYTES = 140
"""Graph of M = 16 per vector: 2 × 16 links of 4 bytes on the ground floor, and the upper floors."""

# Assumed, not measured
ASSUMED_DISK_PRICE = 0.10
"""USD per GiB and month, network SSD."""
ASSUMED_RAM_PRICE = 4.00
"""USD per GiB and month, as part of a rented server."""
ASSUMED_CORE_PRICE = 0.04
"""USD per core and hour."""
MACHINE_CORES = 16
"""Of each machine that embeds with Ray; speed is taken to grow with cores, which was not measured."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One engine at one size.

    Attributes:
        engine, index: which.
        scans: how many.
        disk_bytes: truth, pictures, evidence, and the index on disk.
        ram_bytes: what should fit in memory for the stated latency; the file cache counts.
        search_ms: of one search on one core.
        usd_per_month: disk and memory.
    """

    engine: str
    index: str
    scans: int
    disk_bytes: float
    ram_bytes: float
    search_ms: float

    @property
    def usd_per_month(self) -> float:
        """At the assumed prices."""
        return self.disk_bytes / GIB * ASSUMED_DISK_PRICE + self.ram_bytes / GIB * ASSUMED_RAM_PRICE


def estimate(engine: str, scans: int) -> Estimate:
    """What `scans` scans take on an engine: "sqlite", "milvus", or "milvus, mapped", its pictures left on disk.

    Raises:
        InvalidValueError: another engine, or fewer than one scan.
    """
    if scans < 1:
        raise InvalidValueError(f"{scans} scans; at least 1 is needed.")
    shown = PICTURE_BYTES + EVIDENCE_BYTES
    if engine == "sqlite":
        truth = EMBEDDING_BYTES + SCALARS_BYTES + shown
        if scans <= EXACT_MOST:
            index, cached = "exact float32", 4 * DIMENSION + 24
            read, speed = 4.0 * DIMENSION * scans, EXACT_BYTES_PER_S
        else:
            lists = 2 * scans**0.5
            index, cached = "IVF 8 bit", DIMENSION + 8 + 24
            read, speed = PROBED * DIMENSION * scans / lists + lists * 4 * DIMENSION, IVF_BYTES_PER_S
        milliseconds = 1e3 * read / speed + (0.0 if scans <= EXACT_MOST else IVF_ALONG_MS)
        disk, memory = float(scans * (truth + cached)), float(scans * cached)
    elif engine in ("milvus", "milvus, mapped"):
        index, memory = "HNSW float32", float(scans) * (4 * DIMENSION + HNSW_LINKS_BYTES + MILVUS_TEXTS_BYTES)
        disk = memory + scans * shown * BASE64
        if engine == "milvus":  # it loads what it serves, pictures too, unless it is set to map them
            memory = disk
        milliseconds = MILVUS_MS + MILVUS_SEARCH_MS * max(0.0, 0.17 * (math.log10(scans) - 6))
    else:
        raise InvalidValueError(f"engine is {engine!r}; it must be 'sqlite', 'milvus' or 'milvus, mapped'.")
    return Estimate(engine=engine, index=index, scans=scans, disk_bytes=disk, ram_bytes=memory, search_ms=milliseconds)


def core_hours(scans: int) -> float:
    """Core-hours to clean, embed and keep so many scans."""
    return scans / SCANS_PER_S * BUILD_CORES / 3_600


def storage_table() -> str:
    """Bytes, memory, latency and cost of both engines by size, as Markdown."""
    lines = [
        "| scans | engine | index | disk GiB | of it pictures and evidence | memory GiB | ms a search | USD a month |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for scans in SIZES:
        for engine in ("sqlite", "milvus", "milvus, mapped"):
            row = estimate(engine, scans)
            shown = scans * (PICTURE_BYTES + EVIDENCE_BYTES) / GIB
            cells = (
                f"{scans:,}",
                engine,
                row.index,
                _short(row.disk_bytes / GIB),
                _short(shown),
                _short(row.ram_bytes / GIB),
                _short(row.search_ms),
                _short(row.usd_per_month),
            )
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def ingest_table() -> str:
    """Core-hours, money and hours of 1, 4 and 16 machines to embed an archive, as Markdown."""
    lines = [
        f"| scans | core-hours | USD | hours on 1 machine of {MACHINE_CORES} cores | on 4 | on 16 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for scans in SIZES:
        hours = core_hours(scans)
        spread = (_short(hours / MACHINE_CORES / machines) for machines in (1, 4, 16))
        cells = (f"{scans:,}", _short(hours), _short(hours * ASSUMED_CORE_PRICE), *spread)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.0f}"


if __name__ == "__main__":
    sys.stdout.write(storage_table() + "\n" + ingest_table())
