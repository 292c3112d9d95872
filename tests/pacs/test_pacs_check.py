"""`pacs check`, `find` and `import` against archives in this process."""

from __future__ import annotations

import csv
import io
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from archive_peers import program
from pydicom import dcmread
from scps import FakeArchive, running
from studies import datasets, make_studies, write_results
from test_pacs_pathology import check_outcomes
from typer.testing import CliRunner, Result
from web_archive import WebArchive, web_archive

from sonoseek.apps.cli.pacs import app
from sonoseek.core import InvalidValueError, NotFoundError, PeerError
from sonoseek.datasets import open_dataset
from sonoseek.pacs.archive import ImportFolder
from sonoseek.pacs.archive.dimse import FIND, GET, MOVE
from sonoseek.pacs.check import RESULTS, Step, check_peer
from sonoseek.pacs.pathology import join_results, load_terms, read_results
from sonoseek.pacs.peer import Peer
from sonoseek.pacs.test_object import make_test_object

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # pynetdicom's, of refused connections
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def of(steps: tuple[Step, ...]) -> dict[str, bool | None]:
    return {step.name: step.passed for step in steps}


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def options(peer: Peer) -> list[object]:
    return ["--ae-title", peer.ae_title, "--host", peer.host, "--port", peer.port]


def test_a_sound_peer_passes_every_step() -> None:
    with running(FakeArchive([]), contexts=(FIND, GET, MOVE, *RESULTS)) as peer:
        steps = check_peer(peer, store=True)
        shown = call("check", *options(peer))
    assert all(step.passed for step in steps), steps
    assert {"association", "C-ECHO", "Study Root C-FIND", "C-FIND", "C-STORE"} <= set(of(steps))
    assert shown.exit_code == 0, shown.output
    assert "FAIL" not in shown.output


def test_a_refused_sop_class_is_named_with_its_uid_and_its_remedy() -> None:
    with running(FakeArchive([]), contexts=(FIND, MOVE)) as peer:
        steps = check_peer(peer)
        shown = call("check", *options(peer), "--json")
        assert check_peer(peer, purpose="import")[-1].passed is None
        assert all(step.passed is not False for step in check_peer(peer, purpose="import"))  # a C-MOVE is enough
    (failed,) = [step for step in steps if step.passed is False]
    assert failed.name == "Comprehensive 3D SR Storage"
    assert "1.2.840.10008.5.1.4.1.1.88.34" in failed.remedy
    assert "SONOSEEK" in failed.remedy
    assert shown.exit_code == 2
    assert [step["name"] for step in json.loads(shown.stdout) if step["passed"] is False] == [failed.name]


def test_what_follows_a_failed_association_is_not_tried() -> None:
    with running(FakeArchive([])) as peer:
        for change, text in (
            ({"ae_title": "OTHER"}, "--ae-title"),
            ({"our_ae_title": "OTHER"}, "Enter that title"),
            ({"port": 1}, "--port"),
        ):
            steps = check_peer(replace(peer, **change))  # type: ignore[arg-type]
            assert steps[0].passed is False
            assert text in steps[0].remedy, steps[0]
            assert {step.passed for step in steps[1:]} == {None}


@contextmanager
def listening() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        yield int(silent.getsockname()[1])


def test_a_silent_port_is_a_step_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sonoseek.pacs.association.CONNECT_S", 0.2)
    with listening() as port:
        (step, *_) = check_peer(Peer(name="silent", host="127.0.0.1", port=port, ae_title="X"))
    assert step.passed is False
    assert "without an answer" in step.detail


def test_a_query_that_is_refused_is_a_step_that_failed() -> None:
    archive = FakeArchive([])
    archive.find_status = 0xA700
    with running(archive) as peer:
        (step,) = [step for step in check_peer(peer, purpose="import") if step.name == "C-FIND"]
    assert step.passed is False
    assert "A700" in step.detail


def test_dicomweb_is_queried_and_takes_the_test_object() -> None:
    with web_archive(WebArchive()) as archive:
        peer = Peer(name="web", dicomweb=archive.url)
        assert of(check_peer(peer)) == {"QIDO-RS": True, "STOW-RS": None}
        assert of(check_peer(peer, store=True)) == {"QIDO-RS": True, "STOW-RS": True}
        assert archive.requests[-1].startswith("POST")
        archive.status = 401
        shown = call("check", "--dicomweb", archive.url)
    assert shown.exit_code == 2
    assert "SONOSEEK_DICOMWEB_TOKEN" in "".join(shown.output.split("\n"))


def test_the_test_object_says_that_it_is_one_and_is_always_the_same() -> None:
    made = make_test_object()
    assert make_test_object() == made
    dataset = dcmread(io.BytesIO(made.content))
    assert "TEST" in str(dataset.PatientName)
    assert "TEST" in dataset.StudyDescription
    assert dataset.pixel_array.max() == 255
    assert len(made.content) < 100_000


@pytest.mark.peer
def test_the_test_object_is_sound_for_dciodvfy(tmp_path: Path) -> None:
    path = tmp_path / "test.dcm"
    path.write_bytes(make_test_object().content)
    done = subprocess.run([program("dciodvfy"), "-new", path], capture_output=True, text=True, check=False)
    assert "Error" not in done.stdout + done.stderr, done.stderr


def test_a_peer_of_the_settings_is_called_as_they_say(tmp_path: Path) -> None:
    config = tmp_path / "pacs.toml"
    with running(FakeArchive(list(datasets(make_studies(2))))) as peer:
        config.write_text(
            'state = "state"\n[listener]\nae_title = "OTHER"\n[[peers]]\nname = "fake"\nae_title = "FAKE"\n'
            f'host = "127.0.0.1"\nport = {peer.port}\ncalling_ae_title = "SONOSEEK"\n'
        )
        shown = call("find", "--config", config, "--peer", "fake")
        assert "2 series of 2 studies" in shown.output, shown
        assert call("check", "fake", "--config", config, "--for", "import").exit_code == 0
        out = tmp_path / "out"
        assert "4 files added" in call("import", "--out", out, "--config", config, "--peer", "fake").output
        config.write_text(config.read_text().replace('calling_ae_title = "SONOSEEK"\n', ""))
        shown = call("check", "fake", "--config", config)
        assert shown.exit_code == 2
        assert "'OTHER'" in " ".join(shown.output.split())
    for wrong in (["--config", config], ["--peer", "fake"], ["--config", config, "--peer", "x"]):
        assert isinstance(call("find", *wrong).exception, InvalidValueError | NotFoundError)


def test_find_lists_and_prints_json() -> None:
    studies = make_studies(3)
    with running(FakeArchive(list(datasets(studies)))) as peer:
        shown = call("find", *options(peer), "--json")
        assert {item["study_uid"] for item in json.loads(shown.stdout)} == {study.uid for study in studies}
        shown = call("find", *options(peer), "--accession", studies[1].accession)
        assert "1 series of 1 studies" in shown.output
        shown = call("find", *options(peer), "--since", "2030-01-01")
        assert "0 series" in shown.output


def test_import_writes_the_table_that_index_build_reads(tmp_path: Path) -> None:
    studies = make_studies(8)
    results = write_results(studies, tmp_path)
    out = tmp_path / "import"
    arguments = ["import", "--out", out, *(part for file in results for part in ("--results", file))]
    with running(FakeArchive(list(datasets(studies)))) as peer:
        first = call(*arguments, *options(peer))
        assert first.exit_code == 0, first.output
        table = (out / "manifest.csv").read_text()
        second = call(*arguments, *options(peer))
    assert "0 files added" in second.output
    assert (out / "manifest.csv").read_text() == table
    again = call(*arguments)  # the join alone, without the archive
    assert again.exit_code == 0
    assert (out / "manifest.csv").read_text() == table
    dataset = open_dataset("manifest", out / "manifest.csv")
    records = dataset.records()
    with ImportFolder(out) as folder:
        joined = join_results(folder.all(), read_results(results, load_terms()))
    check_outcomes(studies, joined)
    assert len(records) == len(joined.pictures)
    case = dataset.load(records[0].case_id)
    assert case.scans[0].laterality == "left"
    assert case.patient_id
    assert records[0].group
    for study in studies:  # the table names nobody
        assert study.patient_id not in table
        assert study.accession not in table
    for name in ("manifest.csv", "not-joined.csv", "group.key", "imported.db"):
        assert (out / name).stat().st_mode & 0o077 == 0
    with (out / "not-joined.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["status"] for row in rows} <= {"ambiguous", "no result", "no study", "unmapped", "not used"}
    assert all(row["reason"] for row in rows)


def test_a_cine_is_listed_unless_its_middle_frame_is_wanted(tmp_path: Path) -> None:
    from studies import picture

    study = make_studies(1)[0]
    uid = f"{study.uid}.1.2"
    results = write_results((study,), tmp_path)
    with running(FakeArchive([picture(study, uid, "left", frames=5)])) as peer:
        arguments = ["import", "--out", tmp_path / "out", "--results", results[0], *options(peer)]
        assert call(*arguments).exit_code == 0
        assert "which shows the lesion is not known" in (tmp_path / "out" / "not-joined.csv").read_text()
        assert call(*arguments, "--cine", "middle").exit_code == 0
    (record,) = open_dataset("manifest", tmp_path / "out" / "manifest.csv").records()
    assert record.pathology == "malignant"
    with (tmp_path / "out" / "manifest.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["frame"] == "2"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--host", "127.0.0.1"],
        ["--ae-title", "X"],
        ["--days", "x"],
        ["--days", "9:1"],
        ["--accession", "A*"],
        ["--host", "127.0.0.1", "--ae-title", "X", "--listen", "11112"],
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_done(tmp_path: Path, arguments: list[str]) -> None:
    result = call("import", "--out", tmp_path / "out", *arguments)
    assert isinstance(result.exception, InvalidValueError), result.output


def test_a_wrong_table_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    archive = FakeArchive([])
    with running(archive) as peer:
        result = call("import", "--out", tmp_path / "out", "--results", tmp_path / "wrong.csv", *options(peer))
        assert "columns" in str(result.exception)
        assert archive.requests == []
        result = call("import", "--out", tmp_path / "out", *options(replace(peer, ae_title="OTHER")))
        assert isinstance(result.exception, PeerError)


def test_the_verbs_import_nothing_heavy_before_they_are_called() -> None:
    heavy = ["pynetdicom", "pydicom", "hl7", "requests", "dicomweb_client", "highdicom", "cv2", "rich"]
    code = f"import sonoseek.apps.cli.pacs, sys; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
