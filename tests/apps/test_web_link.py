"""The token that a server makes, and the link that it prints."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from web_pages import LINK, serving

from sonoseek.apps.web.link_token import link, link_token
from sonoseek.core import InvalidValueError


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


class TestToken:
    def test_it_is_kept_where_only_its_owner_reads_it(self, tmp_path: Path) -> None:
        state = tmp_path / "deep" / "serve"
        token = link_token(state)
        assert len(token) == 43
        assert link_token(state) == token
        assert stat.S_IMODE((state / "token").stat().st_mode) == 0o600
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        assert [path.name for path in state.iterdir()] == ["token"]

    def test_a_deleted_or_empty_one_is_made_anew(self, tmp_path: Path) -> None:
        token = link_token(tmp_path)
        (tmp_path / "token").unlink()
        second = link_token(tmp_path)
        (tmp_path / "token").write_text(" \n")
        assert len({token, second, link_token(tmp_path)}) == 3

    def test_without_a_folder_it_is_another_each_time(self) -> None:
        assert link_token(None) != link_token(None)

    @pytest.mark.parametrize("kind", ["folder", "bytes", "file"])
    def test_one_that_cannot_be_kept_is_an_error_with_a_remedy(self, tmp_path: Path, kind: str) -> None:
        state = tmp_path / "serve"
        if kind == "file":
            state.write_text("no folder")
        else:
            state.mkdir()
            place = state / "token"
            place.mkdir() if kind == "folder" else place.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(InvalidValueError, match="name a folder that may be written with --state"):
            link_token(state)

    def test_the_link_has_it_as_a_fragment(self) -> None:
        assert link("http://127.0.0.1:8765/", "abc") == "http://127.0.0.1:8765/#token=abc"
        assert link("http://127.0.0.1:8765/", None) == "http://127.0.0.1:8765/"


@pytest.mark.peer
class TestServe:
    def test_without_a_token_of_ones_own_the_server_makes_one(self, gallery: Path, tmp_path: Path) -> None:
        with serving("--gallery", gallery, "--state", tmp_path, LINK) as (printed, _):
            address, token = printed.split("#token=")
            assert httpx.get(f"{address}api/about").status_code == 401
            assert httpx.get(f"{address}metrics").status_code == 401
            known = {"Authorization": f"Bearer {token}"}
            assert httpx.get(f"{address}api/about", headers=known).status_code == 200
            assert token == (tmp_path / "token").read_text().strip()
        with serving("--gallery", gallery, "--state", tmp_path, LINK) as (printed, _):
            assert printed.endswith(f"/#token={token}")

    def test_a_token_of_ones_own_goes_first_and_is_not_printed(
        self, gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SONOSEEK_TOKEN", "a-token-of-the-operator")
        with serving("--gallery", gallery, "--state", tmp_path, LINK) as (printed, _):
            assert "token" not in printed
            known = {"Authorization": "Bearer a-token-of-the-operator"}
            assert httpx.get(f"{printed}api/about", headers=known).status_code == 200
            assert httpx.get(f"{printed}api/about").status_code == 401
        assert not (tmp_path / "token").exists()

    def test_no_token_is_asked_for_by_name(self, gallery: Path, tmp_path: Path) -> None:
        with serving("--gallery", gallery, "--state", tmp_path, "--no-token") as (printed, _):
            assert httpx.get(f"{printed}api/about").status_code == 200
        assert not (tmp_path / "token").exists()

    def test_both_at_once_are_refused(self, run: Any, gallery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SONOSEEK_TOKEN", "a-token-of-the-operator")
        done = run("serve", "--gallery", gallery, "--no-token", ok=False)
        assert "leave out one" in done.stderr

    @pytest.mark.parametrize(
        "options",
        [("--allow-host", "a.example"), ("--root-path", "/a"), ("--host", "0.0.0.0")],  # noqa: S104
    )
    @pytest.mark.parametrize("more", [(), ("--no-token",)])
    def test_a_proxy_without_anybody_who_asks_is_refused(
        self, run: Any, gallery: Path, tmp_path: Path, options: tuple[str, ...], more: tuple[str, ...]
    ) -> None:
        done = run("serve", "--gallery", gallery, "--state", tmp_path, *options, *more, ok=False)
        assert "SONOSEEK_TOKEN" in done.stderr
        assert not (tmp_path / "token").exists()

    def test_a_proxy_that_names_readers_needs_no_token(self, gallery: Path, tmp_path: Path) -> None:
        given = ("--proxy-authenticates", "X-Remote-User", "--root-path", "/sonoseek")
        with serving("--gallery", gallery, "--state", tmp_path, *given) as (printed, _):
            assert printed.endswith("/sonoseek/")
            assert httpx.get(f"{printed}api/about").status_code == 401
            assert httpx.get(f"{printed}api/about", headers={"X-Remote-User": "ada"}).status_code == 200
        assert not (tmp_path / "token").exists()

    def test_the_demo_prints_an_address_that_works(self, tmp_path: Path) -> None:
        out = tmp_path / "demo"
        command = [sys.executable, "-m", "sonoseek", "demo", "--out", str(out), "--port", "0"]
        process = subprocess.Popen(
            [*command, "--count", "24", "--queries", "2"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdout is not None
        try:
            found = next(filter(None, (re.search(r"http://\S+#token=\S+", line) for line in process.stdout)))
            address, token = found[0].split("#token=")
            with httpx.Client(base_url=address) as client:
                assert client.get("api/about").status_code == 401
                assert client.post("api/session", json={"token": token}).status_code == 204
                assert client.get("api/about").json()["scans"] >= 20
        finally:
            process.terminate()
            process.wait(20)
            process.stdout.close()
