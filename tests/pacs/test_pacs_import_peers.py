"""Imports from real archives: Orthanc and dcmtk's dcmqrscp."""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from archive_peers import OURS, RunningPeer, dcmqrscp, free_port, orthanc, program
from cine import fetch_in_process, write_cine
from dicom_files import save
from pydicom import dcmread
from studies import make_studies, picture, result_in_study, write_results, write_studies
from test_pacs_check import call, of, options
from test_pacs_pathology import check_outcomes

from sonoseek.core import PeerError
from sonoseek.gallery import open_gallery
from sonoseek.pacs.archive import By, ImportFolder, StudyQuery, open_archive
from sonoseek.pacs.check import check_peer
from sonoseek.pacs.importing import FetchedArchive, fetch_archive
from sonoseek.pacs.pathology import join_results, load_terms, read_results
from sonoseek.pacs.peer import WebLogin

pytestmark = [
    pytest.mark.peer,
    pytest.mark.slow,  # in all: each of them starts an archive
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # pynetdicom's, of refused connections
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
STUDIES = make_studies()
FEW = make_studies(8)
MOST_MB = 150


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPeer]:
    """Orthanc with eight of the studies: pictures, results, another body part."""
    folder = tmp_path_factory.mktemp("orthanc")
    with orthanc(folder) as running:
        running.upload(write_studies(FEW, folder / "files"))
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[ImportFolder]:
    with ImportFolder(tmp_path / "import") as folder:
        yield folder


def fetch(running: RunningPeer, folder: ImportFolder, by: By, login: WebLogin | None = None) -> FetchedArchive:
    listen = ("127.0.0.1", running.move_port)
    with open_archive(running.peer, by=by, drafts=folder.drafts, listen=listen, login=login or WebLogin()) as client:
        return fetch_archive(client, StudyQuery(), folder)


def test_200_studies_with_their_results_are_imported_and_the_second_run_adds_none(tmp_path: Path) -> None:
    results = write_results(STUDIES, tmp_path)
    out, gallery = tmp_path / "import", tmp_path / "gallery"
    pictures = sum(len(study.sides) for study in STUDIES)
    with orthanc(tmp_path / "orthanc") as running:
        running.upload(write_studies(STUDIES, tmp_path / "files"))
        arguments = ["import", "--out", out, "--gallery", gallery, *options(running.peer)]
        arguments += [part for file in results for part in ("--results", file)]
        first = call(*arguments)
        assert first.exit_code == 0, first.output
        assert f"{len(STUDIES)} series; {pictures} files added, 0 there before, 0 refused" in first.output
        table, report = ((out / name).read_text() for name in ("manifest.csv", "not-joined.csv"))
        second = call(*arguments)
    assert f"0 files added, {pictures} there before" in second.output
    assert ": 0 added, 0 updated" in second.output
    assert [(out / name).read_text() for name in ("manifest.csv", "not-joined.csv")] == [table, report]
    with ImportFolder(out) as folder:
        joined = join_results(folder.all(), read_results(results, load_terms()))
    check_outcomes(STUDIES, joined)
    with (out / "manifest.csv").open(newline="") as file:
        rows = {row["file"]: row["pathology"] for row in csv.DictReader(file)}
    assert rows == {picture.entry.file: picture.pathology for picture in joined.pictures}
    with open_gallery(gallery) as opened:
        assert opened.count() == len(rows)


@pytest.mark.parametrize("by", ["get", "move", "web"])
def test_each_way_brings_the_files_as_the_archive_has_them(archive: RunningPeer, folder: ImportFolder, by: By) -> None:
    pictures = sum(len(study.sides) for study in FEW)
    first = fetch(archive, folder, by)
    assert (first.series, first.added, first.refused) == (len(FEW), pictures, {})
    assert fetch(archive, folder, by).added == 0
    syntaxes = set()
    for study in FEW:
        for uid, side in study.picture_uids.items():
            arrived, sent = dcmread(folder.path(uid)), picture(study, uid, side)
            assert arrived.PixelData == sent.PixelData
            syntaxes.add(arrived.file_meta.TransferSyntaxUID)
            assert arrived.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
    assert len(syntaxes) == 2
    assert not list(folder.drafts.iterdir())


@pytest.mark.parametrize("by", ["get", "move"])
def test_dcmtk_s_archive_is_imported(tmp_path: Path, folder: ImportFolder, by: By) -> None:
    study = FEW[0]
    uids = [f"{study.uid}.1.{place}" for place in (1, 3, 4)]  # native: dcmqrscp takes no compressed ones by default
    files = [save(picture(study, uid, "left"), tmp_path / f"{uid}.dcm") for uid in uids]
    files.append(save(result_in_study(study), tmp_path / "sr.dcm"))
    with dcmqrscp(tmp_path) as running:
        command = [
            program("dcmsend"),
            "--no-uid-checks",
            "-aet",
            OURS,
            "-aec",
            "QRSCP",
            "127.0.0.1",
            str(running.peer.port),
        ]
        subprocess.run([*command, *files], check=True, capture_output=True)
        first = fetch(running, folder, by)
        assert (first.added, first.refused) == (len(uids), {})
        assert fetch(running, folder, by).added == 0


def test_a_study_with_a_result_in_it_is_why_series_are_fetched(archive: RunningPeer, folder: ImportFolder) -> None:
    """Study 0 holds a structured report: its ultrasound comes all the same."""
    with open_archive(archive.peer, drafts=folder.drafts) as client:
        result = fetch_archive(client, StudyQuery(accession=FEW[0].accession), folder)
    assert (result.added, result.refused) == (len(FEW[0].sides), {})


def test_check_passes_orthanc_with_store_and_commitment(archive: RunningPeer) -> None:
    steps = of(check_peer(archive.peer, store=True, commit=("127.0.0.1", archive.move_port)))
    assert steps["C-STORE"]
    assert steps["storage commitment"]
    assert steps["QIDO-RS"]
    assert False not in steps.values()
    (failed,) = [step for step in check_peer(replace(archive.peer, ae_title="WRONG", dicomweb=None)) if step.remedy]
    assert "--ae-title" in failed.remedy


def test_a_move_that_the_archive_cannot_deliver_says_so(archive: RunningPeer, folder: ImportFolder) -> None:
    unknown = replace(archive, peer=replace(archive.peer, our_ae_title="NOBODY"), move_port=free_port())
    result = fetch(unknown, folder, "move")
    assert result.added == 0
    assert len(result.refused) == sum(len(study.sides) for study in FEW)
    assert all("must know our AE title 'NOBODY'" in reason for reason in result.refused.values()), result.refused


@pytest.mark.slow
@pytest.mark.parametrize("by", ["get", "web"])
def test_an_import_that_is_killed_goes_on_where_it_was(archive: RunningPeer, tmp_path: Path, by: By) -> None:
    out = tmp_path / "import"
    where = options(archive.peer) if by == "get" else ["--dicomweb", archive.peer.dicomweb]
    code = "from sonoseek.apps.cli.pacs import app; app()"
    command = [sys.executable, "-c", code, "import", "--out", out, "--by", by, *where]
    pictures = sum(len(study.sides) for study in FEW)
    seen: set[Path] = set()
    for round_ in range(1, 5):
        process = subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if len(list(out.glob("files/*/*.dcm"))) >= round_ * pictures // 6:
                process.kill()
                break
            time.sleep(0.005)
        process.wait()
        complete = set(out.glob("files/*/*.dcm"))
        assert seen <= complete
        for path in complete:
            assert len(dcmread(path).PixelData) > 1000  # whole
        seen = complete
    with ImportFolder(out) as folder:
        last = fetch(archive, folder, by)
        assert (last.added, last.refused) == (pictures - len(seen), {})
        assert len(list(folder.all())) == pictures
        assert not list(folder.drafts.iterdir())


def test_orthanc_with_users_wants_a_login(tmp_path: Path, folder: ImportFolder) -> None:
    names = ("user", "password")
    with orthanc(tmp_path / "orthanc", users={"import": "s3cret"}) as running:
        with pytest.raises(PeerError, match="401"):
            fetch(running, folder, "web")
        assert (
            fetch(running, folder, "web", WebLogin(**dict(zip(names, ("import", "s3cret"), strict=True)))).series == 0
        )


@pytest.mark.long
@pytest.mark.parametrize("by", ["get", "move", "web"])
def test_a_cine_of_300_mb_is_never_in_memory(tmp_path: Path, by: By) -> None:
    cine = write_cine(tmp_path / "cine.dcm", megabytes=300)
    with orthanc(tmp_path / "orthanc") as running:
        running.upload([cine])
        peer = {name: getattr(running.peer, name) for name in ("name", "host", "port", "ae_title", "our_ae_title")}
        peer["dicomweb"] = running.peer.dicomweb
        result = fetch_in_process(peer, by, tmp_path / "import", port=running.move_port)
    assert (result["added"], result["refused"]) == (1, {})
    assert int(str(result["growth_mb"])) < MOST_MB, result
    (arrived,) = (tmp_path / "import" / "files").rglob("*.dcm")
    assert arrived.stat().st_size > 300_000_000
