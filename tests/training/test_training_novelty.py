"""The out-of-distribution model that training fits is the one that inference reads from the bundle."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sonoseek.core import PATHOLOGIES
from sonoseek.encoder import load_bundle, ood_score, open_encoder
from sonoseek.evaluate.ood import fit_ood, fit_ood_model
from sonoseek.training.building import build_network
from sonoseek.training.export import BundleMetadata, export_bundle


def test_a_fitted_ood_model_travels_in_the_bundle(tiny_recipe, tmp_path):
    metadata = BundleMetadata(
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
    part = fit_ood(embeddings[:12], embeddings[12:])
    without = export_bundle(network, folder=tmp_path / "without", metadata=metadata)
    folder = export_bundle(network, folder=tmp_path / "with", metadata=replace(metadata, ood=part))
    assert load_bundle(without).ood is None
    assert "ood" not in (without / "bundle.json").read_text()  # no key without a fit
    bundle, fitted = load_bundle(folder), fit_ood_model(embeddings[:12], embeddings[12:])
    assert bundle.ood.threshold == fitted.threshold
    np.testing.assert_array_equal(bundle.ood.components, fitted.components)
    np.testing.assert_array_equal(bundle.ood.mean, fitted.mean)
    np.testing.assert_array_equal(bundle.ood.variances, fitted.variances)
    scores = [ood_score(bundle, each) for each in open_encoder(bundle).encode(canvases[12:]).embedding]
    assert max(scores) == pytest.approx(1, rel=1e-3)  # the farthest of few sets the border
