"""Late interaction against plain loops, and a re-ranking that can be worked out by hand."""

import numpy as np
import pytest

from benchmarks.reranking import EncodedSide, differences, late_interaction, precisions


def units(rng: np.random.Generator, *shape: int) -> np.ndarray:
    values = rng.normal(size=shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def side(unit: np.ndarray, cells: np.ndarray, labels: list[str], groups: list[int]) -> EncodedSide:
    lengths = np.full(cells.shape[:2], 1 / cells.shape[1], np.float32)
    return EncodedSide(units=unit, cells=cells, lengths=lengths, labels=np.array(labels), groups=np.array(groups))


def test_late_interaction_is_what_plain_loops_give() -> None:
    rng = np.random.default_rng(0)
    own, others = units(rng, 4, 8), units(rng, 3, 4, 8)
    weights, other_weights = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(4), size=3)
    given = late_interaction(own, weights, others, other_weights)
    for m in range(3):
        forth = sum(weights[i] * max(float(own[i] @ others[m, j]) for j in range(4)) for i in range(4))
        back = sum(other_weights[m, j] * max(float(own[i] @ others[m, j]) for i in range(4)) for j in range(4))
        assert given[m] == pytest.approx((forth + back) / 2, abs=1e-6)
    assert late_interaction(own, weights, own[None], weights[None])[0] == pytest.approx(1.0, abs=1e-6)


def test_cells_decide_where_the_embeddings_tie_and_a_patient_never_finds_himself() -> None:
    rng = np.random.default_rng(1)
    like, unlike = units(rng, 4, 8), units(rng, 4, 8)
    query = side(np.ones((1, 1), np.float32), like[None], ["benign"], [0])
    gallery = side(
        np.ones((11, 1), np.float32),
        np.stack([like] + [unlike] * 5 + [like] * 5),
        ["malignant"] * 6 + ["benign"] * 5,
        [0, *range(1, 11)],
    )
    (row,) = precisions(query, gallery, weights=(1.0,))
    assert row.tolist() == [0.0, 1.0]


def test_differences_are_paired_and_by_patient() -> None:
    rows = np.array([[0.2, 0.4], [0.4, 0.6], [0.6, 0.8]])
    ((mean, low, high),) = differences(rows, np.array([0, 1, 1]))
    assert (mean, low, high) == pytest.approx((0.2, 0.2, 0.2))
