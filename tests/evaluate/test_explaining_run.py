"""Heatmaps measured from end to end, on phantoms, with the bundle that ships."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sonoseek.core import ResultsError
from sonoseek.datasets import Dataset
from sonoseek.datasets.phantom import PhantomDataset
from sonoseek.encoder import load_bundle
from sonoseek.evaluate import SYSTEMS, open_context
from sonoseek.evaluate.explaining import explain_rounds, rescore_explanations
from sonoseek.evaluate.explaining.page import write_explanation_page
from sonoseek.evaluate.explaining.rows import MapRow, OutlineRow, PairRow
from sonoseek.evaluate.explaining.scan import pick_thorough
from sonoseek.evaluate.explaining.summary import MAPS, OUTLINES, PAIRS
from sonoseek.evaluate.files import ABOUT, SCORES
from sonoseek.evaluate.protocols import Round
from sonoseek.evaluate.protocols.busi import repeated_folds
from sonoseek.evaluate.systems.base import LabelledScan
from sonoseek.evaluate.systems.bundle import BundleSystem
from sonoseek.evaluate.tables import read_systems


class Phantoms:
    """A few phantoms that no bundle has seen, one round."""

    name = "phantoms"
    title = "phantoms"
    description = "A few phantoms."
    exclusions = "nothing"
    guarded = True
    drops_near_duplicates = False

    def __init__(self, *, only: str | None = None) -> None:
        self._only = only

    def open(self, data_root: Path | None) -> Mapping[str, Dataset]:
        return {"phantom": PhantomDataset(count=32, seed=23)}

    def rounds(self, datasets: Mapping[str, Dataset]) -> tuple[Round, ...]:
        (first, *_) = repeated_folds(datasets["phantom"], seeds=(0,), folds=2)
        if self._only is None:
            return (first,)
        kept = {r.case_id for r in datasets["phantom"].records() if r.pathology == self._only}
        test = {"phantom": tuple(case for case in first.test["phantom"] if case in kept)}
        return (Round(seed=0, fold=0, train=first.train, validation=first.validation, test=test),)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results, and beside them the runs."""
    folder = tmp_path_factory.mktemp("explained")
    context = open_context(Phantoms(), data_root=None, cache=folder)
    return explain_rounds(
        context,
        BundleSystem(load_bundle().path),
        runs=folder / "runs",
        out=folder / "out",
        per_class=1,
        rise_masks=64,
        command="a test",
    )


def figures(measured: Path) -> dict[str, Any]:
    (found,) = json.loads((measured / SCORES).read_text())["systems"].values()
    return found


@pytest.mark.slow
def test_rows_of_every_scan_and_method(measured: Path) -> None:
    (rows,) = read_systems(measured / MAPS, MapRow).values()
    predictions = [row for row in rows if row.target == "prediction"]
    scans = {row.scan for row in predictions}
    assert {(row.scan, row.method) for row in predictions} >= {
        (s, m) for s in scans for m in ("class_evidence", "centre")
    }
    slow = {row.scan for row in predictions if row.method == "rise"}
    assert 1 <= len(slow) <= 3
    for row in predictions:
        assert np.isfinite(row.insertion) == (row.scan in slow)
        if row.label == "normal":
            assert np.isnan(row.inside)
        else:
            assert 0 <= row.inside <= row.with_shadow <= 1 + 1e-9
    own = [row for row in predictions if row.method == "class_evidence"]
    assert max(row.error for row in own) < 1e-4
    assert {row.label for row in rows if row.target == "truth"} == {"benign", "malignant"}


@pytest.mark.slow
def test_our_maps_are_on_the_lesions_and_the_floors_are_not(measured: Path) -> None:
    methods = figures(measured)["maps"]["prediction"]
    assert methods["class_evidence"]["inside"]["mean"] > 2 * methods["centre"]["inside"]["mean"]
    assert methods["class_evidence"]["iou"]["mean"] > methods["random"]["iou"]["mean"]


@pytest.mark.slow
def test_pairs_and_outlines(measured: Path) -> None:
    (pairs,) = read_systems(measured / PAIRS, PairRow).values()
    assert {row.side for row in pairs} == {"query", "match"}
    own = [row for row in pairs if row.method == "pair_evidence"]
    assert max(row.error for row in own) < 1e-4
    assert np.mean([row.chosen for row in own]) > np.mean([row.random for row in own])
    (outlines,) = read_systems(measured / OUTLINES, OutlineRow).values()
    assert np.mean([row.dice for row in outlines if row.drawn]) > 0.4


@pytest.mark.slow
def test_the_table_names_the_methods_and_the_figures_are_drawn(measured: Path) -> None:
    (content,) = rescore_explanations(measured.parents[1]).values()
    page = write_explanation_page(measured / "phantoms", content)
    text = page.read_text()
    for phrase in ("class evidence (ours)", "RISE", "centre Gaussian (baseline)", "a test", "outline, an estimate"):
        assert phrase in text
    assert " nan" not in text
    for name in ("methods.svg", "sizes.svg"):
        assert (measured / "phantoms" / name).read_text().rstrip().endswith("</svg>")


@pytest.mark.slow
def test_figures_come_from_the_rows_alone(measured: Path) -> None:
    before = (measured / SCORES).read_text()
    (measured / SCORES).unlink()
    ((name, again),) = rescore_explanations(measured.parents[1]).items()
    assert name == f"phantoms/{load_bundle().bundle_id}"
    assert (measured / SCORES).read_text() == before
    assert figures(measured).items() <= again.items()
    about = (measured / ABOUT).read_text()
    for spoiled, why in (("{}", "lacks"), (about.replace(load_bundle().bundle_id, "other"), "not in both")):
        (measured / ABOUT).write_text(spoiled)
        with pytest.raises(ResultsError, match=why):
            rescore_explanations(measured.parents[1])
        assert (measured / SCORES).read_text() == before
    (measured / ABOUT).write_text(about)


@pytest.mark.slow
def test_a_second_run_reads_what_the_first_has_kept(measured: Path, tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a finished piece was measured again")

    monkeypatch.setattr("sonoseek.evaluate.explaining.run._piece", refuse)
    context = open_context(Phantoms(), data_root=None, cache=tmp_path)
    again = explain_rounds(
        context,
        BundleSystem(load_bundle().path),
        runs=measured.parents[2] / "runs",
        out=tmp_path / "out",
        per_class=1,
        rise_masks=64,
        command="a test",
    )
    for name in (MAPS, PAIRS, OUTLINES):
        assert (again / name).read_bytes() == (measured / name).read_bytes()


def test_every_third_group_alone_and_no_slow_measure(tmp_path: Path) -> None:
    context = open_context(Phantoms(), data_root=None, cache=tmp_path)
    system = BundleSystem(load_bundle().path)
    folder = explain_rounds(
        context, system, runs=tmp_path / "runs", out=tmp_path / "out", per_class=0, every=3, command="a test"
    )
    (rows,) = read_systems(folder / MAPS, MapRow).values()
    (round_,) = context.rounds
    groups = sorted(set(context.group_of(context.samples(round_.test)).values()))
    assert {row.group for row in rows} == set(groups[::3])
    assert not read_systems(folder / PAIRS, PairRow)
    (about,) = json.loads((folder / ABOUT).read_text())["systems"].values()
    assert (about["made"]["every"], about["cost"]) == (3, {})
    (content,) = rescore_explanations(tmp_path / "out").values()
    assert "class evidence (ours)" in write_explanation_page(folder, content).read_text()


def test_what_has_no_masks_or_no_network_is_refused(tmp_path: Path) -> None:
    context = open_context(Phantoms(only="normal"), data_root=None, cache=tmp_path)
    places = {"runs": tmp_path / "runs", "out": tmp_path / "out", "per_class": 0}
    with pytest.raises(ResultsError, match="no test scan"):
        explain_rounds(context, BundleSystem(load_bundle().path), **places)
    with pytest.raises(ResultsError, match="has no bundle"):
        explain_rounds(context, SYSTEMS.load("nearest-pixels")(), **places)


def test_the_thorough_ones_are_the_same_whoever_asks() -> None:
    dataset = PhantomDataset(count=60, seed=5)
    samples = [
        LabelledScan(name=record.case_id, record=record, scan=dataset.load(record.case_id).scans[0])
        for record in dataset.records()[:20]
    ]
    picked = pick_thorough(samples, per_class=2)
    assert picked == pick_thorough(samples[::-1], per_class=2)
    assert len(picked) <= 6
    assert pick_thorough(samples, per_class=0) == set()
