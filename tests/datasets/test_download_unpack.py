"""Archives from the internet that must not be trusted."""

import zipfile

import fake_datasets
import pytest

from sonoseek.core import DatasetError
from sonoseek.datasets import unpack


def archive_of(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("name", ["../out.txt", "/etc/out.txt", "a/../../out.txt", "..\\out.txt", "C:/out.txt"])
def test_paths_that_lead_out_are_refused(tmp_path, name):
    archive = archive_of(tmp_path / "a.zip", {"fine.txt": b"1", name: b"2"})
    with pytest.raises(DatasetError, match="leads out"):
        unpack.unpack(archive, tmp_path / "to" / "here")
    assert not list(tmp_path.rglob("*.txt"))


def test_links_are_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    archive = archive_of(tmp_path / "a.zip", {link: b"/etc/passwd"})
    with pytest.raises(DatasetError, match="no plain file"):
        unpack.unpack(archive, tmp_path / "to")


def test_a_bomb_is_stopped_while_it_unpacks(tmp_path):
    archive = archive_of(tmp_path / "a.zip", {"bomb": b"\0" * 30_000_000})
    assert archive.stat().st_size < 50_000
    with pytest.raises(DatasetError, match="200 times"):
        unpack.unpack(archive, tmp_path / "to")
    assert not list((tmp_path / "to").iterdir())


def test_a_damaged_member_leaves_nothing_behind(tmp_path):
    noise = fake_datasets.picture(1, size=(300, 300)).tobytes()
    archive = archive_of(tmp_path / "a.zip", {"one": noise, "two": noise[::-1]})
    data = bytearray(archive.read_bytes())
    data[100_000] ^= 255
    archive.write_bytes(data)
    with pytest.raises(DatasetError, match="does not unpack"):
        unpack.unpack(archive, tmp_path / "to")
    assert not list((tmp_path / "to").iterdir())


def test_what_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "to").mkdir()
    (tmp_path / "to/mine").write_text("kept")
    archive = archive_of(tmp_path / "a.zip", {"mine": b"new", "other": b"new"})
    with pytest.raises(DatasetError, match="already there"):
        unpack.unpack(archive, tmp_path / "to")
    assert (tmp_path / "to/mine").read_text() == "kept"
    assert not (tmp_path / "to/other").exists()


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack, "MAX_MEMBERS", 2)
    archive = archive_of(tmp_path / "a.zip", {str(i): b"" for i in range(3)})
    with pytest.raises(DatasetError, match="holds 3 files"):
        unpack.unpack(archive, tmp_path / "to")
