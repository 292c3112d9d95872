"""A changed copy of an archived scan is recognised by its picture, another scan is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sonoseek.core import GalleryError, Match, Scan
from sonoseek.datasets import open_dataset
from sonoseek.engine.near_duplicates import CLOSE, LOOKED_AT, LOWEST_COSINE, MIRRORED_COSINE, _close_pairs, find_copy
from sonoseek.gallery import encode_picture

Picture = NDArray[np.uint8]


@pytest.fixture(scope="module")
def phantoms() -> list[Picture]:
    dataset = open_dataset("phantom")
    return [dataset.load(record.case_id, masks=False).scans[0].pixels for record in dataset.records()[:6]]


def match_of(pixels: Picture | None, *, rank: int = 1, similarity: float = 0.96) -> Match:
    return Match(
        rank=rank,
        case_id=f"case {rank}",
        scan_id=f"{rank:064x}",
        similarity=similarity,
        label="benign",
        dataset="phantom",
        picture=None if pixels is None else encode_picture(pixels),
    )


def turned(pixels: Picture, degrees: float) -> Picture:
    height, width = pixels.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    return np.asarray(cv2.warpAffine(pixels, turn, (width, height)), np.uint8)


def cropped(pixels: Picture) -> Picture:
    """A twelfth of the height and of the width off."""
    height, width = pixels.shape
    return pixels[height // 24 : height - height // 24, width // 24 : width - width // 24].copy()


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "turned by 2": lambda pixels: turned(pixels, 2),
    "turned by 5": lambda pixels: turned(pixels, 5),
    "turned by 10": lambda pixels: turned(pixels, 10),
    "cropped": cropped,
    "half": lambda pixels: np.asarray(cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8),
    "jpeg": lambda p: np.asarray(cv2.imdecode(cv2.imencode(".jpg", p, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 0), np.uint8),
    "mirrored": lambda pixels: pixels[:, ::-1].copy(),
    "brighter": lambda pixels: np.clip(pixels * 1.2 + 10, 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_another_scan_is_not(phantoms: list[Picture], change: str) -> None:
    for number, pixels in enumerate(phantoms):
        asked = Scan(pixels=CHANGES[change](pixels))
        other = phantoms[(number + 1) % len(phantoms)]
        assert find_copy(asked, [match_of(pixels)]) == 1
        assert find_copy(asked, [match_of(other), match_of(pixels, rank=2)]) == 2
        assert find_copy(asked, [match_of(other)]) is None


def test_only_near_matches_that_have_a_picture_are_looked_at(phantoms: list[Picture]) -> None:
    scan, pixels = Scan(pixels=turned(phantoms[0], 5)), phantoms[0]
    assert find_copy(scan, []) is None
    assert find_copy(scan, [match_of(pixels, similarity=LOWEST_COSINE - 0.01)]) is None
    assert find_copy(scan, [match_of(None), match_of(pixels, rank=2)]) == 2
    others = [match_of(phantoms[1], rank=rank + 1) for rank in range(LOOKED_AT)]
    assert find_copy(scan, [*others, match_of(pixels, rank=LOOKED_AT + 1)]) is None


def test_a_mirrored_copy_is_looked_for_where_the_cosine_allows_one(phantoms: list[Picture]) -> None:
    mirrored = Scan(pixels=phantoms[0][:, ::-1].copy())
    assert find_copy(mirrored, [match_of(phantoms[0], similarity=MIRRORED_COSINE)]) == 1
    assert find_copy(mirrored, [match_of(phantoms[0], similarity=MIRRORED_COSINE - 0.01)]) is None


@pytest.mark.parametrize("fill", [0, 128, 255])
def test_pictures_without_texture_are_no_copies(fill: int) -> None:
    flat = np.full((200, 300), fill, np.uint8)
    assert find_copy(Scan(pixels=flat), [match_of(flat)]) is None


def test_a_damaged_picture_is_an_error_that_says_so(phantoms: list[Picture]) -> None:
    broken = Match(
        rank=1, case_id="c", scan_id="s", similarity=0.99, label="benign", dataset="d", picture=b"\xff\xd8nothing"
    )
    with pytest.raises(GalleryError, match="index verify"):
        find_copy(Scan(pixels=phantoms[0]), [broken])


@pytest.mark.data
def test_two_scans_of_one_patient_are_no_copies_and_turned_ones_are(real_data: Path) -> None:
    dataset = open_dataset("busbra", real_data / "busbra")
    by_patient: dict[str, list[str]] = {}
    for record in dataset.records()[:80]:
        by_patient.setdefault(str(record.patient_id), []).append(record.case_id)
    pairs = [ids[:2] for ids in by_patient.values() if len(ids) > 1]
    assert len(pairs) >= 20
    pairs.append(["bus_0981-l", "bus_0981-r"])  # two frames of one sweep, the most alike of all
    for one, other in pairs:
        first, second = (dataset.load(case_id, masks=False).scans[0] for case_id in (one, other))
        assert find_copy(first, [match_of(second.pixels)]) is None, (one, other)
        assert find_copy(Scan(pixels=turned(first.pixels, 5)), [match_of(first.pixels)]) == 1, one
        assert find_copy(Scan(pixels=cropped(first.pixels)), [match_of(first.pixels)]) == 1, one


def test_pairs_of_features_are_those_of_a_cross_checked_matcher() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (120, 32), np.uint8)
    b = a[rng.permutation(120)[:90]] ^ np.packbits(rng.random((90, 256)) < 0.12, axis=1)
    matcher = cv2.BFMatcher.create(cv2.NORM_HAMMING, crossCheck=True)
    expected = {(pair.queryIdx, pair.trainIdx) for pair in matcher.match(a, b) if pair.distance <= CLOSE}
    found = {(int(i), int(j)) for i, j in zip(*_close_pairs(a, b), strict=True)}
    assert found == expected
    assert len(expected) > 60
