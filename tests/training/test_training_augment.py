"""Augmentation: padding stays padding, depth stays downwards, switches off means untouched."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sonoseek.encoder import PADDING
from sonoseek.encoder.canvas_input import canvas_to_input
from sonoseek.training.augment import SMALLEST, augment, close_up, draw_marks, rising_curve
from sonoseek.training.recipe import Augmentation

OFF = Augmentation(**dict.fromkeys(Augmentation.__struct_fields__, 0.0))
SIZE = 96


def landscape(height=60):
    """Bright above, dark below, with a bright column on the left."""
    top = (SIZE - height) // 2
    canvas = np.zeros((SIZE, SIZE), np.uint8)
    canvas[top : top + height] = np.linspace(220, 20, height).astype(np.uint8)[:, None]
    canvas[top : top + height, 8:14] = 255
    return canvas, np.array([top, 0, top + height, SIZE], np.int32)


def test_with_every_switch_off_it_is_the_input_itself():
    canvas, content = landscape()
    view = augment(canvas, content, switches=OFF, rng=np.random.default_rng(0)).canvas
    top, left, bottom, right = content
    np.testing.assert_allclose(view, canvas_to_input(canvas, top=top, left=left, bottom=bottom, right=right)[0])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), height=st.integers(20, SIZE))
def test_every_view_is_an_input_that_cleaning_could_have_made(seed, height):
    canvas, content = landscape(height)
    view = augment(canvas, content, switches=Augmentation(), rng=np.random.default_rng(seed)).canvas
    assert view.shape == (SIZE, SIZE)
    assert view.dtype == np.float32
    scan = view != PADDING
    assert np.all((view[scan] >= 0) & (view[scan] <= 1))
    rows, columns = np.flatnonzero(scan.any(1)), np.flatnonzero(scan.any(0))
    assert scan[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()  # one rectangle
    assert len(rows) == SIZE or len(columns) == SIZE  # that touches two edges
    assert abs(rows[0] - (SIZE - 1 - rows[-1])) <= 1  # centred
    assert abs(columns[0] - (SIZE - 1 - columns[-1])) <= 1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_no_view_is_upside_down(seed):
    canvas, content = landscape()
    view = augment(canvas, content, switches=Augmentation(tgc=0, marks=0), rng=np.random.default_rng(seed)).canvas
    scan = np.where(view == PADDING, np.nan, view)
    filled = scan[~np.isnan(scan).all(1)]
    third = len(filled) // 3
    assert np.nanmean(filled[:third]) > np.nanmean(filled[-third:])


def test_mirroring_is_left_right_and_half_of_the_time():
    canvas, content = landscape()
    rng = np.random.default_rng(0)
    switches = Augmentation(**{**dict.fromkeys(Augmentation.__struct_fields__, 0.0), "mirror": 0.5})
    left = [augment(canvas, content, switches=switches, rng=rng).canvas[48, :48].max() > 0.9 for _ in range(200)]
    assert 60 < sum(left) < 140


def test_the_same_seed_draws_the_same_view():
    canvas, content = landscape()
    one, other = (
        augment(canvas, content, switches=Augmentation(), rng=np.random.default_rng(5)).canvas for _ in range(2)
    )
    np.testing.assert_array_equal(one, other)


def test_padding_is_never_turned_into_view():
    canvas, content = landscape()
    dirty = canvas.copy()
    dirty[: content[0]] = 255  # what lies in padding must not matter
    for seed in range(10):
        one, other = (
            augment(c, content, switches=Augmentation(), rng=np.random.default_rng(seed)).canvas
            for c in (canvas, dirty)
        )
        np.testing.assert_array_equal(one, other)


ELSEWHERE = ("mirror", "style", "mix_style", "resolution", "grain")
"""Switches that have a test of their own, or that need another scan, a whole batch, or speckle."""


@pytest.mark.parametrize("name", [n for n in Augmentation.__struct_fields__ if n not in ELSEWHERE])
def test_each_switch_does_something(name):
    canvas, content = landscape()
    likely = ("blur", "jpeg", "marks", "shadow", "downsample", "close_up")
    on = 1.0 if name in likely else 10.0 if name == "rotate" else 0.3
    switches = Augmentation(**{**dict.fromkeys(Augmentation.__struct_fields__, 0.0), name: on})
    untouched = augment(canvas, content, switches=OFF, rng=np.random.default_rng(1)).canvas
    views = [augment(canvas, content, switches=switches, rng=np.random.default_rng(seed)).canvas for seed in range(5)]
    assert sum(np.abs(view - untouched).max() > 0.01 for view in views) >= 3


def test_marks_do_not_write_on_their_input():
    scan = np.zeros((40, 60), np.uint8)
    marked = [draw_marks(scan, rng=np.random.default_rng(seed)) for seed in range(10)]
    assert scan.max() == 0
    assert sum(m.max() > 100 for m in marked) >= 9


def test_a_random_tone_curve_rises_and_keeps_black_and_white():
    grey = np.linspace(0, 1, 256)
    for seed in range(20):
        curve = rising_curve(grey, share=1.0, rng=np.random.default_rng(seed))
        assert curve[0] == 0
        assert curve[-1] == pytest.approx(1)
        assert np.all(np.diff(curve) >= 0)
        assert np.abs(curve - grey).max() > 0.02
    np.testing.assert_array_equal(rising_curve(grey, share=0.0, rng=np.random.default_rng(0)), grey)


def test_the_curve_changes_greys_and_leaves_black_black():
    canvas, content = landscape()
    canvas[30:34] = 0
    view = augment(canvas, content, switches=replace(OFF, curve=1.0), rng=np.random.default_rng(1)).canvas
    plain = augment(canvas, content, switches=OFF, rng=np.random.default_rng(1)).canvas
    assert np.all(view[plain == 0] == 0)
    assert np.abs(view - plain).max() > 0.02


def test_shrinking_leaves_the_whole_scan_smaller_in_the_middle():
    canvas, content = landscape(SIZE)
    sides = []
    for seed in range(30):
        scan = (
            augment(canvas, content, switches=replace(OFF, shrink=0.4), rng=np.random.default_rng(seed)).canvas
            != PADDING
        )
        rows = np.flatnonzero(scan.any(1))
        assert abs(rows[0] - (SIZE - 1 - rows[-1])) <= 1
        sides.append(len(rows))
    assert min(sides) < 0.7 * SIZE
    assert min(sides) >= 0.6 * SIZE - 1
    assert max(sides) > 0.9 * SIZE


def test_a_coarser_grain_varies_over_more_pixels():
    canvas = np.full((SIZE, SIZE), 120, np.uint8)
    content = np.array([0, 0, SIZE, SIZE], np.int32)

    def neighbours(grain):
        found = []
        for seed in range(20):
            switches = replace(OFF, speckle=0.3, grain=grain)
            view = augment(canvas, content, switches=switches, rng=np.random.default_rng(seed)).canvas
            if view.std() > 0.01:  # the deviation is drawn as well
                found.append(np.corrcoef(view[:, 2:].ravel(), view[:, :-2].ravel())[0, 1])
        return np.mean(found)

    assert neighbours(8.0) > neighbours(1.0) + 0.2


def test_down_sampling_loses_detail_and_keeps_the_size():
    rng = np.random.default_rng(0)
    canvas = rng.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
    content = np.array([0, 0, SIZE, SIZE], np.int32)
    view = augment(canvas, content, switches=replace(OFF, downsample=1.0), rng=rng).canvas
    assert view.shape == (SIZE, SIZE)
    assert view.std() < 0.8 * canvas.std() / 255


def a_lesion(top=40, left=60, bottom=52, right=78):
    lesion = np.zeros((SIZE, SIZE), np.uint8)
    lesion[top:bottom, left:right] = 255
    return lesion


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), top=st.integers(18, 60), left=st.integers(0, 76))
def test_a_close_up_holds_the_lesion_and_stays_on_the_scan(seed, top, left):
    _, content = landscape()
    lesion = a_lesion(top, left, top + 12, left + 18)
    found = close_up(content, lesion, rng=np.random.default_rng(seed))
    assert (found[:2] >= content[:2]).all()
    assert (found[2:] <= content[2:]).all()
    assert found[0] <= top + 2
    assert found[1] <= left + 2
    assert found[2] >= min(top + 12, content[2]) - 2
    assert found[3] >= min(left + 18, content[3]) - 2
    assert (found[2:] - found[:2]).max() <= 2.5 * 18 + 2  # 2.5 times the longer side, at most


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), drawn=st.booleans())
def test_of_a_scan_without_a_lesion_it_shows_any_part(seed, drawn):
    _, content = landscape()
    found = close_up(content, np.zeros((SIZE, SIZE), np.uint8) if drawn else None, rng=np.random.default_rng(seed))
    assert (found[:2] >= content[:2]).all()
    assert (found[2:] <= content[2:]).all()
    assert (found[2:] - found[:2]).max() >= SMALLEST * SIZE / 2 - 1


def test_a_close_up_is_drawn_as_often_as_asked_and_shows_the_lesion_larger():
    canvas, content = landscape()
    lesion = a_lesion()
    shares = []
    for seed in range(200):
        view = augment(
            canvas, content, switches=replace(OFF, close_up=0.5), rng=np.random.default_rng(seed), lesion=lesion
        )
        shares.append((view.lesion > 127).mean())
    whole = (lesion > 127).mean()
    larger = np.array(shares) > 2 * whole
    assert 80 < larger.sum() < 120
    np.testing.assert_allclose(np.array(shares)[~larger], whole, rtol=0.1)


def test_a_view_may_be_smaller_than_the_canvas_it_is_drawn_from():
    canvas, content = landscape()
    small = augment(canvas, content, switches=OFF, rng=np.random.default_rng(0), lesion=a_lesion(), side=SIZE // 2)
    assert small.canvas.shape == small.lesion.shape == (SIZE // 2, SIZE // 2)
    whole = augment(canvas, content, switches=OFF, rng=np.random.default_rng(0)).canvas
    scanned = small.canvas != PADDING
    means = whole.reshape(SIZE // 2, 2, SIZE // 2, 2).mean((1, 3))
    inside = scanned & (np.abs(np.gradient(means)[1]) < 0.02)
    np.testing.assert_allclose(small.canvas[inside], means[inside], atol=0.05)
    assert (small.lesion > 127).sum() == pytest.approx((a_lesion() > 127).sum() / 4, rel=0.2)
