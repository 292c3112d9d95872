"""What every engine of `ENGINES` must do: novelty."""

from collections.abc import Iterator

import numpy as np
import pytest
from gallery_contract import BUNDLE_ID, DIMENSION

from sonoseek.core import (
    InvalidValueError,
)
from sonoseek.gallery import (
    Exclusion,
    Gallery,
    GalleryEntry,
    create_gallery,
    open_gallery,
)

# Novelty


def test_novelty_needs_twenty_scans(gallery, make_entries):
    entries = make_entries(20)
    gallery.add(entries[:19])
    assert gallery.novelty(entries[0].embedding) is None
    gallery.add(entries)
    assert gallery.novelty(entries[0].embedding) is not None


def test_novelty_is_the_rank_among_the_reference_distances(filled, entries, brute_force):
    own = []
    for number, entry in enumerate(entries):
        others = [e for n, e in enumerate(entries) if n // 3 != number // 3 and n // 2 != number // 2]
        own.append(1 - brute_force(others, entry.embedding, 1)[0][2])
    for seed in range(20):
        query = np.random.default_rng(seed).normal(size=DIMENSION)
        nearest = 1 - brute_force(entries, query, 1)[0][2]
        expected = 100 * np.mean(np.array(own) < nearest)
        assert filled.novelty(query.astype(np.float32)) == pytest.approx(expected, abs=1e-9)
        assert filled.search(query.astype(np.float32), k=3, where="label = 'benign'").novelty == filled.novelty(
            query.astype(np.float32)
        )


def test_what_is_known_is_not_novel_and_what_is_strange_is(gallery, make_entry):
    rng = np.random.default_rng(0)
    centre = np.eye(DIMENSION)[0]
    gallery.add([make_entry(n, embedding=centre + 0.05 * rng.normal(size=DIMENSION)) for n in range(50)])
    assert gallery.novelty(make_entry(0, embedding=list(gallery)[3].embedding).embedding) == 0
    assert gallery.novelty(-centre.astype(np.float32)) == 100
    everything = Exclusion(groups=tuple(("phantom", f"g{n}") for n in range(25)))
    assert gallery.novelty(centre.astype(np.float32), exclude=everything) is None


THRESHOLD = 0.975


@pytest.fixture
def with_threshold(location) -> Iterator[Gallery]:
    options = {"bundle_id": BUNDLE_ID, "dimension": DIMENSION, "duplicate_threshold": THRESHOLD}
    with create_gallery(location, **options) as made:
        yield made


def test_a_duplicate_threshold_belongs_to_the_gallery(with_threshold, location, make_entries, tmp_path):
    with_threshold.add(make_entries(3))
    with create_gallery(location, bundle_id=BUNDLE_ID, dimension=DIMENSION, exist_ok=True) as again:
        assert again.duplicate_threshold == THRESHOLD
    with_threshold.copy_to(tmp_path / "copy")
    with open_gallery(location) as one, open_gallery(tmp_path / "copy") as other:
        assert one.duplicate_threshold == other.duplicate_threshold == THRESHOLD
        assert one.verify() == other.verify() == ()


def test_a_gallery_may_have_no_duplicate_threshold(gallery, location):
    with open_gallery(location) as opened:
        assert gallery.duplicate_threshold is opened.duplicate_threshold is None
    with pytest.raises(InvalidValueError, match="duplicate_threshold is"):
        create_gallery(f"{location}2", bundle_id=BUNDLE_ID, dimension=DIMENSION, duplicate_threshold=1.5)


@pytest.fixture
def doubled(make_entry) -> list[GalleryEntry]:
    """Thirty scans, and a copy of each that no record marks."""
    alone = {"patient_id": None, "group": None}
    rng = np.random.default_rng(0)
    scans = [make_entry(n, **alone) for n in range(30)]
    copies = [
        make_entry(100 + n, embedding=scan.embedding + 0.02 * rng.normal(size=DIMENSION), **alone)
        for n, scan in enumerate(scans)
    ]
    return scans + copies


def expected_novelty(entries: list[GalleryEntry], query: np.ndarray) -> float:
    """From all cosines in float64; pairs of near-duplicates are left out on both sides."""
    unit = np.stack([entry.embedding for entry in entries]).astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    pairs, asked = unit @ unit.T, unit @ (query / np.linalg.norm(query))
    own = 1 - np.where(pairs < THRESHOLD, pairs, -np.inf).max(axis=1)
    return 100 * float(np.mean(own < 1 - asked[asked < THRESHOLD].max()))


def test_copies_that_no_record_marks_do_not_count_in_novelty(with_threshold, doubled):
    with_threshold.add(doubled)
    told = []
    for seed in range(10):
        query = np.random.default_rng(seed).normal(size=DIMENSION).astype(np.float32)
        for options in ({}, {"k": 0}, {"where": "label = 'benign'", "k": 3}, {"per_patient": True}):
            found = with_threshold.search(query, **options)
            assert found.novelty == pytest.approx(expected_novelty(doubled, query), abs=1e-9)
        told.append(found.novelty)
    assert min(told) < 50  # beside distances to copies all of them would be at 100


def test_a_copy_in_the_archive_is_the_nearest_and_lowers_no_novelty(with_threshold, doubled):
    with_threshold.add(doubled)
    for entry in (doubled[0], doubled[17]):
        for options in ({}, {"k": 0}, {"k": 1}, {"where": "label = 'benign'", "k": 3}):
            found = with_threshold.search(entry.embedding, **options)
            assert found.nearest == pytest.approx(0, abs=1e-5)
            assert found.novelty == pytest.approx(expected_novelty(doubled, entry.embedding), abs=1e-9)
            assert found.novelty > 0


def test_many_copies_of_the_query_are_looked_past(with_threshold, doubled, make_entry):
    rng = np.random.default_rng(1)
    near = [doubled[0].embedding + 0.02 * rng.normal(size=DIMENSION) for _ in range(60)]
    copies = [make_entry(200 + n, embedding=vector, patient_id=None, group=None) for n, vector in enumerate(near)]
    with_threshold.add(doubled + copies)
    found = with_threshold.search(doubled[0].embedding, k=5)
    assert found.nearest == pytest.approx(0, abs=1e-3)  # 8-bit codes do not tell the nearest of so many copies
    assert all(match.similarity > THRESHOLD for match in found.matches)
    assert found.novelty == pytest.approx(expected_novelty(doubled + copies, doubled[0].embedding), abs=1e-9)


def test_where_all_are_copies_of_the_query_nothing_is_said_of_novelty(with_threshold, make_entry):
    vector = make_entry(0).embedding
    with_threshold.add([make_entry(n, embedding=vector, patient_id=None, group=None) for n in range(40)])
    found = with_threshold.search(vector)
    assert found.nearest == pytest.approx(0, abs=1e-5)
    assert found.novelty is None


def test_a_copy_that_was_written_since_the_cache_is_looked_past(with_threshold, make_entry):
    alone = {"patient_id": None, "group": None}
    with_threshold.add([make_entry(n, **alone) for n in range(1_000)])
    query = make_entry(5_000).embedding
    before = with_threshold.search(query)
    with_threshold.add([make_entry(1_001, embedding=query, **alone)])
    after = with_threshold.search(query)
    assert after.nearest == pytest.approx(0, abs=1e-5)
    assert before.nearest > 0.1
    assert after.novelty == before.novelty > 0
