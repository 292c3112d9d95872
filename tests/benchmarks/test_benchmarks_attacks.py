"""The benchmarks of attacks, of archives and of the server's limits, on little."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from benchmarks import archive_cases, attacks, server_limits

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def figures(**changed: object) -> attacks.Figures:
    usual = {
        "attack": "a.png",
        "kb": 1,
        "alone_ms": (10.0, 20.0),
        "attacked_ms": (12.0, 30.0),
        "answers": (9, 8),
        "ratio": 1.5,
        "uploads": {"422": 3},
        "ready": True,
        "left": 0,
    }
    return attacks.Figures(**(usual | changed))  # type: ignore[arg-type]


def test_the_table_names_what_is_beyond_the_target() -> None:
    sound = figures(attack=attacks.SOUND, ratio=3.0)
    assert "All are within the target" in attacks.table([sound, figures()])
    for changed in ({"ratio": 2.1}, {"ready": False}, {"left": 2}):
        assert "Beyond the target: a.png." in attacks.table([sound, figures(**changed)])


@linux
@pytest.mark.slow
@pytest.mark.peer
def test_a_run_on_a_few_phantoms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks, "PHANTOMS", 12)
    monkeypatch.setattr(attacks, "OWN", 4)
    monkeypatch.setattr(attacks, "WARM_UP", 2)
    out = tmp_path / "attacks"
    name = "63 megapixels in 240 bytes.jpg"
    monkeypatch.setattr(sys, "argv", ["attacks.py", "--seconds", "1", "--attack", name, "--out", str(out)])
    attacks.main()
    page = out.with_suffix(".md").read_text("utf-8")
    row = next(line for line in page.splitlines() if line.startswith(f"| {name} "))
    assert row.endswith("| yes |")
    assert '"uploads"' in out.with_suffix(".json").read_text("utf-8")


def archive(folder: Path, name: str, rows: list[list[str]]) -> Path:
    place = folder / name
    place.mkdir()
    with (place / "archive.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return place


def test_archives_are_scored_as_right_refused_or_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_cases, "checked", lambda *_: "nothing")  # a process each
    wanted = archive_cases.Wanted(cases=2, text="fibroadenoma")
    head = ["file", "pathology", "histology"]
    sound = archive(tmp_path, "sound", [head, ["a.png", "benign", "fibroadenoma"], ["b.png", "malignant", ""]])
    assert archive_cases.tried(sound, wanted) == ("right", "2 cases")
    assert archive_cases.tried(sound, archive_cases.Wanted(cases=3))[0] == "wrong"
    assert archive_cases.tried(sound, archive_cases.Wanted(cases=None))[0] == "wrong"
    assert archive_cases.tried(sound, archive_cases.Wanted(cases=2, text="cyst"))[0] == "wrong"
    bad = archive(tmp_path, "bad", [head, ["a.png", "bening", ""]])
    assert archive_cases.tried(bad, wanted)[0] == "refused, though sound"
    assert archive_cases.tried(bad, archive_cases.Wanted(refusal="row 2.*bening"))[0] == "refused, as it may be"


def test_every_name_is_scored_once() -> None:
    assert len(archive_cases.WANTED) == 19
    assert len(server_limits.OUTSIDE) == len(set(server_limits.OUTSIDE))
