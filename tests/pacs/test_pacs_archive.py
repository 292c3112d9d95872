"""Fetching from an archive in this process: what is there is not fetched again, and what is wrong is said."""

from __future__ import annotations

import errno
import gc
import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from archive_peers import free_port, program
from dicom_files import save
from pydicom.dataset import Dataset
from scps import FakeArchive, running
from studies import abdomen, datasets, make_studies, picture, result_in_study

from sonoseek.core import InvalidValueError, PeerError, SonoseekError, TemporaryError
from sonoseek.pacs.archive import (
    By,
    FetchResult,
    ImportFolder,
    InstanceRef,
    SeriesRef,
    StudyQuery,
    fetch_series,
    open_archive,
)
from sonoseek.pacs.archive.dimse import FIND, GET, MOVE, _Arriving
from sonoseek.pacs.importing import FetchedArchive, fetch_archive
from sonoseek.pacs.peer import Peer, TlsFiles

# pynetdicom leaves the socket of a refused connection to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:Invalid value for VR UI"),  # pydicom's; the tests send such values
]
STUDIES = make_studies(3)
PICTURES = sum(len(study.sides) for study in STUDIES)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[ImportFolder]:
    with ImportFolder(tmp_path / "import") as folder:
        yield folder


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[FakeArchive, Peer]]:
    archive = FakeArchive([])
    with running(archive) as peer:
        yield archive, peer


@pytest.fixture
def archive(served: tuple[FakeArchive, Peer]) -> FakeArchive:
    """One server for all tests, since each takes a second to end; as new for each."""
    archive, _ = served
    vars(archive).clear()
    archive.__init__(list(datasets(STUDIES)))  # type: ignore[misc]
    return archive


@pytest.fixture
def peer(served: tuple[FakeArchive, Peer]) -> Peer:
    return served[1]


def fetch(peer: Peer, folder: ImportFolder, query: StudyQuery | None = None, by: By = "get") -> FetchedArchive:
    with open_archive(peer, by=by, drafts=folder.drafts) as client:
        return fetch_archive(client, query or StudyQuery(), folder)


def test_every_picture_is_fetched_once_per_series_and_privately(
    archive: FakeArchive, peer: Peer, folder: ImportFolder
) -> None:
    first = fetch(peer, folder)
    assert (first.series, first.added, first.present, first.refused) == (len(STUDIES), PICTURES, 0, {})
    assert [level for operation, level in archive.requests if operation == "get"] == ["SERIES"] * len(STUDIES)
    archive.requests.clear()
    second = fetch(peer, folder)
    assert (second.added, second.present) == (0, PICTURES)
    assert "get" not in {operation for operation, _ in archive.requests}
    assert len(list(folder.all())) == PICTURES
    for entry in folder.all():
        path = folder.root / entry.file
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert entry.sop_instance_uid not in path.name
    for place in (folder.root, folder.root / "files", folder.drafts):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert not list(folder.drafts.iterdir())


def test_a_move_comes_to_a_receiver_of_our_own(archive: FakeArchive, peer: Peer, folder: ImportFolder) -> None:
    port = free_port()
    archive.move_to = ("127.0.0.1", port)
    with open_archive(peer, by="move", drafts=folder.drafts, listen=("127.0.0.1", port)) as client:
        assert fetch_archive(client, StudyQuery(), folder).added == PICTURES
    archive.move_to = None
    (folder.root / next(folder.all()).file).unlink()
    with (
        open_archive(peer, by="move", drafts=folder.drafts, listen=("127.0.0.1", port)) as client,
        pytest.raises(PeerError, match=r"0xA801.*AE title.*--listen"),
    ):
        fetch_archive(client, StudyQuery(), folder)


def test_results_and_other_body_parts_of_a_study_are_not_fetched(
    archive: FakeArchive, folder: ImportFolder, peer: Peer
) -> None:
    study = STUDIES[0]
    pictures = [picture(study, uid, side) for uid, side in study.picture_uids.items()]
    archive.datasets = [*pictures, result_in_study(study), abdomen(study)]
    assert fetch(peer, folder).added == len(pictures)
    assert fetch(peer, folder, StudyQuery(body_part="")).added == 1  # the abdomen


def test_a_query_holds_where_the_archive_ignores_its_keys(
    archive: FakeArchive, peer: Peer, folder: ImportFolder
) -> None:
    archive.matching = lambda identifier, all_of=archive.matching: all_of(  # type: ignore[method-assign]
        _without(identifier, "AccessionNumber", "PatientID")
    )
    one = STUDIES[2]
    with open_archive(peer) as client:
        for query in (
            StudyQuery(accession=one.accession),
            StudyQuery(patient_id=one.patient_id),
            StudyQuery(since=one.day, until=one.day),
        ):
            assert [series.study_uid for series in client.find_series(query)] == [one.uid]


def _without(identifier: Dataset, *names: str) -> Dataset:
    for name in names:
        if name in identifier:
            identifier[name].value = ""
    return identifier


@pytest.mark.parametrize("query", [{"accession": "A*"}, {"patient_id": "1\\2"}, {"accession": "A?"}])
def test_a_query_is_for_one_number(query: dict[str, str]) -> None:
    with pytest.raises(InvalidValueError):
        StudyQuery(**query)


def test_a_broken_association_is_opened_again_and_nothing_is_sent_twice(
    archive: FakeArchive, peer: Peer, folder: ImportFolder
) -> None:
    archive.abort_after = 3
    assert fetch(peer, folder).added == PICTURES


def test_what_is_lacking_of_a_series_is_fetched_alone(archive: FakeArchive, peer: Peer, folder: ImportFolder) -> None:
    fetch(peer, folder)
    (folder.root / next(folder.all()).file).unlink()
    archive.requests.clear()
    again = fetch(peer, folder)
    assert (again.added, again.present) == (1, PICTURES - 1)
    assert [level for operation, level in archive.requests if operation == "get"] == ["IMAGE"]


def test_a_series_that_goes_on_growing_is_completed(archive: FakeArchive, peer: Peer, folder: ImportFolder) -> None:
    late = archive.datasets.pop(0)
    fetch(peer, folder)
    archive.datasets.append(late)
    assert fetch(peer, folder).added == 1


def _named(dataset: Dataset, uid: str) -> Dataset:
    changed = Dataset(dataset)
    changed.file_meta = dataset.file_meta
    changed.SOPInstanceUID = uid
    return changed


@pytest.mark.parametrize("uid", ["../../evil", "1.2.999", "1.02.3"])
def test_an_object_that_was_not_asked_for_is_not_kept(
    archive: FakeArchive,
    folder: ImportFolder,
    peer: Peer,
    uid: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    received = []
    store = _Arriving.store
    monkeypatch.setattr(_Arriving, "store", lambda self, uid, draft: (received.append(uid), store(self, uid, draft))[1])
    archive.instead = lambda dataset: _named(dataset, uid)
    archive.datasets = archive.datasets[:1]
    before = set(tmp_path.rglob("*.dcm"))
    result = fetch(peer, folder)
    assert set(received) == {uid}
    assert result.added == 0
    assert len(result.refused) == 1
    assert set(tmp_path.rglob("*.dcm")) == before
    assert not list(folder.drafts.iterdir())


def test_an_object_whose_uid_is_none_is_listed_not_fetched(folder: ImportFolder) -> None:
    class Listing:
        def list_instances(self, series: SeriesRef) -> list[InstanceRef]:
            return [InstanceRef(sop_instance_uid="1.2.../x")]

    series = SeriesRef(study_uid="1.2.3", series_uid="1.2.3.1", modality="US")
    result = fetch_series(Listing(), series, folder)  # type: ignore[arg-type]
    assert result.added == 0
    assert "no UID" in result.refused["1.2.../x"]


def test_a_listing_that_is_too_short_is_repeated_and_then_said(folder: ImportFolder) -> None:
    listings = [[], [InstanceRef(sop_instance_uid="1.2.../x")]]

    class Listing:
        def list_instances(self, series: SeriesRef) -> list[InstanceRef]:
            return listings.pop(0)

    series = SeriesRef(study_uid="1.2.3", series_uid="1.2.3.1", modality="US", objects=2)
    result = fetch_series(Listing(), series, folder)  # type: ignore[arg-type]
    assert listings == []
    assert "1 of the 2 objects" in result.refused["1.2.3.1"]


def test_a_file_that_is_not_what_was_asked_for_is_refused_once(folder: ImportFolder, tmp_path: Path) -> None:
    study = STUDIES[1]
    uid, side = next(iter(study.picture_uids.items()))
    for number, change in enumerate(({"StudyInstanceUID": "1.2.3"}, {"Modality": "MR"}, {"SOPInstanceUID": "1.2.4"})):
        dataset = picture(study, uid, side)
        for name, value in change.items():
            setattr(dataset, name, value)
        draft = save(dataset, folder.drafts / f"{number}.dcm")
        folder.take(draft, uid)
        assert next(iter(change)) in str(folder.read(uid, study_uid=study.uid))
        assert not folder.path(uid).exists()
        assert folder.has(uid)  # and is not fetched again
        folder.forget_refusals()
        assert not folder.has(uid)
    draft = folder.drafts / "no.dcm"
    draft.write_bytes(b"no DICOM")
    folder.take(draft, uid)
    assert isinstance(folder.read(uid), str)


def test_an_interrupted_import_leaves_nothing_behind_and_goes_on(
    archive: FakeArchive, peer: Peer, tmp_path: Path
) -> None:
    root = tmp_path / "import"
    with ImportFolder(root) as folder:
        fetch(peer, folder, StudyQuery(accession=STUDIES[0].accession))
        (folder.drafts / "half.dcm").write_bytes(b"half")
    (root / "imported.db").unlink()  # the table is made again from the files
    with ImportFolder(root) as folder:
        assert not list(folder.drafts.iterdir())
        assert fetch(peer, folder).added == PICTURES - len(STUDIES[0].sides)
        assert len(list(folder.all())) == PICTURES


def test_a_folder_is_used_by_one_import_at_a_time(tmp_path: Path) -> None:
    with ImportFolder(tmp_path / "import") as folder:
        (folder.drafts / "half.dcm").write_bytes(b"half")
        with pytest.raises(TemporaryError, match="another import"):
            ImportFolder(tmp_path / "import")
        assert list(folder.drafts.iterdir())  # which are the first one's
    assert not list(folder.drafts.iterdir())
    (tmp_path / "import" / "imported.db").write_bytes(b"no database" * 100)
    with pytest.raises(InvalidValueError, match="no table of an import"):
        ImportFolder(tmp_path / "import")


@pytest.mark.parametrize("full", ["before", "while"])
def test_a_full_disk_ends_the_import_and_leaves_no_part(
    archive: FakeArchive, peer: Peer, folder: ImportFolder, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    calls = 0

    def check_space(self: ImportFolder) -> None:
        nonlocal calls
        calls += 1
        if full == "before" or calls > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.root))

    monkeypatch.setattr(ImportFolder, "check_space", check_space)
    with pytest.raises(OSError, match="No space left"):
        fetch(peer, folder)
    monkeypatch.undo()
    assert not list(folder.drafts.iterdir())
    assert fetch(peer, folder).added >= PICTURES - 1


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"ae_title": "OTHER"}, PeerError, "not called 'OTHER'.*--ae-title"),
        ({"our_ae_title": "STRANGE"}, PeerError, "does not know the calling AE title 'STRANGE'"),
        ({"port": 1}, TemporaryError, "port is closed.*--port"),
        ({"host": "nowhere.invalid"}, PeerError, "unknown here.*--host"),
        ({"tls": TlsFiles()}, PeerError, "TLS handshake"),
    ],
)
def test_an_association_that_is_refused_says_why(
    archive: FakeArchive,
    peer: Peer,
    folder: ImportFolder,
    change: dict[str, object],
    error: type[SonoseekError],
    text: str,
) -> None:
    with pytest.raises(error, match=text):
        fetch(replace(peer, **change), folder)  # type: ignore[arg-type]


def test_a_busy_archive_is_a_temporary_error(archive: FakeArchive, folder: ImportFolder) -> None:
    with running(archive, maximum_associations=1) as peer, open_archive(peer) as other:
        assert list(other.find_series(StudyQuery()))  # and keeps its association
        with pytest.raises(TemporaryError, match="many associations"):
            fetch(peer, folder)


def test_an_archive_without_the_service_is_named(archive: FakeArchive, folder: ImportFolder) -> None:
    with running(archive, contexts=()) as peer, pytest.raises(PeerError, match="FIND"), open_archive(peer) as client:
        list(client.find_series(StudyQuery()))


@pytest.mark.parametrize(("contexts", "lacking"), [((FIND,), "C-GET"), ((GET,), "C-FIND"), ((MOVE,), "C-FIND.*C-GET")])
def test_a_service_that_is_not_accepted_is_named(
    archive: FakeArchive, folder: ImportFolder, contexts: tuple[str, ...], lacking: str
) -> None:
    with running(archive, contexts=contexts) as peer, pytest.raises(PeerError, match=f"{lacking}.*--by move"):
        fetch(peer, folder)


@pytest.mark.parametrize(("status", "text"), [(0xA700, "resources"), (0xA900, "identifier"), (0x0124, "not allow")])
def test_a_refused_query_says_why(archive: FakeArchive, peer: Peer, status: int, text: str) -> None:
    archive.find_status = status
    with (
        open_archive(peer) as client,
        pytest.raises(PeerError, match=f"C-FIND with status 0x{status:04X}.*{text}"),
    ):
        list(client.find_series(StudyQuery()))


def test_a_silent_archive_is_a_temporary_error(
    archive: FakeArchive, peer: Peer, folder: ImportFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    monkeypatch.setattr("sonoseek.pacs.association.ANSWER_S", 0.3)
    archive.matching = lambda _: time.sleep(1) or []  # type: ignore[method-assign,func-returns-value]
    with pytest.raises(TemporaryError, match="does not answer the C-FIND"):
        fetch(peer, folder)


def test_tls_with_certificates_of_both_sides(archive: FakeArchive, folder: ImportFolder, tmp_path: Path) -> None:
    import ssl

    openssl = program("openssl")
    for name in ("peer", "ours"):
        subprocess.run(
            [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1",
             "-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.pem"],
            check=True,
            capture_output=True,
        )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "peer.pem", tmp_path / "peer.key")
    context.load_verify_locations(tmp_path / "ours.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    good = TlsFiles(ca=tmp_path / "peer.pem", certificate=tmp_path / "ours.pem", key=tmp_path / "ours.key")
    with running(archive, tls=context) as peer:
        assert fetch(replace(peer, tls=good), folder).added == PICTURES
        for bad in (
            replace(good, certificate=None, key=None),  # none of ours
            replace(good, ca=tmp_path / "ours.pem"),  # not the one that signed the peer's
            replace(good, host_name="pacs.example"),
        ):
            with pytest.raises(PeerError, match=r"TLS handshake.*--tls-ca|--tls-ca.*"):
                fetch(replace(peer, tls=bad), folder)
    gc.collect()  # the test's server leaves a socket of each refused handshake
    with pytest.raises(InvalidValueError, match="PEM"):
        TlsFiles(ca=tmp_path / "none.pem").context()


def test_a_series_result_counts_what_was_there(archive: FakeArchive, peer: Peer, folder: ImportFolder) -> None:
    with open_archive(peer, drafts=folder.drafts) as client:
        (series,) = client.find_series(StudyQuery(accession=STUDIES[1].accession))
        first: FetchResult = fetch_series(client, series, folder)
        assert (first.added, first.present, len(first.entries)) == (2, 0, 2)
        assert {entry.side for entry in first.entries} == {"left"}
