"""Readings at other sizes: the served pair is what the network itself gives."""

import numpy as np
import pytest
import torch

from benchmarks import reading_sizes
from benchmarks.reading_sizes import areas, read_sizes
from sonoseek.networks.lesion_pooling import LesionPoolingNetwork
from sonoseek.networks.tiny import TinyBackbone
from sonoseek.networks.two_readings import SPREAD, TwoReadings


def test_the_first_whole_and_close_up_are_what_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_sizes, "WHOLE", (96, 80))
    monkeypatch.setattr(reading_sizes, "CLOSE", ((SPREAD, 96), (4.2, 80)))
    network = TwoReadings(LesionPoolingNetwork(TinyBackbone(), embedding_dim=12)).eval()
    canvases = torch.rand(3, 1, 192, 192)
    found = read_sizes(network, canvases)
    assert [*found] == ["whole at 96", "whole at 80", f"close-up of {SPREAD:g} at 96", "close-up of 4.2 at 80"]
    with torch.no_grad():
        served = network(canvases).logits
    pair = (found["whole at 96"] + found[f"close-up of {SPREAD:g} at 96"]) / 2
    np.testing.assert_allclose(pair, (served[:, 2] - served[:, 1]).numpy(), atol=1e-5)


def test_areas_of_pairs_and_of_all() -> None:
    malignant = np.array([False, False, True, True])
    logits = {
        "whole at 96": np.array([0, 1, 2, 3], np.float32),
        "close-up of 3 at 96": np.array([9, 0, 0, 0], np.float32),
    }
    found = areas(logits, malignant)
    assert found["whole at 96"] == 1.0
    assert found["close-up of 3 at 96"] == 0.25
    assert found["whole at 96, close-up of 3 at 96"] == found["all"] == 0.5
