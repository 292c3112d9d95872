"""The other verbs."""

import csv
import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sonoseek.gallery import open_gallery


def test_version_help_and_unknown_verbs(process) -> None:
    assert process("--version").stdout.startswith("sonoseek ")
    assert "research use only" in process("--help").stdout.lower()
    assert process("no-such-verb", ok=False).returncode == 2


def test_list_names_every_dataset(run) -> None:
    from sonoseek.datasets import DATASETS

    told = run("data", "list").stdout
    for name in DATASETS:
        assert name in told


def test_check_counts_and_refuses(run, archive: Path, tmp_path: Path) -> None:
    assert "30" in run("data", "check", "folder", "--data", archive).stdout
    assert "data get" in run("data", "check", "busi", "--data", tmp_path, ok=False).stderr


def test_split_parts_no_group(run, tmp_path: Path) -> None:
    out = tmp_path / "folds.csv"
    run("data", "split", "phantom", "--folds", 3, "--out", out)
    with out.open() as file:
        rows = list(csv.DictReader(file))
    folds: dict[str, set[str]] = {}
    for row in rows:
        folds.setdefault(row["group"], set()).add(row["fold"])
    assert len(rows) == 600
    assert all(len(where) == 1 for where in folds.values())
    assert {row["fold"] for row in rows} == {"0", "1", "2"}


def test_audit_writes_page_groups_and_figures(run, archive: Path, tmp_path: Path) -> None:
    one = sorted(f for f in (archive / "benign").glob("*.png") if "_mask" not in f.name)[0]
    own = tmp_path / "archive"
    for kind in ("benign", "malignant"):
        (own / kind).mkdir(parents=True)
        for file in sorted((archive / kind).glob("*.png"))[:6]:
            if "_mask" not in file.name:
                (own / kind / file.name).write_bytes(file.read_bytes())
    (own / "malignant" / "copy.png").write_bytes(one.read_bytes())
    run("data", "audit", "folder", "--data", own, "--out", tmp_path / "audit", "--folds", 0)
    found = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert found["counts"]["exact_pairs"] == 1
    assert found["counts"]["cross_label_groups"] == 1
    assert "copy" in (tmp_path / "audit" / "audit.html").read_text()
    written = [tmp_path / "audit" / name for name in ("audit.html", "groups.csv", "audit.json")]
    assert [stat.S_IMODE(file.stat().st_mode) for file in written] == [0o600] * 3  # they name patients' scans


@pytest.fixture(scope="module")
def of_one_patient(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A table of the archive's thirty scans, the first `held` of them of the patient `name`, the others of nobody."""

    def write(held: int, name: str) -> Path:
        scans = sorted(f for f in archive.glob("*/*.png") if "_mask" not in f.name)
        table = tmp_path_factory.mktemp("tables") / "ours.csv"
        with table.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("file", "pathology", "patient"))
            rows.writerows((scan, scan.parent.name, name if n < held else f"p{n}") for n, scan in enumerate(scans))
        return table

    return write


@pytest.mark.parametrize(("held", "said"), [(30, True), (16, True), (15, False)])
def test_check_and_build_warn_of_one_patient_over_half_of_an_archive(
    run, of_one_patient: Callable[..., Path], tmp_path: Path, held: int, said: bool
) -> None:
    table = of_one_patient(held, "A17")
    gallery = ("--gallery", tmp_path / "g")
    told = [
        run("data", "check", "manifest", "--data", table),
        run("index", "build", "--dataset", "manifest", "--data", table, *gallery),
        run("index", "info", *gallery),
    ]
    sentence = f"warning: patient 'A17' holds {held} of the 30 cases of 'manifest'"
    assert [sentence in done.stderr for done in told] == [said] * 3
    assert all("warning" not in done.stderr for done in told) is not said


def test_a_placeholder_is_taken_as_unknown_and_said_once(
    run, of_one_patient: Callable[..., Path], tmp_path: Path
) -> None:
    table = of_one_patient(30, "Anonymous")
    build = ("index", "build", "--dataset", "manifest", "--data", table, "--gallery", tmp_path / "g")
    for done in (run("data", "check", "manifest", "--data", table), run(*build)):
        assert done.stderr.count("warning:") == 1
        assert "30 scans carry the placeholder patient id 'Anonymous'; taken as unknown" in done.stderr
    with open_gallery(tmp_path / "g") as gallery:
        assert {entry.record.patient_id for entry in gallery} == {None}


def test_an_audit_of_one_patient_has_no_split_and_says_why(
    run, of_one_patient: Callable[..., Path], tmp_path: Path
) -> None:
    done = run("data", "audit", "manifest", "--data", of_one_patient(30, "A17"), "--out", tmp_path / "audit")
    assert "warning: no split is checked: 30 cases make 1 groups" in done.stderr
    assert "warning: patient 'A17' holds 30 of the 30 cases" in done.stderr
    found = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert found["counts"]["dominant_patients"] == 1
    assert found["dominant_patients"][0]["patient_id"] == "A17"
    assert "holds 30 of the 30 cases" in (tmp_path / "audit" / "audit.html").read_text()


def test_adding_by_hand_warns_as_well(run, of_one_patient: Callable[..., Path], scan: Path, tmp_path: Path) -> None:
    gallery = ("--gallery", tmp_path / "g")
    run("index", "build", "--dataset", "manifest", "--data", of_one_patient(15, "A17"), *gallery)
    named = ("index", "add", scan, *gallery, "--pathology", "benign", "--dataset", "manifest")
    assert "warning" not in run(*named, "--case", "new", "--patient", "p-9").stderr
    done = run(*named, "--case", "new", "--patient", "0")
    assert "1 scan carries the placeholder patient id '0'; taken as unknown" in done.stderr
    done = run(*named, "--case", "more", "--patient", "A17")
    assert "warning" not in done.stderr  # 16 of 32
    done = run(*named, "--case", "new", "--patient", "A17")
    assert "warning: patient 'A17' holds 17 of the 32 cases of 'manifest'" in done.stderr


def test_an_archive_smaller_than_five_groups_is_audited_without_folds(
    sonoseek_here, archive: Path, tmp_path: Path
) -> None:
    for kind in ("benign", "malignant"):
        (tmp_path / "few" / kind).mkdir(parents=True)
        file = next(f for f in sorted((archive / kind).glob("*.png")) if "_mask" not in f.name)
        (tmp_path / "few" / kind / file.name).write_bytes(file.read_bytes())
    audit = ("data", "audit", "folder", "--data", tmp_path / "few", "--out", tmp_path / "audit")
    assert sonoseek_here(*audit).returncode == 0
    asked_for = sonoseek_here(*audit, "--folds", 5)
    assert asked_for.returncode == 2
    assert "5 folds" in asked_for.stderr


def test_phantoms_overwrite_nothing(run, archive: Path) -> None:
    assert "not an empty folder" in run("data", "phantom", "--out", archive, ok=False).stderr


def test_contact_sheet(run, archive: Path, scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"bad")
    done = run("preprocess", scan, bad, "--out", out)
    assert "1 refused" in done.stderr
    with Image.open(out) as sheet:
        assert sheet.size[0] > 200
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    run("preprocess", archive, "--out", out, "--most", 6)
    run("preprocess", bad, "--out", out, ok=False)


def test_doctor_finds_this_installation_fit(process) -> None:
    assert "FAILS" not in process("doctor").stdout


def test_doctor_names_what_fails(run, tmp_path: Path) -> None:
    done = run("doctor", "--bundle", tmp_path, ok=False)
    assert "FAILS" in done.stdout


def test_small_demo(process, run, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    done = process("demo", "--no-serve", "--out", out, "--count", 24, "--queries", 3, "-k", 4)
    assert (out / "index.html").as_uri() in done.stdout
    assert len(list(out.glob("report-*.html"))) == 3
    page = (out / "index.html").read_text()
    assert "report-01.html" in page
    run("demo", "--no-serve", "--out", out, "--count", 24, "--queries", 3, "-k", 4)  # again: goes on where it was


def test_demo_on_a_dataset_of_ones_own(run, archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    run("demo", "--no-serve", "--out", out, "--data", archive, "--dataset", "folder", "--queries", 2)
    assert (out / "index.html").is_file()


@pytest.mark.slow
def test_one_bad_file_does_not_stop_the_demo(run, archive: Path, tmp_path: Path) -> None:
    own = tmp_path / "archive"
    shutil.copytree(archive, own)
    first = sorted(f for f in own.glob("benign/*.png") if "_mask" not in f.name)[0]
    first.write_bytes(first.read_bytes()[:300])
    done = run("demo", "--no-serve", "--out", tmp_path / "demo", "--data", own, "--dataset", "folder", "--queries", 40)
    assert "1 refused" in done.stderr
    assert len(list((tmp_path / "demo").glob("report-*.html"))) == 29


@pytest.mark.data
def test_the_demo_counts_training_scans_among_the_queries(run, real_data: Path, tmp_path: Path) -> None:
    own = tmp_path / "Dataset_BUSI_with_GT"
    for kind in ("normal", "benign", "malignant"):
        (own / kind).mkdir(parents=True)
        for number in range(1, 5):
            for file in (real_data / "busi" / own.name / kind).glob(f"{kind} ({number})*.png"):
                shutil.copy(file, own / kind)
    done = run("demo", "--no-serve", "--out", tmp_path / "demo", "--data", tmp_path, "--queries", 2)
    assert "training scans of the network" in done.stdout


@pytest.mark.slow
def test_bench_prints_both_throughputs_and_the_ratio(run, archive: Path) -> None:
    told = run("bench", "ingest", "--dataset", "folder", "--data", archive).stdout
    assert "network alone" in told
    assert "index build" in told
    told = run("bench", "query", "--dataset", "folder", "--data", archive, "--scans", 4, "--rounds", 2).stdout
    assert "warm query / network" in told
    assert "from cold" in told


def test_training_verbs_refuse_with_a_remedy(run, tmp_path: Path) -> None:
    assert "recipe" in run("train", tmp_path / "absent.toml", "--run", tmp_path / "run", ok=False).stderr
    assert "finished" in run("export", tmp_path, "--out", tmp_path / "b", ok=False).stderr
