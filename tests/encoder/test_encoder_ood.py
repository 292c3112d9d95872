"""A scan unlike the training scans gets no prediction, and a bundle that cannot tell never abstains for that reason."""

import base64

import numpy as np
import pytest

from sonoseek.core import BundleError, InvalidValueError
from sonoseek.encoder import OODModel, load_bundle, ood_score, predict, write_ensemble
from sonoseek.encoder.ood import FARTHEST, distances

SURE = np.array([0.0, 0.0, 20.0], np.float32)


def packed(values):
    return base64.b64encode(np.asarray(values, "<f4").tobytes()).decode()


def part(dim=8, **changes):
    """Familiar is whatever points along the first axis, give or take; the second axis varies more than the others."""
    axes = np.eye(dim)
    fitted = {
        "mean": packed(axes[0]),
        "components": packed(axes[1:3]),
        "variances": [0.25, 0.04],
        "residual_variance": 0.01,
        "threshold": 2.0,
        "level": 0.99,
        "counts": {"training": 100, "validation": 20},
    }
    return {**fitted, **changes}


def along(*numbers, dim=8):
    return np.array([*numbers, *[0.0] * (dim - len(numbers))], np.float32)


def test_distances_are_those_of_the_whole_gaussian(make_bundle):
    ood = load_bundle(make_bundle(ood=part())).ood
    rng = np.random.default_rng(0)
    given = rng.normal(size=(20, 8))
    precision = np.diag(1 / np.array([0.01, 0.25, 0.04, *[0.01] * 5]))
    away = given / np.linalg.norm(given, axis=1, keepdims=True) - np.eye(8)[0]
    expected = np.sqrt(np.einsum("nd,de,ne->n", away, precision, away))
    np.testing.assert_allclose(distances(ood, given), expected, rtol=1e-6)


def test_length_does_not_count_and_direction_does(make_bundle):
    bundle = load_bundle(make_bundle(ood=part()))
    assert ood_score(bundle, along(5.0)) == pytest.approx(0, abs=1e-6)
    assert ood_score(bundle, along(1.0, 0.3)) == pytest.approx(ood_score(bundle, along(100.0, 30.0)), rel=1e-5)
    assert ood_score(bundle, along(1.0, 0.3)) < 1 < ood_score(bundle, along(1.0, 0.0, 0.0, 0.3))
    assert ood_score(bundle, along(0.0)) == FARTHEST  # no evidence at all is like nothing


def test_a_stranger_gets_no_label_and_excludes_no_class(make_bundle):
    bundle = load_bundle(make_bundle(ood=part(), conformal={"quantile": 0.0}))
    like, unlike = (predict(bundle, SURE, embedding=e) for e in (along(1.0), along(0.0, 0.0, 0.0, 1.0)))
    assert (like.label, like.prediction_set, like.out_of_distribution) == ("malignant", ("malignant",), False)
    assert (unlike.label, set(unlike.prediction_set), unlike.out_of_distribution) == (None, set(bundle.classes), True)
    assert unlike.prediction_set[0] == "malignant"  # likeliest first
    assert unlike.probabilities == like.probabilities
    assert like.ood_score < 1 < unlike.ood_score
    assert predict(bundle, SURE).ood_score is None  # not asked


def test_the_border_itself_is_still_familiar(make_bundle):
    bundle = load_bundle(make_bundle(ood=part()))
    at = float(distances(bundle.ood, along(1.0, 0.4)[None])[0])
    there = load_bundle(make_bundle(ood=part(threshold=at)))
    assert predict(there, SURE, embedding=along(1.0, 0.4)).label == "malignant"


def test_a_bundle_without_it_never_abstains_for_it(bundle_folder):
    bundle = load_bundle(bundle_folder)
    assert bundle.ood is None
    said = predict(bundle, SURE, embedding=along(0.0, 0.0, 1.0))
    assert (said.label, said.ood_score) == ("malignant", None)


def test_an_ensemble_asks_the_members_that_can_say(make_member, tmp_path):
    members = [
        make_member("knows", seed=1, ood=part()),
        make_member("knows too", seed=2, ood=part(threshold=1.0)),
        make_member("does not", seed=3),
    ]
    folder = write_ensemble(tmp_path / "e", members, name="e", version="1", norms=[1.0, 5.0, 2.0])
    bundle = load_bundle(folder)
    slices = along(1.0, 0.3), along(1.0, 0.0, 0.2) / 5, along(0.0, 1.0) / 2
    single = [ood_score(load_bundle(m), e) for m, e in zip(members[:2], slices, strict=False)]
    assert single[0] != single[1]
    assert ood_score(bundle, np.concatenate(slices)) == pytest.approx(np.mean(single), rel=1e-5)
    deaf = write_ensemble(
        tmp_path / "d", [members[2], make_member("nor this", seed=4)], name="d", version="1", norms=[1.0, 1.0]
    )
    assert ood_score(load_bundle(deaf), np.ones(16)) is None


@pytest.mark.parametrize("wrong", [np.zeros(7), np.zeros((1, 8)), np.full(8, np.nan), np.array([np.inf, *[0.0] * 7])])
def test_what_is_no_embedding_is_refused(make_bundle, wrong):
    bundle = load_bundle(make_bundle(ood=part()))
    with pytest.raises(InvalidValueError, match="embedding"):
        ood_score(bundle, wrong)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mean": packed(np.zeros(7))}, "mean has 28 bytes, not 4 × 8"),
        ({"mean": "not base64!"}, "mean"),
        ({"mean": packed(np.full(8, np.nan))}, "finite"),
        ({"components": packed(np.zeros((3, 8)))}, "components have 96 bytes for 2 variances"),
        ({"variances": []}, "components"),
        ({"variances": [0.25, 0.0]}, "positive"),
        ({"residual_variance": -1.0}, "positive"),
        ({"threshold": 0.0}, "positive"),
        ({"level": 0.0}, "level"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_fit_that_lies_is_refused(make_bundle, changes, said):
    with pytest.raises(BundleError, match=said):
        load_bundle(make_bundle(ood=part(**changes)))


def test_null_says_that_there_is_none(bundle_folder, make_bundle):
    folder = make_bundle()
    file = folder / "bundle.json"
    file.write_text(file.read_text()[:-1] + ', "ood": null}')
    assert load_bundle(folder).ood is None


def test_the_value_is_built_without_a_file():
    fitted = OODModel(
        mean=np.zeros(2, np.float32),
        components=np.eye(2, dtype=np.float32)[:1],
        variances=np.array([0.5]),
        residual_variance=2.0,
        threshold=1.0,
        level=0.99,
    )
    np.testing.assert_allclose(distances(fitted, np.array([[3.0, 0.0], [0.0, 0.1]])), [2**0.5, 0.5**0.5])
