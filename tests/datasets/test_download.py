"""`fetch` against a server on this machine that can cut, refuse, change its mind and forget how to resume."""

import errno
import hashlib
import io
import logging
import ssl
import urllib.error
import urllib.request
import zipfile

import pytest
from download_server import get_busi, with_sums, zipped

from sonoseek.core import DatasetError, InvalidValueError, NotFoundError, TemporaryError
from sonoseek.datasets import describe, download, open_dataset, resume
from sonoseek.datasets.breast import BreastDataset
from sonoseek.datasets.busbra import BusbraDataset
from sonoseek.datasets.download import fetch


def test_it_arrives_unpacked_with_its_sum_beside_it(server, busi_zip, tmp_path, fake_roots, caplog):
    steps = []
    with caplog.at_level(logging.WARNING):
        root = get_busi(server, tmp_path / "busi", on_progress=lambda done, total: steps.append((done, total)))
    assert open_dataset("busi", root).records() == open_dataset("busi", fake_roots["busi"]).records()
    assert steps[-1] == (len(busi_zip), len(busi_zip))
    digest = hashlib.sha256(busi_zip).hexdigest()
    assert (root / "SHA256SUMS").read_text() == f"{digest}  Dataset_BUSI.zip\n"
    assert digest in caplog.text
    assert {p.name for p in root.iterdir()} == {"Dataset_BUSI_with_GT", "SHA256SUMS"}


def test_what_is_there_is_not_downloaded_again(server, busi_zip, tmp_path):
    get_busi(server, tmp_path)
    get_busi(server, tmp_path)
    assert len(server.asked) == 1


def test_without_consent_nothing_is_asked_and_the_licence_is_told(server, busi_zip, tmp_path):
    with pytest.raises(InvalidValueError, match="Al-Dhabyani") as caught:
        fetch("busi", tmp_path / "x", accept_licence=False, base_url=server.url)
    assert describe("busi").licence in str(caught.value)
    assert not server.asked
    assert not (tmp_path / "x").exists()


def test_a_cut_connection_is_gone_on_with(server, busi_zip, tmp_path):
    server.cuts = [1000, 500, 1, 1, 1, 1]
    steps = []
    get_busi(server, tmp_path, on_progress=lambda done, total: steps.append((done, total)))
    assert [asked for _, asked in server.asked][:3] == [None, "bytes=1000-", "bytes=1500-"]
    assert len(server.asked) == 7  # as long as bytes come it does not give up
    assert steps[-1] == (len(busi_zip), len(busi_zip))
    assert open_dataset("busi", tmp_path).load("benign (1)").scans


def test_a_download_given_up_is_gone_on_with_by_the_next_call(server, busi_zip, tmp_path):
    server.cuts = [700, 0, 0, 0]
    with pytest.raises(TemporaryError, match="byte 700"):
        get_busi(server, tmp_path)
    assert (tmp_path / "Dataset_BUSI.zip.part").stat().st_size == 700
    get_busi(server, tmp_path)
    assert server.asked[-1][1] == "bytes=700-"
    assert open_dataset("busi", tmp_path).load("benign (1)").scans
    assert not list(tmp_path.glob("*.part*"))


def test_a_file_that_changed_in_between_is_taken_from_the_start(server, busi_zip, tmp_path):
    server.files["Dataset_BUSI.zip"] = b"the longer version " * 10_000
    server.cuts = [len(busi_zip) + 700, 0, 0, 0]
    with pytest.raises(TemporaryError):
        get_busi(server, tmp_path)
    server.etag, server.files["Dataset_BUSI.zip"] = '"two"', busi_zip
    get_busi(server, tmp_path)
    assert (tmp_path / "SHA256SUMS").read_text().startswith(hashlib.sha256(busi_zip).hexdigest())


def test_a_server_that_cannot_resume_starts_over(server, busi_zip, tmp_path):
    server.cuts, server.ranges = [1000], False
    get_busi(server, tmp_path)
    assert open_dataset("busi", tmp_path).load("benign (1)").scans


def test_a_server_without_versions_is_never_resumed(server, busi_zip, tmp_path):
    server.cuts, server.etag = [1000], ""
    get_busi(server, tmp_path)
    assert [asked for _, asked in server.asked] == [None, None]


def test_a_part_that_is_longer_than_the_file_is_thrown_away(server, busi_zip, tmp_path):
    (tmp_path / "Dataset_BUSI.zip.part").write_bytes(b"x" * (len(busi_zip) + 5))
    (tmp_path / "Dataset_BUSI.zip.part.version").write_text(server.etag)
    get_busi(server, tmp_path)
    assert open_dataset("busi", tmp_path).records()


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (404, NotFoundError, "scholar.cu.edu.eg"),
        (410, NotFoundError, "410"),
        (503, TemporaryError, "Try again later"),
        (429, TemporaryError, "429"),
        (403, DatasetError, "in a browser"),
    ],
)
def test_refusals_are_typed(server, busi_zip, tmp_path, status, error, says):
    server.statuses = [status]
    with pytest.raises(error, match=says):
        get_busi(server, tmp_path)


def test_a_server_that_is_not_there_is_temporary_trouble(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "PAUSE_S", 0.0)
    with pytest.raises(TemporaryError, match=r"127\.0\.0\.1:9"):
        fetch("busi", tmp_path, accept_licence=True, base_url="http://127.0.0.1:9")


def test_only_http_is_downloaded_from(tmp_path):
    with pytest.raises(InvalidValueError, match="only http"):
        fetch("busi", tmp_path, accept_licence=True, base_url="file:///etc")


def test_a_wrong_checksum_is_refused_and_the_file_thrown_away(server, fake_roots, tmp_path):
    server.files["BUSBRA.zip"] = zipped(fake_roots["busbra"])
    with pytest.raises(DatasetError, match="not the file that was published"):
        fetch("busbra", tmp_path, accept_licence=True, base_url=server.url)
    assert not list(tmp_path.iterdir())


def test_a_right_checksum_is_accepted(server, fake_roots, tmp_path, monkeypatch):
    server.files["BUSBRA.zip"] = zipped(fake_roots["busbra"])
    monkeypatch.setattr(BusbraDataset, "card", with_sums(BusbraDataset.card, server.files))
    fetch("busbra", tmp_path, accept_licence=True, base_url=server.url)
    assert open_dataset("busbra", tmp_path).load("bus_0003-l").scans


@pytest.fixture
def breast_files(server, fake_roots, monkeypatch) -> tuple[str, str]:
    """The server offers both files of BrEaST; returns their names."""
    pictures, table = BreastDataset.card.sources
    root = fake_roots["breast"]
    server.files[table.file_name] = next(root.glob("*.xlsx")).read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(root.glob("*/*.png")):
            archive.write(path, path.relative_to(root))
    server.files[pictures.file_name] = buffer.getvalue()
    monkeypatch.setattr(BreastDataset, "card", with_sums(BreastDataset.card, server.files))
    return pictures.file_name, table.file_name


def test_an_older_version_of_a_file_is_replaced(server, breast_files, tmp_path):
    (tmp_path / breast_files[1]).write_bytes(b"older")
    fetch("breast", tmp_path, accept_licence=True, base_url=server.url)
    assert len(open_dataset("breast", tmp_path).records()) == 3


def test_when_the_second_of_two_files_fails_the_first_is_kept_for_the_next_try(server, breast_files, tmp_path):
    server.statuses = [200, 503]
    with pytest.raises(TemporaryError):
        fetch("breast", tmp_path, accept_licence=True, base_url=server.url)
    fetch("breast", tmp_path, accept_licence=True, base_url=server.url)
    assert [path.lstrip("/") for path, _ in server.asked] == [breast_files[0], breast_files[1], breast_files[1]]
    assert open_dataset("breast", tmp_path).load("case001").scans


def test_another_download_is_compared_with_the_first(server, busi_zip, tmp_path):
    root = get_busi(server, tmp_path)
    (root / "Dataset_BUSI_with_GT").rename(tmp_path / "away").rename(tmp_path.parent / f"{tmp_path.name}-away")
    buffer = io.BytesIO(busi_zip)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("Dataset_BUSI_with_GT/normal/added.txt", b"new")
    server.files["Dataset_BUSI.zip"] = buffer.getvalue()
    with pytest.raises(DatasetError, match="an earlier download had"):
        get_busi(server, tmp_path)
    (root / "SHA256SUMS").unlink()
    assert open_dataset("busi", get_busi(server, tmp_path)).records()


def test_a_page_instead_of_an_archive_is_refused_and_not_kept(server, tmp_path):
    server.files["Dataset_BUSI.zip"] = b"<html>please log in</html>"
    with pytest.raises(DatasetError, match="does not unpack"):
        get_busi(server, tmp_path)
    assert not (tmp_path / "Dataset_BUSI.zip").exists()


def test_an_archive_of_something_else_is_told(server, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", b"moved")
    server.files["Dataset_BUSI.zip"] = buffer.getvalue()
    with pytest.raises(DatasetError, match="looked for"):
        get_busi(server, tmp_path)


def test_a_full_disk_is_told_before_and_leaves_the_part(server, busi_zip, tmp_path, monkeypatch):
    usage = resume.shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(resume.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(TemporaryError, match="MB free"):
        get_busi(server, tmp_path)
    assert len(server.asked) == 1  # not taken for a cut connection


def test_a_disk_that_fills_up_while_writing_is_told_and_the_rest_is_got_later(server, busi_zip, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(resume, "_read", full)
        with pytest.raises(TemporaryError, match="disk is full"):
            get_busi(server, tmp_path)
    assert open_dataset("busi", get_busi(server, tmp_path)).records()


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="cannot be written"):
        fetch("busi", tmp_path / "file" / "busi", accept_licence=True)


def test_an_archive_put_there_by_hand_is_taken(server, busi_zip, tmp_path):
    (tmp_path / "Dataset_BUSI.zip").write_bytes(busi_zip)
    assert open_dataset("busi", get_busi(server, tmp_path)).records()
    assert not server.asked


def test_a_certificate_that_does_not_hold_is_no_temporary_trouble(tmp_path, monkeypatch):
    def untrusted(*_, **__):
        raise urllib.error.URLError(ssl.SSLCertVerificationError("self-signed"))

    monkeypatch.setattr(resume.urllib.request.OpenerDirector, "open", untrusted)
    with pytest.raises(DatasetError, match=r"certificate.*in a browser"):
        fetch("busi", tmp_path, accept_licence=True)


@pytest.mark.parametrize("name", ["folder", "manifest", "phantom"])
def test_what_is_not_for_download_says_so(name, tmp_path):
    with pytest.raises(DatasetError, match="not for download"):
        fetch(name, tmp_path, accept_licence=True)


def test_an_unknown_dataset_is_refused(tmp_path):
    with pytest.raises(NotFoundError, match="busi"):
        fetch("bussi", tmp_path, accept_licence=True)


def test_every_source_is_https_and_its_checksum_well_formed():
    for name in ("busi", "busbra", "breast", "bus-uclm"):
        for source in describe(name).sources:
            assert source.url.startswith("https://")
            if source.checksum:
                kind, digits = source.checksum.split(":")
                assert len(digits) == {"md5": 32, "sha256": 64}[kind]
                int(digits, 16)


def test_the_logger_of_pooch_is_left_as_it_was(server, busi_zip, tmp_path):
    import pooch

    before = pooch.get_logger().level
    get_busi(server, tmp_path)
    assert pooch.get_logger().level == before
    assert download.SUMS == "SHA256SUMS"
