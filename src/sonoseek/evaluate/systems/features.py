"""Features computed once per scan and cached, on all cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Scan
from sonoseek.core.cores import available_cores
from sonoseek.core.files import open_atomically
from sonoseek.evaluate.systems.base import LabelledScan, Progress

Describe = Callable[[Scan], NDArray[np.float32]]


class FeatureStore:
    """Caches the features of each scan, by its pixels: folds, seeds and protocols use the same ones."""

    def __init__(self, describe: Describe, *, cache: Path | None = None) -> None:
        """Read what an earlier run has cached.

        Args:
            describe: scan → float32 (D,).
            cache: file for the features of training scans, so that a stopped run goes on; None: memory alone.
        """
        self._describe = describe
        self._cache = cache
        self._known: dict[str, NDArray[np.float32]] = {}
        self._cached: set[str] = set()
        if cache is not None and cache.is_file():
            with cache.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                self._known = dict(zip(map(str, arrays["scans"]), arrays["features"], strict=True))
            self._cached = set(self._known)

    def of(
        self, samples: Sequence[LabelledScan], *, keep: bool = False, on_progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """float32 (N, D), in order; with `keep`, what is new goes to the cache as well."""
        missing = {s.scan.scan_id: s.scan for s in samples if s.scan.scan_id not in self._known}
        with ThreadPoolExecutor(available_cores()) as pool:
            described = pool.map(self._describe, missing.values())
            for done, (scan_id, features) in enumerate(zip(missing, described, strict=True), start=1):
                self._known[scan_id] = features
                if on_progress is not None:
                    on_progress(len(samples) - len(missing) + done, len(samples))
        if keep and self._cache is not None and not {s.scan.scan_id for s in samples} <= self._cached:
            self._cached |= {s.scan.scan_id for s in samples}
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            scans = sorted(self._cached)
            with open_atomically(self._cache) as stream:
                np.savez(stream, scans=np.array(scans), features=np.stack([self._known[scan] for scan in scans]))
        return np.stack([self._known[s.scan.scan_id] for s in samples])
