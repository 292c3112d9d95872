"""A protocol is walked through the engine that serves, and refuses what would flatter."""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from sonoseek.core import NotFoundError, SplitError
from sonoseek.datasets import Dataset, Fold, Subset, open_dataset, stratified_group_folds
from sonoseek.datasets.phantom import PhantomDataset
from sonoseek.encoder import load_bundle
from sonoseek.evaluate import PROTOCOLS, run_protocol, write_results
from sonoseek.evaluate.run import check_unseen


class PhantomGrouped:
    """Forty phantoms, two folds."""

    name = "phantom-grouped"
    description = "forty phantoms"
    exclusions = "nothing"

    def dataset(self, data_root: Path) -> Dataset:
        return PhantomDataset(count=40, seed=21)

    def folds(self, dataset: Dataset) -> tuple[Fold, ...]:
        return stratified_group_folds(dataset.records(), folds=2, seed=0)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """The bundle that ships, twice, as if trained per fold; it has seen other phantoms than these."""
    for fold in (0, 1):
        (tmp_path / f"fold-{fold}").mkdir()
        (tmp_path / f"fold-{fold}" / "bundle").symlink_to(load_bundle().path)
    return tmp_path


def test_a_protocol_is_scored_and_written(runs: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    results = run_protocol(
        PhantomGrouped(), data_root=tmp_path, runs=runs, on_progress=lambda done, total: steps.append((done, total))
    )
    assert steps[-1] == (40, 40)
    assert len(results.folds) == 2
    for fold in results.folds:
        assert 0 <= fold["precision@5"] <= 1
        assert 0 <= fold["abstained"] <= 1
    mean, _ = results.summary["accuracy"]
    assert mean == pytest.approx(sum(fold["accuracy"] for fold in results.folds) / 2)
    values, table = write_results(results, tmp_path / "out")
    assert "phantom-grouped" in values.read_text()
    assert f"{mean:.3f}" in table.read_text()


def test_a_bundle_that_has_seen_a_test_case_is_refused() -> None:
    bundle = load_bundle()
    fold = Fold(train=("a",), test=("b", "c"))
    leaky = replace(bundle, training=MappingProxyType({"cases": {"busi": ["a", "c"]}}))
    with pytest.raises(SplitError, match="1 cases of the test fold"):
        check_unseen(leaky, "busi", fold)
    silent = replace(bundle, training=MappingProxyType({}))
    with pytest.raises(SplitError, match="does not list"):
        check_unseen(silent, "busi", fold)
    check_unseen(replace(bundle, training=MappingProxyType({"cases": {"busi": ["a"]}})), "busi", fold)


@pytest.mark.data
def test_busi_grouped_never_parts_a_group(real_data: Path) -> None:
    protocol = PROTOCOLS.load("busi-grouped")()
    dataset = protocol.dataset(real_data)
    group = {record.case_id: record.group for record in dataset.records()}
    folds = protocol.folds(dataset)
    assert sorted(case for fold in folds for case in fold.test) == sorted(group)
    for fold in folds:
        assert not {group[case] for case in fold.train} & {group[case] for case in fold.test}


def test_a_subset_holds_what_it_was_given() -> None:
    whole = open_dataset("phantom")
    names = [record.case_id for record in whole.records()[:5]]
    part = Subset(whole, names[::-1])
    assert [record.case_id for record in part.records()] == names
    assert part.name == whole.name
    assert part.fingerprint(names[0]) == whole.fingerprint(names[0])
    assert part.load(names[0], masks=False).lesion_masks == (None,)
    with pytest.raises(NotFoundError, match="nobody"):
        Subset(whole, ["nobody"])
