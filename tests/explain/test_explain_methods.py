"""The exact methods: each map sums to the value that it explains."""

import sys
from inspect import signature
from subprocess import run

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sonoseek.core import Box, Explanation, InvalidValueError
from sonoseek.explain import EXACT, class_evidence, pair_evidence
from sonoseek.preprocessing import CanvasMapping
from sonoseek.preprocessing.mapping import fit_to_canvas

MAPPING = fit_to_canvas((120, 170), Box(top=10, left=0, bottom=115, right=150), canvas_size=224)


def evidence_of(seed: int, *, depth: int = 32, scale: float = 1.0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).normal(size=(depth, 14, 14)) * scale).astype(np.float32)


def explain_with(name: str, evidence: NDArray[np.float32], direction: NDArray[np.float32]) -> Explanation:
    method = EXACT.load(name)
    if "weight" in signature(method).parameters:
        explained: Explanation = method(evidence, weight=direction, bias=0.25, mapping=MAPPING, target="benign")
    else:
        explained = method(evidence, direction, mapping=MAPPING, target="match:" + "0" * 64)
    return explained


@pytest.mark.parametrize("name", EXACT)
class TestEveryMethod:
    def test_the_map_sums_to_the_explained_value(self, name: str) -> None:
        explained = explain_with(name, evidence_of(0), evidence_of(1)[:, 0, 0])
        assert explained.method == name
        assert explained.heatmap.dtype == np.float32
        assert explained.heatmap.shape == MAPPING.scan_shape
        assert explained.evidence_map.shape == (14, 14)
        assert explained.evidence_map.dtype == np.float32
        total = explained.heatmap.sum(dtype=np.float64) + explained.bias
        assert total == pytest.approx(explained.value, abs=1e-4)
        assert explained.evidence_map.sum(dtype=np.float64) + explained.bias == pytest.approx(explained.value, abs=1e-4)

    def test_shapes_that_do_not_fit_are_refused(self, name: str) -> None:
        good, direction = evidence_of(0), evidence_of(1)[:, 0, 0]
        for evidence, other in ((good[0], direction), (good, direction[:-1]), (good[:, :0], direction)):
            with pytest.raises(InvalidValueError, match=r"must be \(D, h, w\)"):
                explain_with(name, evidence, other)

    def test_numbers_that_are_not_finite_are_refused(self, name: str) -> None:
        bad = evidence_of(0)
        bad[3, 4, 5] = np.nan
        with pytest.raises(InvalidValueError, match="not finite"):
            explain_with(name, bad, evidence_of(1)[:, 0, 0])

    def test_no_evidence_gives_an_empty_map(self, name: str) -> None:
        explained = explain_with(name, np.zeros((32, 14, 14), np.float32), evidence_of(1)[:, 0, 0])
        assert explained.peak == 0.0
        assert explained.value == explained.bias


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), logit=st.floats(-20, 20), depth=st.integers(1, 512), shape=st.integers(8, 1000))
def test_class_evidence_is_the_linear_head(seed: int, logit: float, depth: int, shape: int) -> None:
    rng = np.random.default_rng(seed)
    evidence = rng.normal(size=(depth, 13, 13)).astype(np.float32)
    weight = rng.normal(size=depth).astype(np.float32)
    size = (shape, 1300 - shape)
    mapping = fit_to_canvas(size, Box(top=0, left=0, bottom=size[0], right=size[1]), canvas_size=224)
    bias = logit - float(evidence.mean(axis=(1, 2), dtype=np.float64) @ weight)
    explained = class_evidence(evidence, weight=weight, bias=bias, mapping=mapping, target="malignant")
    assert explained.value == pytest.approx(logit, abs=1e-5)
    assert explained.heatmap.sum(dtype=np.float64) + bias == pytest.approx(logit, abs=1e-4)


def test_positive_is_evidence_for_the_class() -> None:
    evidence = np.zeros((2, 14, 14), np.float32)
    evidence[0, 7, 7] = 5.0
    weight = np.array([1.0, 0.0], np.float32)
    for sign in (1, -1):
        explained = class_evidence(evidence, weight=sign * weight, bias=0.0, mapping=MAPPING, target="benign")
        assert sign * explained.heatmap.sum() > 0
        assert explained.target == "benign"


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-3, 1e3))
def test_pair_evidence_is_the_cosine_seen_from_either_side(seed: int, scale: float) -> None:
    query, other = evidence_of(seed), evidence_of(seed + 1, scale=scale)
    q, m = query.mean(axis=(1, 2)), other.mean(axis=(1, 2))
    cosine = float(q @ m / np.linalg.norm(q) / np.linalg.norm(m))
    there = pair_evidence(query, m, mapping=MAPPING, target="match:a")
    back = pair_evidence(other, q, mapping=MAPPING, target="match:b")
    assert there.value == pytest.approx(cosine, abs=1e-5)
    assert back.value == pytest.approx(cosine, abs=1e-5)
    assert there.heatmap.sum(dtype=np.float64) == pytest.approx(cosine, abs=1e-4)
    assert there.bias == 0.0


def test_the_cosine_with_a_zero_embedding_is_zero() -> None:
    explained = pair_evidence(evidence_of(0), np.zeros(32, np.float32), mapping=MAPPING, target="match:a")
    assert explained.value == 0.0
    assert not explained.heatmap.any()


def test_explaining_loads_numpy_alone() -> None:
    code = (
        "import sys, sonoseek.explain; "
        "heavy = {'cv2', 'onnxruntime', 'torch', 'PIL', 'scipy'} & set(sys.modules); assert not heavy, heavy"
    )
    run([sys.executable, "-c", code], check=True, timeout=30)


def test_a_mapping_is_not_changed_by_use() -> None:
    before = CanvasMapping(**{name: getattr(MAPPING, name) for name in MAPPING.__dataclass_fields__})
    pair_evidence(evidence_of(0), evidence_of(1)[:, 0, 0], mapping=MAPPING, target="match:a")
    assert before == MAPPING
