"""The main job from the command line: an archive, a gallery, a report."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

from sonoseek.core import SonoseekError
from sonoseek.gallery import open_gallery
from sonoseek.indexing.case_ids import opaque_id
from sonoseek.reports import report_schema

FIRST = ["schema", "schema_version", "disclaimer", "headline", "warnings", "prediction", "similar_cases"]
"""What a JSON report begins with: what a reader is to see first."""


def test_a_build_counts_and_a_second_one_finds_nothing_to_do(run, archive: Path, tmp_path: Path) -> None:
    first = run("index", "build", "--dataset", "folder", "--data", archive, "--gallery", tmp_path / "g")
    assert "30 added" in first.stdout
    again = run("index", "build", "--dataset", "folder", "--data", archive, "--gallery", tmp_path / "g")
    assert "0 added, 0 updated, 30 unchanged" in again.stdout


def test_one_bad_file_is_listed_and_stops_nothing(run, archive: Path, tmp_path: Path) -> None:
    copy = tmp_path / "archive"
    shutil.copytree(archive, copy)
    whole = sorted(f for f in (copy / "benign").glob("*.png") if "_mask" not in f.name)[0]
    whole.write_bytes(whole.read_bytes()[:400])
    done = run("index", "build", "--dataset", "folder", "--data", copy, "--gallery", tmp_path / "g")
    assert "29 added" in done.stdout
    assert "1 refused" in done.stdout
    assert whole.name in done.stderr


def test_a_broken_mask_does_not_keep_a_scan_out(run, archive: Path, tmp_path: Path) -> None:
    copy = tmp_path / "archive"
    shutil.copytree(archive, copy)
    sorted(copy.glob("benign/*_mask.png"))[0].write_bytes(b"no mask")
    done = run("index", "build", "--dataset", "folder", "--data", copy, "--gallery", tmp_path / "g")
    assert "30 added" in done.stdout


def test_a_table_a_person_can_read(run, process, gallery: Path, scan: Path) -> None:
    done = process("query", scan, "--gallery", gallery, "-k", 5)  # to a pipe: without colours, at a width of its own
    headline = json.loads(run("query", scan, "--gallery", gallery, "-k", 5, "--format", "json").stdout)["headline"]
    assert re.match(r"Likelihood of malignancy (< 1|> 99|\d+) %, (above|below) the ", headline)
    first, second, *_ = done.stdout.splitlines()
    assert first == f"Prediction  {headline}"
    assert second.lstrip().startswith(("! ", "Likeliest class: ", "Not sure: "))  # a heavy warning before the class
    assert "research use only" in done.stdout.lower()
    assert f"malignant/{scan.name}" not in done.stdout


def test_one_per_patient_and_no_near_duplicates_unless_asked_otherwise(run, copies: Path, asked: list[Path]) -> None:
    def query(*options: object) -> dict[str, object]:
        return json.loads(run("query", asked[3], "-g", copies, "-k", 20, "-f", "json", *options).stdout)

    listed = [len(query(*options)["matches"]) for options in ((), ("--no-per-patient", "--no-deduplicate"))]
    assert listed == [8, 12]
    text = run("query", asked[3], "-g", copies, "-k", 20).stdout
    assert text.count("(2 near-duplicates)") == 1
    assert text.count("(2 more of the patient)") == 1
    assert "4 of 8 independent similar cases are benign" in text


def test_json_holds_to_its_schema_and_leaves_the_scan_itself_out(run, gallery: Path, scan: Path) -> None:
    done = run("query", scan, "--gallery", gallery, "-k", 5, "--format", "json")
    report = json.loads(done.stdout)
    jsonschema.Draft202012Validator(report_schema()).validate(report)
    assert list(report)[:7] == FIRST
    assert len(report["matches"]) == 5
    assert opaque_id("folder", f"malignant/{scan.name}") not in {match["case_id"] for match in report["matches"]}


def test_the_scan_itself_is_rank_one_when_asked_for(run, gallery: Path, scan: Path) -> None:
    done = run("query", scan, "--gallery", gallery, "-k", 3, "--format", "json", "--include-same")
    best = json.loads(done.stdout)["matches"][0]
    assert best["case_id"] == opaque_id("folder", f"malignant/{scan.name}")
    assert best["similarity"] == pytest.approx(1.0, abs=1e-3)


def test_html_is_written_beside_and_named(run, gallery: Path, scan: Path, tmp_path: Path) -> None:
    done = run("query", scan, "--gallery", gallery, "--format", "html", cwd=tmp_path)
    page = tmp_path / f"{scan.stem}.report.html"
    assert page.name in done.stderr
    assert "research use only" in page.read_text().lower()


def test_pdf_is_written_beside_and_named_or_follows_the_name_asked_for(
    run, gallery: Path, scan: Path, tmp_path: Path
) -> None:
    done = run("query", scan, "--gallery", gallery, "-k", 3, "--format", "pdf", cwd=tmp_path)
    page = tmp_path / f"{scan.stem}.report.pdf"
    assert page.name in done.stderr
    assert done.stdout == ""
    named = tmp_path / "named.PDF"
    run("query", scan, "--gallery", gallery, "-k", 3, "--out", named)
    for written in (page, named):
        assert written.read_bytes().startswith(b"%PDF-")


def test_the_name_says_the_form_unless_format_does(run, scan: Path, tmp_path: Path) -> None:
    for name, begins in (
        ("r.json", "{"),
        ("r.html", "<!doctype html>"),
        ("r.txt", "Prediction  Likelihood of malignancy "),
    ):
        run("query", scan, "--out", tmp_path / name)
        assert (tmp_path / name).read_text("utf-8").startswith(begins)
    run("query", scan, "--format", "json", "--out", tmp_path / "r.txt")
    assert (tmp_path / "r.txt").read_text("utf-8").startswith("{")


@pytest.mark.parametrize(("form", "name"), [("json", "r.pdf"), ("table", "r.pdf"), ("pdf", "r.html")])
def test_a_pdf_and_nothing_else_ends_in_pdf(run, scan: Path, tmp_path: Path, form: str, name: str) -> None:
    done = run("query", scan, "--format", form, "--out", tmp_path / name, ok=False)
    assert done.returncode == 2
    assert "disagree" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_filter_filters_and_a_wrong_one_teaches(run, gallery: Path, scan: Path) -> None:
    done = run("query", scan, "--gallery", gallery, "--format", "json", "--where", "label = 'benign'")
    assert {match["label"] for match in json.loads(done.stdout)["matches"]} == {"benign"}
    wrong = run("query", scan, "--gallery", gallery, "--where", "lable = 'benign'", ok=False)
    assert wrong.returncode == 2
    assert "label" in wrong.stderr


def test_without_a_gallery_there_is_a_prediction_and_no_match(run, scan: Path) -> None:
    report = json.loads(run("query", scan, "--format", "json").stdout)
    assert report["matches"] == []
    assert report["gallery_id"] is None
    assert report["explanations"]


@pytest.mark.parametrize("content", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_bad_scan_is_one_sentence_and_exit_two(run, process, tmp_path: Path, content: bytes) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(content)
    for call in (run, process) if content == b"" else (run,):
        done = call("query", bad, ok=False)
        assert done.returncode == 2
        assert done.stderr.startswith("sonoseek: ")
        assert "bad.png" in done.stderr


def test_missing_files_and_galleries_are_named(run, scan: Path, tmp_path: Path) -> None:
    assert "absent.png" in run("query", tmp_path / "absent.png", ok=False).stderr
    assert "nowhere" in run("query", scan, "--gallery", tmp_path / "nowhere", ok=False).stderr
    assert "json" in run("query", scan, "--heatmaps", ok=False).stderr


def test_add_update_remove_info_verify_optimise(run, gallery: Path, scan: Path, tmp_path: Path) -> None:
    own = tmp_path / "g"
    shutil.copytree(gallery, own)
    run("data", "phantom", "--out", tmp_path / "new", "--count", 1, "--seed", 9)
    new = next(f for f in (tmp_path / "new").glob("*/*.png") if "_mask" not in f.name)
    options = (
        "--gallery",
        own,
        "--pathology",
        "Benign",
        "--case",
        "new",
        "--patient",
        "p-1",
        "--birads",
        "4a",
        "--age",
        44,
    )
    assert "1 added" in run("index", "add", new, *options).stdout
    assert "1 unchanged" in run("index", "add", new, *options).stdout
    changed = run("index", "add", new, "--gallery", own, "--pathology", "malignant", "--case", "new")
    assert "1 updated" in changed.stdout
    assert "31 / 31" in run("index", "info", "--gallery", own).stdout
    assert "described" not in run("index", "info", "--gallery", own).stdout  # a folder's scans are not
    assert "sound" in run("index", "verify", "--gallery", own).stdout
    assert "1 removed" in run("index", "remove", "--gallery", own, "--case", "local/new").stdout
    gone = run("index", "remove", "--gallery", own, "--case", "local/new", ok=False)
    assert "local/new" in gone.stderr
    assert "DATASET/CASE" in run("index", "remove", "--gallery", own, "--case", "new", ok=False).stderr
    assert "MiB" in run("index", "optimise", "--gallery", own).stdout
    assert (
        "normal, benign, malignant"
        in run("index", "add", new, "--gallery", own, "--pathology", "unclear", ok=False).stderr
    )


def test_cases_of_one_file_name_do_not_push_each_other_out(run, archive: Path, tmp_path: Path) -> None:
    scans = sorted(f for f in archive.glob("*/*.png") if "_mask" not in f.name)[:2]
    for number, scan in enumerate(scans):
        (tmp_path / str(number)).mkdir()
        shutil.copy(scan, tmp_path / str(number) / "IMG0001.png")
        told = run(
            "index", "add", tmp_path / str(number) / "IMG0001.png", "--gallery", tmp_path / "g", "--pathology", "benign"
        )
    assert "2 scans" in told.stdout
    assert "0 removed" in told.stdout


def test_an_output_that_cannot_be_written_is_a_sentence(run, gallery: Path, scan: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    for arguments in (
        ("query", scan, "--format", "json", "--out", missing / "r.json"),
        ("preprocess", scan, "--out", missing / "sheet.png"),
        ("preprocess", scan, "--out", tmp_path / "sheet.txt"),
        ("data", "split", "phantom", "--out", missing / "folds.csv"),
    ):
        done = run(*arguments, ok=False)
        assert done.returncode == 2
        assert done.stderr.strip().splitlines()[-1].startswith("sonoseek: ")
        assert ".part" not in done.stderr


def test_a_stopped_build_says_so_and_goes_on(archive: Path, run, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sonoseek.apps.cli", "index", "build", "--dataset", "phantom"]
    build = subprocess.Popen(
        [*command, "--gallery", str(tmp_path / "g")],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's `make test &` has it ignored
    )
    deadline = time.monotonic() + 120
    while not _holds_scans(tmp_path / "g") and time.monotonic() < deadline:  # a stop before leaves no gallery behind
        time.sleep(0.05)
    build.send_signal(signal.SIGINT)
    _, told = build.communicate(timeout=60)
    assert build.returncode == 130
    assert "continues from there" in told
    assert "sound" in run("index", "verify", "--gallery", tmp_path / "g").stdout


def _holds_scans(gallery: Path) -> bool:
    try:
        with open_gallery(gallery) as opened:
            return opened.count() > 0
    except SonoseekError:  # not there yet
        return False


def test_a_damaged_gallery_does_not_verify(process, gallery: Path, tmp_path: Path) -> None:
    own = tmp_path / "g"
    shutil.copytree(gallery, own)
    with (own / "gallery.db").open("r+b") as file:
        file.truncate(8192)
    done = process("index", "verify", "--gallery", own, ok=False)
    assert done.returncode == 2


def test_a_query_never_imports_torch(gallery: Path, scan: Path) -> None:
    code = (
        "import sys, sonoseek as ss\n"
        f"ss.open_engine({str(gallery)!r}).query(ss.read_scan({str(scan)!r}), k=3)\n"
        "import sonoseek.apps.cli.main\n"
        "assert not {'torch', 'lightning', 'onnx', 'sklearn', 'matplotlib', 'scipy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_info_says_how_many_scans_are_described(run, archive: Path, tmp_path: Path) -> None:
    scans = sorted(file for file in (archive / "benign").glob("*.png") if "_mask" not in file.name)[:2]
    rows = ["file,pathology,margin", f"{scans[0]},benign,circumscribed", f"{scans[1]},benign,"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows), encoding="utf-8")
    run("index", "build", "--dataset", "manifest", "--data", tmp_path / "manifest.csv", "--gallery", tmp_path / "g")
    assert "margin 1" in run("index", "info", "--gallery", tmp_path / "g").stdout
