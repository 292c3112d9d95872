"""Rows of length 1, and the cores of this process."""

import os

import numpy as np
import pytest

from sonoseek.core.arrays import unit_rows
from sonoseek.core.cores import available_cores


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_get_length_one_and_keep_their_type(dtype: type) -> None:
    rows = np.random.default_rng(3).normal(size=(5, 7)).astype(dtype)
    rows[2] = 0
    unit = unit_rows(rows)
    assert unit.dtype == dtype
    assert np.linalg.norm(unit, axis=1) == pytest.approx([1, 1, 0, 1, 1], abs=1e-6)
    assert unit[0] * np.linalg.norm(rows[0]) == pytest.approx(rows[0], rel=1e-6)


def test_cores_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert available_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1
