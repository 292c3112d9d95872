"""A protocol from end to end, and three ways of cheating that the benchmark must detect."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from tiny_archive import CACHE, CLASSES, TinyDataset, TinyProtocol, run_protocol

from sonoseek.core import ResultsError
from sonoseek.evaluate import SYSTEMS, evaluate, open_context, rescore
from sonoseek.evaluate.corruptions import CORRUPTIONS, UNCHANGED, Corruption
from sonoseek.evaluate.files import (
    CASES,
    ROWS,
    place_about,
    place_results,
    read_about,
    read_cases,
    read_results,
    write_cases,
)
from sonoseek.evaluate.rescoring import ScoredSystem
from sonoseek.evaluate.rows import SystemResults


def scored(folder: Path) -> ScoredSystem:
    """Nearest pixels of a protocol's folder."""
    return rescore(folder.parent)[folder.name].systems["nearest-pixels"]


def pooled(system: ScoredSystem, part: str, name: str) -> float:
    value: float = system.metrics[part][name]["pooled"]
    return value


def test_a_run_leaves_rows_of_every_scan_and_every_seed(finished_run: Path) -> None:
    cases = read_cases(finished_run / CASES)
    rows = read_results(finished_run, cases)["nearest-pixels"]
    assert len(cases) == 120
    assert len(rows.predictions) == 240
    assert len(rows.rounds) == 6
    for row in rows.predictions:
        assert row.search is not None
        assert len(row.search.matches) == 10
        assert row.group not in {cases[match].group for match in row.search.matches}
        assert row.own_archive is None
    assert {row.condition for row in rows.changed} == {c.name for c in CORRUPTIONS}
    assert len(rows.changed) == 120 * len(CORRUPTIONS)  # the first seed alone
    assert {row.side for row in rows.validation} == {"validation"}
    assert len(rows.rows) == len(rows.predictions) + len(rows.changed) + len(rows.validation)


def test_the_figures_are_high_for_a_system_that_sees_the_class(finished_run: Path) -> None:
    system = scored(finished_run)
    assert pooled(system, "classification", "accuracy") > 0.9
    assert pooled(system, "classification", "auroc_malignant") > 0.95
    assert pooled(system, "retrieval", "precision@5") > 0.8
    figure = system.metrics["classification"]["accuracy"]
    assert figure["low"] <= figure["pooled"] <= figure["high"]
    assert len(figure["folds"]) == 6
    assert figure["mean"] == pytest.approx(np.mean(figure["folds"]), abs=1e-6)
    assert figure["sd"] == pytest.approx(np.std(figure["folds"], ddof=1), abs=1e-6)
    chance = system.metrics["retrieval"]["precision@5"]["chance"]
    assert chance == pytest.approx(1 / 3, abs=0.02)
    assert set(system.metrics["subsets"]) == {"label", "birads", "device"}
    assert system.metrics["counts"]["patients"] == 60
    assert system.metrics["patients"]["accuracy"]["pooled"] > 0.5
    assert system.metrics["robustness"]["blur"]["accuracy"]["change_low"] is not None
    assert list(system.metrics["robustness"]) == [UNCHANGED, *(c.name for c in CORRUPTIONS)]
    json.dumps(system.metrics, allow_nan=False)


def test_permuted_labels_bring_every_figure_to_chance(tmp_path: Path) -> None:
    dataset = TinyDataset()
    rng = np.random.default_rng(1)
    groups = [dataset.records()[i].pathology for i in range(0, 120, 2)]
    drawn = list(rng.permutation(groups))
    labels = {r.case_id: str(drawn[i // 2]) for i, r in enumerate(dataset.records())}
    system = scored(run_protocol(TinyProtocol(dataset.relabelled(labels), seeds=(0, 1, 2)), tmp_path))
    assert pooled(system, "classification", "balanced_accuracy") == pytest.approx(1 / 3, abs=0.1)
    assert pooled(system, "classification", "auroc_malignant") == pytest.approx(0.5, abs=0.12)
    assert pooled(system, "classification", "auroc_macro") == pytest.approx(0.5, abs=0.12)
    for name in (
        "precision@1",
        "precision@5",
        "map_full",
        "r_precision",
        "majority_vote@5",
        "map@5_found",
        "map@5_possible",
    ):
        figure = system.metrics["retrieval"][name]
        assert figure["pooled"] == pytest.approx(figure["chance"], abs=0.1), name
    sensitivity, specificity = (
        pooled(system, "classification", f"{kind}_at_specificity_90") for kind in ("sensitivity", "specificity")
    )
    assert sensitivity + specificity == pytest.approx(1, abs=0.15)


def test_swapping_two_classes_swaps_their_figures_and_no_others(tmp_path: Path, finished_run: Path) -> None:
    dataset = TinyDataset(patients=True)
    swap = {"benign": "malignant", "malignant": "benign", "normal": "normal"}
    labels = {r.case_id: swap[r.pathology] for r in dataset.records()}
    there, here = (
        scored(run_protocol(TinyProtocol(dataset.relabelled(labels), seeds=(0,)), tmp_path)),
        scored(finished_run),
    )
    names = here.metrics["classification"]
    first = {name: np.mean(names[name]["folds"][:3]) for name in names if None not in names[name]["folds"]}
    turned = there.metrics["classification"]
    for name, other in swap.items():
        for kind in ("sensitivity", "specificity"):
            # the folds of the swapped archive are drawn anew, so the figures agree closely, not exactly
            assert turned[f"{kind}_{name}"]["mean"] == pytest.approx(first[f"{kind}_{other}"], abs=0.08)
    assert {row.label for row in there.results.predictions} == set(CLASSES)


def test_swapped_columns_swap_the_figures_exactly(finished_run: Path, tmp_path: Path) -> None:
    """The same rows with two classes' names exchanged throughout: every per-class figure changes place."""
    swap = {"benign": "malignant", "malignant": "benign", "normal": "normal"}
    folder = tmp_path / "tiny"
    cases = read_cases(finished_run / CASES)
    results = read_results(finished_run, cases)["nearest-pixels"]
    folder.mkdir()
    write_cases(folder / CASES, [replace(case, label=swap[case.label]) for case in cases.values()])
    swapped = SystemResults(
        rows=tuple(replace(r, label=swap[r.label], benign=r.malignant, malignant=r.benign) for r in results.rows),
        rounds=tuple(
            replace(r, gallery_benign=r.gallery_malignant, gallery_malignant=r.gallery_benign) for r in results.rounds
        ),
    )
    place_results(folder, swapped, system="nearest-pixels")
    about = read_about(finished_run)
    place_about(folder, protocol=about["protocol"], name="nearest-pixels", about=about["systems"]["nearest-pixels"])
    here, there = scored(finished_run).metrics, scored(folder).metrics
    for name in ("sensitivity", "specificity"):
        for one, other in swap.items():
            assert there["classification"][f"{name}_{one}"] == here["classification"][f"{name}_{other}"]
    assert there["classification"]["accuracy"] == here["classification"]["accuracy"]
    part, other_part = there["subsets"]["label"]["benign"], here["subsets"]["label"]["malignant"]
    for name in ("accuracy", "precision@5", "map_full"):
        assert part[name]["value"] == other_part[name]["value"]


def test_a_blind_split_flatters_and_the_leaking_share_is_counted(tmp_path: Path) -> None:
    from sonoseek.evaluate.protocols.without_groups import WithoutGroups

    # nothing but grain: only a copy helps; every even case has its twin beside it
    dataset = TinyDataset(blob=0, twins=tuple((i, i + 1) for i in range(0, 120, 2)))
    honest = scored(run_protocol(TinyProtocol(dataset), tmp_path / "honest"))
    blind = scored(run_protocol(TinyProtocol(WithoutGroups(dataset), guarded=False), tmp_path / "blind"))
    assert honest.metrics["counts"]["leaking_share"] == 0
    assert blind.metrics["counts"]["leaking_share"] > 0.4
    gain = pooled(blind, "classification", "accuracy") - pooled(honest, "classification", "accuracy")
    assert gain > 0.15


class Counting:
    """Nearest pixels that count how often they learn."""

    def __init__(self) -> None:
        self._inner = SYSTEMS.load("nearest-pixels")()
        self.name, self.title, self.description = "counting", "counting", "counting"
        self.identity = "counting-1"
        self.fits: list[str] = []
        self.fail_at = -1

    def prepare(self, tasks: Sequence[object], *, on_progress: object = None) -> None:
        del tasks, on_progress

    def fit(self, task: object) -> object:
        if len(self.fits) == self.fail_at:
            raise KeyboardInterrupt
        self.fits.append(task.round_.label)  # type: ignore[attr-defined]
        return self._inner.fit(task)


def test_a_stopped_run_goes_on_at_its_round(tmp_path: Path) -> None:
    context = open_context(TinyProtocol(), data_root=None, cache=CACHE)
    system = Counting()
    system.fail_at = 2
    places = {"runs": tmp_path / "runs", "out": tmp_path / "out"}
    with pytest.raises(KeyboardInterrupt):
        evaluate(context, system, **places)  # type: ignore[arg-type]
    system.fail_at = -1
    steps: list[tuple[str, int, int]] = []
    evaluate(context, system, on_progress=lambda *step: steps.append(step), **places)  # type: ignore[arg-type]
    assert system.fits == ["seed-0/fold-0", "seed-0/fold-1", "seed-0/fold-2"]
    assert ("rounds", 3, 3) in steps
    evaluate(context, system, **places)  # type: ignore[arg-type]
    assert len(system.fits) == 3
    system.identity = "counting-2"  # another system under the same name learns anew
    evaluate(context, system, **places)  # type: ignore[arg-type]
    assert len(system.fits) == 6
    (tmp_path / "runs" / "tiny" / "counting" / "seed-0" / "fold-1" / ROWS).unlink()  # a round without its rows
    evaluate(context, system, **places)  # type: ignore[arg-type]
    assert system.fits[6:] == ["seed-0/fold-1"]


def test_systems_scored_one_after_the_other_stand_in_one_table(tmp_path: Path) -> None:
    context = open_context(TinyProtocol(), data_root=None, cache=CACHE)
    places = {"runs": tmp_path / "runs", "out": tmp_path / "out"}
    folder = run_protocol(TinyProtocol(), tmp_path)
    alone = rescore(tmp_path / "out")["tiny"].systems["nearest-pixels"].metrics
    before = (folder / ROWS).read_bytes()
    evaluate(context, Counting(), **places)  # type: ignore[arg-type]
    both = rescore(tmp_path / "out")["tiny"].systems
    assert list(both) == ["counting", "nearest-pixels"]
    assert both["nearest-pixels"].metrics == alone
    assert both["counting"].metrics["classification"] == alone["classification"]  # it is the same under another name
    assert (folder / ROWS).read_bytes() != before
    evaluate(context, Counting(), **places)  # type: ignore[arg-type]
    assert list(rescore(tmp_path / "out")["tiny"].systems) == ["counting", "nearest-pixels"]  # replaced, not added


def test_results_of_other_data_do_not_stand_side_by_side(tmp_path: Path) -> None:
    run_protocol(TinyProtocol(), tmp_path)
    with pytest.raises(ResultsError, match="other cases"):
        run_protocol(TinyProtocol(TinyDataset(118)), tmp_path)


def test_a_class_that_could_not_be_learnt_is_reported_apart(tmp_path: Path) -> None:
    from sonoseek.evaluate.protocols.base import Round

    class Elsewhere(TinyProtocol):
        name = "elsewhere"

        def open(self, data_root: object) -> dict[str, TinyDataset]:
            return {"a": TinyDataset(60, name="a", classes=("benign", "malignant")), "b": TinyDataset(36, name="b")}

        def rounds(self, datasets: object) -> tuple[Round, ...]:
            ids = [r.case_id for r in datasets["a"].records()]  # type: ignore[index]
            test = tuple(r.case_id for r in datasets["b"].records())  # type: ignore[index]
            sides = {"train": {"a": tuple(ids[:48])}, "validation": {"a": tuple(ids[48:])}, "test": {"b": test}}
            return (Round(seed=0, fold=0, **sides),)

    folder = run_protocol(Elsewhere(guarded=False), tmp_path)
    system = scored(folder)
    metrics = system.metrics
    assert metrics["counts"]["scans"] == 36
    assert metrics["counts"]["scored"] == 24
    assert metrics["unlearnt"]["normal"]["scans"] == 12
    assert metrics["unlearnt"]["normal"]["called_normal"] == 0
    assert "sensitivity_normal" not in metrics["classification"]
    assert all(row.scan.startswith("b/") for row in system.results.predictions)
    assert all(row.probabilities[0] == 0 for row in system.results.predictions)


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda each: each.name)
def test_every_condition_changes_a_scan_in_the_same_way_every_time(corruption: Corruption) -> None:
    scan = TinyDataset().load("case 5").scans[0]
    changed = corruption.apply(scan)
    assert changed.scan_id != scan.scan_id
    assert corruption.apply(scan).scan_id == changed.scan_id
    assert scan.pixels.shape == (96, 96)
