"""The measures of heatmaps, on maps whose figures are known."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from sonoseek.encoder import Encoding
from sonoseek.evaluate.explaining.faithfulness import curves, impute, road, similarity_drops
from sonoseek.evaluate.explaining.localisation import localise, shadow
from sonoseek.evaluate.explaining.perturbation import NetworkInput, centre, noise, rank_correlation, ranked
from sonoseek.evaluate.explaining.rows import MapRow
from sonoseek.evaluate.explaining.summary import summarise

SIDE = 32


def lesion() -> np.ndarray:
    mask = np.zeros((20, 30), bool)
    mask[5:9, 10:16] = True
    return mask


def input_of(canvas: np.ndarray) -> NetworkInput:
    nothing = np.where(canvas >= 0, np.float32(0.5), canvas).astype(np.float32)
    empty = np.zeros((1, 1), np.float32)
    encoding = Encoding(
        logits=empty, embedding=empty, evidence=empty[..., None, None], spatial_weights=empty[..., None]
    )
    return NetworkInput(
        canvas=canvas, nothing=nothing, scan_pixels=np.flatnonzero(canvas.reshape(-1) >= 0), encoding=encoding
    )


def bright_patch() -> np.ndarray:
    """A dark scan with a bright patch, and padding at the left."""
    canvas = np.full((1, SIDE, SIDE), 0.2, np.float32)
    canvas[0, 8:16, 16:24] = 0.9
    canvas[:, :, :4] = -1
    return canvas


def bright_patch_on(side: int) -> np.ndarray:
    """The same, larger."""
    return bright_patch().repeat(side // SIDE, 1).repeat(side // SIDE, 2)


def sees_the_patch(canvases: np.ndarray) -> np.ndarray:
    """A network that looks at the patch alone: 1 as it is, 0 at grey."""
    return np.asarray((canvases[:, 0, 8:16, 16:24].mean((1, 2)) - 0.5) / 0.4)


class TestLocalisation:
    def test_a_map_on_the_lesion_is_perfect(self):
        figures = localise(lesion().astype(np.float32), lesion())
        assert (figures.inside, figures.with_shadow, figures.pointing, figures.iou) == (1.0, 1.0, True, 1.0)

    def test_negative_evidence_does_not_count_as_evidence(self):
        heatmap = np.where(lesion(), 1.0, -5.0)
        assert localise(heatmap, lesion()).inside == 1.0

    def test_an_empty_or_negative_map_shows_nothing(self):
        for heatmap in (np.zeros((20, 30)), np.full((20, 30), -1.0)):
            figures = localise(heatmap, lesion())
            assert (figures.inside, figures.pointing) == (0.0, False)

    def test_half_on_the_lesion(self):
        heatmap = np.zeros((20, 30))
        heatmap[5:9, 13:19] = 1.0  # half over the lesion, half right of it
        figures = localise(heatmap, lesion())
        assert figures.inside == pytest.approx(0.5)
        assert figures.iou == pytest.approx(1 / 3)

    def test_an_even_map_scores_the_lesions_share(self):
        figures = localise(np.ones((20, 30)), lesion())
        assert figures.inside == pytest.approx(lesion().mean())

    def test_the_shadow_lies_below_and_is_as_deep_as_the_lesion_is_high(self):
        below = shadow(lesion())
        assert below[9:13, 10:16].all()
        assert below.sum() == 24
        heatmap = np.zeros((20, 30))
        heatmap[9:13, 10:16] = 1.0
        figures = localise(heatmap, lesion())
        assert (figures.inside, figures.with_shadow) == (0.0, 1.0)

    def test_a_shadow_ends_at_the_scans_edge(self):
        mask = np.zeros((10, 10), bool)
        mask[7:10, 2:5] = True
        assert not shadow(mask).any()


class TestFaithfulness:
    def test_the_right_order_beats_every_other(self):
        canvas = bright_patch()
        network_input = input_of(canvas)
        right = np.zeros((SIDE, SIDE), np.float32)
        right[8:16, 16:24] = 1
        scored = {}
        for name, cells in (
            ("right", right),
            ("wrong", -right),
            ("centre", centre(network_input)),
            ("noise", noise(network_input, 1)),
        ):
            order = ranked(cells, network_input)
            scored[name] = (
                *curves(canvas, network_input.nothing, order, sees_the_patch),
                road(canvas, order, sees_the_patch, rng=np.random.default_rng(0)),
            )
        insertion, deletion, removal = zip(*scored.values(), strict=True)
        assert max(insertion) == scored["right"][0] > 0.9
        assert min(deletion) == scored["right"][1] < 0.1
        assert min(removal) == scored["right"][2] < -0.5
        assert scored["wrong"][0] < 0.1

    def test_the_floors_say_nothing_of_padding(self):
        network_input = input_of(bright_patch_on(160))
        assert not noise(network_input, 0)[:, :4].any()
        assert np.abs(noise(network_input, 0)[:, 8:]).min() > 0

    def test_padding_is_never_touched(self):
        asked = []

        def score_fn(canvases):
            asked.append(canvases.copy())
            return np.zeros(len(canvases))

        canvas = bright_patch()
        network_input = input_of(canvas)
        order = ranked(centre(network_input), network_input)
        curves(canvas, network_input.nothing, order, score_fn)
        road(canvas, order, score_fn, rng=np.random.default_rng(0))
        for canvases in asked:
            assert (canvases[:, :, :, :4] == -1).all()
            assert (canvases[:, :, :, 4:] >= 0).all()

    def test_imputation_continues_a_ramp(self):
        canvas = np.broadcast_to(np.linspace(0.1, 0.9, SIDE, dtype=np.float32), (1, SIDE, SIDE)).copy()
        hole = np.zeros((SIDE, SIDE), bool)
        hole[10:20, 10:20] = True
        filled = impute(canvas, np.flatnonzero(hole.ravel()), rng=np.random.default_rng(0))
        assert filled[0][~hole] == pytest.approx(canvas[0][~hole])
        assert filled[0][hole] == pytest.approx(canvas[0][hole], abs=0.05)  # linear, but for the noise
        assert not np.array_equal(filled[0][hole], canvas[0][hole])

    def test_everything_may_be_removed(self):
        canvas = bright_patch()
        filled = impute(canvas, np.flatnonzero(canvas.reshape(-1) >= 0), rng=np.random.default_rng(0))
        assert np.isfinite(filled).all()

    def test_a_similarity_falls_where_the_map_says(self):
        canvas = bright_patch()
        network_input = input_of(canvas)
        right = np.zeros((8, 8), np.float32)
        right[2:4, 4:6] = 1
        chosen, chance = similarity_drops(
            canvas, network_input.nothing, right, 4 / 56, sees_the_patch, draws=20, seed=0
        )  # 4 of the 56 cells that hold scan
        assert chosen == pytest.approx(1.0, abs=1e-6)
        assert 0 <= chance < 0.3


class TestSanity:
    def test_rank_correlation_is_spearmans(self):
        network_input = input_of(np.full((1, SIDE, SIDE), 0.5, np.float32))
        one, other = (np.random.default_rng(n).normal(size=(SIDE, SIDE)).astype(np.float32) for n in (0, 1))
        assert rank_correlation(one, other, network_input) == pytest.approx(spearmanr(one.ravel(), other.ravel())[0])
        assert rank_correlation(one, one, network_input) == pytest.approx(1)
        assert rank_correlation(one, np.zeros_like(one), network_input) == 0.0

    def test_padding_makes_no_two_maps_alike(self):
        canvas = bright_patch()
        canvas[:, :, 16:] = -1
        one, other = np.zeros((SIDE, SIDE), np.float32), np.zeros((SIDE, SIDE), np.float32)
        scan_pixels = canvas[0] >= 0
        one[scan_pixels] = np.random.default_rng(0).random(int(scan_pixels.sum()))
        other[scan_pixels] = np.random.default_rng(1).random(int(scan_pixels.sum()))
        assert abs(rank_correlation(one, other, input_of(canvas))) < 0.2


def row(scan: str, method: str, **values: object) -> MapRow:
    figures = {
        "fold": 0,
        "scan": scan,
        "group": scan,
        "label": "benign",
        "prediction": "benign",
        "target": "prediction",
    }
    return MapRow(**(figures | {"method": method} | values))  # type: ignore[arg-type]


class TestSummary:
    def test_means_intervals_and_tests(self):
        rng = np.random.default_rng(0)
        rows = []
        for number in range(40):
            base = rng.random() * 0.2
            for method, more in (("class_evidence", 0.5), ("rise", 0.1)):
                rows.append(
                    row(
                        f"s{number}",
                        method,
                        area=0.01 + number / 100,
                        inside=base + more,
                        deletion=1 - base - more,
                        insertion=base,
                        error=1e-6 * number if method == "class_evidence" else math.nan,
                    )
                )
        figures = summarise(rows)
        own = figures["maps"]["prediction"]["class_evidence"]
        assert own["inside"]["mean"] == pytest.approx(np.mean([r.inside for r in rows[::2]]), abs=1e-5)
        assert own["inside"]["low"] < own["inside"]["mean"] < own["inside"]["high"]
        assert own["inside"]["n"] == 40
        assert sum(own["by_size"][size]["inside"]["n"] for size in ("small", "medium", "large")) == 40
        against = figures["against"]["rise"]
        assert against["inside"]["difference"] == pytest.approx(0.4, abs=1e-5)
        assert against["inside"]["p"] <= 0.001
        assert against["inside"]["better"] is True
        assert against["deletion"]["better"] is True  # lower is better
        assert against["insertion"]["better"] is False  # a tie
        assert figures["exactness"]["class"] == pytest.approx(3.9e-5)

    def test_figures_stand_by_archive_where_there_are_several(self):
        values = {"busi": 0.2, "busbra": 0.6}
        rows = [row(f"{a}/s{n}", "class_evidence", area=0.1, inside=v) for a, v in values.items() for n in range(9)]
        own = summarise(rows)["maps"]["prediction"]["class_evidence"]
        assert {name: figures["inside"]["mean"] for name, figures in own["by_dataset"].items()} == values
        assert "by_dataset" not in summarise(rows[:9])["maps"]["prediction"]["class_evidence"]

    def test_scans_of_one_group_are_one_draw(self):
        values = [0.1] * 20 + [0.9] * 20
        one = [row(f"s{n}", "class_evidence", area=0.1, inside=v, group=f"g{n // 20}") for n, v in enumerate(values)]
        figure = summarise(one)["maps"]["prediction"]["class_evidence"]["inside"]
        assert (figure["low"], figure["high"]) == (0.1, 0.9)
