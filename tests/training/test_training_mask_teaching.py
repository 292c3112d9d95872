"""What masks teach: they lie where preprocessing put the scan, move with it, and enter nothing but losses."""

import numpy as np
import pytest
import torch

from sonoseek.core import Scan
from sonoseek.datasets import DATASETS
from sonoseek.preprocessing import PreprocessingRecipe, preprocess
from sonoseek.training.augment import augment, cast_shadow, take_tone
from sonoseek.training.losses import distribute_within_cells, lesion_loss, stray_evidence
from sonoseek.training.prepare import lesion_on_canvas, prepare
from sonoseek.training.recipe import Augmentation

OFF = Augmentation(**dict.fromkeys(Augmentation.__struct_fields__, 0.0))
RECIPE = PreprocessingRecipe(canvas_size=96)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    dataset = DATASETS.load("phantom")(count=12, seed=3)
    cache = tmp_path_factory.mktemp("prepared")
    return dataset, prepare(dataset, recipe=RECIPE, cache=cache), cache


def test_masks_are_kept_with_the_scans_and_read_back(phantoms):
    dataset, made, cache = phantoms
    again = prepare(dataset, recipe=RECIPE, cache=cache)
    np.testing.assert_array_equal(again.lesions, made.lesions)
    np.testing.assert_array_equal(again.drawn, made.drawn)
    assert made.drawn.all()
    holds = made.lesions.any((1, 2))
    np.testing.assert_array_equal(holds, made.labels > 0)
    for canvas, content, lesion in zip(made.canvases, made.contents, made.lesions, strict=True):
        top, left, bottom, right = content
        outside = np.ones_like(canvas, dtype=bool)
        outside[top:bottom, left:right] = False
        assert not lesion[outside].any()


def test_a_mask_lies_on_the_canvas_where_its_pixels_lie():
    pixels = np.full((200, 300), 90, np.uint8)
    mask = np.zeros((200, 300), bool)
    mask[60:120, 150:230] = True
    pixels[mask] = 250
    preprocessed = preprocess(
        Scan(pixels=pixels), PreprocessingRecipe(canvas_size=96, borders=False, marks=False, contrast="none")
    )
    lesion = lesion_on_canvas(mask, preprocessed)
    np.testing.assert_array_equal(lesion > 0, preprocessed.canvas >= 170)
    assert not lesion_on_canvas(None, preprocessed).any()


def test_the_mask_moves_as_the_scan_moves():
    canvas = np.full((96, 96), 40, np.uint8)
    canvas[30:60, 20:50] = 250
    lesion = np.where(canvas > 200, 255, 0).astype(np.uint8)
    content = np.array([0, 0, 96, 96], np.int32)
    moving = Augmentation(
        **{
            **dict.fromkeys(Augmentation.__struct_fields__, 0.0),
            "mirror": 0.5,
            "rotate": 12.0,
            "crop": 0.15,
            "aspect": 0.2,
        }
    )
    for seed in range(8):
        view = augment(canvas, content, switches=moving, rng=np.random.default_rng(seed), lesion=lesion)
        both = np.mean((view.canvas > 0.6) == (view.lesion > 127))
        assert both > 0.98
        assert view.lesion.any()


def test_a_mask_changes_no_pixel_of_a_view(phantoms):
    _, made, _ = phantoms
    row = int(np.flatnonzero(made.labels > 0)[0])
    views = [
        augment(
            made.canvases[row], made.contents[row], switches=Augmentation(), rng=np.random.default_rng(4), lesion=lesion
        )
        for lesion in (None, made.lesions[row])
    ]
    np.testing.assert_array_equal(views[0].canvas, views[1].canvas)


def test_another_scans_tone_is_taken_and_black_stays_black():
    rng = np.random.default_rng(0)
    dark = np.clip(rng.normal(60, 15, (64, 64)), 1, 255).astype(np.uint8)
    bright = np.clip(rng.normal(170, 30, (50, 70)), 1, 255).astype(np.uint8)
    dark[:8] = 0
    toned = take_tone(dark, bright, strength=1.0)
    assert np.all(toned[:8] == 0)
    assert abs(float(np.median(toned[8:])) - float(np.median(bright))) < 5
    order = np.argsort(dark[8:].ravel(), kind="stable")
    assert np.all(np.diff(toned[8:].ravel()[order].astype(int)) >= 0)  # darker stays darker
    np.testing.assert_array_equal(take_tone(dark, bright, strength=0.0), dark)
    nothing = np.zeros((5, 5), np.uint8)
    np.testing.assert_array_equal(take_tone(dark, nothing, strength=1.0), dark)
    np.testing.assert_array_equal(take_tone(nothing, bright, strength=1.0), nothing)


def test_a_shadow_darkens_below_and_never_brightens():
    scan = np.full((80, 80), 200, np.uint8)
    for seed in range(10):
        shadowed = cast_shadow(scan, rng=np.random.default_rng(seed))
        assert shadowed.max() <= 200
        darkest = shadowed.min(axis=1).astype(int)
        assert darkest[-1] < 160
        assert np.all(np.diff(darkest) <= 0)  # what begins goes on downwards


def test_lesion_loss_falls_as_the_drawing_nears_the_mask_and_undrawn_scans_teach_nothing():
    share = torch.zeros(2, 1, 8, 8)
    share[0, :, 2:5, 2:5] = 1
    validity = torch.ones(2, 1, 8, 8)
    drawn = torch.tensor([True, True])
    right, wrong = (share * 2 - 1) * 6, (1 - share * 2) * 6
    assert lesion_loss(right, share, validity, drawn) < 0.1
    assert lesion_loss(wrong, share, validity, drawn) > 2
    logits = torch.zeros(2, 1, 8, 8, requires_grad=True)
    lesion_loss(logits, share, validity, torch.tensor([True, False])).backward()
    assert logits.grad[0].abs().sum() > 0
    assert logits.grad[1].abs().sum() == 0
    assert lesion_loss(logits, share, validity, torch.tensor([False, False])) == 0


def test_evidence_is_lain_within_a_cell_by_weight():
    cells, within = torch.tensor([[[4.0, -2.0]]]), torch.zeros(1, 2, 4)
    within[0, 0, 0], within[0, 1, 1], within[0, 0, 2] = 3.0, 1.0, 5.0
    spread = distribute_within_cells(cells, within)
    torch.testing.assert_close(spread[0, 0, 0], torch.tensor(3.0))
    torch.testing.assert_close(spread[0, 1, 1], torch.tensor(1.0))
    torch.testing.assert_close(spread[0, :, 2:].sum(), torch.tensor(-2.0))
    assert distribute_within_cells(cells, torch.zeros(1, 2, 4)).abs().sum() == 0  # nothing weighs anything: padding


def test_stray_evidence_is_the_share_outside_and_what_the_lesion_takes_back():
    share = torch.zeros(3, 1, 9, 9)
    share[:2, :, 4, 4] = 1
    evidence = torch.zeros(3, 9, 9)
    evidence[0, 4, 4], evidence[0, 3, 4] = 3.0, 1.0  # inside, and one cell around
    evidence[1, 4, 4], evidence[1, 0, 0], evidence[1, 8, 8] = 1.0, 3.0, -50.0  # negative evidence does not count
    evidence[2] = 1.0  # no lesion: left out
    assert stray_evidence(evidence[:1], share[:1]) == 0
    torch.testing.assert_close(stray_evidence(evidence, share), torch.tensor(0.75 / 2))
    assert stray_evidence(evidence[2:], share[2:]) == 0
    share[0, :, 4, 3] = 1
    evidence[0, 4, 3] = -1.0  # a quarter of what the lesion's cells say is against
    torch.testing.assert_close(stray_evidence(evidence[:1], share[:1]), torch.tensor(0.25))
