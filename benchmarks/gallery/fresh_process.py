"""A fresh process that opens a gallery and searches it.

It runs as `python -m benchmarks.gallery.fresh_process LOCATION QUERIES INDEX`.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import islice
from typing import Any, cast

import numpy as np

from benchmarks.gallery.metrics import memory_mib
from sonoseek.gallery import ENGINES, Gallery, Index, Mode, open_gallery


def open_with(location: str, index: str, *, mode: str = "r") -> Gallery:
    """Open a gallery with an index, given as text."""
    return open_gallery(location, cast(Mode, mode), index=cast(Index, index))


def read(location: str, queries: str, index: str) -> dict[str, Any]:
    """Milliseconds from opening to the first answer and of the later ones, and what memory it took."""
    query_vectors = np.load(queries)
    ENGINES.load("sqlite")  # importing is timed elsewhere
    before = memory_mib()
    start = time.perf_counter()
    with open_with(location, index) as gallery:
        gallery.search(query_vectors[0], pictures=False)
        first = 1e3 * (time.perf_counter() - start)
        times = []
        for query in query_vectors:
            start = time.perf_counter()
            gallery.search(query, pictures=False)
            times.append(1e3 * (time.perf_counter() - start))
        after = memory_mib()
    growth = {f"{name[:-4]}_growth_mib": after[name] - before[name] for name in after}
    return {"open_to_first_ms": first, "later_ms": float(np.median(times)), **after, **growth}


def copy_some(location: str, target: str) -> None:
    """Add the first 50 scans of one gallery to another that exists, as one batch."""
    with open_gallery(location) as source, open_gallery(target, "w") as gallery:
        gallery.add(list(islice(source, 50)))


if __name__ == "__main__":
    if sys.argv[1] == "copy":
        copy_some(*sys.argv[2:])
    else:
        sys.stdout.write(json.dumps(read(*sys.argv[1:])))
