"""The verbs that maintain a gallery, and the options of `query`."""

import json
import re
import sqlite3
from pathlib import Path

import pytest


def test_a_backup_and_a_copy_are_the_gallery(run, gallery: Path, scan: Path, tmp_path: Path) -> None:
    said = run("index", "backup", "-g", gallery, tmp_path / "backup").stdout
    assert re.search(r"-> .*backup/gallery.db: \d+ scans", said)
    assert "exists already" in run("index", "backup", "-g", gallery, tmp_path / "backup", ok=False).stderr
    said = run("index", "copy", "-g", tmp_path / "backup", tmp_path / "copy").stdout
    assert re.search(r"(\d+) added, 0 updated, 0 unchanged; \1 scans", said)
    again = run("index", "copy", "-g", tmp_path / "backup", tmp_path / "copy").stdout
    assert re.search(r"0 added, 0 updated, (\d+) unchanged; \1 scans", again)
    answers = [
        json.loads(run("query", scan, "-g", place, "--format", "json").stdout)["matches"]
        for place in (gallery, tmp_path / "backup", tmp_path / "copy")
    ]
    assert answers[0] == answers[1] == answers[2] != []


def test_verify_embeds_a_sample_again(run, gallery: Path, archive: Path, tmp_path: Path) -> None:
    assert re.search(r"sound; embedded again: \d+ from their pictures", run("index", "verify", "-g", gallery).stdout)
    from_files = run("index", "verify", "-g", gallery, "--sample", 5, "--dataset", "folder", "--data", archive).stdout
    assert "5 from their files" in from_files
    assert "no embedding was made again" in run("index", "verify", "-g", gallery, "--sample", 0).stdout
    run("index", "backup", "-g", gallery, tmp_path / "spoilt.db")
    with sqlite3.connect(tmp_path / "spoilt.db") as raw:
        raw.execute("UPDATE cases SET pathology = 'normal' WHERE pathology = 'malignant'")
    raw.close()
    done = run("index", "verify", "-g", tmp_path / "spoilt.db", ok=False)
    assert done.returncode == 2
    assert "is not what was written" in done.stderr


def test_info_and_optimise_say_how_it_is_searched(run, gallery: Path) -> None:
    assert "exact: a product with every scan" in run("index", "optimise", "-g", gallery).stdout
    assert "exact: a product with every scan" in run("index", "info", "-g", gallery).stdout


def test_queries_with_each_option(run, gallery: Path, archive: Path, scan: Path, tmp_path: Path) -> None:
    scans = sorted(file for file in archive.rglob("*.png") if "mask" not in file.name)
    two = json.loads(
        run("query", *scans[:2], "-g", gallery, "-f", "json", "--no-per-patient", "--no-deduplicate").stdout
    )
    assert len(two["views"]) == 1
    assert {(match["near_duplicates"], match["same_patient"]) for match in two["matches"]} == {(0, 0)}
    region = json.loads(run("query", scan, "-g", gallery, "-f", "json", "--region", "40,40,200,260").stdout)
    assert region["region"] == {"top": 40.0, "left": 40.0, "bottom": 200.0, "right": 260.0}
    liked, disliked = region["matches"][1], region["matches"][0]
    case = f"{disliked['dataset']}/{disliked['case_id']}"
    moved = json.loads(
        run("query", scan, "-g", gallery, "-f", "json", "--like", liked["scan_id"], "--dislike", case).stdout
    )
    assert (moved["liked"], moved["disliked"]) == ([liked["scan_id"]], [disliked["scan_id"]])
    assert disliked["scan_id"] not in {match["scan_id"] for match in moved["matches"]}
    asked = json.loads(run("query", "--case", case, "-g", gallery, "-f", "json").stdout)
    assert asked["scan"]["scan_id"] == disliked["scan_id"]
    run("query", "--case", case, "-g", gallery, "-f", "html", cwd=tmp_path)
    assert len(list(tmp_path.glob("*.report.html"))) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "give files or --case"),
        (("--case", "nothing"), "DATASET/CASE"),
        (("--case", "folder/nobody"), "holds no case"),
        (("SCAN", "--case", "a/b"), "one of the two"),
        (("SCAN", "--region", "1,2,3"), "four numbers"),
        (("SCAN", "--region", "9,9,1,1"), "is empty"),
        (("SCAN", "--region", "9000,0,9900,9"), "outside the scan"),
        (("SCAN", "--like", "folder/nobody"), "holds no case"),
    ],
)
def test_queries_that_are_refused_say_why(run, gallery: Path, scan: Path, given: tuple[str, ...], said: str) -> None:
    done = run("query", *(scan if each == "SCAN" else each for each in given), "-g", gallery, ok=False)
    assert done.returncode != 0
    assert said in done.stderr


def test_milvus_lite_is_refused(process, scan: Path) -> None:
    assert "Milvus Lite is not supported" in process("query", scan, "-g", "milvus:///lite.db", ok=False).stderr
