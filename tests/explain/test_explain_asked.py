"""Methods that ask from outside, on a network whose one interest is known."""

import numpy as np
import pytest

from sonoseek.core import Box, InvalidValueError
from sonoseek.explain import ASKED, METHODS
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


def likes_the_patch(canvases: np.ndarray) -> np.ndarray:
    return np.asarray(canvases[(slice(None), 0, *PATCH)].mean((1, 2)) * 4)


def options(name: str) -> dict[str, int]:
    return {"masks": 300} if name == "rise" else {}


def on_canvas(cells: np.ndarray) -> np.ndarray:
    return cells.repeat(SIDE // cells.shape[0], 0).repeat(SIDE // cells.shape[1], 1)


@pytest.mark.parametrize("name", ASKED)
class TestEveryMethod:
    def test_it_finds_what_the_network_looks_at(self, name: str) -> None:
        cells = ASKED.load(name)(draw(), likes_the_patch, **options(name))
        assert cells.dtype == np.float32
        there = on_canvas(cells)
        assert there[PATCH].mean() > 5 * np.abs(there[np.s_[0:32, 16:48]]).mean()
        row, column = np.unravel_index(there.argmax(), there.shape)
        assert 64 - 16 <= row < 96 + 16
        assert 96 - 16 <= column < 128 + 16

    def test_padding_says_nothing(self, name: str) -> None:
        there = on_canvas(ASKED.load(name)(draw(), likes_the_patch, **options(name)))
        assert not there[:, :16].any()
        assert not there[:, -16:].any()

    def test_padding_stays_padding_and_scan_stays_in_range(self, name: str) -> None:
        canvas = draw()

        def ask(canvases: np.ndarray) -> np.ndarray:
            assert (canvases[:, canvas < 0] == -1).all()
            assert (canvases[:, canvas >= 0] >= 0).all()
            assert canvases.max() <= 1
            return likes_the_patch(canvases)

        before = canvas.copy()
        ASKED.load(name)(canvas, ask, **options(name))
        assert np.array_equal(canvas, before)

    def test_a_network_that_always_says_the_same_gives_an_empty_map(self, name: str) -> None:
        cells = ASKED.load(name)(draw(), lambda canvases: np.full(len(canvases), 0.7), **options(name))
        assert np.abs(cells).max() < 1e-9

    def test_the_same_again_is_the_same(self, name: str) -> None:
        first, second = (ASKED.load(name)(draw(), likes_the_patch, **options(name)) for _ in range(2))
        assert np.array_equal(first, second)

    @pytest.mark.parametrize("grey", [0.0, 0.5, 1.0])
    def test_a_constant_scan_and_a_sliver_of_one(self, name: str, grey: float) -> None:
        sliver = np.full((1, SIDE, SIDE), -1, np.float32)
        sliver[0, 70:75] = grey
        for canvas in (np.full((1, SIDE, SIDE), grey, np.float32), sliver):
            assert np.isfinite(ASKED.load(name)(canvas, likes_the_patch, **options(name))).all()

    def test_answers_that_are_none_are_refused(self, name: str) -> None:
        for answer in (
            lambda c: np.full(len(c), np.nan),
            lambda c: np.zeros(len(c) + 1),
            lambda c: np.zeros((len(c), 3)),
        ):
            with pytest.raises(InvalidValueError, match="score"):
                ASKED.load(name)(draw(), answer, **options(name))

    def test_what_is_no_canvas_is_refused(self, name: str) -> None:
        grey, empty = np.where(draw() < 0, np.float32(-0.5), draw()), np.zeros((1, 0, 0), np.float32)
        for canvas in (draw()[0], draw().astype(np.float64), draw()[:, :-2], draw() * 255, grey, empty):
            with pytest.raises(InvalidValueError, match="canvas"):
                ASKED.load(name)(canvas, likes_the_patch)

    def test_progress_reaches_the_end(self, name: str) -> None:
        told: list[tuple[int, int]] = []
        ASKED.load(name)(draw(), likes_the_patch, on_progress=lambda d, t: told.append((d, t)), **options(name))
        assert told[-1][0] == told[-1][1]
        assert told == sorted(told)


def test_what_speaks_against_is_negative_but_for_sbsm() -> None:
    against = lambda canvases: -likes_the_patch(canvases)  # noqa: E731
    for name in ("occlusion", "rise"):
        assert on_canvas(ASKED.load(name)(draw(), against, **options(name)))[PATCH].mean() < 0
    assert ASKED.load("sbsm")(draw(), against).min() >= 0.0


def test_the_fall_is_in_the_scores_own_unit() -> None:
    whole = likes_the_patch(draw()[None])[0]
    cells = ASKED.load("occlusion")(draw(), likes_the_patch, window=32, stride=32)
    hidden = draw()
    hidden[0][PATCH] = blurred(draw())[0][PATCH]
    assert on_canvas(cells)[PATCH] == pytest.approx(whole - likes_the_patch(hidden[None])[0], abs=1e-5)


@pytest.mark.parametrize("name", ["occlusion", "sbsm"])
def test_each_cell_is_the_mean_of_its_windows(name: str) -> None:
    canvas = draw()
    canvas[canvas < 0] = 0.2
    answers = iter([1.0, *[0.0] * 121])  # 11 × 11 windows of 32 at strides of 16, over the edges too

    def loses_all(canvases: np.ndarray) -> np.ndarray:
        return np.array([next(answers) for _ in canvases])

    assert ASKED.load(name)(canvas, loses_all) == pytest.approx(np.ones((10, 10)))
    assert next(answers, None) is None


@pytest.mark.parametrize("name", ASKED)
def test_padding_says_nothing_where_a_mask_reaches_from_it_into_the_patch(name: str) -> None:
    canvas = draw()
    canvas[:, :, :96] = -1  # the patch begins where padding ends
    there = on_canvas(ASKED.load(name)(canvas, likes_the_patch, **options(name)))
    assert not there[:, :96].any()
    assert there[PATCH].mean() > 0


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.7])
def test_rise_is_in_the_scores_own_unit(keep: float) -> None:
    canvas, kept = draw(), []
    hidden, whole = (each[0][PATCH].mean() for each in (blurred(draw()), draw()))

    def share(canvases: np.ndarray) -> np.ndarray:  # 0 … 1, how much a mask kept of the patch
        kept.extend((canvases[(slice(None), 0, *PATCH)].mean((1, 2)) - hidden) / (whole - hidden))
        return np.array(kept[-len(canvases) :])

    cells = ASKED.load("rise")(canvas, share, masks=1000, keep=keep)
    assert on_canvas(cells)[PATCH].mean() == pytest.approx(np.var(kept) / keep, rel=0.05)


def test_rise_hides_by_blurring_and_shifts_its_grid() -> None:
    canvas = np.full((1, SIDE, SIDE), 0.6, np.float32)
    asked: list[np.ndarray] = []
    ASKED.load("rise")(canvas, lambda c: asked.append(c) or np.zeros(len(c)), masks=8)
    assert np.concatenate(asked) == pytest.approx(0.6, abs=1e-5)  # blurring what is constant changes nothing
    canvas[0, ::2] = 0.2
    hidden, knots = blurred(canvas)[0], set()
    ASKED.load("rise")(canvas, lambda c: asked.append(c) or np.zeros(len(c)), masks=32)
    for mask in (asked[-1][:, 0] - hidden) / (canvas[0] - hidden):
        bends = np.abs(np.diff(mask, 2, axis=1)).max(axis=0) > 1e-3
        knots |= {int(column) % (SIDE // 8) for column in np.flatnonzero(bends)}
    assert len(knots) > 10  # a grid that never moves bends at the same two columns of each cell


@pytest.mark.parametrize("name", ASKED)
def test_no_question_is_of_more_canvases_than_memory_is_kept_for(name: str) -> None:
    counts: list[int] = []
    ASKED.load(name)(draw(), lambda c: counts.append(len(c)) or likes_the_patch(c), **options(name))
    assert max(counts) <= 32


def test_windows_and_masks_that_do_not_fit_are_refused() -> None:
    for window, stride in ((32, 24), (40, 16), (8, 16), (16, 0)):
        with pytest.raises(InvalidValueError, match="window"):
            windows(SIDE, window=window, stride=stride)
    for wrong in ({"masks": 1}, {"grid": 1}, {"keep": 0.0}, {"keep": 1.0}):
        with pytest.raises(InvalidValueError, match="masks"):
            ASKED.load("rise")(draw(), likes_the_patch, **wrong)


def test_blur_keeps_brightness_and_does_not_let_padding_in() -> None:
    canvas = np.full((1, SIDE, SIDE), 0.6, np.float32)
    canvas[:, :40] = -1
    assert blurred(canvas)[canvas >= 0] == pytest.approx(0.6, abs=1e-5)
    assert blurred(draw())[draw() >= 0].std() < 0.5 * draw()[draw() >= 0].std()


def test_as_an_explanation_it_is_no_sum() -> None:
    mapping = fit_to_canvas((120, 170), Box(top=10, left=0, bottom=115, right=150), canvas_size=SIDE)
    cells = ASKED.load("occlusion")(draw(), likes_the_patch)
    told = as_explanation(cells, mapping=mapping, method="occlusion", target="benign", value=2.5)
    assert told.exact is False
    assert told.shape == (120, 170)
    assert told.bias + cells.sum(dtype=np.float64) == pytest.approx(2.5)


def test_the_table_names_all() -> None:
    assert METHODS == ("class_evidence", "pair_evidence", "occlusion", "rise", "sbsm")
