"""Preprocessing drawn pictures whose truth is known, and pictures that are no scans."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import cv2
import numpy as np
import pytest
from drawn_screens import INK, Drawn, annotate, screen, speckle
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sonoseek.core import Scan
from sonoseek.preprocessing import PreprocessedScan, PreprocessingRecipe, preprocess

NO_AREA = "no scan area found; the whole picture is used"


def scan_of(pixels: np.ndarray, **known: object) -> Scan:
    return Scan(pixels=np.ascontiguousarray(pixels), **known)


def overlap(preprocessed: PreprocessedScan, drawn: Drawn) -> float:
    return float((preprocessed.area & drawn.area).sum() / (preprocessed.area | drawn.area).sum())


def beyond(ink: np.ndarray, pixels: int) -> np.ndarray:
    side = 2 * pixels + 1
    return cv2.dilate(ink.astype(np.uint8), np.ones((side, side), np.uint8)) == 0


SCREENS = [
    pytest.param(sector, backdrop, seed, id=f"{'sector' if sector else 'rectangle'}-on-{backdrop}-{seed}")
    for seed, (sector, backdrop) in enumerate(
        [(False, 0), (False, 40), (False, 255), (True, 0), (True, 40), (True, 255)]
    )
]


@pytest.mark.parametrize(("sector", "backdrop", "seed"), SCREENS)
def test_screens_are_cut_to_the_scan_and_their_marks_found(sector, backdrop, seed):
    drawn = screen(sector=sector, backdrop=backdrop, seed=seed)
    preprocessed = preprocess(scan_of(drawn.pixels))
    assert preprocessed.warnings == ()
    assert overlap(preprocessed, drawn) >= 0.95
    assert (preprocessed.annotations & drawn.ink).sum() >= 0.9 * drawn.ink.sum()
    wrong = preprocessed.annotations & drawn.area & beyond(drawn.ink, 3)
    assert wrong.sum() <= 0.005 * drawn.area.sum()
    if not sector:
        assert preprocessed.mapping.crop == preprocessed.mapping.box_to_scan(preprocessed.content)
        crop = preprocessed.mapping.crop
        assert (crop.top, crop.left, crop.bottom, crop.right) == (70, 130, 580, 650)


@pytest.mark.parametrize("slanted", [False, True], ids=["plus", "times"])
@pytest.mark.parametrize("seed", range(3))
def test_marks_on_a_bare_scan_vanish_without_a_saturated_rest(slanted, seed):
    bare = speckle(500, 600, seed=seed)
    marked = bare.copy()
    ink = annotate(marked, slanted=slanted, lines=not slanted)
    recipe = PreprocessingRecipe(canvas_size=600, contrast="none")
    preprocessed = preprocess(scan_of(marked), recipe)
    assert (preprocessed.annotations & ink).sum() >= 0.98 * ink.sum()
    assert (preprocessed.annotations & beyond(ink, 3)).sum() <= 0.005 * ink.size
    content = preprocessed.canvas[50:550]  # 500×600 pixels on a 600 canvas: not resized
    assert preprocessed.content.height == 500
    assert (content[ink] >= INK - 3).mean() <= (bare[ink] >= INK - 3).mean() + 0.01
    assert content[ink].mean() == pytest.approx(bare[ink].mean(), abs=20)
    assert content[ink].std() > 0.5 * bare[ink].std()  # speckled, not a smooth patch
    untouched = ~preprocessed.annotations
    assert np.array_equal(content[untouched], marked[untouched])


def test_bright_tissue_is_left_alone():
    for seed in range(5, 9):
        bare = speckle(480, 600, seed=seed)
        assert preprocess(scan_of(bare)).annotations.mean() <= 0.002


def test_the_crop_does_not_depend_on_the_marks():
    for sector in (False, True):
        with_marks = preprocess(scan_of(screen(sector=sector, seed=11).pixels))
        without = preprocess(scan_of(screen(sector=sector, seed=11, marks=False).pixels))
        for edge in ("top", "left", "bottom", "right"):
            assert getattr(with_marks.mapping.crop, edge) == pytest.approx(getattr(without.mapping.crop, edge), abs=2)


def test_text_in_a_blank_margin_neither_keeps_it_nor_shows():
    pixels = np.zeros((480, 600), np.uint8)
    pixels[:400] = speckle(400, 600, seed=2)
    plain = preprocess(scan_of(pixels))
    cv2.putText(pixels, "RIGHT BREAST", (60, 460), cv2.FONT_HERSHEY_SIMPLEX, 0.6, INK, 2)
    lettered = preprocess(scan_of(pixels))
    assert lettered.mapping == plain.mapping
    assert plain.mapping.crop.bottom == 400
    assert np.array_equal(lettered.canvas, plain.canvas)


def test_outside_of_a_sector_the_canvas_is_black():
    drawn = screen(sector=True, seed=4, backdrop=255)
    preprocessed = preprocess(scan_of(drawn.pixels))
    corner = preprocessed.canvas[int(preprocessed.content.top) : int(preprocessed.content.top) + 20]
    side = preprocessed.canvas[:, int(preprocessed.content.left) : int(preprocessed.content.left) + 5]
    assert (corner == 0).mean() > 0.5
    assert (side == 0).mean() > 0.5


def test_the_stretch_uses_the_full_range_and_leaves_a_dim_blank_dark():
    dim = (speckle(300, 400, seed=1) // 3).astype(np.uint8)
    stretched = preprocess(scan_of(dim)).canvas
    plain = preprocess(scan_of(dim), PreprocessingRecipe(contrast="none")).canvas
    assert np.percentile(stretched, 99.9) > 2 * np.percentile(plain, 99.9)
    hum = np.random.default_rng(0).integers(3, 7, (300, 400)).astype(np.uint8)
    assert preprocess(scan_of(hum)).canvas.max() <= 12


def test_clahe_changes_the_contrast_only_inside_of_the_content():
    pixels = speckle(200, 400, seed=1)
    preprocessed = preprocess(scan_of(pixels), PreprocessingRecipe(contrast="clahe"))
    assert not np.array_equal(preprocessed.canvas, preprocess(scan_of(pixels)).canvas)
    assert not preprocessed.canvas[: int(preprocessed.content.top)].any()


def test_steps_can_be_switched_off():
    drawn = screen(sector=False, seed=1)
    preprocessed = preprocess(scan_of(drawn.pixels), PreprocessingRecipe(borders=False, marks=False, contrast="none"))
    assert preprocessed.annotations is None
    assert preprocessed.area.all()
    assert preprocessed.mapping.crop.height == 640
    assert preprocessed.mapping.crop.width == 800


def test_cleaning_is_deterministic_and_leaves_the_scan_as_it_was():
    drawn = screen(sector=True, seed=6)
    scan = scan_of(drawn.pixels)
    first, second = preprocess(scan), preprocess(scan)
    assert np.array_equal(first.canvas, second.canvas)
    assert np.array_equal(first.annotations, second.annotations)
    assert np.array_equal(scan.pixels, drawn.pixels)
    with pytest.raises(FrozenInstanceError):
        first.canvas = second.canvas


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("shape", [(8, 8), (8, 3000), (3000, 8), (300, 400)])
def test_a_blank_picture_is_kept_whole_with_a_warning(level, shape):
    preprocessed = preprocess(scan_of(np.full(shape, level, np.uint8)))
    assert preprocessed.warnings == (NO_AREA,)
    assert preprocessed.area.all()
    assert not preprocessed.annotations.any()
    assert (preprocessed.mapping.crop.height, preprocessed.mapping.crop.width) == shape


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(np.uint8, st.tuples(st.integers(8, 90), st.integers(8, 90))),
    st.sampled_from(["none", "stretch", "clahe"]),
    st.integers(16, 64),
    st.none() | st.tuples(st.floats(0.01, 2.0), st.floats(0.01, 2.0)),
)
def test_any_picture_gives_a_sound_canvas(pixels, contrast, size, spacing):
    preprocessed = preprocess(
        scan_of(pixels, spacing_mm=spacing), PreprocessingRecipe(canvas_size=size, contrast=contrast)
    )
    content = preprocessed.content
    assert preprocessed.canvas.shape == (size, size)
    assert preprocessed.canvas.dtype == np.uint8
    assert preprocessed.annotations.shape == preprocessed.area.shape == pixels.shape
    assert preprocessed.annotations.dtype == preprocessed.area.dtype == np.bool_
    assert max(content.height, content.width) == size
    padding = np.ones_like(preprocessed.canvas, bool)
    padding[int(content.top) : int(content.bottom), int(content.left) : int(content.right)] = False
    assert not preprocessed.canvas[padding].any()
    crop = preprocessed.mapping.crop
    assert 0 <= crop.top < crop.bottom <= pixels.shape[0]
    assert 0 <= crop.left < crop.right <= pixels.shape[1]


def test_noise_and_photographs_are_not_taken_for_marks():
    rng = np.random.default_rng(5)
    noise = rng.integers(0, 256, (400, 500)).astype(np.uint8)
    assert preprocess(scan_of(noise)).annotations.mean() < 0.01
    rows, cols = np.mgrid[0:400, 0:500]
    photo = 120 + 60 * np.sin(cols / 37.0) * np.cos(rows / 23.0) + rng.normal(0, 6, (400, 500))
    photo[100:300, 200:260] = 30
    photo[150:350, 300:310] = 220
    preprocessed = preprocess(scan_of(np.clip(photo, 0, 255).astype(np.uint8)))
    assert preprocessed.mapping.crop.height >= 390
    assert preprocessed.annotations.mean() < 0.01


def test_a_scan_and_its_larger_copy_are_cropped_alike():
    drawn = screen(sector=False, seed=9)
    large = cv2.resize(drawn.pixels, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    small, big = preprocess(scan_of(drawn.pixels)).mapping.crop, preprocess(scan_of(large)).mapping.crop
    for edge in ("top", "left", "bottom", "right"):
        assert getattr(big, edge) == pytest.approx(2 * getattr(small, edge), abs=6)
