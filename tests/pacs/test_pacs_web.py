"""Fetching by DICOMweb from a server in this process."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from studies import datasets, make_studies
from web_archive import BOUNDARY, WebArchive, web_archive, wrapped

from sonoseek.core import InvalidValueError, PeerError, SonoseekError, TemporaryError
from sonoseek.pacs.archive import ImportFolder, StudyQuery, open_archive
from sonoseek.pacs.archive.multipart import first_part
from sonoseek.pacs.importing import FetchedArchive, fetch_archive
from sonoseek.pacs.peer import Peer, WebLogin

STUDIES = make_studies(3)
PICTURES = sum(len(study.sides) for study in STUDIES)


def login_of(*values: str) -> WebLogin:
    """A token, or a user and a password."""
    names = ("token",) if len(values) == 1 else ("user", "password")
    return WebLogin(**dict(zip(names, values, strict=True)))


@pytest.fixture
def archive() -> Iterator[WebArchive]:
    with web_archive(WebArchive(list(datasets(STUDIES)))) as archive:
        yield archive


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[ImportFolder]:
    with ImportFolder(tmp_path / "import") as folder:
        yield folder


def fetch(archive: WebArchive, folder: ImportFolder, login: WebLogin | None = None) -> FetchedArchive:
    peer = Peer(name="web", dicomweb=archive.url)
    with open_archive(peer, drafts=folder.drafts, login=login or WebLogin()) as client:
        return fetch_archive(client, StudyQuery(), folder)


def test_every_picture_is_fetched_once(archive: WebArchive, folder: ImportFolder) -> None:
    first = fetch(archive, folder)
    assert (first.series, first.added, first.refused) == (len(STUDIES), PICTURES, {})
    objects = [path for path in archive.requests if "/instances/" in path]
    assert len(objects) == PICTURES
    assert not [path for path in archive.requests if path.count("/") == 3 and "/studies/" in path]  # a whole study
    archive.requests.clear()
    second = fetch(archive, folder)
    assert (second.added, second.present) == (0, PICTURES)
    assert not [path for path in archive.requests if "/instances/" in path]
    assert not list(folder.drafts.iterdir())


def test_more_studies_than_one_page(archive: WebArchive, folder: ImportFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sonoseek.pacs.archive.web.PAGE", 2)
    assert fetch(archive, folder).series == len(STUDIES)
    archive.datasets = []
    assert fetch(archive, folder).series == 0


@pytest.mark.parametrize(
    ("login", "header"),
    [
        (login_of("t0k"), "Bearer t0k"),
        (login_of("röntgen", "pä:ss"), "Basic " + base64.b64encode("röntgen:pä:ss".encode()).decode()),
    ],
)
def test_a_login_is_sent_and_never_shown(
    archive: WebArchive, folder: ImportFolder, login: WebLogin, header: str, tmp_path: Path
) -> None:
    archive.login = header
    assert fetch(archive, folder, login).added == PICTURES
    assert set(archive.logins) == {header}
    with pytest.raises(PeerError, match=r"401.*SONOSEEK_DICOMWEB_TOKEN") as caught:
        fetch(archive, folder, login_of("wr0ng"))
    for secret in ("t0k", "pä:ss", "wr0ng"):
        assert secret not in f"{login!r} {caught.value!r}"


def test_a_login_comes_from_the_environment_and_goes_to_no_other_machine_unencrypted() -> None:
    assert WebLogin.from_environment({"SONOSEEK_DICOMWEB_TOKEN": "x"}) == login_of("x")
    assert not WebLogin.from_environment({})
    with pytest.raises(InvalidValueError, match="both set"):
        WebLogin.from_environment({"SONOSEEK_DICOMWEB_TOKEN": "x", "SONOSEEK_DICOMWEB_USER": "y"})
    with pytest.raises(InvalidValueError, match="https://"):
        open_archive(Peer(name="far", dicomweb="http://pacs.example/dicom-web"), login=login_of("x"))
    for url in ("ftp://x/y", "http://user:secret@x/y", "x", "https://x/y?z=1"):
        with pytest.raises(InvalidValueError) as caught:
            Peer(name="no", dicomweb=url)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [
        (401, PeerError, "login"),
        (403, PeerError, "allowed"),
        (404, PeerError, "address"),
        (400, PeerError, "understand"),
        (500, PeerError, "log"),
        (503, TemporaryError, "busy"),
    ],
)
def test_a_status_becomes_an_error_with_a_remedy(
    archive: WebArchive, folder: ImportFolder, status: int, error: type[SonoseekError], text: str
) -> None:
    archive.status = status
    with pytest.raises(error, match=f"HTTP {status}.*{text}"):
        fetch(archive, folder)


def test_a_redirection_does_not_get_the_login(archive: WebArchive, folder: ImportFolder) -> None:
    with web_archive(WebArchive()) as other:
        archive.redirect = other.url + "/studies"
        with pytest.raises(PeerError, match="redirection"):
            fetch(archive, folder, login_of("t0k"))
        assert other.requests == []


def test_a_server_that_is_away_or_is_something_else(archive: WebArchive, folder: ImportFolder) -> None:
    with pytest.raises(TemporaryError, match="refused"):
        fetch(_at("http://127.0.0.1:1/x"), folder)
    with pytest.raises(PeerError, match="TLS handshake"):
        fetch(_at(archive.url.replace("http:", "https:")), folder)


def _at(url: str) -> WebArchive:
    archive = WebArchive()
    archive.url = url
    return archive


def test_an_object_that_does_not_come_whole_is_not_kept(archive: WebArchive, folder: ImportFolder) -> None:
    for change in (
        {"body": wrapped(b"DICM")[:-12]},
        {
            "body": wrapped(b"one").replace(b"--\r\n", b"\r\n")
            + b"Content-Type: x\r\n\r\ntwo\r\n--"
            + BOUNDARY.encode()
            + b"--"
        },
        {"body": b"nothing"},
        {"body": b"{}", "content_type": "application/json"},
    ):
        vars(archive).update(change)
        result = fetch(archive, folder)
        assert result.added == 0
        assert len(result.refused) == PICTURES
        assert not list(folder.drafts.iterdir())
    archive.body = None
    archive.content_type = f"multipart/related; boundary={BOUNDARY}"
    assert fetch(archive, folder).added == PICTURES  # what did not come is asked for again


def test_a_connection_that_breaks_is_a_temporary_error(archive: WebArchive, folder: ImportFolder) -> None:
    archive.cut = 100
    with pytest.raises(TemporaryError):
        fetch(archive, folder)
    assert not list(folder.drafts.iterdir())
    archive.cut = 0
    assert fetch(archive, folder).added == PICTURES


def test_an_object_that_is_gone_is_listed(archive: WebArchive, folder: ImportFolder) -> None:
    gone = archive.datasets[0].SOPInstanceUID

    peer = Peer(name="web", dicomweb=archive.url)
    with open_archive(peer, drafts=folder.drafts, login=WebLogin()) as client:
        series = list(client.find_series(StudyQuery()))
        listed = client.list_instances(series[0])
        del archive.datasets[0]
        reasons = client.fetch(series[0], [item.sop_instance_uid for item in listed], folder, whole=True)
    assert set(reasons) == {gone}
    assert "404" in reasons[gone]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100_000])
@pytest.mark.parametrize("content", [b"", b"\r\n--", b"a\r\n--0815.boundar", b"\x00" * 7_000, b"\r\n\r\n-" * 50])
def test_pieces_of_any_size_give_the_same_object(content: bytes, size: int) -> None:
    body = wrapped(content)
    target = io.BytesIO()
    pieces = (body[start : start + size] for start in range(0, len(body), size))
    first_part(f"multipart/related; boundary={BOUNDARY}", pieces, target)
    assert target.getvalue() == content
