"""What every engine of `ENGINES` must do: searches, filters and exclusions."""

import dataclasses

import numpy as np
import pytest
from gallery_contract import DIMENSION, case_ids, same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sonoseek.core import (
    ExcludedCounts,
    InvalidValueError,
    WhereError,
)
from sonoseek.gallery import (
    Exclusion,
    open_gallery,
)

# Searching


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_search_finds_what_brute_force_finds(filled, entries, brute_force, data):
    query = np.random.default_rng(data.draw(st.integers(0, 2**32))).normal(size=DIMENSION).astype(np.float32)
    k = data.draw(st.integers(0, 70))
    out = data.draw(st.sets(st.integers(0, 59), max_size=20))
    patients = data.draw(st.sets(st.integers(0, 19), max_size=4))
    groups = data.draw(st.sets(st.integers(0, 29), max_size=4))
    where, passes = data.draw(
        st.sampled_from(
            [
                (None, lambda _: True),
                ("label = 'benign'", lambda record: record.pathology == "benign"),
                ("case = 'case 0031'", lambda record: record.case_id == "case 0031"),
                ("case = 'nobody'", lambda _: False),
            ]
        )
    )
    exclude = Exclusion(
        scan_ids=tuple(entries[number].scan_id for number in out),
        patients=tuple(("phantom", f"p{number}") for number in patients),
        groups=tuple(("phantom", f"g{number}") for number in groups),
    )
    allowed = [
        entry
        for number, entry in enumerate(entries)
        if number not in out and number // 3 not in patients and number // 2 not in groups
    ]
    result = filled.search(query, k=k, where=where, exclude=exclude)
    expected = brute_force([entry for entry in allowed if passes(entry.record)], query, k)
    assert [(match.case_id, match.scan_id) for match in result.matches] == [item[:2] for item in expected]
    assert [match.similarity for match in result.matches] == pytest.approx([item[2] for item in expected], abs=1e-6)
    assert [match.rank for match in result.matches] == list(range(1, len(expected) + 1))
    nearest = brute_force(allowed, query, 1)
    assert result.nearest == pytest.approx(1 - nearest[0][2], abs=1e-6)
    alone = filled.search(query, k=k, where=where, exclude=exclude, novelty=False)
    assert alone.matches == result.matches
    assert (alone.nearest, alone.novelty) == (None, None)


def test_a_match_tells_everything_about_its_case(filled, entries):
    (match,) = filled.search(entries[13].embedding, k=1).matches
    record = entries[13].record
    for name in ("case_id", "dataset", "birads", "histology", "device", "patient_id", "group"):
        assert getattr(match, name) == getattr(record, name)
    assert (match.label, match.scan_id) == (record.pathology, entries[13].scan_id)
    assert match.picture == entries[13].picture
    assert filled.search(entries[13].embedding, k=1, pictures=False).matches[0].picture is None


def test_same_patient_and_group_do_not_answer(filled, entries):
    for number in (0, 13, 59):
        exclude = filled.exclusion_for(entries[number].scan_id)
        found = filled.search(entries[number].embedding, k=100, exclude=exclude).matches
        own = {n for n in range(60) if n // 3 == number // 3 or n // 2 == number // 2}
        assert {match.case_id for match in found} == {f"case {n:04d}" for n in range(60) if n not in own}
    assert filled.exclusion_for("unseen") == Exclusion(scan_ids=("unseen",))


def test_exclusion_is_per_dataset(gallery, make_entry):
    gallery.add([make_entry(0, dataset="a", patient_id="p"), make_entry(1, dataset="b", patient_id="p", group=None)])
    result = gallery.search(make_entry(0).embedding, exclude=gallery.exclusion_for(make_entry(0).scan_id))
    assert case_ids(result) == ["case 0001"]
    assert gallery.exclusion_for(make_entry(1).scan_id).groups == ()


def test_a_patient_who_is_named_by_the_asker_is_left_out_everywhere(gallery, make_entry):
    known = [make_entry(number, dataset=name, patient_id="p") for number, name in enumerate("ab")]
    gallery.add([*known, make_entry(2, dataset="a", patient_id="q")])
    exclude = gallery.exclusion_for("f" * 64, patient_id="p")
    assert exclude == Exclusion(scan_ids=("f" * 64,), patients=(("a", "p"), ("b", "p")))
    assert case_ids(gallery.search(known[0].embedding, exclude=exclude)) == ["case 0002"]


def test_entries_come_by_scan_and_by_case(filled, entries):
    found = filled.entries(
        scan_ids=[entries[5].scan_id, "f" * 64], cases=[("phantom", "case 0002"), ("x", "case 0003")]
    )
    assert [entry.record.case_id for entry in found] == ["case 0002", "case 0005"]
    assert same(found[1], entries[5])
    (bare,) = filled.entries(scan_ids=[entries[5].scan_id], pictures=False)
    assert same(bare, dataclasses.replace(entries[5], picture=None))
    assert filled.entries() == ()


def test_exclusions_join():
    one = Exclusion(scan_ids=("a",), patients=(("d", "p"),))
    both = one | Exclusion(scan_ids=("a", "b"), groups=(("d", "g"),))
    assert both == Exclusion(scan_ids=("a", "b"), patients=(("d", "p"),), groups=(("d", "g"),))
    assert both
    assert not Exclusion()


def test_equal_similarities_come_in_the_order_of_their_ids_under_any_filter(gallery, make_entry):
    vector = np.random.default_rng(3).normal(size=DIMENSION).astype(np.float32)
    # Two lengths: the direction is what counts, and adding it in another order changes nothing.
    twins = [make_entry(n, embedding=vector * (2.0 if n % 2 else 1.0)) for n in range(80)]
    others = [make_entry(n) for n in range(100, 137)]
    gallery.add([twin for pair in zip(others, twins, strict=False) for twin in pair] + twins[37:])
    order = [twin.record.case_id for twin in sorted(twins, key=lambda twin: twin.scan_id)]
    for k in (1, 3, 80):
        found = gallery.search(vector, k=k)
        assert case_ids(found) == order[:k]
        assert len({match.similarity for match in found.matches}) == 1
    few = {order[2], order[40], order[41]}
    where = "case in (" + ", ".join(f"'{case_id}'" for case_id in few) + ")"
    for novelty in (True, False):
        found = gallery.search(vector, k=2, where=where, novelty=novelty)
        assert case_ids(found) == [order[2], order[40]]
        assert found.matches[0].similarity == gallery.search(vector, k=1).matches[0].similarity


def test_a_filtered_search_is_never_short(filled, entries):
    for where, expected in (("label = 'malignant'", 20), ("label = 'malignant' and birads = '5'", 4), ("age < 0", 0)):
        assert len(filled.search(entries[0].embedding, k=60, where=where).matches) == expected


@pytest.mark.parametrize("k", [-1, -10])
def test_a_negative_k_is_refused(filled, entries, k):
    with pytest.raises(InvalidValueError, match="k is"):
        filled.search(entries[0].embedding, k=k)


def test_a_wrong_dimension_is_refused(filled):
    with pytest.raises(InvalidValueError, match=f"25 numbers, the gallery holds {DIMENSION}"):
        filled.search(np.ones(25, np.float32))


def test_a_filter_that_does_not_parse_leaves_the_gallery_usable(filled, entries):
    with pytest.raises(WhereError, match="brads"):
        filled.search(entries[0].embedding, where="brads = 4")
    assert len(filled.search(entries[0].embedding).matches) == 10


def test_every_search_sees_what_was_written_before_it(gallery, location, make_entry):
    with open_gallery(location) as reader:
        for number in range(5):
            gallery.add([make_entry(number)])
            for view in (gallery, reader):
                assert len(view.search(make_entry(0).embedding, where="dataset = 'phantom'").matches) == number + 1
        gallery.add([make_entry(0, dataset="moved")])
        assert case_ids(reader.search(make_entry(0).embedding, where="dataset = 'moved'")) == ["case 0000"]
        gallery.remove(cases=[("phantom", "case 0000")])
        assert len(reader.search(make_entry(0).embedding).matches) == 5


# What is left out, and who holds the most


def test_what_an_exclusion_leaves_out_is_counted_once(gallery, make_entry):
    gallery.add(
        [
            make_entry(0, patient_id="p", group="a"),
            make_entry(1, patient_id="p", group="a"),
            make_entry(2, patient_id="p", group="b"),
            make_entry(3, patient_id="q", group="b"),
            make_entry(4, patient_id=None, group="b"),
            make_entry(5, patient_id="p", group="b", dataset="elsewhere"),
            make_entry(6, pixels=0, patient_id="r", group=None),  # the same pixels in another case
            make_entry(7, patient_id=None, group=None),
        ]
    )
    exclusion = gallery.exclusion_for(make_entry(0).scan_id) | gallery.exclusion_for(make_entry(2).scan_id)
    counts = gallery.count_excluded(exclusion)
    assert counts == ExcludedCounts(scans=8, same_scan=3, same_patient=1, same_group=2)
    assert counts.excluded == 6
    assert len(gallery.search(make_entry(0).embedding, k=9, exclude=exclusion).matches) == 8 - counts.excluded
    assert gallery.count_excluded(Exclusion()) == ExcludedCounts(scans=8)
    assert gallery.count_excluded(Exclusion(scan_ids=("0" * 64,), groups=(("phantom", "none"),))).excluded == 0
