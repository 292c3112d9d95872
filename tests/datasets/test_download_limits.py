"""What `fetch` takes from a server that it does not trust: sizes, redirects, and which sum it notes."""

import hashlib
import io
import urllib.request
import zipfile
from dataclasses import replace

import pytest
from download_server import get_busi, with_sums, zipped

from sonoseek.core import DatasetError
from sonoseek.datasets import download, open_dataset, resume
from sonoseek.datasets.busbra import BusbraDataset
from sonoseek.datasets.download import fetch


@pytest.mark.parametrize("wrong", ["a page", "another archive"])
def test_a_bad_first_download_is_not_what_the_next_is_compared_with(server, busi_zip, tmp_path, wrong):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("Dataset_BUSI_with_GT/readme.txt", b"moved")
    server.files["Dataset_BUSI.zip"] = b"<html>please log in</html>" if wrong == "a page" else buffer.getvalue()
    with pytest.raises(DatasetError):
        get_busi(server, tmp_path)
    assert not list(tmp_path.iterdir())
    server.files["Dataset_BUSI.zip"] = busi_zip
    root = get_busi(server, tmp_path)
    assert (root / "SHA256SUMS").read_text().startswith(hashlib.sha256(busi_zip).hexdigest())


def test_an_archive_with_the_right_sum_is_kept_where_it_does_not_open(server, tmp_path, monkeypatch):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", b"moved")
    server.files["BUSBRA.zip"] = buffer.getvalue()
    monkeypatch.setattr(BusbraDataset, "card", with_sums(BusbraDataset.card, server.files))
    with pytest.raises(DatasetError, match="looked for"):
        fetch("busbra", tmp_path, accept_licence=True, base_url=server.url)
    assert [p.name for p in tmp_path.iterdir()] == ["BUSBRA.zip"]


@pytest.mark.parametrize("stated", [5_000_000_000, 0], ids=["stated", "while it comes"])
def test_a_file_above_the_limit_is_refused_and_thrown_away(server, busi_zip, tmp_path, monkeypatch, stated):
    monkeypatch.setattr(download, "MAX_BYTES", len(busi_zip) - 1)
    server.stated = stated
    with pytest.raises(DatasetError, match=rf"at most {len(busi_zip) - 1} are downloaded.*in a browser"):
        get_busi(server, tmp_path)
    assert not list(tmp_path.iterdir())
    assert len(server.asked) == 1  # not taken for a cut connection


def test_a_stated_size_is_the_limit_of_its_file(server, fake_roots, tmp_path, monkeypatch):
    server.files["BUSBRA.zip"] = zipped(fake_roots["busbra"])
    card = with_sums(BusbraDataset.card, server.files)
    monkeypatch.setattr(BusbraDataset, "card", replace(card, sources=(replace(card.sources[0], size=100),)))
    with pytest.raises(DatasetError, match="at most 100 are"):
        fetch("busbra", tmp_path, accept_licence=True, base_url=server.url)


@pytest.mark.parametrize("place", ["file:///etc/hostname", "ftp://127.0.0.1/x.zip", "data:,x", "FILE:/etc/hostname"])
def test_a_redirect_to_what_is_no_web_address_is_refused(server, busi_zip, tmp_path, place):
    server.redirect = place
    with pytest.raises(DatasetError, match=r"only https is followed|is not allowed"):
        get_busi(server, tmp_path)
    assert len(server.asked) == 1
    assert not list(tmp_path.iterdir())


def test_a_redirect_within_the_web_is_followed_but_never_from_https_to_http(server, busi_zip, tmp_path):
    server.files["moved.zip"], server.redirect = busi_zip, f"{server.url}/moved.zip"
    assert open_dataset("busi", get_busi(server, tmp_path)).records()
    step = resume._WebRedirects()
    secure = urllib.request.Request("https://127.0.0.1/a")
    assert step.redirect_request(secure, None, 302, "", {}, "https://127.0.0.1/b").full_url.endswith("/b")
    with pytest.raises(DatasetError, match="only https"):
        step.redirect_request(secure, None, 302, "", {}, "http://127.0.0.1/b")
