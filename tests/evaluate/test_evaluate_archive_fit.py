"""A calibration refitted on an archive: what was drawn is found, few cases move little, no patient judges itself."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from archive_made import POINTS, draw, make_bundle, make_cases, make_entries
from scipy.optimize import minimize

from sonoseek.core import PATHOLOGIES, BundleMismatchError, InvalidValueError, SplitError
from sonoseek.encoder import OODModel, calibrated, predict
from sonoseek.encoder.seen import hash_bytes, training_scans
from sonoseek.evaluate import archive_fit
from sonoseek.evaluate.archive_cases import ArchiveCases, collect_cases, group_scans
from sonoseek.evaluate.archive_fit import FEWEST_CASES, calibrate_archive, calibrate_cases
from sonoseek.evaluate.archive_scaling import BIAS_SD, TEMPERATURE_SD, carried_threshold, fit_scaling
from sonoseek.evaluate.calibrate import softmax
from sonoseek.gallery import create_gallery

MALIGNANT = PATHOLOGIES.index("malignant")
ALL = (0, 1, 2)


def with_malignant(cases: ArchiveCases, count: int) -> ArchiveCases:
    """The first so many malignant ones, and all others."""
    kept = (cases.labels != MALIGNANT) | (np.cumsum(cases.labels == MALIGNANT) <= count)
    names = ("logits", "labels", "groups", "cases")
    return replace(cases, **{name: getattr(cases, name)[kept] for name in names})


class TestFit:
    @pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
    def test_a_known_temperature_and_known_biases_are_found(self, temperature: float) -> None:
        bias = (-0.6, 0.2, 0.4)
        found, biases = fit_scaling(
            *draw(6000, temperature=temperature, bias=bias), temperature=1.0, classes=ALL, weight=1.0
        )
        assert found == pytest.approx(temperature, rel=0.08)
        assert biases == pytest.approx(bias, abs=0.1)

    @pytest.mark.parametrize("classes", [ALL, (1, 2), ()])
    def test_it_is_the_posterior_s_maximum(self, classes: tuple[int, ...]) -> None:
        logits, labels = draw(150, temperature=2.0, bias=(0.0, -0.5, 0.5), seed=4)
        weight, centre = 0.4, 1.3
        chosen = list(classes or ALL)
        rows = np.isin(labels, chosen)

        def cost(x: np.ndarray) -> float:
            bias = x[1:] if classes else np.zeros(3)
            p = softmax(logits[rows][:, chosen] / x[0] + bias)
            nll = -np.log(p[np.arange(rows.sum()), np.searchsorted(chosen, labels[rows])]).sum()
            return weight * nll + np.log(x[0] / centre) ** 2 / TEMPERATURE_SD**2 / 2 + (bias**2).sum() / BIAS_SD**2 / 2

        known = minimize(
            cost, np.array([centre, *([0.0] * len(chosen))]), bounds=[(0.1, 9), *([(-5, 5)] * len(chosen))]
        )
        temperature, bias = fit_scaling(logits, labels, temperature=centre, classes=classes, weight=weight)
        assert temperature == pytest.approx(known.x[0], rel=1e-3)
        if classes:  # the prior alone makes the biases sum to 0
            assert bias[chosen] == pytest.approx(known.x[1:], abs=2e-3)
        assert bias.sum() == pytest.approx(0, abs=1e-9)

    def test_few_cases_move_little(self) -> None:
        moved = [
            abs(np.log(fit_scaling(*draw(n, temperature=3.0), temperature=1.0, classes=ALL, weight=1.0)[0]))
            for n in (3, 30, 3000)
        ]
        assert moved[0] < 0.4
        assert moved == sorted(moved)

    def test_scans_of_one_patient_count_as_one_patient(self) -> None:
        logits, labels = draw(40, temperature=3.0)
        once = fit_scaling(logits, labels, temperature=1.0, classes=ALL, weight=1.0)
        ten_times = fit_scaling(np.tile(logits, (10, 1)), np.tile(labels, 10), temperature=1.0, classes=ALL, weight=0.1)
        assert ten_times[0] == pytest.approx(once[0], rel=1e-6)
        assert ten_times[1] == pytest.approx(once[1], abs=1e-6)

    def test_a_class_that_the_archive_lacks_is_not_talked_down(self) -> None:
        cases = make_cases(400, classes=2, bias=(0.0, 0.5, -0.5))
        found = calibrate_cases(cases, make_bundle(), gallery_id="g")
        assert found.class_bias["normal"] == 0.0
        assert found.class_bias["benign"] == pytest.approx(-found.class_bias["malignant"])
        assert found.class_bias["benign"] > 0.2
        assert found.class_cases.keys() == {"benign", "malignant"}

    def test_a_perfect_network_gets_a_finite_temperature(self) -> None:
        logits = np.tile(np.eye(3) * 8, (50, 1))
        temperature, bias = fit_scaling(logits, np.tile(np.arange(3), 50), temperature=1.0, classes=ALL, weight=1.0)
        assert 0.1 < temperature <= 1.0
        assert np.isfinite(bias).all()


class TestThresholds:
    def test_a_carried_threshold_calls_as_many_scans_and_as_many_malignant_ones(self) -> None:
        rng = np.random.default_rng(0)
        before, positive = rng.random(200), rng.random(200) < 0.4
        after = np.clip(before**2 + rng.normal(0, 0.1, 200), 0, 1)
        threshold = carried_threshold(before, after, positive, threshold=0.3)
        assert (after >= threshold).sum() >= (before >= 0.3).sum()
        assert (after >= threshold)[positive].sum() >= (before >= 0.3)[positive].sum()
        one_more = np.nextafter(threshold, 1)
        assert (after >= one_more).sum() < (before >= 0.3).sum() or (after >= one_more)[positive].sum() < (
            before >= 0.3
        )[positive].sum()

    def test_with_few_malignant_cases_the_98_threshold_is_the_bundle_s_and_it_is_reported(self) -> None:
        cases = with_malignant(make_cases(400), 40)
        found = calibrate_cases(cases, make_bundle(), gallery_id="g")
        assert found.bundle_points == ["sensitivity_98"]
        point = found.operating_points["sensitivity_98"]
        assert point["sensitivity"] == POINTS["sensitivity_98"]["sensitivity"]
        assert point["threshold"] <= found.operating_points["sensitivity_95"]["threshold"]
        many = calibrate_cases(make_cases(400), make_bundle(), gallery_id="g")
        assert many.bundle_points == []
        assert many.operating_points.keys() == POINTS.keys()

    def test_a_carried_threshold_never_stands_above_that_of_a_lower_sensitivity(self) -> None:
        high = {**POINTS, "sensitivity_98": {"threshold": 0.99, "sensitivity": 0.98, "specificity": 0.5}}
        cases = with_malignant(make_cases(400), 40)
        points = calibrate_cases(cases, make_bundle(operating_points=high), gallery_id="g").operating_points
        assert points["sensitivity_98"]["threshold"] == points["sensitivity_95"]["threshold"]


class TestJudgement:
    def test_overconfident_logits_are_better_calibrated_afterwards(self) -> None:
        found = calibrate_cases(make_cases(600, temperature=3.0), make_bundle(), gallery_id="g")
        assert found.improved_by == "log_loss"
        assert found.log_loss_change.high is not None
        assert found.log_loss_change.high < 0
        for name in ("log_loss", "ece"):
            before, after = found.figures[name].before, found.figures[name].after
            assert None not in (before.value, after.value)
            assert after.value < before.value
        for rate in ("sensitivity_90", "sensitivity_95"):
            after = found.figures[f"{rate}:sensitivity"].after
            assert after.low <= float(rate[-2:]) / 100 <= after.high
        coverage = found.figures["set_coverage"].after
        assert coverage.low <= 0.9 <= coverage.high
        for pair in found.figures.values():
            for figure in (pair.before, pair.after):
                assert figure.low <= figure.value <= figure.high

    def test_a_network_that_is_calibrated_is_left_alone(self) -> None:
        cases = make_cases(300)
        p = softmax(cases.logits)[:, MALIGNANT]
        malignant = np.sort(p[cases.labels == MALIGNANT])
        good = {
            name: {**POINTS[name], "threshold": float(malignant[int((1 - rate) * len(malignant))])}
            for name, rate in (("sensitivity_98", 0.98), ("sensitivity_95", 0.95), ("sensitivity_90", 0.9))
        }
        assert calibrate_cases(cases, make_bundle(operating_points=good), gallery_id="g").improved_by == ""

    def test_a_threshold_that_misses_its_sensitivity_here_is_reason_enough(self) -> None:
        missed = {**POINTS, "sensitivity_98": {"threshold": 0.6, "sensitivity": 0.98, "specificity": 0.5}}
        found = calibrate_cases(make_cases(300), make_bundle(operating_points=missed), gallery_id="g")
        assert found.log_loss_change.high is None or found.log_loss_change.high > 0
        assert found.improved_by == "sensitivity_98"
        pair = found.figures["sensitivity_98:sensitivity"]
        assert pair.before.high < 0.98
        assert pair.after.value > pair.before.high

    def test_no_group_is_judged_by_what_was_fitted_on_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cases = make_cases(300, per_group=3)
        fits = []
        monkeypatch.setattr(
            archive_fit,
            "_fit",
            lambda *a, which, fit=archive_fit._fit, **k: fits.append(which) or fit(*a, which=which, **k),
        )
        calibrate_cases(cases, make_bundle(), gallery_id="g")
        assert fits[0].all()
        assert len(fits) == 1 + archive_fit.FOLDS * archive_fit.REPEATS
        for which in fits[1:]:
            assert not set(cases.groups[which]) & set(cases.groups[~which])
            assert 0.1 < (~which).mean() < 0.3

    def test_intervals_are_wider_where_patients_have_many_scans(self) -> None:
        wide, narrow = (
            calibrate_cases(make_cases(600, per_group=per), make_bundle(), gallery_id="g") for per in (12, 1)
        )
        one = make_cases(50, seed=9)
        ten = replace(
            one,
            **{name: np.repeat(getattr(one, name), 12, axis=0) for name in ("logits", "labels", "groups")},
            cases=np.arange(600),
        )
        repeated = calibrate_cases(ten, make_bundle(), gallery_id="g").figures["auroc"].before
        alone = narrow.figures["auroc"].before
        assert repeated.high - repeated.low > 2 * (alone.high - alone.low)
        assert wide.patients == 50
        assert narrow.patients == 600

    def test_the_bundle_predicts_by_it(self) -> None:
        cases, bundle = make_cases(400, temperature=3.0), make_bundle()
        found = calibrate_cases(cases, bundle, gallery_id="g")
        said = predict(calibrated(bundle, found), cases.logits[0].astype(np.float32))
        scores = cases.logits[0] / found.temperature + np.array(list(found.class_bias.values()))
        assert list(said.probabilities.values()) == pytest.approx(softmax(scores), abs=1e-6)
        assert said.calibration.cases == 400
        assert {p.name: p.threshold for p in said.operating_points} == {
            name: point["threshold"] for name, point in found.operating_points.items()
        }


class TestRefusal:
    @pytest.mark.parametrize(
        ("count", "malignant", "per_group"), [(99, 45, 1), (100, 29, 1), (100, 71, 1), (100, 50, 6)]
    )
    def test_too_few_cases_are_refused_with_the_numbers(self, count: int, malignant: int, per_group: int) -> None:
        cases = make_cases(count, per_group=per_group)
        cases = replace(cases, labels=np.where(np.arange(count) < malignant, MALIGNANT, 1))
        with pytest.raises(InvalidValueError, match=rf"{count} cases can be used, {malignant} malignant.*takes 100"):
            calibrate_cases(cases, make_bundle(), gallery_id="g")

    def test_the_least_that_is_asked_for_is_enough(self) -> None:
        cases = make_cases(FEWEST_CASES)
        cases = replace(cases, labels=np.where(np.arange(FEWEST_CASES) < 30, MALIGNANT, 1))
        assert calibrate_cases(cases, make_bundle(), gallery_id="g").cases == FEWEST_CASES

    def test_a_bundle_without_the_class_malignant_is_refused(self, tmp_path: Path) -> None:
        bundle = make_bundle(classes=("normal", "benign"))
        with (
            create_gallery(tmp_path / "g", bundle_id="made-1", dimension=24) as gallery,
            pytest.raises(InvalidValueError, match="malignant"),
        ):
            calibrate_archive(gallery, bundle)


class TestCollection:
    def test_what_was_trained_on_is_left_out_with_its_patients(self, tmp_path: Path) -> None:
        logits, labels = draw(30)
        entries = make_entries(logits, labels)
        entries[1] = replace(entries[1], record=replace(entries[1].record, patient_id="p0"))
        from sonoseek.core import Scan

        copy = Scan(pixels=np.random.default_rng([0, 5]).integers(0, 256, (24, 32), np.uint8))
        learnt = training_scans([("theirs", entries[0].scan_id, b""), ("theirs", "ab" * 32, hash_bytes(copy))])
        bundle = make_bundle(training={"cases": {"theirs": [], "published": ["x"]}}, training_scans=learnt)
        entries[7] = replace(entries[7], record=replace(entries[7].record, dataset="published", case_id="x"))
        with create_gallery(tmp_path / "g", bundle_id="made-1", dimension=24) as gallery:
            gallery.add(entries)
            found = collect_cases(gallery, bundle)
        # entry 0 by its pixels, 5 by its picture's hash, 7 by its name; 1 is of the patient of 0
        assert found.left_out == {"trained_on": 3, "related": 1}
        assert len(found.labels) == 26
        kept = [n for n in range(30) if n not in (0, 1, 5, 7)]
        assert sorted(found.logits[:, 0]) == pytest.approx(sorted(logits[kept, 0]), abs=0.01)

    def test_what_gets_no_prediction_and_labels_that_the_bundle_lacks_are_left_out(self, tmp_path: Path) -> None:
        logits, labels = draw(60)
        entries = make_entries(logits, labels)
        unit = np.stack([entry.embedding / np.linalg.norm(entry.embedding) for entry in entries])
        model = OODModel(
            mean=unit[:50].mean(0),
            components=np.eye(1, 24, dtype=np.float32),
            variances=np.ones(1),
            residual_variance=1.0,
            threshold=float(np.sort(np.linalg.norm(unit - unit[:50].mean(0), axis=1))[-6]),
            level=0.9,
        )
        two = make_bundle(
            classes=("benign", "malignant"),
            head_weight=np.eye(3, 24, dtype=np.float32)[1:],
            head_bias=np.zeros(2),
            ood=model,
        )
        with create_gallery(tmp_path / "g", bundle_id="made-1", dimension=24) as gallery:
            gallery.add(entries)
            found = collect_cases(gallery, two)
        normal = labels == 0
        assert found.left_out["other_class"] == normal.sum()
        assert 1 <= found.left_out["out_of_distribution"] <= 5
        assert len(found.labels) == 60 - sum(found.left_out.values())
        assert set(found.labels.tolist()) == {0, 1}
        assert found.logits.shape[1] == 2

    def test_a_bundle_of_two_classes_is_calibrated_too(self) -> None:
        logits, labels = draw(300, temperature=3.0, classes=2)
        cases = replace(make_cases(300), logits=logits[:, 1:], labels=labels - 1)
        found = calibrate_cases(cases, make_bundle(classes=("benign", "malignant")), gallery_id="g")
        assert found.class_bias.keys() == {"benign", "malignant"}
        assert found.temperature > 2
        coverage = found.figures["set_coverage"].after
        assert coverage.low <= 0.9 <= coverage.high

    def test_a_bundle_that_cannot_tell_is_refused(self, tmp_path: Path) -> None:
        bundle = make_bundle(training={"cases": {"busi": ["x"]}})
        with create_gallery(tmp_path / "g", bundle_id="made-1", dimension=24) as gallery:
            gallery.add(make_entries(*draw(3)))
            with pytest.raises(SplitError, match="does not carry the hashes"):
                collect_cases(gallery, bundle)

    def test_where_nothing_is_left_it_says_why(self, tmp_path: Path) -> None:
        entries = make_entries(*draw(120))
        learnt = training_scans([("theirs", entry.scan_id, b"") for entry in entries])
        with create_gallery(tmp_path / "g", bundle_id="made-1", dimension=24) as gallery:
            gallery.add(entries)
            with pytest.raises(InvalidValueError, match=r"0 cases can be used.*120 were in the bundle's training data"):
                calibrate_archive(gallery, make_bundle(training={"cases": {"theirs": []}}, training_scans=learnt))
        with (
            create_gallery(tmp_path / "empty", bundle_id="made-1", dimension=24) as gallery,
            pytest.raises(InvalidValueError, match="0 cases can be used"),
        ):
            calibrate_archive(gallery, make_bundle())

    def test_another_bundle_s_gallery_is_refused(self, tmp_path: Path) -> None:
        with (
            create_gallery(tmp_path / "g", bundle_id="other-1", dimension=24) as gallery,
            pytest.raises(BundleMismatchError, match="other-1"),
        ):
            calibrate_archive(gallery, make_bundle())

    def test_cases_patients_groups_and_near_duplicates_stay_together(self) -> None:
        entries = make_entries(*draw(12))
        records = [entry.record for entry in entries]
        records[1] = replace(records[1], patient_id="p0")
        records[2] = replace(records[2], group="g")
        records[3] = replace(records[3], group="g", patient_id=None)
        records[4] = replace(records[4], dataset="other", patient_id="p0")  # another archive's patient
        embeddings = np.stack([entry.embedding for entry in entries])
        embeddings[6] = embeddings[5] * 1.7 + 0.001
        entries = [replace(entry, record=record) for entry, record in zip(entries, records, strict=True)]
        groups = group_scans(entries, embeddings, duplicate_threshold=0.99)
        together = {tuple(np.flatnonzero(groups == group)) for group in set(groups.tolist())}
        assert together == {(0, 1), (2, 3), (5, 6), *((n,) for n in (4, 7, 8, 9, 10, 11))}

    def test_it_reads_a_gallery_and_needs_no_torch_no_scipy_and_no_scikit_learn(self, tmp_path: Path) -> None:
        with create_gallery(tmp_path / "g", bundle_id="made-1", dimension=24) as gallery:
            gallery.add(make_entries(*draw(300, temperature=3.0)))
        code = (
            "import sys; sys.path.insert(0, sys.argv[2])\n"
            "for name in ('torch', 'scipy', 'sklearn', 'skimage', 'matplotlib'): sys.modules[name] = None\n"
            "from sonoseek import calibrate_archive, open_gallery\n"
            "from archive_made import make_bundle\n"
            "print(calibrate_archive(open_gallery(sys.argv[1]), make_bundle()).cases)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "g"), str(Path(__file__).parent)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == "300"
