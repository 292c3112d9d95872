"""Files of results: what is written is read back, and what is wrong with a file is said."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sonoseek.core import NotFoundError, ResultsError
from sonoseek.evaluate import rescore
from sonoseek.evaluate.files import read_cases, read_system, write_cases, write_system

Change = Callable[[list[str]], list[str]]


@pytest.fixture
def results(walked: Path, tmp_path: Path) -> Path:
    """A copy of `out/tiny/nearest-pixels`, to be spoiled."""
    shutil.copytree(walked.parents[1], tmp_path / "out")
    return tmp_path / "out" / "tiny" / "nearest-pixels"


def test_what_is_written_is_read_back(results: Path, tmp_path: Path) -> None:
    cases = read_cases(results.parent / "cases.csv")
    rows = read_system(results, cases)
    write_cases(tmp_path / "cases.csv", cases.values())
    write_system(tmp_path / "again", rows)
    assert read_cases(tmp_path / "cases.csv") == cases
    again = read_system(tmp_path / "again", cases)
    assert again.retrieval == rows.retrieval
    assert [row.scan for row in again.predictions] == [row.scan for row in rows.predictions]


def cell(line: str, place: int, text: str) -> str:
    parts = line.split(",")
    parts[place] = text
    return ",".join(parts)


def changed(place: int, text: str) -> Change:
    """The third line with one cell changed."""
    return lambda lines: [*lines[:2], cell(lines[2], place, text), *lines[3:]]


SPOILED = {
    "a missing row": ("predictions.csv", lambda lines: lines[:-1], r"1 test scans have no prediction for seed 1"),
    "a repeated row": ("predictions.csv", lambda lines: [*lines, lines[5]], r"stands twice for seed 0"),
    "no rows": ("predictions.csv", lambda lines: lines[:1], "no predictions"),
    "NaN": ("predictions.csv", changed(5, "nan"), r"line 3: probabilities are \(nan"),
    "infinity": ("predictions.csv", changed(6, "inf"), "each lies in 0 … 1"),
    "a negative one": ("predictions.csv", changed(6, "-0.2"), "each lies in 0 … 1"),
    "words": ("predictions.csv", changed(6, "often"), "normal|benign is 'often', which is no number"),
    "another sum": ("predictions.csv", changed(7, "0.9"), "they must sum to 1"),
    "an unknown scan": ("predictions.csv", changed(2, "case 9999"), "scan 'case 9999' is unknown; cases.csv"),
    "another label": ("predictions.csv", changed(4, "cyst"), "is 'cyst' of group"),
    "another group": ("predictions.csv", changed(3, "g99"), "both must agree"),
    "a seed in words": ("predictions.csv", changed(0, "first"), "seed is 'first'"),
    "a short row": ("predictions.csv", lambda lines: [*lines[:2], "0,0,case 3", *lines[3:]], "heading's 8 columns"),
    "no column": ("predictions.csv", lambda lines: [lines[0].replace("malignant", "cancer"), *lines[1:]], "malignant"),
    "an unknown match": ("retrieval.csv", changed(9, "case 1|case 9999"), "'case 9999' is unknown"),
    "a match twice": ("retrieval.csv", changed(9, "case 1|case 1"), "stands twice, or is the query itself"),
    "a query twice": ("retrieval.csv", lambda lines: [*lines, lines[3]], "each is asked once"),
    "a query missing": ("retrieval.csv", lambda lines: lines[:-2], "2 scans stand in predictions or retrieval"),
    "AP above 1": ("retrieval.csv", changed(5, "1.2"), "average_precision is '1.2'"),
    "no AP": ("retrieval.csv", changed(5, ""), "average_precision is ''"),
    "a case twice": ("../cases.csv", lambda lines: [*lines, lines[1]], "stands twice; each stands once"),
    "an unknown class": ("../cases.csv", changed(4, "cyst"), "label is 'cyst'"),
    "a damaged threshold": ("rounds.csv", changed(11, "high"), "abstain_below is 'high'"),
    "a changed scan unknown": ("robustness.csv", changed(3, "nobody"), "scan 'nobody' is unknown"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_file_is_refused_and_says_where(name: str, results: Path) -> None:
    file, change, why = SPOILED[name]
    path = results / file
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    before = (results / "metrics.json").read_text()
    with pytest.raises(ResultsError, match=why) as caught:
        rescore(results.parents[1])
    assert path.name in str(caught.value)
    assert (results / "metrics.json").read_text() == before  # nothing is lost, nothing half-written


@pytest.mark.parametrize("file", ["predictions.csv", "validation.csv", "retrieval.csv", "rounds.csv", "metrics.json"])
def test_a_missing_file_is_named(file: str, results: Path) -> None:
    if file == "predictions.csv":
        (results / file).unlink()
        assert rescore(results.parents[1]) == {}  # a folder without predictions is no system
        return
    (results / file).unlink()
    with pytest.raises(ResultsError, match=re.escape(f"no readable {file}")):
        rescore(results.parents[1])


def test_a_binary_file_is_no_table(results: Path) -> None:
    (results / "predictions.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ResultsError, match="no readable predictions"):
        rescore(results.parents[1])


def test_a_folder_without_results_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"<protocol>/cases\.csv"):
        rescore(tmp_path)
