"""Whether a scan was in the training data: sha256 and perceptual hash of every scan that a bundle learnt from."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from sonoseek.core import Scan
from sonoseek.encoder.perceptual_hash import (
    BYTES,
    FORMAT,
    SAME_WITHIN,
    Hashes,
    nearest_distance,
    query_hashes,
    stored_hashes,
)

DIGEST = 32
"""Bytes of a sha256."""


@dataclass(frozen=True, kw_only=True)
class SeenScan:
    """That a scan was in the training data.

    Attributes:
        exact: pixel for pixel; False: re-saved, rescaled, mirrored or cropped by up to 5 % a side.
        distance: bits of 256 in which the perceptual hashes differ, 0 … `SAME_WITHIN`; 0 where `exact`.
    """

    exact: bool
    distance: int


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingScans:
    """Every scan that a bundle was trained or validated on, without pixels and without names.

    Phantoms are not among them: they show no patient, and are drawn anew as often as one likes.

    Attributes:
        sha256: uint8 (n, 32), `Scan.scan_id` of each distinct scan, sorted.
        hashes: uint8 (m, 32), perceptual hashes, sorted, without repeats; one or two of each scan.
        counts: dataset → scans, as many as were learnt from; those that two datasets share count in both.
    """

    sha256: Hashes
    hashes: Hashes
    counts: Mapping[str, int]

    def __len__(self) -> int:
        """Distinct scans."""
        return len(self.sha256)

    def find(self, scan: Scan) -> SeenScan | None:
        """Whether a scan, or the scan that it is a copy of, was in the training data.

        Found are copies that were re-saved, rescaled (half to double), mirrored, cropped by up to 5 % a side, or given
        a uniform border. Not meant to be found: another frame of the same sweep, another view of the same lesion.

        Args:
            scan: to look for; no preprocessing is needed. Takes about a millisecond for 2,655 scans.

        Returns:
            None: it is not known to have been there.
        """
        if self.holds(scan.scan_id):
            return SeenScan(exact=True, distance=0)
        if not len(self.hashes):
            return None
        distance = nearest_distance(query_hashes(scan.pixels), self.hashes)
        return SeenScan(exact=False, distance=distance) if distance <= SAME_WITHIN else None

    def holds(self, scan_id: str) -> bool:
        """Whether the scan of this `Scan.scan_id` was there, pixel for pixel."""
        return bytes.fromhex(scan_id) in self._digests

    @cached_property
    def _digests(self) -> frozenset[bytes]:
        return frozenset(row.tobytes() for row in self.sha256)


def training_scans(scans: Iterable[tuple[str, str, bytes]]) -> TrainingScans:
    """Gather what a bundle carries.

    Args:
        scans: (dataset, scan_id, perceptual hashes one after the other) of each.
    """
    digests: set[bytes] = set()
    hashes: set[bytes] = set()
    counts: dict[str, int] = {}
    for dataset, scan_id, stored in scans:
        counts[dataset] = counts.get(dataset, 0) + 1
        digests.add(bytes.fromhex(scan_id))
        hashes.update(stored[start : start + BYTES] for start in range(0, len(stored), BYTES))
    return _gathered(digests, hashes, counts)


def _gathered(digests: Iterable[bytes], hashes: Iterable[bytes], counts: Mapping[str, int]) -> TrainingScans:
    return TrainingScans(
        sha256=rows_of(b"".join(sorted(digests))),
        hashes=rows_of(b"".join(sorted(hashes))),
        counts=MappingProxyType(dict(sorted(counts.items()))),
    )


def hash_bytes(scan: Scan) -> bytes:
    """The perceptual hashes to store of a scan, one after the other: 0, 32 or 64 bytes."""
    return stored_hashes(scan.pixels).tobytes()


def rows_of(content: bytes) -> Hashes:
    """uint8 (n, 32), read-only, over the same bytes."""
    return np.frombuffer(content, np.uint8).reshape(-1, DIGEST)


def union(parts: Sequence[TrainingScans]) -> TrainingScans:
    """What any of several bundles learnt from; of each dataset the largest of their counts."""
    counts: dict[str, int] = {}
    for part in parts:
        for dataset, count in part.counts.items():
            counts[dataset] = max(count, counts.get(dataset, 0))
    digests = {row.tobytes() for part in parts for row in part.sha256}
    return _gathered(digests, {row.tobytes() for part in parts for row in part.hashes}, counts)


def as_manifest_part(scans: TrainingScans) -> dict[str, Any]:
    """The key "training_scans" of `bundle.json`, as `manifest.TrainingScansPart` reads it."""
    return {
        "format": FORMAT,
        "sha256": base64.b64encode(scans.sha256.tobytes()).decode(),
        "hashes": base64.b64encode(scans.hashes.tobytes()).decode(),
        "counts": dict(scans.counts),
    }
