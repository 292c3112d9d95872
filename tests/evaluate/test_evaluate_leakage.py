"""Nothing that links two cases may cross a round; what the groups do not show is detected in the pixels."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from tiny_archive import TinyDataset, TinyProtocol

from sonoseek.core import CaseRecord, InvalidValueError, SplitError
from sonoseek.datasets import Dataset
from sonoseek.evaluate import open_context
from sonoseek.evaluate.leakage import check_round, leaking_share, number_groups, without_near_duplicates
from sonoseek.evaluate.near_duplicates import near_duplicates
from sonoseek.evaluate.protocols import Round


def round_of(train: str, validation: str, test: str) -> Round:
    """Case numbers, with spaces between."""
    sides = ({"tiny": tuple(f"case {n}" for n in side.split())} for side in (train, validation, test))
    train_side, validation_side, test_side = sides
    return Round(seed=0, fold=0, train=train_side, validation=validation_side, test=test_side)


def check(dataset: Dataset, round_: Round, pairs: tuple = ()) -> None:
    datasets = {"tiny": dataset}
    check_round(round_, datasets=datasets, groups=number_groups(datasets), pairs=pairs)


def test_a_clean_round_passes() -> None:
    check(TinyDataset(12), round_of("0 1 2 3", "4 5", "6 7 8 9"))


@pytest.mark.parametrize(
    ("sides", "why"),
    [
        (("0 2", "4", "1 6"), r"'case 0' of tiny is in train and 'case 1' of tiny in test, both of group 'g0'"),
        (("0 1", "4", "5 6"), r"validation and 'case 5' of tiny in test, both of group 'g2'"),
        (("0 1 4", "5", "6"), r"'case 4' of tiny is in train and 'case 5' of tiny in validation"),
        (("0 1", "2", "0 6"), "the same case"),
        (("0 1", "2", "77"), "no dataset holds"),
        (("0 1", "2", ""), "nothing to score"),
    ],
)
def test_what_crosses_is_named(sides: tuple[str, str, str], why: str) -> None:
    with pytest.raises(SplitError, match=why):
        check(TinyDataset(12), round_of(*sides))


def test_a_patient_may_not_cross() -> None:
    with pytest.raises(SplitError, match="both of patient 'p0'"):
        check(TinyDataset(12, patients=True, grouped=False), round_of("0", "8", "1"))


def test_a_planted_copy_is_found_in_the_pixels_and_fails_the_run(tmp_path: Path) -> None:
    """The groups know nothing of it: two cases of different groups show one picture, and stand in different folds."""
    clean = open_context(TinyProtocol(TinyDataset(36)), data_root=None, cache=tmp_path)
    first = clean.rounds[0]
    learnt, tested = (int(side["tiny"][0].split()[1]) for side in (first.train, first.test))
    twins = ((min(learnt, tested), max(learnt, tested)),)
    with pytest.raises(SplitError, match="near-duplicate"):
        open_context(TinyProtocol(TinyDataset(36, twins=twins)), data_root=None, cache=tmp_path)


def test_published_folds_lose_the_copy_on_the_training_side(tmp_path: Path) -> None:
    dataset = TinyDataset(12, twins=((0, 7),))
    pairs = near_duplicates({"tiny": dataset}, cache=tmp_path)
    assert pairs == ((("tiny", "case 0"), ("tiny", "case 7")),)
    kept, dropped = without_near_duplicates(round_of("0 1 2 3", "4 5", "6 7"), pairs)
    assert dropped == (("tiny", "case 0"),)
    assert kept.train["tiny"] == ("case 1", "case 2", "case 3")
    assert kept.test["tiny"] == ("case 6", "case 7")
    check(dataset, kept, pairs)
    with pytest.raises(SplitError, match="near-duplicate"):
        check(dataset, round_of("0 1 2 3", "4 5", "6 7"), pairs)


def test_the_comparison_of_all_scans_is_kept_and_follows_the_files(tmp_path: Path) -> None:
    dataset = TinyDataset(12, twins=((0, 7),))
    steps: list[tuple[int, int]] = []
    first = near_duplicates({"tiny": dataset}, cache=tmp_path, on_progress=lambda *step: steps.append(step))
    assert steps[-1][0] == steps[-1][1]
    seen = dataset.loads
    assert near_duplicates({"tiny": dataset}, cache=tmp_path) == first
    assert dataset.loads == seen
    assert near_duplicates({"tiny": TinyDataset(10)}, cache=tmp_path) == ()


def test_what_flatters_is_counted() -> None:
    datasets: Mapping[str, Dataset] = {"tiny": TinyDataset(12)}
    round_ = round_of("0 2 4", "6", "1 3 8 9")
    assert leaking_share(round_, groups=number_groups(datasets)) == 0.5


def test_seeds_that_a_protocol_has_not_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"seeds are \[7\]; tiny has \[0\]"):
        open_context(TinyProtocol(), data_root=None, cache=tmp_path, seeds=[7])


class Listed:
    """A dataset of records alone."""

    def __init__(self, *records: CaseRecord) -> None:
        self._records = records

    def records(self) -> tuple[CaseRecord, ...]:
        return self._records


def record(case_id: str, **values: str) -> CaseRecord:
    return CaseRecord(case_id=case_id, dataset="tiny", pathology="benign", **values)


def test_cases_that_others_link_do_not_cross_either() -> None:
    """0 and 1 share a group, 1 and 2 a patient: 0 and 2 share neither, and still belong together."""
    dataset = Listed(
        record("case 0", group="g"), record("case 1", group="g", patient_id="p"), record("case 2", patient_id="p"),
        record("case 3"),
    )  # fmt: skip
    numbers = number_groups({"tiny": dataset})  # type: ignore[dict-item]
    assert len({numbers["tiny", f"case {n}"] for n in (0, 1, 2)}) == 1
    assert numbers["tiny", "case 3"] != numbers["tiny", "case 0"]
    with pytest.raises(SplitError, match="through others"):
        check(dataset, round_of("0", "3", "2"))  # type: ignore[arg-type]


def test_groups_of_two_datasets_are_never_one() -> None:
    both = {name: Listed(record("case 0", group="g"), record("case 1", group="h")) for name in ("a", "b")}
    numbers = number_groups(both)  # type: ignore[arg-type]
    assert len(set(numbers.values())) == 4


def test_a_near_duplicate_of_another_dataset_fails_the_run_or_is_taken_off() -> None:
    datasets = {"a": TinyDataset(4, name="a"), "b": TinyDataset(4, name="b")}
    round_ = Round(seed=0, fold=0, train={"a": ("case 0",)}, validation={"a": ("case 3",)}, test={"b": ("case 0",)})
    pairs = ((("a", "case 3"), ("b", "case 0")),)
    with pytest.raises(SplitError, match=r"'case 3' of a is in validation and 'case 0' of b in test, near-duplicate"):
        check_round(round_, datasets=datasets, groups=number_groups(datasets), pairs=pairs)
    reduced, dropped = without_near_duplicates(round_, pairs)
    assert dropped == (("a", "case 3"),)
    assert (reduced.train, reduced.validation, reduced.test) == (round_.train, {"a": ()}, round_.test)
    check_round(reduced, datasets=datasets, groups=number_groups(datasets), pairs=pairs)


def test_near_duplicates_within_the_training_side_do_not_touch_the_test() -> None:
    pairs = ((("tiny", "case 0"), ("tiny", "case 4")),)
    check(TinyDataset(12), round_of("0 1", "4 5", "6 7"), pairs)
    assert without_near_duplicates(round_of("0 1", "4 5", "6 7"), pairs)[1] == ()
