"""What every engine of `ENGINES` must do: several queries, independent matches, near-duplicates."""

import dataclasses

import numpy as np
import pytest
from gallery_contract import DIMENSION

from sonoseek.core import (
    InvalidValueError,
)
from sonoseek.gallery import (
    Exclusion,
)

# Several queries, independent matches


def test_many_searches_at_once_find_what_each_finds(filled, entries):
    queries = np.stack([entry.embedding for entry in entries[:7]])
    for options in (
        {},
        {"k": 3, "where": "label = 'benign'", "novelty": False},
        {"k": 60, "exclude": Exclusion(scan_ids=(entries[3].scan_id,)), "pictures": False},
        {"k": 4, "per_patient": True, "duplicate_threshold": 0.5},
        {"k": 0},
    ):
        assert filled.search_many(queries, **options) == tuple(filled.search(query, **options) for query in queries)
    assert filled.search_many(np.empty((0, DIMENSION), np.float32)) == ()


@pytest.mark.parametrize("wrong", [np.ones(DIMENSION), np.ones((2, DIMENSION), int), np.zeros((1, DIMENSION)), [[1.0]]])
def test_many_searches_need_a_matrix_of_embeddings(filled, wrong):
    with pytest.raises(InvalidValueError, match="embedding"):
        filled.search_many(wrong)


@pytest.fixture
def apart(gallery, make_entry):
    """Adds entries of which each is a little less similar to `QUERY` than the one before, and like no other."""

    def add(*records: dict) -> None:
        gallery.add([make_entry(n, embedding=ray(n), **record) for n, record in enumerate(records)])

    return add


QUERY = np.eye(DIMENSION, dtype=np.float32)[0]


def ray(number: int, *, towards: int | None = None) -> np.ndarray:
    """A vector at a cosine of 0.8, 0.79 … to `QUERY`, at most 0.65 to each other."""
    cosine = 0.8 - 0.01 * number
    vector = cosine * np.eye(DIMENSION)[0]
    vector[1 + (number if towards is None else towards)] = np.sqrt(1 - cosine**2)
    return vector


def counts(matches) -> list[tuple[str, int, int]]:
    return [(match.case_id[-1], match.near_duplicates, match.same_patient) for match in matches]


def test_one_match_per_patient_or_group(filled, entries):
    """Of the 60, three share a patient and two a group: six in a row hang together."""
    every = filled.search(entries[0].embedding, k=60).matches
    for k in (1, 5, 10, 30):
        found = filled.search(entries[0].embedding, k=k, per_patient=True).matches
        taken: list[tuple[str, str]] = []
        first = []
        for match in every:
            names = [("p", match.patient_id), ("g", match.group)]
            if not set(names) & set(taken):
                first.append(match)
            taken += names
        assert [match.scan_id for match in found] == [match.scan_id for match in first[:k]]
        assert [match.rank for match in found] == list(range(1, len(found) + 1))
    assert len(found) + sum(match.same_patient for match in found) == 60
    assert not any(match.near_duplicates for match in found)
    benign = filled.search(entries[0].embedding, k=30, per_patient=True, where="label = 'benign'").matches
    assert len(benign) == 20
    assert {match.label for match in benign} == {"benign"}


@pytest.mark.parametrize("duplicate_threshold", [None, 0.975])
def test_scans_of_one_case_patient_or_group_are_one_match(gallery, apart, make_entry, duplicate_threshold):
    apart(
        {"patient_id": "p", "group": "a"},
        {"patient_id": "p", "group": "b"},
        {"patient_id": "p", "group": "b", "dataset": "elsewhere"},
        {"patient_id": None, "group": "b"},  # of the group of a scan of p: behind it
        {"patient_id": "q", "group": "b"},  # a group across two patients
        {"patient_id": None, "group": "g"},
        {"patient_id": None, "group": "g"},
        {"patient_id": None, "group": None},
        {"patient_id": None, "group": None},
    )
    other = make_entry(9, embedding=ray(9))
    gallery.add([dataclasses.replace(other, record=gallery.entries(cases=[("phantom", "case 0008")])[0].record)])
    found = gallery.search(QUERY, k=9, per_patient=True, duplicate_threshold=duplicate_threshold).matches
    assert counts(found) == [("0", 0, 3), ("2", 0, 0), ("5", 1, 0), ("7", 0, 0), ("8", 0, 1)]
    assert counts(gallery.search(QUERY, k=9, duplicate_threshold=duplicate_threshold).matches)[1] == ("1", 0, 0)


def test_three_copies_of_one_scan_are_one_match_with_two_near_duplicates(gallery, make_entry):
    """As of BUSI: one group, no patient; with and without a cosine that shows it."""
    copies = [make_entry(n, embedding=ray(0, towards=n % 2), patient_id=None, group="S0001") for n in range(3)]
    others = [make_entry(n, embedding=ray(n), patient_id=None, group=None) for n in range(3, 9)]
    gallery.add([*copies, *others])
    for options in ({"per_patient": True}, {"per_patient": True, "duplicate_threshold": 0.975}):
        for k in (1, 5, 9):
            found = gallery.search(QUERY, k=k, **options).matches
            assert len(found) == min(k, 7)
            assert (found[0].near_duplicates, found[0].same_patient) == (2, 0)
            assert found[0].group == "S0001"
            assert [match.rank for match in found] == list(range(1, len(found) + 1))


def test_near_duplicates_of_a_patient_s_other_scan_belong_to_that_patient(gallery, make_entry):
    """Copies under other names are not independent of a scan that is itself left out; small steps make no chain."""
    gallery.add(
        [
            make_entry(0, embedding=ray(0), patient_id="p", group=None),
            make_entry(1, embedding=ray(1), patient_id="p", group=None),
            make_entry(2, embedding=ray(2, towards=0), patient_id="p", group=None),  # nearly 0
            make_entry(3, embedding=ray(3, towards=1), patient_id=None, group=None),  # nearly 1, and nameless
            make_entry(4, embedding=ray(4), patient_id=None, group=None),
        ]
    )
    found = gallery.search(QUERY, k=9, per_patient=True, duplicate_threshold=0.99).matches
    assert counts(found) == [("0", 1, 2), ("4", 0, 0)]
    assert counts(gallery.search(QUERY, k=9, per_patient=True).matches) == [("0", 0, 2), ("3", 0, 0), ("4", 0, 0)]


def test_small_steps_make_no_chain(gallery, make_entry):
    angles = np.radians(10.0 * np.arange(6))
    steps = [np.cos(angle) * np.eye(DIMENSION)[0] + np.sin(angle) * np.eye(DIMENSION)[1] for angle in angles]
    gallery.add([make_entry(n, embedding=step, patient_id=f"q{n}", group=None) for n, step in enumerate(steps)])
    found = gallery.search(QUERY, k=9, duplicate_threshold=float(np.cos(np.radians(15)))).matches
    assert counts(found) == [("0", 1, 0), ("2", 1, 0), ("4", 1, 0)]


def test_what_is_counted_does_not_depend_on_what_was_fetched(gallery, apart):
    """The last match too has all that comes before the next independent scan counted."""
    apart(*({"patient_id": f"p{n // 18}", "group": None} for n in range(22)))
    for options in ({}, {"where": "dataset = 'phantom'"}):
        one = gallery.search(QUERY, k=1, per_patient=True, **options).matches
        assert [match.same_patient for match in one] == [17]
        both = gallery.search(QUERY, k=2, per_patient=True, **options).matches
        assert [match.same_patient for match in both] == [17, 3]


def test_near_duplicates_stand_behind_the_better_match(gallery, make_entry):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, DIMENSION))
    gallery.add(
        [
            make_entry(n, embedding=centres[n % 4] + 0.01 * rng.normal(size=DIMENSION), patient_id=f"q{n}", group=None)
            for n in range(40)
        ]
    )
    query = centres[2].astype(np.float32)
    found = gallery.search(query, k=10, duplicate_threshold=0.99).matches
    assert [(match.near_duplicates, match.same_patient) for match in found] == [(9, 0)] * 4
    assert found[0] == dataclasses.replace(gallery.search(query, k=1).matches[0], near_duplicates=9)
    assert len(gallery.search(query, k=10, duplicate_threshold=1.0).matches) == 10
    assert len(gallery.search(query, k=2, duplicate_threshold=0.99).matches) == 2


def test_a_threshold_of_one_takes_equal_embeddings_for_copies(gallery, make_entry):
    """However a float32 product of two equal unit vectors is rounded."""
    vectors = [make_entry(n).embedding for n in range(30)]
    gallery.add([make_entry(n, embedding=vectors[n // 2], patient_id=f"q{n}", group=None) for n in range(60)])
    found = gallery.search(vectors[0], k=60, duplicate_threshold=1.0).matches
    assert [match.near_duplicates for match in found] == [1] * 30


def test_independent_matches_follow_what_was_written_since_the_cache(gallery, make_entry):
    """Enough scans that the cache is followed, not made anew: a scan written again is compared as it is now."""
    gallery.add([make_entry(n, embedding=-ray(n % 20), patient_id=f"q{n}", group=None) for n in range(1_000)])
    gallery.refresh()
    gallery.add([make_entry(7, embedding=ray(0), patient_id=None, group=None)])
    gallery.add([make_entry(n, embedding=ray(0), patient_id=None, group=None) for n in (1_000, 1_001)])
    (found,) = gallery.search(QUERY, k=1, duplicate_threshold=0.975).matches
    assert found.near_duplicates == 2


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.5, float("nan")])
def test_a_duplicate_threshold_is_a_cosine(filled, entries, threshold):
    with pytest.raises(InvalidValueError, match="duplicate_threshold is"):
        filled.search(entries[0].embedding, duplicate_threshold=threshold)
