"""Every command and every Python block of README, how-tos and tutorials, run as it is written.

Each page runs in a folder of its own that holds what its commands name: BUSI's folders filled with phantoms (no
BI-RADS, no device, no patient, as in BUSI), scans, a table. A command runs in this process. What cannot run here stands
in `NOT_RUN`, with the reason; its verb and options are checked all the same.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import pytest
from commands import PAGES, ROOT, blocks, check_arguments, commands, words

from sonoseek.apps.cli.main import app
from sonoseek.datasets import open_dataset
from sonoseek.encoder.bundle import FAST_BUNDLE

sys.path.insert(0, str(ROOT / "tests" / "datasets"))
from fake_datasets import save, save_dicom

SERVICE = r"useradd |python3.11 -m venv |install |chown |systemctl |journalctl "
NOT_RUN = {
    r"make ": "sets up an environment of its own; the pipeline runs it",
    r"sonoseek deidentify ": "exits with 2: the phantoms' headers have no regions, so somebody has to look at them",
    r"pip install ": "installs packages; that the extras exist is checked below",
    r"sonoseek train |torchrun ": "trains for minutes or hours; tests/training trains for seconds",
    r"sonoseek evaluate .*--system (first-hybrid|hybrid-alone|b4)": "trains a network for each fold",
    r"sonoseek query .*--lesion": "needs a bundle that reads marks; tests/apps/test_reader_marks.py has one",
    r"sonoseek evaluate --protocol reader-marked": "needs networks of hours; tests/evaluate marks phantoms",
    r"sonoseek calibrate ": "needs a hundred cases; tests/apps/test_cli_calibrate.py fits on thirty",
    r"sonoseek export ": "needs a run of half an hour; tests/training exports a small one",
    r"sonoseek .*--ray ": "needs a Ray cluster; tests/engine/test_engine_ray.py starts one",
    r"sonoseek .*milvus://": "needs a Milvus server; tests/gallery starts one",
    r"ray start ": "starts a server",
    r"tensorboard ": "starts a server",
    r"sonoseek serve .*--pacs ": "shows a listener's studies; tests/apps/test_web_worklist_browser.py starts one",
    r"sonoseek pacs ": "runs beside a PACS; tests/pacs has one",
    SERVICE: "sets up a service of the system",
    r"curl ": "asks a server; tests/apps/test_web_jobs.py sends the same",
    r"python (benchmarks/|-m benchmarks)": "measures for minutes",
}
"""Start of a command → why it does not run here."""
ALSO = {
    r"sonoseek serve ": ("--port", "0", "--idle", "0.2", "--quiet"),  # any free port, and an end
    r"sonoseek evaluate --protocol explanations ": ("--thorough", "0"),  # forty minutes otherwise
}
"""Start of a command → options that are put behind it, so that it ends."""
STARTS_IN = {
    "README.md": "bare",
    "own-archive.md": "bare",
    "first-report.md": "nothing",
    "python.md": "nothing",
    "reading-room.md": "nothing",
    "read-results.md": "committed",
}
"""Pages that make the archives or the galleries which they ask, or read the results; all others start with both."""
WRITTEN = {
    "README.md": ["report.html", "explained", "results/index.html"],
    "audit.md": ["audit/audit.html", "audit/groups.csv", "audit/audit.json"],
    "first-report.md": ["report.html"],
    "python.md": ["report.html", "galleries/python/gallery.db"],
    "reading-room.md": ["monday/malignant"],
}
"""Page → files and folders that its commands leave."""
LONG = ("evaluate.md",)
"""Measures heatmaps; README's `evaluate` runs always."""
OURS = "own-archive.md"


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages' commands name, but for galleries."""
    world = tmp_path_factory.mktemp("bare")
    phantoms = open_dataset("phantom")
    scans: dict[str, list[str]] = {"normal": [], "benign": [], "malignant": []}
    for record in phantoms.records():
        scans[record.pathology].append(record.case_id)
    busi = world / "data" / "busi" / "Dataset_BUSI_with_GT"
    for pathology, count in (("normal", 4), ("benign", 12), ("malignant", 7)):
        for number in range(1, count + 1):
            write_case(phantoms, scans[pathology].pop(), busi / pathology / f"{pathology} ({number}).png", grey=False)
    rows = ["file,pathology,patient,mask"]
    for pathology in scans:
        for number in range(6):
            file = world / "archive" / pathology / f"{pathology}-{number}.png"
            write_case(phantoms, scans[pathology].pop(), file)
            mask = "" if pathology == "normal" else f"archive/{pathology}/{file.stem}_mask.png"
            rows.append(f"archive/{pathology}/{file.name},{pathology},p-{pathology}-{number // 2},{mask}")
    (world / "archive.csv").write_text("\n".join(rows) + "\n")
    asked = [phantoms.load(scans["benign"].pop(), masks=False).scans[0].pixels for _ in range(8)]
    for name, pixels in zip(("scan", "a", "b", "transverse", "sagittal"), asked, strict=False):
        save(pixels, world / f"{name}.png")
    screen = np.zeros((700, 1000), np.uint8)
    screen[40:620, 120:900] = cv2.resize(asked[5], (780, 580))
    save(screen, world / "screen.png")
    save_dicom(world / "exam.dcm", [cv2.resize(asked[6], (640, 480))], patient="p-77")
    save_dicom(world / "new.dcm", [cv2.resize(asked[7], (640, 480))], patient="p-19")
    for run in ("ours", "b4-frozen"):
        shutil.copytree(FAST_BUNDLE, world / "runs" / run / "bundle")
    return world


@pytest.fixture(scope="session")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder."""
    return tmp_path_factory.mktemp("nothing")


@pytest.fixture(scope="session")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of one protocol as they stand in the repository, and of another as a folder of one's own."""
    world = tmp_path_factory.mktemp("committed")
    for place in ("docs/results/busi-grouped", "results/busi-curated"):
        shutil.copytree(ROOT / "docs" / "results" / Path(place).name, world / place)
    return world


@pytest.fixture(scope="session")
def ready(bare: Path, tmp_path_factory: pytest.TempPathFactory, sonoseek_here: Any) -> Path:
    """The same with galleries of BUSI's folder and of the table."""
    world = tmp_path_factory.mktemp("ready") / "world"
    shutil.copytree(bare, world)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(world)
        for dataset, data, gallery in (("busi", "data/busi", "busi"), ("manifest", "archive.csv", "ours")):
            build = ("index", "build", "--dataset", dataset, "--data", data, "--gallery", f"galleries/{gallery}")
            ended = sonoseek_here(*build)
            assert ended.returncode == 0, ended.stderr
    return world


def write_case(phantoms: Any, case_id: str, file: Path, *, grey: bool = True) -> None:
    """A phantom and its mask, as BUSI has them: RGB, an empty mask for normals."""
    case = phantoms.load(case_id)
    pixels, mask = case.scans[0].pixels, case.lesion_masks[0]
    save(pixels if grey else np.repeat(pixels[..., None], 3, axis=2), file)
    drawn = np.zeros_like(pixels) if mask is None else mask.astype(np.uint8) * 255
    save(drawn, file.with_name(f"{file.stem}_mask.png"))


def as_shell_finds(argument: str) -> list[str]:
    """The files that a pattern stands for; itself where there are none."""
    return sorted(map(str, Path().glob(argument))) or [argument] if "*" in argument else [argument]


def why_not_run(command: str) -> str | None:
    return next((reason for start, reason in NOT_RUN.items() if re.match(start, command)), None)


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.long if page.name in LONG else (), id=page.name) for page in PAGES],
)
def test_every_command_and_python_block_does_what_it_says(
    page: Path, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sonoseek_here: Any
) -> None:
    made: Path = request.getfixturevalue(STARTS_IN.get(page.name, "ready"))
    world = tmp_path / "world"
    shutil.copytree(made, world)
    monkeypatch.chdir(world)
    for name in [name for name in os.environ if name.startswith("SONOSEEK_") and name != "SONOSEEK_SITE_KEY"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SONOSEEK_BUNDLE", "fast")  # phantoms are asked
    if page.name == OURS:
        put_own_archive(page, world)
    for command in commands(page):
        if why_not_run(command) is not None:
            continue
        program, *arguments = words(command)
        if program == "export":
            for assignment in arguments:
                monkeypatch.setenv(*assignment.split("=", 1))
            continue
        assert program == "sonoseek", f"{page.name}: {command!r} neither runs here nor stands in NOT_RUN"
        more = next((options for start, options in ALSO.items() if re.match(start, command)), ())
        ended = sonoseek_here(*(found for each in arguments for found in as_shell_finds(each)), *more)
        assert ended.returncode == 0, f"{page.name}: {command}\n{ended.stdout}\n{ended.stderr}"
    python = "\n".join(block.text for block in blocks(page) if block.language == "python")
    exec(compile(python, str(page), "exec"), {"__name__": "__main__"})  # noqa: S102  # that is the test
    for written in WRITTEN.get(page.name, []):
        assert Path(written).exists()


def test_what_pandas_computes_is_what_the_results_say(committed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(committed)
    found: dict[str, Any] = {}
    exec("\n".join(block.text for block in blocks(ROOT / "docs" / "how-to" / "read-results.md")), found)  # noqa: S102
    systems = found["scores"]["systems"]
    assert len(systems) > 30
    assert set(found["accuracy"].index) == set(found["precision_at_5"].index) == set(systems)
    for name, system in systems.items():
        for own, (part, figure) in {
            "accuracy": ("classification", "accuracy"),
            "precision_at_5": ("retrieval", "precision@5"),
        }.items():
            assert found[own][name] == pytest.approx(system[part][figure]["pooled"], abs=1e-6), (name, figure)
        assert found["table"].loc[name, "accuracy"] == system["classification"]["accuracy"]["pooled"]


def put_own_archive(page: Path, world: Path) -> None:
    """The table and the recipe as the page shows them, and the scans that the table names."""
    texts = {block.language: block.text for block in reversed(blocks(page))}
    (world / "archive.csv").write_text(texts["text"])
    (world / "ours.toml").write_text(texts["toml"])
    scans = sorted(world.glob("archive/*/*[0-9].png"))
    (world / "exams").mkdir()
    shutil.copy(world / "exam.dcm", world / "exams" / "0001.dcm")
    shutil.copy(scans[0], world / "exams" / "0002.png")
    (world / "data" / "ours").mkdir()
    shutil.copytree(world / "exams", world / "data" / "ours" / "exams")
    shutil.copy(world / "archive.csv", world / "data" / "ours")


def test_what_does_not_run_is_on_a_page_and_its_options_are_there() -> None:
    skipped = [(page, command) for page in PAGES for command in commands(page) if why_not_run(command) is not None]
    for start, reason in NOT_RUN.items():
        assert any(re.match(start, command) for _, command in skipped), f"{start!r} ({reason}) is on no page"
    for page, command in skipped:
        if "sonoseek" in words(command) and not re.match(SERVICE, command):  # there it is a user's name
            try:
                check_arguments(command, app)
            except click.UsageError as error:
                pytest.fail(f"{page.name}: {command}: {error.format_message()}")


def test_the_extras_that_pages_install_are_there() -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = [extra for page in PAGES for command in commands(page) for extra in re.findall(r'"\.\[(.*?)\]"', command)]
    assert len(named) >= 4
    assert {each for extra in named for each in extra.split(",")} <= set(known)


def test_the_recipe_of_one_s_own_archive_reads(tmp_path: Path) -> None:
    from sonoseek.training import load_recipe

    texts = {block.language: block.text for block in blocks(ROOT / "docs" / "how-to" / OURS)}
    (tmp_path / "ours.toml").write_text(texts["toml"])
    assert load_recipe(tmp_path / "ours.toml").name == "ours"


def test_readme_fits_three_screens() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 120
    assert [line for line in lines if len(line) > 115 and not line.startswith("![")] == []
