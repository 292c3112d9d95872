import time
from collections import Counter
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoseek.core import PATHOLOGIES, InvalidValueError, NotFoundError
from sonoseek.datasets.phantom import SCANNERS, PhantomDataset, make_phantom, plan_phantom, truth_of

PLANS = [plan_phantom(seed) for seed in range(600)]


def test_records_of_600_are_cheap_and_complete():
    start = time.perf_counter()
    records = PhantomDataset().records()
    assert time.perf_counter() - start < 0.2
    assert len(records) == 600
    assert len({record.case_id for record in records}) == 600
    for record in records:
        assert record.dataset == "phantom"
        assert record.licence == "CC0-1.0"
        assert record.group == record.patient_id
        assert record.device in SCANNERS
        assert 18 <= record.age_years <= 88
        assert isinstance(record.acquired, date)


def test_shares_are_near_busis():
    shares = Counter(plan.pathology for plan in PLANS)
    assert shares["normal"] / 600 == pytest.approx(0.17, abs=0.05)
    assert shares["benign"] / 600 == pytest.approx(0.56, abs=0.06)
    assert shares["malignant"] / 600 == pytest.approx(0.27, abs=0.06)


def test_birads_and_histology_fit_the_pathology():
    allowed = {"normal": {"1"}, "benign": {"2", "3", "4A"}, "malignant": {"4B", "4C", "5"}}
    for pathology in PATHOLOGIES:
        plans = [plan for plan in PLANS if plan.pathology == pathology]
        assert {plan.birads for plan in plans} == allowed[pathology]
        assert all((plan.histology is None) == (pathology == "normal") for plan in plans)
        if pathology == "malignant":
            assert all("carcinoma" in plan.histology for plan in plans)


@pytest.mark.parametrize("mark", ["calipers", "caption", "device"])
def test_marks_and_devices_tell_nothing_about_the_class(mark):
    values = [plan.scanner.name if mark == "device" else str(getattr(plan, mark)) for plan in PLANS]
    counts = Counter(zip(values, (plan.pathology for plan in PLANS), strict=True))
    table = np.array([[counts[value, pathology] for pathology in PATHOLOGIES] for value in sorted(set(values))], float)
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    chi2 = ((table - expected) ** 2 / expected).sum()
    freedom = (table.shape[0] - 1) * 2
    assert chi2 < freedom + 3.1 * np.sqrt(2 * freedom)  # about p = 0.005
    assert table.sum(1).min() > 30  # every value is in use


def test_marks_do_not_follow_a_forced_pathology():
    for seed in range(30):
        plans = [plan_phantom(seed, pathology=pathology) for pathology in PATHOLOGIES]
        assert len({(p.calipers, p.caption, p.scanner.name, p.depth_mm) for p in plans}) == 1
        assert len({p.case_id for p in plans}) == 3


def test_patients_have_one_to_three_scans_and_one_diagnosis():
    dataset = PhantomDataset(count=300, seed=4)
    patients = {}
    for record in dataset.records():
        patients.setdefault(record.patient_id, []).append(record)
    sizes = Counter(len(records) for records in patients.values())
    assert set(sizes) == {1, 2, 3}
    for records in patients.values():
        assert len({(r.pathology, r.birads, r.histology, r.age_years, r.device) for r in records}) == 1


def test_archives_of_different_seeds_share_no_patient():
    one, two = ({r.patient_id for r in PhantomDataset(count=50, seed=seed).records()} for seed in (0, 1))
    assert not one & two


def test_a_shorter_archive_is_the_start_of_a_longer_one():
    assert PhantomDataset(count=20).records() == PhantomDataset(count=60).records()[:20]


def test_malignant_stands_taller_than_wide_more_often():
    shares = {}
    for pathology in ("benign", "malignant"):
        truths = [truth_of(plan_phantom(seed, pathology=pathology)) for seed in range(120)]
        shares[pathology] = np.mean([truth.taller_than_wide for truth in truths])
    assert shares["benign"] < 0.15
    assert 0.35 < shares["malignant"] < 0.85  # not all of them: some are nearly parallel


def test_normal_has_no_truth():
    assert truth_of(plan_phantom(0, pathology="normal")) is None


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    view=st.integers(0, 2),
    pathology=st.sampled_from(["benign", "malignant"]),
    scanner=st.sampled_from(sorted(SCANNERS)),
)
def test_the_lesion_lies_inside_the_field_of_view(seed, view, pathology, scanner):
    plan = plan_phantom(seed, view=view, pathology=pathology, scanner=scanner)
    truth = truth_of(plan)
    assert truth is not None
    assert truth.axes_mm[0] >= truth.axes_mm[1] > 1.5
    assert max(truth.extent_mm) < plan.depth_mm
    assert 0 < truth.centre[0] < 700
    assert truth.spacing_mm[0] * plan.scanner.rows == pytest.approx(plan.depth_mm)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"seed": -1}, InvalidValueError, "≥ 0"),
        ({"seed": 1, "pathology": "cyst"}, InvalidValueError, "normal, benign, malignant"),
        ({"seed": 1, "scanner": "Aurelia"}, NotFoundError, "Aurelia 7"),
    ],
)
def test_bad_input_is_refused_with_the_rule(arguments, error, says):
    with pytest.raises(error, match=says):
        make_phantom(**arguments)


def test_bad_archives_are_refused():
    with pytest.raises(InvalidValueError, match="count=0"):
        PhantomDataset(count=0)
    with pytest.raises(NotFoundError, match="phantom-0000000-0"):
        PhantomDataset(count=3).load("nothing")
