"""Out-of-distribution images are drawn, and a bundle with a fitted score refuses them while it accepts its own kind."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from benchmarks.out_of_distribution.drawings import OOD_KINDS, draw_ood_image
from sonoseek.core import InvalidValueError, NotFoundError, Scan
from sonoseek.datasets.phantom import PhantomDataset
from sonoseek.encoder import encode_scan, load_bundle, ood_score, open_encoder, predict
from sonoseek.encoder.bundle import FAST_BUNDLE
from sonoseek.encoder.manifest import OODPart
from sonoseek.encoder.ood import distances
from sonoseek.evaluate.ood import DIRECTIONS, LEVEL, fit_ood, fit_ood_model

TURNED = {"inverted scan", "upside-down scan", "sideways scan"}
SPECKLED = {"heart", "fetal head", "vessel"}
"""Ultrasound of something else: often taken for a breast (`docs/results/out-of-distribution.md` says how often)."""


@pytest.mark.parametrize("kind", OOD_KINDS)
def test_every_kind_is_drawn_the_same_again_and_otherwise_from_another_seed(kind):
    first = draw_ood_image(kind, 3)
    assert first.dtype == np.uint8
    assert first.ndim == 2
    assert 200 <= min(first.shape) <= max(first.shape) <= 1200
    assert np.array_equal(first, draw_ood_image(kind, 3))
    assert not np.array_equal(first, draw_ood_image(kind, 4))


def test_an_unknown_kind_lists_the_known():
    with pytest.raises(NotFoundError, match="photograph"):
        draw_ood_image("cat", 0)


def drawn(count, *, dim=20, seed=0, spread=0.2):
    """Embeddings round one direction, of any length."""
    rng = np.random.default_rng(seed)
    return (np.eye(dim)[0] + spread * rng.normal(size=(count, dim))) * rng.uniform(0.5, 9, (count, 1))


class TestTheFit:
    def test_it_keeps_about_the_share_that_it_promises(self):
        novelty = fit_ood_model(drawn(400), drawn(300, seed=1))
        accepted = np.mean(distances(novelty, drawn(4000, seed=2)) <= novelty.threshold)
        assert LEVEL - 0.02 < accepted < 1
        away = drawn(100, seed=3)[:, ::-1]
        assert np.all(distances(novelty, away) > novelty.threshold)

    def test_few_validation_scans_put_the_border_at_the_farthest(self):
        few = drawn(20, seed=1)
        novelty = fit_ood_model(drawn(400), few)
        assert novelty.threshold == pytest.approx(distances(novelty, few).max())

    def test_it_is_the_shrunk_gaussian_s_distance(self):
        from sklearn.covariance import LedoitWolf

        train = drawn(60, dim=30)
        units = train / np.linalg.norm(train, axis=1, keepdims=True)
        model = LedoitWolf().fit(units)
        novelty = fit_ood_model(train, drawn(20, dim=30, seed=1))
        embeddings = drawn(10, dim=30, seed=2)
        expected = np.sqrt(model.mahalanobis(embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)))
        np.testing.assert_allclose(distances(novelty, embeddings), expected, rtol=1e-4)

    def test_only_the_widest_directions_are_kept(self):
        written = fit_ood(drawn(300, dim=150), drawn(20, dim=150, seed=1))
        assert len(written["variances"]) == DIRECTIONS
        assert written["counts"] == {"training": 300, "validation": 20}

    def test_scans_all_alike_are_no_trouble(self):
        alike = np.ones((20, 6))
        novelty = fit_ood_model(alike, alike)
        assert np.isfinite([novelty.threshold, novelty.residual_variance, *novelty.variances]).all()
        assert distances(novelty, np.eye(6)[:1])[0] > novelty.threshold

    @pytest.mark.parametrize(
        ("train", "validation", "message"),
        [
            (drawn(7), drawn(20), "7 scans.*at least 8"),
            (drawn(20), drawn(0), "0 scans"),
            (np.zeros((30, 5)), drawn(20, dim=5), "0 scans"),
            (drawn(20), drawn(20, dim=19), "20 numbers.*19"),
            (drawn(20) * np.nan, drawn(20), "finite"),
            (drawn(20)[0], drawn(20), "finite"),
        ],
    )
    def test_what_cannot_be_fitted_is_refused(self, train, validation, message):
        with pytest.raises(InvalidValueError, match=message):
            fit_ood(train, validation)


@pytest.fixture(scope="module")
def encoder():
    return open_encoder(FAST_BUNDLE)


@pytest.fixture(scope="module")
def embed(encoder):
    def call(pictures):
        return [encode_scan(encoder, Scan(pixels=p))[1] for p in pictures]

    return call


@pytest.fixture(scope="module")
def bundle(embed):
    """The one that ships, with an out-of-distribution model fitted on phantoms alone."""
    sides = [PhantomDataset(count=count, seed=seed) for count, seed in ((90, 7), (40, 41))]
    train, validation = (
        np.concatenate([s.embedding for s in embed(d.load(r.case_id).scans[0].pixels for r in d.records())])
        for d in sides
    )
    part = msgspec.convert(fit_ood(train, validation), OODPart)
    fitted = fit_ood_model(train, validation)
    assert np.frombuffer(part.mean, "<f4").tolist() == fitted.mean.tolist()
    assert np.frombuffer(part.components, "<f4").tolist() == fitted.components.ravel().tolist()
    return replace(load_bundle(FAST_BUNDLE), ood=fitted)


@pytest.mark.parametrize("kind", sorted(set(OOD_KINDS) - TURNED - SPECKLED))
def test_what_is_no_breast_gets_no_label(bundle, embed, kind):
    fitted = [
        predict(bundle, encoding.logits[0], embedding=encoding.embedding[0])
        for encoding in embed(draw_ood_image(kind, seed) for seed in range(8))
    ]
    outside = [prediction for prediction in fitted if prediction.out_of_distribution]
    assert len(outside) >= 7, [prediction.ood_score for prediction in fitted]  # one may lie at the border
    for prediction in outside:
        assert prediction.label is None
        assert len(prediction.prediction_set) == 3


def test_new_phantoms_get_theirs(bundle, embed):
    new = PhantomDataset(count=24, seed=52)
    encoding = embed(new.load(r.case_id).scans[0].pixels for r in new.records())
    refused = [ood_score(bundle, each.embedding[0]) > 1 for each in encoding]
    assert sum(refused) <= 2
