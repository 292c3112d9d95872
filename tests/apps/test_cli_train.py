"""Training from the command line, on an archive of one's own."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sonoseek.apps.cli.data import write_phantoms
from sonoseek.apps.cli.main import app
from sonoseek.core import SonoseekError
from sonoseek.encoder import load_bundle

RECIPE = """
name = "ours"
backbone = "tiny"
embedding_dim = 16
folds = 3
validation = 0.3
[preprocessing]
canvas_size = 64
[[datasets]]
name = "manifest"
{root}
[optimiser]
epochs = 1
batch = 8
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with an archive in it: 36 phantoms, three to a patient, and their table."""
    folder = tmp_path_factory.mktemp("data")
    write_phantoms(folder / "ours", count=36, seed=5)
    files = sorted(f for f in (folder / "ours").glob("*/*.png") if "_mask" not in f.name)
    rows = [f"{f.relative_to(folder / 'ours')},{f.parent.name},{f.parent.name}-{i % 4}" for i, f in enumerate(files)]
    (folder / "ours" / "archive.csv").write_text("\n".join(["file,pathology,patient", *rows]) + "\n")
    return folder


def recipe(tmp_path: Path, root: str) -> Path:
    path = tmp_path / "ours.toml"
    path.write_text(RECIPE.format(root=root))
    return path


@pytest.fixture(scope="module")
def trained(run, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, its recipe beside it."""
    folder = tmp_path_factory.mktemp("trained")
    file = recipe(folder, 'root = "ours/archive.csv"')
    done = run("train", file, "--data", data, "--run", folder / "run", "--accelerator", "cpu")
    assert f"bundle: {folder / 'run' / 'bundle'}" in done.stdout
    return folder / "run"


@pytest.mark.slow
def test_ones_own_archive_is_trained_on_from_end_to_end(run, data: Path, trained: Path, tmp_path: Path) -> None:
    file, bundle = trained.parent / "ours.toml", trained / "bundle"
    said = load_bundle(bundle).training
    assert said["datasets"][0]["name"] == "manifest"
    assert len(said["cases"]["manifest"]) == 36
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["figures"]["validation"]["manifest"]["scans"] > 3
    assert list((trained / "tensorboard").glob("events*"))
    (call,) = json.loads((trained / "environment.json").read_text())
    assert call["command"][1:3] == ["train", str(file)]
    scan = next((data / "ours" / "benign").glob("*.png"))
    run(
        "index",
        "build",
        "--dataset",
        "folder",
        "--data",
        data / "ours",
        "--gallery",
        tmp_path / "g",
        "--bundle",
        bundle,
    )
    run("query", scan, "--gallery", tmp_path / "g", "--bundle", bundle)
    again = run("train", file, "--data", data, "--run", trained, ok=False)
    assert "--resume" in again.stderr


def test_roots_are_absolute_or_in_the_data_folder(data: Path, tmp_path: Path) -> None:
    from sonoseek.core import InvalidValueError
    from sonoseek.training.prepare import open_choice
    from sonoseek.training.recipe import DatasetChoice

    for root, data_root in (
        (str(data / "ours" / "archive.csv"), None),
        (str(data / "ours"), tmp_path),
        ("ours/archive.csv", data),
        ("ours", data),
    ):
        assert len(open_choice(DatasetChoice(name="manifest", root=root), data_root=data_root).records()) == 36
    with pytest.raises(InvalidValueError, match=r"absolute root"):
        open_choice(DatasetChoice(name="manifest", root="ours"), data_root=None)


def test_what_cannot_be_trained_on_is_said(data: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("SONOSEEK_DATA", raising=False)
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "ERROR")
    absent = recipe(tmp_path, 'root = "theirs/archive.csv"')
    wrong = (
        (("--data", data), "no manifest: .*theirs/archive.csv is not there"),
        ((), "absolute root"),
        (("--data", data, "--folds", "some"), "--folds is 'some'"),
        (("--data", data, "--folds", "0", "--teacher", data), "train a teacher per fold"),
        (("--data", data, "--precision", "8"), "precision is '8'"),
        (("--data", data, "--nodes", "2"), "torchrun"),
    )
    for number, (options, needed) in enumerate(wrong):
        said = CliRunner().invoke(app, ["train", *map(str, (absent, "--run", tmp_path / str(number), *options))])
        assert isinstance(said.exception, SonoseekError), said.output
        assert re.search(needed, str(said.exception))


def test_a_finished_bundle_teaches(run, data: Path, trained: Path, tmp_path: Path) -> None:
    file = recipe(tmp_path, 'root = "ours/archive.csv"')
    student = tmp_path / "student"
    options = ("--data", data, "--accelerator", "cpu", "--no-tensorboard", "--teacher", trained / "bundle")
    run("train", file, *options, "--run", student)
    assert load_bundle(trained / "bundle").bundle_id in load_bundle(student / "bundle").training["protocol"]
    (call,) = json.loads((student / "environment.json").read_text())
    assert "--teacher" in call["command"]
