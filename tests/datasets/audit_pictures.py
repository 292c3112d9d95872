"""Simulated pictures, and datasets of them in memory, to audit. No real scan is behind any of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Case, CaseRecord, Scan

Picture = NDArray[np.uint8]
SIZE = (240, 320)


def speckle(seed: int, *, size: tuple[int, int] = SIZE) -> NDArray[np.float64]:
    """Envelope of band-limited noise, wider than high, mean about 1."""
    noise = np.random.default_rng(seed).normal(size=(2, *size))
    real, imaginary = (cv2.GaussianBlur(part, (0, 0), sigmaX=2.4, sigmaY=1.3) for part in noise)
    envelope = np.hypot(real, imaginary)
    return np.asarray(envelope / envelope.mean())


def layout(seed: int, *, size: tuple[int, int] = SIZE) -> NDArray[np.float64]:
    """Brightness of layers and of dark ovals, 0 … 1."""
    rng = np.random.default_rng(seed)
    height, width = size
    picture = np.full(size, 0.5)
    for row in np.sort(rng.integers(10, height, 5)):
        slope = rng.uniform(-0.15, 0.15) * width
        corners = np.array([[0, row], [width, row + slope], [width, height], [0, height]], np.int32)
        cv2.fillPoly(picture, [corners], float(rng.uniform(0.25, 0.8)))
    for _ in range(4):
        centre = (int(rng.integers(20, width - 20)), int(rng.integers(20, height - 20)))
        axes = (int(rng.integers(12, 40)), int(rng.integers(8, 25)))
        cv2.ellipse(picture, centre, axes, float(rng.uniform(-30, 30)), 0, 360, float(rng.uniform(0.1, 0.9)), -1)
    return picture


def tissue(seed: int, *, size: tuple[int, int] = SIZE) -> Picture:
    """A picture of its own layout and its own speckle: the same seed gives the same pixels."""
    grey = 200 * cv2.GaussianBlur(layout(seed, size=size), (0, 0), 1.5) * speckle(1000 + seed, size=size) ** 0.6
    return np.clip(grey, 0, 255).astype(np.uint8)


def case(
    case_id: str,
    pixels: Picture | Sequence[Picture],
    *,
    pathology: str = "benign",
    group: str | None = None,
    patient_id: str | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> Case:
    pictures = [pixels] if isinstance(pixels, np.ndarray) else list(pixels)
    return Case(
        case_id=case_id,
        dataset="memory",
        pathology=pathology,
        group=group,
        patient_id=patient_id,
        scans=tuple(Scan(pixels=picture) for picture in pictures),
        lesion_masks=(mask,) * len(pictures),
    )


class MemoryDataset:
    """Cases in memory; those named in `broken` raise instead of loading."""

    name = "memory"
    licence = "CC0-1.0"
    citation = "nobody, 2026"

    def __init__(self, cases: Sequence[Case], *, broken: Mapping[str, Exception] | None = None) -> None:
        self.cases = {item.case_id: item for item in cases}
        self.broken = dict(broken or {})

    def records(self) -> tuple[CaseRecord, ...]:
        return tuple(
            CaseRecord(
                case_id=item.case_id,
                dataset=item.dataset,
                pathology=item.pathology,
                group=item.group,
                patient_id=item.patient_id,
            )
            for item in self.cases.values()
        )

    def load(self, case_id: str) -> Case:
        if case_id in self.broken:
            raise self.broken[case_id]
        return self.cases[case_id]

    def fingerprint(self, case_id: str) -> str:
        return case_id
