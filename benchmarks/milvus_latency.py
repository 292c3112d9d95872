"""How long a search of a gallery on Milvus takes, by the server's clock tick: `python benchmarks/milvus_latency.py`.

Needs the packages of `requirements/peers.txt`. Starts a server of its own on loopback.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable

import numpy as np
from milvus import MilvusServer

from sonoseek.core import CaseRecord
from sonoseek.gallery import GalleryEntry, create_gallery

SCANS, DIMENSION, STEP = 20_000, 256, 2_000


def median_ms(ask: Callable[[int], object], rounds: int = 25) -> float:
    spent = []
    for number in range(rounds):
        start = time.perf_counter()
        ask(number)
        spent.append(time.perf_counter() - start)
    return 1e3 * float(np.median(spent))


def entry(number: int, vector: np.ndarray) -> GalleryEntry:
    record = CaseRecord(case_id=f"c{number}", dataset="d", pathology="benign", device="A" if number % 2 else "B")
    return GalleryEntry(record=record, scan_id=f"{number:064x}", embedding=vector, scan_shape=(9, 9))


def measure(tick_ms: int) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(140, DIMENSION))[rng.integers(0, 140, SCANS)] + 0.5 * rng.normal(size=(SCANS, DIMENSION))
    vectors = vectors.astype(np.float32)
    server = MilvusServer()
    with tempfile.TemporaryDirectory() as folder:
        server.set_base_dir(folder)
        server.config.extra_configs = {"proxy.timeTickInterval": tick_ms}
        server.start()
        try:
            place = f"milvus://127.0.0.1:{server.listen_port}/latency"
            with create_gallery(place, bundle_id="b", dimension=DIMENSION) as gallery:
                start = time.perf_counter()
                for first in range(0, SCANS, STEP):
                    gallery.add([entry(n, vectors[n]) for n in range(first, first + STEP)])
                rate = SCANS / (time.perf_counter() - start)
                gallery.optimise()
                plain = median_ms(lambda n: gallery.search(vectors[7 * n] + 0.01, novelty=False, pictures=False))
                novelty = median_ms(lambda n: gallery.search(vectors[7 * n] + 0.01, pictures=False))
                many = median_ms(lambda _: gallery.search_many(vectors[:32], novelty=False, pictures=False), 10) / 32
        finally:
            server.stop()
    print(
        f"tick {tick_ms} ms: add {rate:,.0f} rows/s; search {plain:.0f} ms, with novelty {novelty:.0f} ms, "
        f"32 at once {many:.1f} ms each"
    )


if __name__ == "__main__":
    for tick in (20, 200):
        measure(tick)
