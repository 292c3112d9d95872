"""Files of results: what is written is read back, and rows that contradict each other are named."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from sonoseek.core import PATHOLOGIES, NotFoundError, ResultsError
from sonoseek.evaluate import rescore
from sonoseek.evaluate.files import (
    ABOUT,
    CASES,
    ROUNDS,
    ROWS,
    SCORES,
    place_results,
    read_cases,
    read_results,
    write_cases,
)
from sonoseek.evaluate.rows import TEST, RoundRow, ScanRow, SystemResults
from sonoseek.evaluate.score import score
from sonoseek.evaluate.tables import place_rows, read_json, write_json

SYSTEM = "nearest-pixels"
Change = Callable[[list[ScanRow]], list[ScanRow]]


@pytest.fixture
def results(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of `out/tiny`, scored, to be spoiled."""
    shutil.copytree(finished_run, tmp_path / "out" / "tiny")
    if not (tmp_path / "out" / "tiny" / SCORES).is_file():
        rescore(tmp_path / "out")
    return tmp_path / "out" / "tiny"


def test_what_is_written_is_read_back(results: Path, tmp_path: Path) -> None:
    cases = read_cases(results / CASES)
    rows = read_results(results, cases)[SYSTEM]
    write_cases(tmp_path / CASES, cases.values())
    place_results(tmp_path, rows, system=SYSTEM)
    for name in (CASES, ROWS, ROUNDS):
        assert (tmp_path / name).read_bytes() == (results / name).read_bytes()


def test_figures_without_an_error_have_the_exact_interval(results: Path) -> None:
    """Every resample of rows that are all right says 1.0: that is no certainty."""
    cases = read_cases(results / CASES)
    rows = read_results(results, cases)[SYSTEM]
    sure = [
        row if row.condition else replace(row, **{name: float(name == row.label) for name in PATHOLOGIES})
        for row in rows.rows
    ]
    classified = score(SystemResults(rows=tuple(sure), rounds=rows.rounds), cases).summary["classification"]
    tested = [row for row in sure if row.side == TEST]
    groups = len({row.group for row in tested})
    accuracy = classified["accuracy"]
    assert (accuracy["pooled"], accuracy["high"]) == (1, 1)
    assert accuracy["low"] == pytest.approx(0.025 ** (1 / groups), abs=1e-4)
    malignant = len({row.group for row in tested if row.label == "malignant"})
    assert classified["sensitivity_malignant"]["low"] == pytest.approx(0.025 ** (1 / malignant), abs=1e-4)
    assert classified["auroc_malignant"]["low"] < accuracy["low"]


def changed(**values: object) -> Change:
    """The second row with some fields changed."""
    return lambda rows: [rows[0], replace(rows[1], **values), *rows[2:]]


def matching(*names: str) -> Change:
    """The second row with other matches."""
    return lambda rows: [rows[0], replace(rows[1], search=replace(rows[1].search, matches=names)), *rows[2:]]


SPOILED = {
    "a missing row": (lambda rows: rows[1:], r"1 test scans have no prediction for seed 0"),
    "a repeated row": (lambda rows: [*rows, rows[5]], r"seed 0, test scan '.*' stands twice"),
    "no predictions": (lambda rows: [row for row in rows if row.side != "test"], "no predictions"),
    "another sum": (changed(malignant=0.9, benign=0.9), "they must sum to 1"),
    "an unknown scan": (changed(scan="case 9999"), f"scan 'case 9999' is unknown; {re.escape(CASES)}"),
    "another label": (lambda rows: changed(label=other(rows[1]))(rows), "both must agree"),
    "another group": (changed(group="g99"), "of group 'g99', but"),
    "an unknown match": (matching("case 1", "case 9999"), "'case 9999' is unknown"),
    "a match twice": (matching("case 1", "case 1"), "a match stands twice, or is the query itself"),
    "the query itself": (lambda rows: matching(rows[1].scan)(rows), "or is the query itself"),
    "a search missing": (changed(search=None), "1 test scans have no search though others have"),
    "a round without its row": (
        lambda rows: [replace(row, fold=row.fold + 1) for row in rows],
        r"seed and fold \(0, 0\) stand in rows.csv.bz2 or rounds.csv.bz2 but not in both",
    ),
    "no rows": (lambda _: [], f"system '{SYSTEM}' stands in rows.csv.bz2 or about.json but not in both"),
}


def other(row: ScanRow) -> str:
    return "benign" if row.label == "malignant" else "malignant"


@pytest.mark.parametrize("name", SPOILED)
def test_rows_that_contradict_are_refused_and_named(name: str, results: Path) -> None:
    change, why = SPOILED[name]
    cases = read_cases(results / CASES)
    rows = read_results(results, cases)[SYSTEM].rows
    place_rows(results / ROWS, ScanRow, change(list(rows)), system=SYSTEM)
    before = (results / SCORES).read_text()
    with pytest.raises(ResultsError, match=why) as caught:
        rescore(results.parent)
    assert str(results) in str(caught.value)
    assert (results / SCORES).read_text() == before  # nothing is lost, nothing half-written


def test_a_case_that_stands_twice_is_refused(results: Path) -> None:
    cases = [*read_cases(results / CASES).values()]
    write_cases(results / CASES, [*cases, cases[3]])
    with pytest.raises(ResultsError, match=rf"line 122: scan {re.escape(repr(cases[3].scan))} stands twice"):
        rescore(results.parent)


@pytest.mark.parametrize("file", [ROUNDS, ABOUT])
def test_a_missing_file_is_named(file: str, results: Path) -> None:
    (results / file).unlink()
    with pytest.raises(ResultsError, match=re.escape(f"no readable {file}")):
        rescore(results.parent)


def test_a_system_whose_rows_say_nothing_of_it_is_named(results: Path) -> None:
    about = read_json(results / ABOUT)
    write_json(results / ABOUT, {**about, "systems": {}})
    with pytest.raises(ResultsError, match=f"system '{SYSTEM}' stands in"):
        rescore(results.parent)
    write_json(results / ABOUT, {"systems": {}})
    with pytest.raises(ResultsError, match="lacks 'protocol' or 'systems'"):
        rescore(results.parent)


def test_a_folder_whose_first_system_is_being_scored_is_left_out(results: Path) -> None:
    (results / ROWS).unlink()
    assert rescore(results.parent) == {}


def test_a_round_that_brought_a_damaged_threshold_is_refused(results: Path) -> None:
    rounds = read_results(results, read_cases(results / CASES))[SYSTEM].rounds
    place_rows(results / ROUNDS, RoundRow, [replace(rounds[0], abstain_below=2.0), *rounds[1:]], system=SYSTEM)
    with pytest.raises(ResultsError, match="line 2: abstain_below is '2'"):
        rescore(results.parent)


def test_probabilities_are_counted_with_as_if_they_were_not_rounded() -> None:
    values = {"seed": 0, "fold": 0, "side": "test", "scan": "a", "group": "a", "label": "benign"}
    row = ScanRow(**values, normal=0.33333, benign=0.33333, malignant=0.33333)  # type: ignore[arg-type]
    assert sum(row.probabilities) == pytest.approx(1, abs=1e-15)
    results = SystemResults(rows=(row, replace(row, side="validation"), replace(row, condition="blur")), rounds=())
    assert [r.side for r in results.predictions + results.validation] == ["test", "validation"]
    assert [r.condition for r in results.changed] == ["blur"]
    assert not results.searched
    assert not results.own_archive


def test_a_case_of_an_unknown_class_is_refused(results: Path) -> None:
    cases = list(read_cases(results / CASES).values())
    write_cases(results / CASES, [replace(cases[0], label="cyst"), *cases[1:]])
    with pytest.raises(ResultsError, match="line 2: label is 'cyst'"):
        rescore(results.parent)


def test_a_folder_without_results_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"<protocol>/cases\.csv\.bz2"):
        rescore(tmp_path)
