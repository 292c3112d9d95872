"""A hospital left out: figures under others' thresholds, searches in both galleries, and a run from end to end."""

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score
from tiny_archive import TinyDataset, TinyProtocol, run_protocol

from sonoseek.core import InvalidValueError
from sonoseek.datasets import inner_validation
from sonoseek.evaluate import rescore
from sonoseek.evaluate.bootstrap import group_weights
from sonoseek.evaluate.files import CASES, read_cases, read_results
from sonoseek.evaluate.hospitals import (
    hospital_figures,
    most_accurate_threshold,
    travelling_calibration,
    two_way,
)
from sonoseek.evaluate.page_hospitals import hospital_rows, hospital_tables
from sonoseek.evaluate.protocols.base import Round
from sonoseek.evaluate.rows import CaseRow, ScanRow, Search, SystemResults


class TwoHospitals(TinyProtocol):
    """Hospital a has no normal scans; each is tested once. Both draw some of the same pictures: not guarded."""

    name = "two-hospitals"
    own_archive = True

    def open(self, data_root: object) -> dict[str, TinyDataset]:
        return {
            "a": TinyDataset(48, name="a", classes=("benign", "malignant"), noise=60.0),
            "b": TinyDataset(60, name="b", noise=60.0),
        }

    def rounds(self, datasets: object) -> tuple[Round, ...]:
        rounds = []
        for fold, (left_out, other) in enumerate((("a", "b"), ("b", "a"))):
            records = datasets[other].records()  # type: ignore[index]
            inner = inner_validation(records, [r.case_id for r in records], fraction=0.25, seed=0)
            test = tuple(r.case_id for r in datasets[left_out].records())  # type: ignore[index]
            rounds.append(
                Round(
                    seed=0,
                    fold=fold,
                    train={other: inner.train},
                    validation={other: inner.test},
                    test={left_out: test},
                )
            )
        return tuple(rounds)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_protocol(TwoHospitals(guarded=False), tmp_path_factory.mktemp("hospitals"))


def read(folder: Path) -> tuple[dict[str, CaseRow], SystemResults]:
    cases = read_cases(folder / CASES)
    return cases, read_results(folder, cases)["nearest-pixels"]


def searched(results: SystemResults, kind: str) -> list[tuple[ScanRow, Search]]:
    found = [(row, getattr(row, kind)) for row in results.predictions]
    assert len(found) == 108
    assert all(search is not None for _, search in found)
    return found


def test_each_hospital_is_scored_on_its_own_and_the_mean_is_theirs(folder: Path) -> None:
    cases, results = read(folder)
    found = hospital_figures(results, cases)
    assert set(found) == {"a", "b", "mean", "worst"}
    for name in ("a", "b"):
        rows = [r for r in results.predictions if cases[r.scan].dataset == name and r.label != "normal"]
        score = [r.probabilities[2] / max(1e-12, r.probabilities[1] + r.probabilities[2]) for r in rows]
        truth = [r.label == "malignant" for r in rows]
        assert found[name]["auroc"]["value"] == pytest.approx(roc_auc_score(truth, score))
        assert found[name]["auroc"]["low"] <= found[name]["auroc"]["value"] <= found[name]["auroc"]["high"]
    mean = (found["a"]["auroc"]["value"] + found["b"]["auroc"]["value"]) / 2
    assert found["mean"]["auroc"]["value"] == pytest.approx(mean)
    for part in (found["a"], found["b"], found["mean"]):  # resampling makes it larger: its interval is shifted back
        assert part["ece"]["low"] <= part["ece"]["value"] <= part["ece"]["high"]
    assert "auroc_against_all" in found["b"]
    assert "auroc_against_all" not in found["a"]  # it has no normal scans
    assert "auroc_against_all" not in found["mean"]
    worst = min(("a", "b"), key=lambda name: found[name]["accuracy"]["value"])
    assert found["worst"]["accuracy"] == worst


def test_the_threshold_is_the_other_hospitals(folder: Path) -> None:
    cases, results = read(folder)
    rows = [r for r in results.predictions if cases[r.scan].dataset == "a"]
    held = [r for r in results.predictions if cases[r.scan].dataset != "a"]
    assert {cases[r.scan].dataset for r in held} == {"b"}
    lesions = [r for r in held if r.label != "normal"]

    def score(row: ScanRow) -> float:
        return row.probabilities[2] / max(1e-12, row.probabilities[1] + row.probabilities[2])

    threshold = most_accurate_threshold(
        np.array([score(r) for r in lesions]), np.array([r.label == "malignant" for r in lesions])
    )
    called = [score(r) >= threshold for r in rows]
    wanted = accuracy_score([r.label == "malignant" for r in rows], called)
    assert hospital_figures(results, cases)["a"]["accuracy"]["value"] == pytest.approx(wanted)


def test_own_archive_searches_never_answer_with_the_querys_group(folder: Path) -> None:
    cases, results = read(folder)
    for row, search in searched(results, "own_archive"):
        assert {cases[match].dataset for match in search.matches} == {cases[row.scan].dataset}
        assert row.group not in {cases[match].group for match in search.matches}
    for row, search in searched(results, "search"):
        assert {cases[match].dataset for match in search.matches} == {"ab".replace(cases[row.scan].dataset, "")}
    found = hospital_figures(results, cases)
    own = [(r, s) for r, s in searched(results, "own_archive") if cases[r.scan].dataset == "a"]
    shares = [np.mean([cases[m].label == r.label for m in s.matches[:5]]) for r, s in own]
    assert found["a"]["own_archive_precision@5"]["value"] == pytest.approx(np.mean(shares))


def test_a_query_whose_class_no_other_hospital_has_is_not_scored_among_them(folder: Path) -> None:
    cases, results = read(folder)
    found = [(row, search) for row, search in searched(results, "search") if row.scan.startswith("b/")]
    normal = [search.relevant for row, search in found if row.label == "normal"]
    assert normal
    assert set(normal) == {0}
    shares = [np.mean([cases[m].label == r.label for m in s.matches[:5]]) for r, s in found if s.relevant]
    assert hospital_figures(results, cases)["b"]["precision@5"]["value"] == pytest.approx(np.mean(shares))


def test_the_page_and_the_command_line_have_a_table(folder: Path) -> None:
    systems = list(rescore(folder.parent)["two-hospitals"].systems.values())
    (shown,) = hospital_tables(systems)
    assert [(head["value"], head["scans"]) for head in shown["heads"]] == [("a", 48), ("b", 60), ("mean", 108)]
    assert any("two-way accuracy" in line for line in shown["rows"][0]["cells"][2])
    heads, rows = hospital_rows(systems)
    assert [row[1] for row in rows] == ["a", "b", "mean"]
    assert all(len(row) == len(heads) for row in rows)


def test_a_protocol_on_one_archive_has_no_such_table(finished_run: Path) -> None:
    systems = list(rescore(finished_run.parent, write=False)["tiny"].systems.values())
    assert hospital_tables(systems) == []
    assert hospital_rows(systems)[1] == []


def test_the_most_accurate_threshold_is_right_most_often_with_equal_scores() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 2, 7, 40):
        score, positive = rng.integers(0, 6, size) / 5, rng.random(size) < 0.5
        threshold = most_accurate_threshold(score, positive)
        best = max(np.mean((score >= other) == positive) for other in (*score, 2.0))
        assert np.mean((score >= threshold) == positive) == best


def test_errors_are_counted_among_the_surest() -> None:
    predictions = [("malignant", 0.95), ("benign", 0.1), ("benign", 0.2), ("malignant", 0.9), ("malignant", 0.45)]
    rows = [row(label, p, scan=str(i)) for i, (label, p) in enumerate(predictions)]
    figures = two_way(rows, np.ones((1, 5)), others=())
    assert figures["error_at_80%_coverage"][0] == 0
    assert figures["aurc"][0] > 0
    assert "accuracy" not in figures  # nothing to fit a threshold on


def row(label: str, malignancy: float, *, normal: float = 0.0, scan: str = "s") -> ScanRow:
    lesion = 1 - normal
    return ScanRow(
        seed=0,
        fold=0,
        side="test",
        scan=scan,
        group=scan,
        label=label,
        normal=normal,
        benign=lesion * (1 - malignancy),
        malignant=lesion * malignancy,
    )


def test_a_calibration_that_travels_lowers_what_was_too_sure() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(600) < 0.4
    honest = 1 / (1 + np.exp(-(2 * truth - 1 + rng.normal(0, 1, 600))))
    sure = honest**3 / (honest**3 + (1 - honest) ** 3)  # logits three times as large
    rows = [row("malignant" if t else "benign", p) for t, p in zip(truth, sure, strict=True)]
    rows += [row("normal", 0.99) for _ in range(300)]  # of a class that the networks could not know: left out
    found = travelling_calibration(rows)
    again = travelling_calibration([row(r.label, h) for r, h in zip(rows, honest, strict=False)])
    assert found.temperature == pytest.approx(3 * again.temperature, rel=0.02)
    assert found.operating_points["sensitivity_98"]["sensitivity"] >= 0.98
    with pytest.raises(InvalidValueError, match="needs benign and malignant"):
        travelling_calibration([row("benign", 0.1), row("normal", 0.2)])


def test_coverage_and_refitted_error_are_those_of_the_other_hospitals() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(2000) < 0.5
    p = np.clip(np.where(truth, 0.7, 0.3) + rng.normal(0, 0.2, 2000), 0.01, 0.99)
    rows = [row("malignant" if t else "benign", float(v)) for t, v in zip(truth, p, strict=True)]
    figures = two_way(rows[:1000], np.ones((1, 1000)), others=rows[1000:])
    assert figures["coverage"][0] == pytest.approx(0.9, abs=0.03)
    assert figures["ece_refitted"][0] < 0.06
    assert "coverage" not in two_way(rows[:1000], np.ones((1, 1000)), others=[])


def test_a_class_learnt_in_one_hospital_alone_gets_a_bias() -> None:
    rng = np.random.default_rng(2)
    lesions = [
        row("malignant" if i % 3 == 0 else "benign", float(rng.uniform(0.2, 0.8)), normal=0.4) for i in range(300)
    ]
    normals = [
        msgspec.structs.replace(row("normal", 0.5, normal=0.9), side="validation", scan=f"n{i}", group=f"n{i}")
        for i in range(20)
    ]
    plain = travelling_calibration(lesions)
    found = travelling_calibration(lesions, normals)
    assert plain.class_bias == ()
    assert found.class_bias[0] < -0.5  # lesions elsewhere were called normal in two fifths
    assert found.class_bias[1:] == (0.0, 0.0)
    other = [msgspec.structs.replace(each, fold=1) for each in normals]  # of a round that none of the lesions is of
    assert travelling_calibration(lesions, other).class_bias == ()


def test_intervals_draw_the_groups_of_each_hospital_and_of_all_at_once_for_the_mean(folder: Path) -> None:
    cases, results = read(folder)
    figures = hospital_figures(results, cases)
    drawn = []
    for number, name in enumerate(("a", "b")):
        rows = [r for r in results.predictions if cases[r.scan].dataset == name]
        groups = sorted({r.group for r in rows})
        areas = []
        for weights in group_weights(len(groups), seed=number):
            count = dict(zip(groups, weights.astype(int), strict=True))
            lesions = [r for r in rows if r.label != "normal" for _ in range(count[r.group])]
            score = np.array([r.malignant / max(1e-12, r.benign + r.malignant) for r in lesions])
            positive = np.array([r.label == "malignant" for r in lesions])
            gaps = score[positive][:, None] - score[~positive]
            areas.append(np.mean((np.sign(gaps) + 1) / 2))  # share of pairs in the right order
        drawn.append(areas)
        ends = (figures[name]["auroc"]["low"], figures[name]["auroc"]["high"])
        assert ends == pytest.approx(tuple(np.quantile(areas, [0.025, 0.975])))
    ends = (figures["mean"]["auroc"]["low"], figures["mean"]["auroc"]["high"])
    assert ends == pytest.approx(tuple(np.quantile(np.mean(drawn, axis=0), [0.025, 0.975])))


def test_figures_at_a_wanted_sensitivity_use_the_threshold_of_the_other_hospitals() -> None:
    rng = np.random.default_rng(4)
    truth = rng.random(400) < 0.4
    p = np.clip(np.where(truth, 0.65, 0.35) + rng.normal(0, 0.2, 400), 0.01, 0.99)
    rows = [row("malignant" if t else "benign", float(v)) for t, v in zip(truth, p, strict=True)]
    own, others = rows[:200], [*rows[200:], *(row("normal", 0.9, normal=0.8) for _ in range(50))]
    figures = two_way(own, np.ones((1, 200)), others=others)
    positive, score = truth[:200], p[:200]
    for wanted in (0.90, 0.95, 0.98):
        ordered = np.sort(p[200:][truth[200:]])[::-1]
        threshold = ordered[math.ceil(wanted * len(ordered)) - 1]
        called = score >= threshold * (1 - 1e-12)
        name = f"sensitivity_{wanted * 100:.0f}"
        assert figures[f"sensitivity_at_{name}"][0] == pytest.approx(called[positive].mean())
        assert figures[f"specificity_at_{name}"][0] == pytest.approx((~called)[~positive].mean())


def test_equal_weights_count_scans_and_a_weight_of_0_leaves_one_out() -> None:
    labels = ("malignant", "benign", "malignant", "benign", "normal")
    rows = [
        row(label, p, scan=str(i)) for i, (label, p) in enumerate(zip(labels, (0.9, 0.2, 0.4, 0.6, 0.5), strict=True))
    ]
    weights = np.array([[1.0, 1, 1, 1, 1], [1, 1, 0, 1, 1]])
    figures = two_way(rows, weights, others=())
    assert figures["auroc"].tolist() == [0.75, 1.0]
    assert figures["auroc_against_all"].shape == (2,)
