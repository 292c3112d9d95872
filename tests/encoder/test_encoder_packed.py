"""Evidence in a few kilobytes: close cell by cell, exact in its sum, refused where damaged."""

import zlib

import msgspec
import numpy as np
import pytest

from sonoseek.core import Box, InvalidValueError
from sonoseek.encoder import pack_evidence, unpack_evidence
from sonoseek.preprocessing.mapping import fit_to_canvas

SHAPE = (300, 420)
MAPPING = fit_to_canvas(SHAPE, Box(top=10, left=5, bottom=290, right=400), canvas_size=160, spacing_mm=(0.1, 0.12))


def evidence_of(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    loud = rng.random((10, 10)) ** 4
    evidence = (rng.normal(size=(256, 10, 10)) * loud).astype(np.float32)
    evidence[:, :2] = 0
    within = (rng.random((40, 40)) ** 3).astype(np.float32)
    return evidence, within


def test_there_and_back():
    evidence, within = evidence_of()
    embedding = evidence.mean((1, 2))
    packed = pack_evidence(evidence, within, mapping=MAPPING)
    assert len(packed) < 30_000
    kept = unpack_evidence(packed, embedding=embedding, scan_shape=SHAPE, spacing_mm=(0.1, 0.12))
    assert kept.mapping == MAPPING
    per_cell = np.abs(evidence).max(axis=0)
    assert (np.abs(kept.evidence - evidence) <= 0.006 * per_cell + 1e-6).all()
    assert not kept.evidence[:, :2].any()
    assert kept.spatial_weights / kept.spatial_weights.mean() == pytest.approx(
        within / within.mean(), abs=0.02 * float(within.max() / within.mean())
    )


def test_the_mean_is_the_served_embedding_exactly():
    evidence, within = evidence_of()
    served = evidence.mean((1, 2)).astype(np.float16).astype(np.float32)
    kept = unpack_evidence(
        pack_evidence(evidence, within, mapping=MAPPING), embedding=served, scan_shape=SHAPE, spacing_mm=(0.1, 0.12)
    )
    assert kept.evidence.mean((1, 2), dtype=np.float64) == pytest.approx(served, abs=1e-7)


def test_no_evidence_at_all():
    nothing = np.zeros((8, 3, 3), np.float32)
    packed = pack_evidence(nothing, np.zeros((6, 6), np.float32), mapping=MAPPING)
    kept = unpack_evidence(packed, embedding=np.zeros(8, np.float32), scan_shape=SHAPE, spacing_mm=None)
    assert not kept.evidence.any()
    assert not kept.spatial_weights.any()


def test_damage_is_refused():
    evidence, within = evidence_of()
    packed = pack_evidence(evidence, within, mapping=MAPPING)
    embedding = evidence.mean((1, 2))
    for damaged in (b"", packed[:100], packed[:-50], b"\x00" * 200, packed[:40] + b"\xff" * 60 + packed[100:]):
        with pytest.raises(InvalidValueError):
            unpack_evidence(damaged, embedding=embedding, scan_shape=SHAPE, spacing_mm=None)
    with pytest.raises(InvalidValueError, match="numbers per cell"):
        unpack_evidence(packed, embedding=embedding[:-1], scan_shape=SHAPE, spacing_mm=None)
    parts = msgspec.msgpack.decode(packed[4:])
    bomb = msgspec.msgpack.encode([parts[0], [1 << 20, 1 << 10, 1 << 10], *parts[2:]])
    bomb = zlib.crc32(bomb).to_bytes(4, "little") + bomb
    with pytest.raises(InvalidValueError):
        unpack_evidence(bomb, embedding=embedding, scan_shape=SHAPE, spacing_mm=None)


def test_evidence_that_is_not_finite_is_not_packed():
    evidence, within = evidence_of()
    evidence[3, 4, 5] = np.nan
    with pytest.raises(InvalidValueError, match="finite"):
        pack_evidence(evidence, within, mapping=MAPPING)
