"""A scan and copies of it, smaller, larger, compressed or framed, must give nearly the same canvas and embedding."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from drawn_screens import screen, speckle

from sonoseek import load_bundle, open_dataset
from sonoseek.core import Scan
from sonoseek.datasets.phantom import PhantomDataset
from sonoseek.encoder import Encoder, open_encoder, to_input
from sonoseek.preprocessing import PreprocessedScan, PreprocessingRecipe, preprocess

RECIPE = PreprocessingRecipe(canvas_size=160)


def halved(pixels: np.ndarray) -> np.ndarray:
    return cv2.resize(pixels, (pixels.shape[1] // 2, pixels.shape[0] // 2), interpolation=cv2.INTER_AREA)


def enlarged(pixels: np.ndarray) -> np.ndarray:
    return cv2.resize(pixels, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC)


def saved(pixels: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 75])[1], cv2.IMREAD_GRAYSCALE)


def framed(level: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: cv2.copyMakeBorder(pixels, 20, 20, 20, 20, cv2.BORDER_CONSTANT, value=level)


CHANGES = {
    "half size": halved,
    "1.5 times": enlarged,
    "JPEG 75": saved,
    "black border": framed(0),
    "white border": framed(255),
}
each_change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


def preprocessed(pixels: np.ndarray) -> PreprocessedScan:
    return preprocess(Scan(pixels=np.ascontiguousarray(pixels)), RECIPE)


def apart(one: PreprocessedScan, other: PreprocessedScan) -> float:
    """Mean absolute difference of the canvases, grey levels, smoothed so that half a pixel of shift tells little."""
    smooth = [cv2.blur(each.canvas.astype(np.float32), (9, 9)) for each in (one, other)]
    return float(np.abs(smooth[0] - smooth[1]).mean())


def cosine(encoder: Encoder, one: PreprocessedScan, other: PreprocessedScan) -> float:
    a, b = encoder.encode(np.stack([to_input(one), to_input(other)])).embedding.astype(float)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return open_encoder(load_bundle(), threads=1)


@pytest.fixture(scope="module")
def phantoms() -> list[np.ndarray]:
    archive = PhantomDataset(count=6, seed=31)
    return [archive.load(record.case_id).scans[0].pixels for record in archive.records()]


@each_change
@pytest.mark.parametrize("sector", [False, True], ids=["rectangle", "sector"])
def test_a_screen_and_its_copy_give_nearly_one_canvas(change, sector):
    drawn = screen(sector=sector, seed=3)
    assert apart(preprocessed(drawn.pixels), preprocessed(change(drawn.pixels))) <= 7.0


@each_change
def test_a_phantom_and_its_copy_give_nearly_one_canvas_and_embedding(change, phantoms, encoder):
    for pixels in phantoms:
        one, other = preprocessed(pixels), preprocessed(change(pixels))
        assert apart(one, other) <= 7.0
        assert cosine(encoder, one, other) >= 0.94


@pytest.mark.parametrize("level", [0, 255])
def test_a_border_changes_no_pixel(level, phantoms):
    for pixels in phantoms:
        assert np.array_equal(preprocessed(framed(level)(pixels)).canvas, preprocessed(pixels).canvas)


def test_a_scan_that_fades_out_is_kept_whole_however_it_was_saved():
    """Echoes grow weaker with depth until the grey levels can hardly tell them from black."""
    pixels = speckle(320, 240, seed=4)
    weaker = np.clip(1.2 - np.arange(320) / 250, 0.06, 1)[:, None]
    fading = (pixels * weaker).astype(np.uint8)
    for change in (lambda scan: scan, halved, enlarged, saved):
        copy = change(fading)
        crop = preprocessed(copy).mapping.crop
        assert crop.bottom == copy.shape[0]


def test_a_scan_that_fades_out_above_a_panel_ends_before_the_panel():
    pixels = np.zeros((480, 400), np.uint8)
    weaker = np.clip(1.2 - np.arange(320) / 250, 0.0, 1)[:, None]
    pixels[:320] = speckle(320, 400, seed=4) * weaker
    pixels[430:] = np.random.default_rng(0).integers(60, 200, (50, 400))
    assert 230 <= preprocessed(pixels).mapping.crop.bottom <= 330


@pytest.mark.data
@each_change
def test_a_real_scan_and_its_copy_give_nearly_one_embedding(change, real_data, encoder):
    found = []
    for name, step in (("busi", 40), ("busbra", 60)):
        if not (real_data / name).is_dir():
            pytest.skip(f"no {name} under {real_data}")
        dataset = open_dataset(name, real_data / name)
        for record in dataset.records()[::step]:
            pixels = dataset.load(record.case_id, masks=False).scans[0].pixels
            found.append(cosine(encoder, preprocessed(pixels), preprocessed(change(pixels))))
    assert min(found) >= 0.94
    assert np.median(found) >= 0.99
