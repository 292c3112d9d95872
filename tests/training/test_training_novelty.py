"""What the lab fits on embeddings is what the clinic reads from the bundle."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sonoseek.core import PATHOLOGIES
from sonoseek.encoder import load_bundle, ood_score, open_encoder
from sonoseek.evaluate.ood import find_novelty, fit_novelty
from sonoseek.training.building import build_network
from sonoseek.training.export import BundleFacts, export_bundle


def test_a_fitted_novelty_travels_in_the_bundle(tiny_recipe, tmp_path):
    facts = BundleFacts(
        name="tiny",
        version="1",
        classes=PATHOLOGIES,
        preprocessing=tiny_recipe.preprocessing_recipe,
        temperature=1.0,
        abstain_below=0.0,
        conformal={"level": 0.9, "quantile": 1.0},
        operating_points={},
        training={},
        licences={"bundle": "Apache-2.0"},
    )
    network = build_network(tiny_recipe)
    size = tiny_recipe.preprocessing_recipe.canvas_size
    canvases = np.random.default_rng(0).random((24, 1, size, size), dtype=np.float32)
    with torch.inference_mode():
        embeddings = network.eval()(torch.from_numpy(canvases))[1].numpy()
    part = fit_novelty(embeddings[:12], embeddings[12:])
    without = export_bundle(network, folder=tmp_path / "without", facts=facts)
    folder = export_bundle(network, folder=tmp_path / "with", facts=replace(facts, novelty=part))
    assert load_bundle(without).novelty is None
    assert "novelty" not in (without / "bundle.json").read_text()  # earlier versions can read it
    bundle, fitted = load_bundle(folder), find_novelty(embeddings[:12], embeddings[12:])
    assert bundle.novelty.threshold == fitted.threshold
    np.testing.assert_array_equal(bundle.novelty.directions, fitted.directions)
    np.testing.assert_array_equal(bundle.novelty.centre, fitted.centre)
    np.testing.assert_array_equal(bundle.novelty.variances, fitted.variances)
    scores = [ood_score(bundle, each) for each in open_encoder(bundle).encode(canvases[12:]).embedding]
    assert max(scores) == pytest.approx(1, rel=1e-3)  # the farthest of few sets the border
