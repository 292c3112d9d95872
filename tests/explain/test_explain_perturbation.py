"""Perturbation methods, on a score that depends on one patch alone."""

import numpy as np
import pytest

from sonoseek.core import Box, InvalidValueError
from sonoseek.explain import METHODS, PERTURBATION
from sonoseek.explain.perturbation import as_explanation, blurred, windows
from sonoseek.preprocessing.mapping import fit_to_canvas

SIDE = 160
PATCH = (slice(64, 96), slice(96, 128))


def draw() -> np.ndarray:
    """Speckle, a bright patch, padding left and right."""
    canvas = np.random.default_rng(0).uniform(0.1, 0.4, (1, SIDE, SIDE)).astype(np.float32)
    canvas[0][PATCH] += 0.5
    canvas[:, :, :16] = -1
    canvas[:, :, -16:] = -1
    return canvas


def patch_score(canvases: np.ndarray) -> np.ndarray:
    return np.asarray(canvases[(slice(None), 0, *PATCH)].mean((1, 2)) * 4)


def options(name: str) -> dict[str, int]:
    return {"masks": 300} if name == "rise" else {}


def on_canvas(evidence_map: np.ndarray) -> np.ndarray:
    return evidence_map.repeat(SIDE // evidence_map.shape[0], 0).repeat(SIDE // evidence_map.shape[1], 1)


@pytest.mark.parametrize("name", PERTURBATION)
class TestEveryMethod:
    def test_it_finds_the_patch(self, name: str) -> None:
        evidence_map = PERTURBATION.load(name)(draw(), patch_score, **options(name))
        assert evidence_map.dtype == np.float32
        heatmap = on_canvas(evidence_map)
        assert heatmap[PATCH].mean() > 5 * np.abs(heatmap[np.s_[0:32, 16:48]]).mean()
        row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
        assert 64 - 16 <= row < 96 + 16
        assert 96 - 16 <= column < 128 + 16

    def test_padding_stays_empty(self, name: str) -> None:
        heatmap = on_canvas(PERTURBATION.load(name)(draw(), patch_score, **options(name)))
        assert not heatmap[:, :16].any()
        assert not heatmap[:, -16:].any()

    def test_padding_stays_padding_and_scan_stays_in_range(self, name: str) -> None:
        canvas = draw()

        def score_fn(canvases: np.ndarray) -> np.ndarray:
            assert (canvases[:, canvas < 0] == -1).all()
            assert (canvases[:, canvas >= 0] >= 0).all()
            assert canvases.max() <= 1
            return patch_score(canvases)

        before = canvas.copy()
        PERTURBATION.load(name)(canvas, score_fn, **options(name))
        assert np.array_equal(canvas, before)

    def test_a_constant_score_gives_an_empty_map(self, name: str) -> None:
        evidence_map = PERTURBATION.load(name)(draw(), lambda canvases: np.full(len(canvases), 0.7), **options(name))
        assert np.abs(evidence_map).max() < 1e-9

    def test_it_is_deterministic(self, name: str) -> None:
        first, second = (PERTURBATION.load(name)(draw(), patch_score, **options(name)) for _ in range(2))
        assert np.array_equal(first, second)

    @pytest.mark.parametrize("grey", [0.0, 0.5, 1.0])
    def test_a_constant_scan_and_a_sliver_of_one(self, name: str, grey: float) -> None:
        sliver = np.full((1, SIDE, SIDE), -1, np.float32)
        sliver[0, 70:75] = grey
        for canvas in (np.full((1, SIDE, SIDE), grey, np.float32), sliver):
            assert np.isfinite(PERTURBATION.load(name)(canvas, patch_score, **options(name))).all()

    def test_invalid_scores_are_refused(self, name: str) -> None:
        for score_fn in (
            lambda c: np.full(len(c), np.nan),
            lambda c: np.zeros(len(c) + 1),
            lambda c: np.zeros((len(c), 3)),
        ):
            with pytest.raises(InvalidValueError, match="score"):
                PERTURBATION.load(name)(draw(), score_fn, **options(name))

    def test_an_invalid_canvas_is_refused(self, name: str) -> None:
        grey, empty = np.where(draw() < 0, np.float32(-0.5), draw()), np.zeros((1, 0, 0), np.float32)
        for canvas in (draw()[0], draw().astype(np.float64), draw()[:, :-2], draw() * 255, grey, empty):
            with pytest.raises(InvalidValueError, match="canvas"):
                PERTURBATION.load(name)(canvas, patch_score)

    def test_progress_reaches_the_end(self, name: str) -> None:
        calls: list[tuple[int, int]] = []
        PERTURBATION.load(name)(
            draw(), patch_score, on_progress=lambda done, total: calls.append((done, total)), **options(name)
        )
        assert calls[-1][0] == calls[-1][1]
        assert calls == sorted(calls)


def test_evidence_against_is_negative_but_for_sbsm() -> None:
    against = lambda canvases: -patch_score(canvases)  # noqa: E731
    for name in ("occlusion", "rise"):
        assert on_canvas(PERTURBATION.load(name)(draw(), against, **options(name)))[PATCH].mean() < 0
    assert PERTURBATION.load("sbsm")(draw(), against).min() >= 0.0


def test_the_fall_is_in_the_scores_own_unit() -> None:
    whole = patch_score(draw()[None])[0]
    evidence_map = PERTURBATION.load("occlusion")(draw(), patch_score, window=32, stride=32)
    hidden = draw()
    hidden[0][PATCH] = blurred(draw())[0][PATCH]
    assert on_canvas(evidence_map)[PATCH] == pytest.approx(whole - patch_score(hidden[None])[0], abs=1e-5)


@pytest.mark.parametrize("name", ["occlusion", "sbsm"])
def test_each_cell_is_the_mean_of_its_windows(name: str) -> None:
    canvas = draw()
    canvas[canvas < 0] = 0.2
    scores = iter([1.0, *[0.0] * 121])  # 11 × 11 windows of 32 at strides of 16, over the edges too

    def loses_all(canvases: np.ndarray) -> np.ndarray:
        return np.array([next(scores) for _ in canvases])

    assert PERTURBATION.load(name)(canvas, loses_all) == pytest.approx(np.ones((10, 10)))
    assert next(scores, None) is None


@pytest.mark.parametrize("name", PERTURBATION)
def test_padding_stays_empty_where_a_mask_reaches_from_it_into_the_patch(name: str) -> None:
    canvas = draw()
    canvas[:, :, :96] = -1  # the patch begins where padding ends
    heatmap = on_canvas(PERTURBATION.load(name)(canvas, patch_score, **options(name)))
    assert not heatmap[:, :96].any()
    assert heatmap[PATCH].mean() > 0


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.7])
def test_rise_is_in_the_scores_own_unit(keep: float) -> None:
    canvas, visible = draw(), []
    hidden, whole = (each[0][PATCH].mean() for each in (blurred(draw()), draw()))

    def share(canvases: np.ndarray) -> np.ndarray:  # 0 … 1, share of the patch that a mask leaves visible
        visible.extend((canvases[(slice(None), 0, *PATCH)].mean((1, 2)) - hidden) / (whole - hidden))
        return np.array(visible[-len(canvases) :])

    evidence_map = PERTURBATION.load("rise")(canvas, share, masks=1000, keep=keep)
    assert on_canvas(evidence_map)[PATCH].mean() == pytest.approx(np.var(visible) / keep, rel=0.05)


def test_rise_hides_by_blurring_and_shifts_its_grid() -> None:
    canvas = np.full((1, SIDE, SIDE), 0.6, np.float32)
    batches: list[np.ndarray] = []
    PERTURBATION.load("rise")(canvas, lambda c: batches.append(c) or np.zeros(len(c)), masks=8)
    assert np.concatenate(batches) == pytest.approx(0.6, abs=1e-5)  # blurring what is constant changes nothing
    canvas[0, ::2] = 0.2
    hidden, knots = blurred(canvas)[0], set()
    PERTURBATION.load("rise")(canvas, lambda c: batches.append(c) or np.zeros(len(c)), masks=32)
    for mask in (batches[-1][:, 0] - hidden) / (canvas[0] - hidden):
        bends = np.abs(np.diff(mask, 2, axis=1)).max(axis=0) > 1e-3
        knots |= {int(column) % (SIDE // 8) for column in np.flatnonzero(bends)}
    assert len(knots) > 10  # a grid that never moves bends at the same two columns of each cell


@pytest.mark.parametrize("name", PERTURBATION)
def test_no_batch_is_larger_than_32_canvases(name: str) -> None:
    counts: list[int] = []
    PERTURBATION.load(name)(draw(), lambda c: counts.append(len(c)) or patch_score(c), **options(name))
    assert max(counts) <= 32


def test_windows_and_masks_that_do_not_fit_are_refused() -> None:
    for window, stride in ((32, 24), (40, 16), (8, 16), (16, 0)):
        with pytest.raises(InvalidValueError, match="window"):
            windows(SIDE, window=window, stride=stride)
    for wrong in ({"masks": 1}, {"grid": 1}, {"keep": 0.0}, {"keep": 1.0}):
        with pytest.raises(InvalidValueError, match="masks"):
            PERTURBATION.load("rise")(draw(), patch_score, **wrong)


def test_blur_keeps_brightness_and_ignores_padding() -> None:
    canvas = np.full((1, SIDE, SIDE), 0.6, np.float32)
    canvas[:, :40] = -1
    assert blurred(canvas)[canvas >= 0] == pytest.approx(0.6, abs=1e-5)
    assert blurred(draw())[draw() >= 0].std() < 0.5 * draw()[draw() >= 0].std()


def test_as_an_explanation_it_is_not_exact() -> None:
    mapping = fit_to_canvas((120, 170), Box(top=10, left=0, bottom=115, right=150), canvas_size=SIDE)
    evidence_map = PERTURBATION.load("occlusion")(draw(), patch_score)
    explanation = as_explanation(evidence_map, mapping=mapping, method="occlusion", target="benign", value=2.5)
    assert explanation.exact is False
    assert explanation.shape == (120, 170)
    assert explanation.bias + evidence_map.sum(dtype=np.float64) == pytest.approx(2.5)


def test_the_table_names_all() -> None:
    assert METHODS == ("class_evidence", "pair_evidence", "occlusion", "rise", "sbsm")
