import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonoseek.core import (
    Box,
    Case,
    CaseRecord,
    Contour,
    Explanation,
    InvalidValueError,
    Match,
    Prediction,
    Report,
    Scan,
    SharedDescriptor,
    SonoseekError,
    Upsampling,
)


def scan(height: int = 20, width: int = 30, value: int = 7) -> Scan:
    return Scan(pixels=np.full((height, width), value, np.uint8))


def prediction() -> Prediction:
    return Prediction(
        probabilities={"normal": 0.1, "benign": 0.2, "malignant": 0.7},
        label="malignant",
        prediction_set=("malignant",),
        entropy=0.8,
    )


def match(rank: int, similarity: float) -> Match:
    return Match(rank=rank, case_id=f"c{rank}", scan_id="s", similarity=similarity, label="benign", dataset="d")


def explain(cells: np.ndarray, **changes: object) -> Explanation:
    """On pixels of the same grid."""
    eyes = [np.eye(side, dtype=np.float32) for side in cells.shape]
    on_pixels = Upsampling(rows=eyes[0], columns=eyes[1], top=0, left=0, scan_shape=cells.shape)
    values = {"evidence_map": cells, "upsampling": on_pixels, "method": "m", "target": "t", "value": 0.0, "bias": 0.0}
    return Explanation(**(values | changes))  # type: ignore[arg-type]


def report(**changes: object) -> Report:
    values: dict[str, object] = {
        "scan": scan(),
        "prediction": prediction(),
        "matches": (match(1, 0.9), match(2, 0.8)),
        "explanations": (),
        "novelty": 3.0,
        "warnings": (),
        "bundle_id": "b",
        "gallery_id": "g",
        "version": "0",
        "created": datetime.now(UTC),
    }
    return Report(**{**values, **changes})  # type: ignore[arg-type]


def test_scan_id_is_of_the_pixels_and_the_shape_alone() -> None:
    assert scan().scan_id == Scan(pixels=scan().pixels, source="other", patient_id="p").scan_id
    assert scan(20, 30).scan_id != scan(30, 20).scan_id
    assert scan(value=7).scan_id != scan(value=8).scan_id
    assert len({scan(), scan()}) == 1


def test_scan_keeps_its_own_read_only_pixels() -> None:
    pixels = np.zeros((10, 10), np.uint8)
    held = Scan(pixels=pixels)
    pixels[0, 0] = 255
    assert held.pixels[0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        held.pixels[0, 0] = 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pixels": np.zeros((10, 10), np.float32)}, "uint8"),
        ({"pixels": np.zeros((10, 10, 3), np.uint8)}, "uint8"),
        ({"pixels": np.zeros((3, 10), np.uint8)}, "at least 8"),
        ({"pixels": "scan.png"}, "read_scan"),
        ({"spacing_mm": (0.1, 0.0)}, "positive"),
        ({"spacing_mm": (float("nan"), 0.1)}, "positive"),
        ({"laterality": "up"}, "'left', 'right'"),
    ],
)
def test_a_scan_that_is_none_is_refused_with_a_remedy(change: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidValueError, match=words):
        Scan(**{"pixels": np.zeros((10, 10), np.uint8), **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(("frame", "frames"), [(5, 5), (None, 5), (-1, None), (-1, 5)])
def test_a_frame_lies_within_its_file(frame: int | None, frames: int | None) -> None:
    with pytest.raises(InvalidValueError, match="frame is"):
        Scan(pixels=np.zeros((16, 16), np.uint8), frame=frame, frames=frames)
    fine = Scan(pixels=np.zeros((16, 16), np.uint8), frame=4, frames=5)
    assert (fine.frame, fine.frames) == (4, 5)
    assert fine.scan_id == Scan(pixels=np.zeros((16, 16), np.uint8)).scan_id


def test_case_checks_pathology_birads_and_masks() -> None:
    with pytest.raises(InvalidValueError, match="normal, benign, malignant"):
        CaseRecord(case_id="a", dataset="d", pathology="cancer")
    with pytest.raises(InvalidValueError, match="4A"):
        CaseRecord(case_id="a", dataset="d", pathology="benign", birads="7")
    with pytest.raises(InvalidValueError, match="non-empty"):
        CaseRecord(case_id="", dataset="d", pathology="benign")
    with pytest.raises(InvalidValueError, match="own grid"):
        Case(case_id="a", dataset="d", pathology="benign", scans=(scan(),), lesion_masks=(np.zeros((5, 5), bool),))
    with pytest.raises(InvalidValueError, match="no scans"):
        Case(case_id="a", dataset="d", pathology="benign", scans=())
    assert Case(case_id="a", dataset="d", pathology="benign", scans=(scan(), scan())).lesion_masks == (None, None)


def test_box_is_never_empty() -> None:
    assert Box(1, 2, 4, 8).height == 3
    assert Box(1, 2, 4, 8).width == 6
    with pytest.raises(InvalidValueError, match="empty"):
        Box(4, 2, 4, 8)


def test_prediction_sums_to_one_and_names_its_classes() -> None:
    with pytest.raises(InvalidValueError, match="sum"):
        Prediction(probabilities={"a": 0.5}, label=None, prediction_set=(), entropy=0.0)
    with pytest.raises(InvalidValueError, match="no classes"):
        Prediction(probabilities={"a": 1.0}, label="b", prediction_set=(), entropy=0.0)
    with pytest.raises(TypeError):
        prediction().probabilities["normal"] = 1.0  # type: ignore[index]


def test_report_refuses_unsorted_gapped_or_misplaced_contents() -> None:
    assert report().scan_id == scan().scan_id
    with pytest.raises(InvalidValueError, match="sorted"):
        report(matches=(match(1, 0.1), match(2, 0.8)))
    with pytest.raises(InvalidValueError, match="ranked"):
        report(matches=(match(2, 0.8),))
    small = np.zeros((4, 4), np.float32)
    with pytest.raises(InvalidValueError, match="own grid"):
        report(explanations=(explain(small),))
    with pytest.raises(InvalidValueError, match="time zone"):
        report(created=datetime(2026, 1, 1))


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_similarity_is_a_cosine(value: float) -> None:
    if -1.0 <= value <= 1.0:
        assert match(1, value).similarity == value
    else:
        with pytest.raises(InvalidValueError, match="cosine"):
            match(1, value)


def test_every_error_is_ours_and_a_builtin() -> None:
    import sonoseek.core.errors as errors

    kinds = [
        e
        for e in vars(errors).values()
        if isinstance(e, type) and issubclass(e, SonoseekError) and e is not SonoseekError
    ]
    assert len(kinds) >= 10
    for kind in kinds:
        assert issubclass(kind, ValueError | LookupError | RuntimeError | ImportError | ConnectionError), kind


def test_a_picture_unlike_the_training_scans_has_no_label():
    values = {"probabilities": {"a": 0.9, "b": 0.1}, "prediction_set": ("a", "b"), "entropy": 0.3}
    assert not Prediction(**values, label="a").out_of_distribution
    assert not Prediction(**values, label="a", ood_score=1.0).out_of_distribution
    assert Prediction(**values, label=None, ood_score=1.01).out_of_distribution
    with pytest.raises(InvalidValueError, match=r"ood_score is 1\.01 and the label 'a'"):
        Prediction(**values, label="a", ood_score=1.01)
    for wrong in (-0.1, math.inf, math.nan):
        with pytest.raises(InvalidValueError, match="ood_score"):
            Prediction(**values, label=None, ood_score=wrong)


def test_an_explanation_shows_its_cells_on_the_scan_and_refuses_what_does_not_fit():
    cells = np.arange(6, dtype=np.float32).reshape(2, 3) - 2
    shown = explain(cells)
    assert shown.shape == (2, 3)
    assert shown.heatmap.tolist() == cells.tolist()
    assert shown.peak == 3.0
    with pytest.raises(InvalidValueError, match="float32"):
        explain(cells.astype(np.float64))
    with pytest.raises(InvalidValueError, match="one grid"):
        explain(cells, upsampling=explain(cells[:1]).upsampling)
    with pytest.raises(InvalidValueError, match="finite"):
        explain(np.full((2, 2), np.nan, np.float32))


def test_a_pair_is_looked_up_by_rank():
    cells = np.zeros((20, 30), np.float32)
    own = explain(np.zeros((4, 5), np.float32))
    told = Match(rank=1, case_id="c", scan_id="s", similarity=0.5, label="benign", dataset="d", explanation=own)
    verdict, pair = explain(cells, target="benign"), explain(cells, target="match:s")
    assert report(matches=(told,), explanations=(verdict, pair)).pair(1) == (pair, own)
    assert report(matches=(told,), explanations=(verdict,)).pair(1) is None
    with pytest.raises(InvalidValueError, match="rank is 2"):
        report(matches=(told,)).pair(2)


def test_a_contour_is_an_area_and_knows_whether_it_is_taller_than_wide():
    corners = np.array([[0, 0], [0, 4], [6, 4], [6, 0]], np.float32)
    measures = {"longest_mm": 7.2, "shortest_mm": 4.0, "area_mm2": 24.0, "depth_mm": 0.0, "level": 0.5}
    tall = Contour(points=corners, area_pixels=24.0, height_mm=6.0, width_mm=4.0, **measures)
    assert tall.taller_than_wide is True
    nothing = dict.fromkeys(("longest_mm", "shortest_mm", "area_mm2", "depth_mm", "height_mm", "width_mm"))
    assert Contour(points=corners, area_pixels=24.0, level=0.5, **nothing).taller_than_wide is None
    with pytest.raises(InvalidValueError, match="three or more"):
        Contour(points=corners[:2], area_pixels=0.0, level=0.5, **nothing)


def test_a_shared_word_counts_no_more_than_there_are():
    assert (
        SharedDescriptor(feature="margin", descriptor="spiculated", matches=7, described=10, share=0.12).share == 0.12
    )
    for matches, described, share in ((0, 3, 0.1), (4, 3, 0.1), (2, 3, 1.5)):
        with pytest.raises(InvalidValueError, match="margin"):
            SharedDescriptor(
                feature="margin", descriptor="spiculated", matches=matches, described=described, share=share
            )


def test_descriptors_are_of_the_lexicon():
    told = CaseRecord(case_id="a", dataset="d", pathology="benign", descriptors=(("margin", "indistinct"),))
    assert hash(told)
    for wrong in ((("colour", "red"),), (("margin", ""),)):
        with pytest.raises(InvalidValueError, match="descriptors"):
            CaseRecord(case_id="a", dataset="d", pathology="benign", descriptors=wrong)


class TestUpsamplingPeak:
    """The largest value is found from bounds: it must be that of the whole map."""

    @pytest.mark.parametrize("seed", range(12))
    def test_it_is_that_of_the_whole_map(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        rows, columns = (np.abs(rng.normal(size=(side, count))) ** 3 for side, count in ((210, 26), (340, 40)))
        spreading = Upsampling(
            rows=(rows / rows.sum(axis=0)).astype(np.float32),
            columns=(columns / columns.sum(axis=0)).astype(np.float32),
            top=3,
            left=5,
            scan_shape=(230, 360),
        )
        cells = (rng.normal(size=(26, 40)) ** 5 - 0.5 * seed).astype(np.float32)
        assert spreading.peak(cells) == pytest.approx(float(np.abs(spreading.spread(cells)).max()), rel=1e-5)

    def test_of_nothing_is_nothing(self) -> None:
        eye = np.eye(9, dtype=np.float32)
        spreading = Upsampling(rows=eye, columns=eye, top=0, left=0, scan_shape=(9, 9))
        assert spreading.peak(np.zeros((9, 9), np.float32)) == 0.0
