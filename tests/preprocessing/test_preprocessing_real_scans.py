"""Preprocessing of real scans: what must be found and what must be left alone. Masks score; they are never read."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from sonoseek.core import Scan
from sonoseek.preprocessing import PreprocessedScan, preprocess

pytestmark = pytest.mark.data
STEP = 4
"""Every so many scans are looked at."""


def grey(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)


def kept(preprocessed: PreprocessedScan, lesion: np.ndarray) -> float:
    crop = preprocessed.mapping.crop
    inside = np.zeros_like(lesion)
    inside[int(crop.top) : int(crop.bottom), int(crop.left) : int(crop.right)] = True
    return float((lesion & inside & preprocessed.area).sum() / lesion.sum())


@pytest.fixture(scope="module")
def busi(real_data) -> list[tuple[dict[str, str], PreprocessedScan, np.ndarray]]:
    folder = real_data / "busi"
    if not (folder / "groups.csv").is_file():
        pytest.skip(f"no BUSI under {folder}")
    with (folder / "groups.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))[::STEP]
    found = []
    for row in rows:
        path = folder / "Dataset_BUSI_with_GT" / row["label"] / row["file"]
        preprocessed = preprocess(Scan(pixels=grey(path)))
        found.append((row, preprocessed, grey(path.with_name(f"{path.stem}_mask.png")) > 0))
    return found


def test_busi_marks_are_found(busi):
    annotated = [preprocessed.annotations.sum() for row, preprocessed, _ in busi if row["pawlowska_annotation"]]
    assert len(annotated) > 50
    assert np.mean(np.array(annotated) >= 60) >= 0.97


def test_busi_tissue_is_left_alone(busi):
    """A maker's logo in the corner, which many scans bear, counts as a mark; the list of annotations leaves it out."""
    shares = []
    for row, preprocessed, _ in busi:
        if not row["pawlowska_annotation"]:
            marks = preprocessed.annotations.copy()
            marks[: int(0.15 * marks.shape[0]), : int(0.2 * marks.shape[1])] = False
            shares.append(marks.mean())
    assert np.mean(shares) <= 0.0005
    assert np.mean(np.array(shares) == 0) >= 0.8


def test_busi_lesions_are_neither_cut_nor_painted_over(busi):
    lesions = [
        (row, preprocessed, mask)
        for row, preprocessed, mask in busi
        if mask.shape == preprocessed.area.shape and mask.any()
    ]
    assert np.mean([kept(preprocessed, mask) >= 0.99 for _, preprocessed, mask in lesions]) >= 0.995
    painted = [
        preprocessed.annotations[mask].mean() for row, preprocessed, mask in lesions if not row["pawlowska_annotation"]
    ]
    assert np.mean(painted) <= 0.005


def test_bus_bra_lesions_are_neither_cut_nor_painted_over(real_data):
    folder = real_data / "busbra" / "BUSBRA"
    paths = sorted((folder / "Images").glob("*.png"))[:: 4 * STEP]
    if not paths:
        pytest.skip(f"no BUS-BRA under {folder}")
    shares, painted = [], []
    for path in paths:
        preprocessed = preprocess(Scan(pixels=grey(path)))
        mask = grey(folder / "Masks" / path.name.replace("bus_", "mask_")) > 0
        core = cv2.erode(mask.astype(np.uint8), np.ones((13, 13), np.uint8)) > 0  # calipers stand on the rim
        shares.append(kept(preprocessed, mask))
        painted.append(preprocessed.annotations[core].mean() if core.any() else 0.0)
    assert np.mean(np.array(shares) >= 0.99) >= 0.995
    assert np.mean(painted) <= 0.02
