"""A build that cannot put anything in leaves no gallery behind, and one that is there as it was."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

WRONG = {
    "an unknown column": ("file,pathology,colour\nscan.png,benign,red\n", "colour"),
    "no column file": ("path,pathology\nscan.png,benign\n", "lacks file"),
    "a wrong pathology": ("file,pathology\nscan.png,unclear\n", "unclear"),
    "no row": ("file,pathology\n", "lists no scan"),
    "nothing at all": ("", "lacks file"),
    "only missing files": ("file,pathology\ngone.png,benign\nlost.png,malignant\n", "gone.png"),
    "only broken files": ("file,pathology\nbroken.png,benign\n", "broken.png"),
}


@pytest.fixture
def folder(tmp_path: Path, scan: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With one good scan and one broken one, and in it."""
    (tmp_path / "scan.png").write_bytes(scan.read_bytes())
    (tmp_path / "broken.png").write_bytes(scan.read_bytes()[:300])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def build(dataset: str, data: str) -> tuple[str, ...]:
    return ("index", "build", "--dataset", dataset, "--data", data, "--gallery", "galleries/new/ours")


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_manifest_leaves_no_gallery_behind(wrong: str, folder: Path, sonoseek_here: Any) -> None:
    table, named = WRONG[wrong]
    Path("archive.csv").write_text(table)
    ended = sonoseek_here(*build("manifest", "archive.csv"))
    assert ended.returncode == 2
    assert named in ended.stderr
    assert not Path("galleries").exists()
    Path("archive.csv").write_text("file,pathology\nscan.png,benign\n")
    assert "1 added" in sonoseek_here(*build("manifest", "archive.csv")).stdout


def test_a_folder_without_scans_and_a_missing_one(folder: Path, sonoseek_here: Any) -> None:
    Path("sorted/benign").mkdir(parents=True)
    for data in ("sorted", "nowhere"):
        ended = sonoseek_here(*build("folder", data))
        assert ended.returncode == 2
        assert data in ended.stderr
        assert not Path("galleries").exists()


@pytest.mark.parametrize("cause", [KeyboardInterrupt, OSError("no space left")])
def test_a_build_that_is_stopped_at_its_first_case(
    cause: Any, folder: Path, sonoseek_here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*arguments: Any, **options: Any) -> None:
        assert Path("galleries/new/ours/gallery.db").is_file()
        raise cause

    monkeypatch.setattr("sonoseek.indexing.gallery.build_index", stopped)
    Path("archive.csv").write_text("file,pathology\nscan.png,benign\n")
    assert sonoseek_here(*build("manifest", "archive.csv")).returncode in (2, 130)
    assert not Path("galleries").exists()


def test_what_else_lies_beside_it_stays(folder: Path, sonoseek_here: Any) -> None:
    Path("galleries/new/ours").mkdir(parents=True)
    Path("galleries/new/ours/notes.txt").write_text("mine")
    Path("archive.csv").write_text("file,pathology\ngone.png,benign\n")
    assert sonoseek_here(*build("manifest", "archive.csv")).returncode == 2
    assert [path.name for path in Path("galleries/new/ours").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_gallery_that_is_there_is_left_as_it_was(wrong: str, folder: Path, sonoseek_here: Any) -> None:
    Path("archive.csv").write_text("file,pathology\nscan.png,benign\n")
    assert sonoseek_here(*build("manifest", "archive.csv")).returncode == 0
    file = Path("galleries/new/ours/gallery.db")
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    Path("archive.csv").write_text(WRONG[wrong][0])
    assert sonoseek_here(*build("manifest", "archive.csv")).stderr
    assert hashlib.sha256(file.read_bytes()).hexdigest() == before


def test_an_empty_gallery_that_was_there_before_stays(folder: Path, sonoseek_here: Any) -> None:
    from sonoseek.encoder import load_bundle
    from sonoseek.encoder.bundle import FAST_BUNDLE
    from sonoseek.gallery import create_gallery

    bundle = load_bundle(FAST_BUNDLE)
    create_gallery("galleries/new/ours", bundle_id=bundle.bundle_id, dimension=bundle.embedding_dim).close()
    Path("archive.csv").write_text("file,pathology\ngone.png,benign\n")
    assert sonoseek_here(*build("manifest", "archive.csv")).returncode == 2
    assert Path("galleries/new/ours/gallery.db").is_file()


def test_a_case_that_cannot_be_added_leaves_no_gallery_behind(
    folder: Path, sonoseek_here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sonoseek.indexing.make_entry", stopped)
    assert sonoseek_here("index", "add", "scan.png", "--gallery", "g", "--pathology", "benign").returncode == 130
    assert not Path("g").exists()
