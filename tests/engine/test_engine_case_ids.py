"""Names of files do not get into a gallery: case ids are opaque, the same every time, and listed beside the gallery."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

from sonoseek.core import Scan
from sonoseek.datasets import open_dataset
from sonoseek.gallery import Gallery, create_gallery, open_gallery
from sonoseek.indexing.build import BuildResult, build_index
from sonoseek.indexing.case_ids import note_files, opaque_id, table_path
from sonoseek.indexing.recheck import recheck_embeddings

NAMES = ("MUELLER_ANNA_19610412.png", "SCHMIDT_EVA.png")
Build = Callable[..., BuildResult]


@pytest.fixture
def archive(tmp_path: Path, make_scan: Callable[..., Scan]) -> Path:
    folder = tmp_path / "archive" / "benign"
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        assert cv2.imwrite(str(folder / name), make_scan(number).pixels)
    return folder.parent


@pytest.fixture
def build(tmp_path: Path, encoder: Any) -> Build:
    def act(kind: str, data: Path, **options: Any) -> BuildResult:
        made = {"bundle_id": encoder.bundle.bundle_id, "dimension": 24, "exist_ok": True}
        with create_gallery(tmp_path / "g", **made) as gallery:
            return build_index(open_dataset(kind, data), gallery, encoder, **options)

    return act


def ids(folder: Path) -> list[str]:
    with open_gallery(folder) as gallery:
        return [entry.record.case_id for entry in gallery]


def test_no_file_of_a_gallery_holds_a_name_but_the_private_table(archive: Path, build: Build, tmp_path: Path) -> None:
    assert build("folder", archive).added == 2
    wanted = {opaque_id("folder", f"benign/{name}"): f"benign/{name}" for name in NAMES}
    assert ids(tmp_path / "g") == sorted(wanted)
    with open_gallery(tmp_path / "g") as gallery:
        assert {entry.source for entry in gallery} == {f"folder/{each}" for each in wanted}
        gallery.refresh()
    table = table_path(tmp_path / "g")
    for file in (tmp_path / "g").iterdir():
        assert (b"MUELLER" in file.read_bytes()) is (file == table), file
    assert table.stat().st_mode & 0o777 == 0o600
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert {row["case_id"]: row["file"] for row in rows} == wanted
    assert {row["dataset"] for row in rows} == {"folder"}


def test_the_same_files_are_known_again_and_a_changed_one_replaces_itself(
    archive: Path, build: Build, tmp_path: Path, make_scan: Callable[..., Scan]
) -> None:
    build("folder", archive)
    table_path(tmp_path / "g").unlink()
    again = build("folder", archive)
    assert (again.added, again.updated, again.unchanged, again.warnings) == (0, 0, 2, ())
    assert "MUELLER" in table_path(tmp_path / "g").read_text()
    assert cv2.imwrite(str(archive / "benign" / NAMES[0]), make_scan(9).pixels)
    changed = build("folder", archive)
    assert (changed.added, changed.removed, changed.unchanged) == (1, 1, 1)


def test_names_can_be_kept_and_stay_where_they_are(archive: Path, build: Build, tmp_path: Path) -> None:
    build("folder", archive, case_ids="names")
    named = sorted(f"benign/{name}" for name in NAMES)
    assert ids(tmp_path / "g") == named
    again = build("folder", archive)
    assert (again.added, again.unchanged) == (0, 2)
    assert "under the names of their files" in again.warnings[0]
    assert ids(tmp_path / "g") == named


def test_a_table_s_own_case_ids_stay_and_its_files_names_go(archive: Path, build: Build, tmp_path: Path) -> None:
    table = archive / "manifest.csv"
    rows = [f"benign/{NAMES[0]},benign,first", f"benign/{NAMES[1]},benign,"]
    table.write_text("\n".join(["file,pathology,case_id", *rows]))
    build("manifest", table)
    assert ids(tmp_path / "g") == sorted(["first", opaque_id("manifest", f"benign/{NAMES[1]}")])
    with open_gallery(tmp_path / "g") as gallery:
        assert not [entry.source for entry in gallery if "MUELLER" in entry.source]


def test_a_refusal_names_the_file(archive: Path, build: Build) -> None:
    (archive / "benign" / NAMES[0]).write_bytes(b"no picture")
    (refused,) = build("folder", archive).refused
    assert refused.source == f"folder/benign/{NAMES[0]}"


def test_files_are_embedded_again_under_their_opaque_ids(
    archive: Path, build: Build, tmp_path: Path, encoder: Any
) -> None:
    build("folder", archive)
    with open_gallery(tmp_path / "g") as gallery:
        found = recheck_embeddings(gallery, encoder, sample=2, dataset=open_dataset("folder", archive))
    assert (found.from_files, found.problems) == (2, ())


def test_public_datasets_and_others_keep_their_names(dataset: Any, empty_gallery: Gallery, encoder: Any) -> None:
    build_index(dataset, empty_gallery, encoder)
    assert {entry.record.case_id for entry in empty_gallery} == {record.case_id for record in dataset.records()}
    assert not table_path(empty_gallery.location).exists()


def test_ids_depend_on_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = opaque_id("folder", "benign/a.png")
    assert len(before) == 18
    assert before != opaque_id("other", "benign/a.png")
    monkeypatch.setenv("SONOSEEK_SITE_KEY", str(tmp_path / "k"))
    assert before != opaque_id("folder", "benign/a.png")


def test_the_table_keeps_what_is_in_it_and_odd_names(tmp_path: Path) -> None:
    note_files(tmp_path / "g.db", [("a", "c-1", 'benign/ü,\n"=1+1.png')])
    note_files(tmp_path / "g.db", [("a", "c-2", os.fsdecode(b"benign/\xff.png"))])
    with (tmp_path / "g.db.case_ids.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        assert [row[1] for row in csv.reader(file)] == ["case_id", "c-1", "c-2"]
    assert table_path("milvus://host:1/x").parent == Path(os.environ["SONOSEEK_SITE_KEY"]).parent


def test_a_copy_of_a_gallery_names_no_file(archive: Path, build: Build, tmp_path: Path, sonoseek_here: Any) -> None:
    build("folder", archive)
    for verb in ("backup", "copy"):
        done = sonoseek_here("index", verb, "-g", tmp_path / "g", tmp_path / verb)
        assert done.returncode == 0, done.stderr
        assert not [file for file in (tmp_path / verb).iterdir() if b"MUELLER" in file.read_bytes()]
