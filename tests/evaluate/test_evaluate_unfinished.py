"""Rounds whose training has ended stand alone among the results, and say how many of all they are."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from test_evaluate_hospitals import TwoHospitals
from tiny_archive import CACHE, TinyProtocol, run_protocol

from sonoseek.core import InvalidValueError, ResultsError
from sonoseek.evaluate import SYSTEMS, evaluate, open_context, rescore
from sonoseek.evaluate.files import CASES, read_about, read_cases, read_results
from sonoseek.evaluate.hospitals import hospital_figures
from sonoseek.evaluate.page import write_page
from sonoseek.evaluate.page_hospitals import hospital_rows, hospital_tables


class HalfTrained:
    """Nearest pixels whose rounds in `trained` alone are trained."""

    name = title = description = "half"
    identity = "half-1"

    def __init__(self, *trained: str) -> None:
        self._inner = SYSTEMS.load("nearest-pixels")()
        self.trained = trained

    def is_trained(self, task: object) -> bool:
        return task.round_.label in self.trained  # type: ignore[attr-defined]

    def prepare(self, tasks: object, *, on_progress: object = None) -> None:
        del on_progress
        assert all(map(self.is_trained, tasks))  # type: ignore[call-overload]

    def fit(self, task: object) -> object:
        return self._inner.fit(task)


def score(protocol: TinyProtocol, folder: Path, *trained: str) -> Path:
    context = open_context(protocol, data_root=None, cache=CACHE)  # type: ignore[arg-type]
    places = {"runs": folder / "runs", "out": folder / "out"}
    return evaluate(context, HalfTrained(*trained), finished=True, command="a test", **places)  # type: ignore[arg-type]


def test_one_round_of_two_stands_beside_whole_systems(tmp_path: Path) -> None:
    whole = run_protocol(TwoHospitals(guarded=False), tmp_path)
    folder = score(TwoHospitals(guarded=False), tmp_path, "seed-0/fold-1")
    assert read_about(folder)["systems"]["half"]["unfinished"] == {"rounds": 1, "of": 2}
    found = rescore(tmp_path / "out")[whole.name]
    assert list(found.systems) == ["nearest-pixels"]
    half = found.unfinished["half"]
    assert list(half["hospitals"]) == ["b"]
    same = hospital_figures(found.systems["nearest-pixels"].results, found.cases)["b"]
    for figure in ("auroc", "own_archive_precision@5"):
        assert half["hospitals"]["b"][figure] == same[figure]
    assert "accuracy" not in half["hospitals"]["b"], "its threshold would be fitted in the hospital that is lacking"
    (shown,) = hospital_tables(list(found.systems.values()), found.unfinished)
    assert shown["rows"][-1]["title"] == "half (1 of 2 rounds)"
    assert [bool(cell) for cell in shown["rows"][-1]["cells"]] == [False, True, False]
    assert hospital_rows(list(found.systems.values()), found.unfinished)[1][-1][:2] == ("half, 1 of 2 rounds", "b")
    assert "half (1 of 2 rounds)" in write_page(tmp_path / "out", {whole.name: found}).read_text(encoding="utf-8")


def test_a_later_round_makes_it_whole(tmp_path: Path) -> None:
    score(TwoHospitals(guarded=False), tmp_path, "seed-0/fold-0")
    alone = rescore(tmp_path / "out")["two-hospitals"]
    assert not alone.systems
    write_page(tmp_path / "out", {"two-hospitals": alone})
    folder = score(TwoHospitals(guarded=False), tmp_path, "seed-0/fold-0", "seed-0/fold-1")
    assert "unfinished" not in read_about(folder)["systems"]["half"]
    found = rescore(tmp_path / "out")["two-hospitals"]
    assert not found.unfinished
    assert np.isfinite(found.systems["half"].metrics["hospitals"]["mean"]["auroc"]["value"])


@pytest.mark.slow
def test_an_archive_is_scored_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = score(TwoHospitals(guarded=False), tmp_path, "seed-0/fold-0")
    cases = read_cases(folder / CASES)
    scan = next(case for case in cases.values() if case.dataset == "a" and case.tested)
    with pytest.raises(ResultsError, match="1 test scans have no prediction"):
        read_results(folder, {**cases, "a/new": msgspec.structs.replace(scan, scan="a/new")})
    with pytest.raises(InvalidValueError, match="tests a part of an archive"):
        score(TinyProtocol(), tmp_path, "seed-0/fold-0")
    with pytest.raises(InvalidValueError, match="none is trained"):
        score(TwoHospitals(guarded=False), tmp_path / "other")
