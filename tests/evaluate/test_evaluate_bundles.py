"""Finished bundles are scored through the engine that serves, and refused where they know the answers."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from sonoseek.core import BundleError, NotFoundError, ResultsError, SplitError
from sonoseek.datasets import Dataset, stratified_group_folds
from sonoseek.datasets.phantom import PhantomDataset
from sonoseek.encoder import load_bundle, write_ensemble
from sonoseek.evaluate import evaluate, open_context, rescore
from sonoseek.evaluate.protocols import Round
from sonoseek.evaluate.protocols.busi import repeated_folds
from sonoseek.evaluate.ranking import rank
from sonoseek.evaluate.systems.base import LabelledScan
from sonoseek.evaluate.systems.bundle import BundleSystem, FittedBundle, check_unseen


class Phantoms:
    """Some phantoms that no bundle has seen, two folds."""

    name = "phantoms"
    title = "phantoms"
    description = "Some phantoms, two folds."
    exclusions = "nothing"
    guarded = True
    drops_near_duplicates = False

    def open(self, data_root: Path | None) -> Mapping[str, Dataset]:
        return {"phantom": PhantomDataset(count=32, seed=21)}

    def rounds(self, datasets: Mapping[str, Dataset]) -> tuple[Round, ...]:
        return repeated_folds(datasets["phantom"], seeds=(0,), folds=2)


def test_the_bundle_that_ships_is_scored_with_its_own_thresholds(tmp_path: Path) -> None:
    context = open_context(Phantoms(), data_root=None, cache=tmp_path)
    system = BundleSystem(load_bundle().path)
    evaluate(context, system, runs=tmp_path / "runs", out=tmp_path / "out")
    scored = rescore(tmp_path / "out")["phantoms"].systems[system.name]
    assert scored.metrics["classification"]["accuracy"]["pooled"] > 0.6
    for row in scored.results.rounds:
        assert row.abstain_below == pytest.approx(load_bundle().abstain_below, abs=1e-5)
    assert {row.identity for row in scored.results.rounds} == {load_bundle().bundle_id}


@pytest.mark.slow
def test_one_bundle_per_round_is_found_and_calibrated_on_its_validation_side(tmp_path: Path) -> None:
    context = open_context(Phantoms(), data_root=None, cache=tmp_path)
    for fold in (0, 1):
        (tmp_path / "runs-of-old" / f"fold-{fold}").mkdir(parents=True)
        (tmp_path / "runs-of-old" / f"fold-{fold}" / "bundle").symlink_to(load_bundle().path)
    evaluate(context, BundleSystem(tmp_path / "runs-of-old"), runs=tmp_path / "runs", out=tmp_path / "out")
    (scored,) = rescore(tmp_path / "out")["phantoms"].systems.values()
    assert all(np.isnan(row.abstain_below) for row in scored.results.rounds)  # fitted on the validation rows
    with pytest.raises(NotFoundError, match="no bundle for round seed-0/fold-0"):
        evaluate(context, BundleSystem(tmp_path), runs=tmp_path / "other", out=tmp_path / "out")


@pytest.mark.slow
def test_an_ensemble_is_scored_like_a_bundle_and_knows_what_its_members_know(tmp_path: Path) -> None:
    members = [load_bundle().path, tmp_path / "other"]
    shutil.copytree(members[0], members[1])
    manifest = json.loads((members[1] / "bundle.json").read_text())
    manifest |= {"name": "other", "training": {**manifest["training"], "cases": {"phantom": ["phantom-99-0"]}}}
    (members[1] / "bundle.json").write_text(json.dumps(manifest))
    ensemble = write_ensemble(tmp_path / "both", members, name="both", version="1", norms=[1.0, 1.0])
    context = open_context(Phantoms(), data_root=None, cache=tmp_path)
    systems = [BundleSystem(ensemble), BundleSystem(members[0])]
    for system in systems:
        evaluate(context, system, runs=tmp_path / "runs", out=tmp_path / "out")
    scored = rescore(tmp_path / "out")["phantoms"].systems
    both, one = (scored[system.name].metrics["classification"] for system in systems)
    assert both["accuracy"]["pooled"] == one["accuracy"]["pooled"]  # the same network twice
    for case in ({"phantom": ("phantom-99-0",)}, {"busi": ("benign (1)",)}):
        with pytest.raises(SplitError, match="1 cases of the test side"):
            check_unseen(load_bundle(ensemble), case)


def test_a_bundle_that_has_seen_a_test_case_is_refused() -> None:
    bundle = load_bundle()
    leaky = replace(bundle, training=MappingProxyType({"cases": {"busi": ["a", "c"]}}))
    with pytest.raises(SplitError, match=r"1 cases of the test side \('c' of busi\)"):
        check_unseen(leaky, {"busi": ("b", "c")})
    check_unseen(leaky, {"busbra": ("a", "c")})
    with pytest.raises(SplitError, match="does not list"):
        check_unseen(replace(bundle, training=MappingProxyType({})), {"busi": ("b",)})


@pytest.mark.data
def test_the_bundle_that_ships_may_not_be_scored_on_what_it_has_learnt(real_data: Path, tmp_path: Path) -> None:
    from sonoseek.evaluate import PROTOCOLS

    context = open_context(PROTOCOLS.load("random-split")(), data_root=real_data, cache=tmp_path)
    with pytest.raises(SplitError, match="must have seen none"):
        evaluate(context, BundleSystem(load_bundle().path), runs=tmp_path / "runs", out=tmp_path / "out")


def test_what_is_scored_is_what_is_served() -> None:
    dataset = PhantomDataset(count=16, seed=22)
    samples = [LabelledScan(name=r.case_id, record=r, scan=dataset.load(r.case_id).scans[0]) for r in dataset.records()]
    fold = stratified_group_folds(dataset.records(), folds=2)[0]
    gallery = [s for s in samples if s.name in fold.train]
    queries = [s for s in samples if s.name in fold.test]
    fitted_bundle = FittedBundle(load_bundle())
    known, asked = fitted_bundle.predict(gallery).embeddings, fitted_bundle.predict(queries).embeddings
    groups = {s.name: i for i, s in enumerate(samples)}
    ranked = rank(queries, asked, gallery=gallery, gallery_embeddings=known, groups=groups)
    fitted_bundle.check_served(gallery, known, queries=queries, ranked=ranked)
    with pytest.raises(ResultsError, match="the engine serves similarities"):
        fitted_bundle.check_served(gallery, known, queries=queries, ranked=ranked[::-1])


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{}")
    with pytest.raises(BundleError):
        BundleSystem(tmp_path)
