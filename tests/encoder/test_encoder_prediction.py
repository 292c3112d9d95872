"""Temperature, abstention and the prediction set."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonoseek.core import InvalidValueError
from sonoseek.encoder import load_bundle, predict
from sonoseek.encoder.bundle import FAST_BUNDLE

BUNDLE = load_bundle(FAST_BUNDLE)


def test_the_temperature_divides(bundle_folder):
    bundle = load_bundle(bundle_folder)  # temperature 2, label from 0.5, quantile 0.8
    said = predict(bundle, np.array([0.0, 2.0, 0.0], np.float32))
    p = math.e / (math.e + 2)
    assert said.probabilities["benign"] == pytest.approx(p)
    assert said.label == "benign"
    assert said.prediction_set == ("benign", "normal", "malignant")  # 1 − 0.21 ≤ 0.8
    assert said.entropy == pytest.approx(-p * math.log(p) - (1 - p) * math.log((1 - p) / 2))


def test_an_unsure_network_gives_no_label(bundle_folder):
    said = predict(load_bundle(bundle_folder), np.zeros(3, np.float32))
    assert said.label is None
    assert said.entropy == pytest.approx(math.log(3))
    assert len(said.prediction_set) == 3


def test_a_sure_network_excludes_the_rest_and_the_set_is_never_empty(make_bundle):
    bundle = load_bundle(make_bundle(conformal={"quantile": 0.0}))
    assert predict(bundle, np.array([0, 0, 9], np.float32)).prediction_set == ("malignant",)


@given(st.lists(st.floats(-200, 200, width=32), min_size=3, max_size=3))
def test_every_finite_logit_makes_a_whole_prediction(logits):
    said = predict(BUNDLE, np.array(logits, np.float32))
    assert sum(said.probabilities.values()) == pytest.approx(1, abs=1e-9)
    top = max(said.probabilities.values())
    assert said.probabilities[said.prediction_set[0]] == top
    assert (said.label is None) == (top < BUNDLE.abstain_below)
    assert -1e-12 <= said.entropy <= math.log(3) + 1e-12


@pytest.mark.parametrize("wrong", [[1.0, 2.0], [[1.0, 2.0, 3.0]], [1.0, math.nan, 0.0], [math.inf, 0.0, 0.0]])
def test_what_are_no_logits_is_refused(wrong):
    with pytest.raises(InvalidValueError, match="logits"):
        predict(BUNDLE, np.array(wrong, np.float32))
