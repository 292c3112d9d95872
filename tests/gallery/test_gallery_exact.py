"""The arithmetic of exact search, and what a sample of the gallery knows of it."""

import dataclasses

import numpy as np
import pytest

from sonoseek.gallery import create_gallery
from sonoseek.gallery.exact import MARGIN, contenders, exact_cosines, gathered, normalised, products
from sonoseek.gallery.novelty_sample import ReferenceSample


def test_rows_near_the_last_winner_are_told_apart_exactly():
    """Float32 products of nearly equal rows come out in any order; the winners do not."""
    rng = np.random.default_rng(0)
    query = normalised(rng.normal(size=(1, 64)).astype(np.float32))[0]
    unit = normalised(query + 1e-4 * rng.normal(size=(500, 64)).astype(np.float32))
    exact = unit.astype(np.float64) @ query.astype(np.float64)
    assert np.ptp(exact) < MARGIN
    near = contenders(products(unit, query[np.newaxis], without=np.empty(0, np.intp))[0], 7)
    assert set(np.argsort(-exact)[:7]) <= set(near)
    assert exact_cosines(unit, query) == pytest.approx(exact, abs=1e-15)
    assert contenders(np.array([1.0, -np.inf, 0.5], np.float32), 3).tolist() == [0, 2]


def test_rows_that_are_copied_out_say_the_same_as_the_product():
    rng = np.random.default_rng(0)
    unit = normalised(rng.normal(size=(300, 16)).astype(np.float32))
    rows, without = np.arange(0, 300, 7, dtype=np.int32), np.array([0, 3, 7, 299])
    some = gathered(unit[rows], unit[5], rows=rows, without=without)
    every = products(unit, unit[5:6], without=without)[0]
    assert some == pytest.approx(every[rows], abs=1e-6)
    assert np.isneginf(some).sum() == 2


def reference_distances(gallery) -> np.ndarray:
    gallery.refresh()
    return gallery._index_cache.snapshot.index.reference_distances


def test_reference_distances_leave_the_same_out(tmp_path, make_entries):
    entries = make_entries(40)
    with create_gallery(tmp_path / "g", bundle_id="b", dimension=24) as gallery:
        gallery.add(entries)
        unit = normalised(np.stack([entry.embedding for entry in gallery]))
        cosines = unit.astype(np.float64) @ unit.T
        number = np.arange(40)
        for size in (2, 3):  # groups and patients of conftest
            cosines[number[:, None] // size == number // size] = -np.inf
        assert reference_distances(gallery) == pytest.approx(np.sort(1 - cosines.max(axis=1)), abs=1e-5)
        gallery.add([dataclasses.replace(e, record=dataclasses.replace(e.record, group="one")) for e in entries])
        assert reference_distances(gallery).size == 0
        gallery.remove(scan_ids=[entry.scan_id for entry in entries[19:]])
        assert reference_distances(gallery).size == 0


def test_the_sample_knows_the_nearest_rows_however_they_come(tmp_path, make_entries):
    with create_gallery(tmp_path / "g", bundle_id="b", dimension=24) as gallery:
        gallery.add(make_entries(60))
        with gallery._connections.snapshot() as connection:
            row_ids = np.arange(1, 61)
            unit = normalised(np.stack([entry.embedding for entry in gallery]))
            found = []
            for step in (60, 7):
                sample = ReferenceSample(connection, row_ids, dimension=24)
                for at in range(0, 60, step):
                    sample.see(at, unit[at : at + step], neighbours=True)
                found.append(sample.neighbours)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    for number, (one, other) in enumerate(zip(*found, strict=True)):
        assert set(one) == set(other) == set(np.argsort(-cosines[number])[:10])
