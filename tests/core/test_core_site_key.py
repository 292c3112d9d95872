"""The site key: made once, private, refused where it is damaged; what is derived from it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sonoseek.core import Settings, SiteKeyError
from sonoseek.core.site_key import derived, is_keyed, is_unkeyed, key_fingerprint, keyed, site_key, site_key_path

posix = pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")


def at(path: Path) -> Settings:
    return Settings(site_key=path)


@posix
def test_it_is_made_at_the_first_use_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "site.key"
    key = site_key(at(path))
    assert len(key) == 32
    assert path.read_text() == key.hex() + "\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["site.key"]
    assert site_key(at(path)) == key


def test_processes_that_make_it_at_once_get_the_same(tmp_path: Path) -> None:
    code = "from sonoseek.core.site_key import key_fingerprint as f; print(f())"
    environment = {**os.environ, "SONOSEEK_SITE_KEY": str(tmp_path / "k")}
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE) for _ in range(6)
    ]
    assert len({each.communicate()[0] for each in started}) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["k"]


@posix
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "k"
    path.write_text("0" * 64)
    path.chmod(mode)
    with pytest.raises(SiteKeyError, match="chmod 600"):
        site_key(at(path))


@pytest.mark.parametrize("content", [b"", b"0" * 63, b"g" * 64, bytes(range(32)), b"0" * 200])
def test_a_damaged_key_is_refused_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "k"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SiteKeyError, match=r"damaged.*backup"):
        site_key(at(path))
    assert path.read_bytes() == content


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SiteKeyError, match="SONOSEEK_SITE_KEY"):
        site_key(at(tmp_path / "file" / "site.key"))


def test_it_lies_in_the_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert site_key_path(Settings()) == tmp_path / "sonoseek" / "site.key"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert site_key_path(Settings()) == Path.home() / ".local" / "state" / "sonoseek" / "site.key"
    monkeypatch.setenv("SONOSEEK_SITE_KEY", "~/k")
    assert site_key_path() == Path.home() / "k"


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def expanduser(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", expanduser)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    with pytest.raises(SiteKeyError, match="SONOSEEK_SITE_KEY"):
        site_key(Settings())


def test_what_is_derived_depends_on_the_key_the_purpose_and_the_text(tmp_path: Path) -> None:
    one, two = at(tmp_path / "1"), at(tmp_path / "2")
    found = {derived(purpose, text, settings=key) for purpose in "ab" for text in "cd" for key in (one, two)}
    assert len(found) == 8
    assert derived("a", "c", settings=one) == derived("a", "c", settings=one)
    assert key_fingerprint(one) != key_fingerprint(two)


def test_pseudonyms_before_and_after(tmp_path: Path) -> None:
    old = "p-0123456789abcdef"
    new = keyed(old, settings=at(tmp_path / "k"))
    assert is_unkeyed(old)
    assert is_keyed(new)
    assert not is_keyed(old)
    assert not any(is_unkeyed(other) or is_keyed(other) for other in (None, "A17", "p-12", old.upper(), old + "0"))
