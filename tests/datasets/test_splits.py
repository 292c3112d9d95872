import logging
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sonoseek.core import PATHOLOGIES, CaseRecord, InvalidValueError, SplitError
from sonoseek.datasets import Fold, check_split, components, inner_validation, stratified_group_folds


def record(case_id, pathology="benign", *, group=None, patient=None, dataset="d"):
    return CaseRecord(case_id=case_id, dataset=dataset, pathology=pathology, group=group, patient_id=patient)


@st.composite
def archives(draw):
    count = draw(st.integers(10, 60))
    tie = st.one_of(st.none(), st.integers(0, count // 2).map(str))
    return [
        record(f"c{i}", draw(st.sampled_from(PATHOLOGIES)), group=draw(tie), patient=draw(tie)) for i in range(count)
    ]


def realistic(seed, *, cases=400):
    """Groups of 1 to 7, mostly one class each, classes as uneven as in BUSI."""
    rng = np.random.default_rng(seed)
    records = []
    while len(records) < cases:
        pathology = str(rng.choice(PATHOLOGIES, p=[0.17, 0.56, 0.27]))
        for _ in range(int(rng.choice([1, 1, 1, 2, 2, 3, 7]))):
            records.append(record(f"c{len(records)}", pathology, group=f"g{cases + len(records) // 7}{len(records)}"))
            if len(records) > 1 and rng.random() < 0.5:
                records[-1] = record(records[-1].case_id, pathology, group=records[-2].group)
    return records


def test_components_follow_groups_and_patients_through_others():
    records = [
        record("a", group="g1"),
        record("b", group="g1", patient="p1"),
        record("c", patient="p1"),
        record("d", group="g2"),
        record("e"),
        record("f"),
    ]
    assert components(records) == (("a", "b", "c"), ("d",), ("e",), ("f",))


def test_the_same_name_in_two_datasets_ties_nothing():
    records = [record("a", patient="1"), record("b", patient="1", dataset="other"), record("c", group="1")]
    assert len(components(records)) == 3


def test_one_case_id_in_two_datasets_is_refused():
    with pytest.raises(SplitError, match="'a' stands twice, in d and in other"):
        stratified_group_folds([record("a"), record("a", dataset="other")], folds=2)


@settings(max_examples=60, deadline=None)
@given(archives(), st.integers(2, 5), st.integers(0, 3))
def test_folds_cover_every_case_once_and_part_no_component(records, folds, seed):
    if len(components(records)) < folds:
        with pytest.raises(SplitError, match="cannot fill"):
            stratified_group_folds(records, folds=folds, seed=seed)
        return
    made = stratified_group_folds(records, folds=folds, seed=seed)
    ids = [r.case_id for r in records]
    assert sorted(i for fold in made for i in fold.test) == sorted(ids)
    for fold in made:
        assert fold.test
        assert set(fold.train) == set(ids) - set(fold.test)
        check_split(records, fold)
        for tied in components(records):
            assert set(tied) <= set(fold.train) or set(tied) <= set(fold.test)


@settings(max_examples=20, deadline=None)
@given(archives(), st.randoms(use_true_random=False))
def test_folds_do_not_depend_on_the_order_of_the_records(records, random):
    shuffled = list(records)
    random.shuffle(shuffled)
    assume(len(components(records)) >= 2)
    for one, other in zip(
        stratified_group_folds(records, folds=2), stratified_group_folds(shuffled, folds=2), strict=True
    ):
        assert set(one.test) == set(other.test)


def test_the_seed_decides():
    records = realistic(0)
    assert stratified_group_folds(records, seed=1) == stratified_group_folds(records, seed=1)
    assert stratified_group_folds(records, seed=1) != stratified_group_folds(records, seed=2)


def imbalance(records, tests):
    """Largest deviation of a fold's class count from an even share, in cases."""
    pathology = {r.case_id: r.pathology for r in records}
    whole = Counter(pathology.values())
    return max(
        abs(Counter(pathology[i] for i in test)[c] - whole[c] / len(tests)) for test in tests for c in PATHOLOGIES
    )


@pytest.mark.parametrize("seed", range(5))
def test_classes_are_balanced_no_worse_than_by_scikit_learn(seed):
    model_selection = pytest.importorskip("sklearn.model_selection")
    records = realistic(seed)
    ours = [fold.test for fold in stratified_group_folds(records, folds=5, seed=seed)]
    labels, groups = [r.pathology for r in records], [r.group for r in records]
    splitter = model_selection.StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    theirs = [[records[i].case_id for i in test] for _, test in splitter.split(labels, labels, groups)]
    assert imbalance(records, ours) <= max(imbalance(records, theirs), 1.0)
    sizes = [len(test) for test in ours]
    assert max(sizes) - min(sizes) <= 3


def test_a_class_in_too_few_groups_is_told(caplog):
    records = [record(f"c{i}") for i in range(20)] + [record("m", "malignant")]
    with caplog.at_level(logging.WARNING):
        stratified_group_folds(records, folds=5)
    assert "malignant stands in 1 groups only" in caplog.text


@pytest.mark.parametrize("folds", [1, 0, -3])
def test_fewer_than_two_folds_are_refused(folds):
    with pytest.raises(InvalidValueError, match="at least 2"):
        stratified_group_folds([record("a"), record("b")], folds=folds)


@pytest.mark.parametrize(
    ("records", "named"),
    [
        ([record("a", group="g7"), record("b", group="g7")], "group 'g7' of d"),
        ([record("a", patient="p7"), record("b", patient="p7")], "patient 'p7' of d"),
    ],
)
def test_the_guard_names_the_group_and_both_sides(records, named):
    with pytest.raises(SplitError, match=named) as caught:
        check_split([*records, record("z")], Fold(train=("a",), test=("b", "z")))
    assert "'a' is in train and 'b' in test" in str(caught.value)


def test_the_guard_sees_ties_through_a_case_on_neither_side():
    records = [record("a", group="g1"), record("b", group="g1", patient="p1"), record("c", patient="p1")]
    with pytest.raises(SplitError, match="through 'b'"):
        check_split(records, Fold(train=("a",), test=("c",)))


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        (Fold(train=("a",), test=("a", "b")), "in train and in test"),
        (Fold(train=("a",), test=()), "test side of the split is empty"),
        (Fold(train=(), test=("a",)), "train side of the split is empty"),
        (Fold(train=("a",), test=("x",)), "'x' first"),
    ],
)
def test_the_guard_refuses_nonsense(fold, message):
    with pytest.raises(SplitError, match=message):
        check_split([record("a"), record("b")], fold)


def test_the_guard_lets_a_clean_split_through_that_leaves_cases_out():
    check_split([record("a", group="1"), record("b", group="2"), record("c")], Fold(train=("a",), test=("b",)))


@pytest.mark.parametrize(("fraction", "low", "high"), [(0.2, 0.15, 0.25), (0.1, 0.07, 0.13), (0.5, 0.45, 0.55)])
def test_validation_is_a_part_of_the_training_side_alone(fraction, low, high):
    records = realistic(3)
    outer = stratified_group_folds(records)[0]
    inner = inner_validation(records, outer.train, fraction=fraction, seed=1)
    assert set(inner.train) | set(inner.test) == set(outer.train)
    assert low <= len(inner.test) / len(outer.train) <= high
    check_split(records, inner)
    assert imbalance([r for r in records if r.case_id in outer.train], [inner.test] * round(1 / fraction)) < 6


def test_validation_follows_ties_through_cases_outside_the_training_side():
    records = [record("a", group="g1"), record("b", group="g1", patient="p1"), record("c", patient="p1")]
    records += [record(f"x{i}") for i in range(10)]
    inner = inner_validation(records, [r.case_id for r in records if r.case_id != "b"], fraction=0.5)
    assert ({"a", "c"} <= set(inner.train)) or ({"a", "c"} <= set(inner.test))


@pytest.mark.parametrize("fraction", [0, -0.1, 0.6, 1.0])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(InvalidValueError, match="fraction"):
        inner_validation([record("a"), record("b")], ["a", "b"], fraction=fraction)


def test_validation_of_unknown_cases_is_refused():
    with pytest.raises(SplitError, match="'x'"):
        inner_validation([record("a"), record("b")], ["a", "x"])
