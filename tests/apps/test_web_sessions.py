"""Sessions: how they begin, what ends them, and what a server leaves behind at its end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from web_client import BASE, detail
from web_pages import LINK, serving

from sonoseek.apps.web import sessions as module
from sonoseek.apps.web.app import create_app
from sonoseek.apps.web.sessions import IDLE_S, LIFETIME_S, Sessions
from sonoseek.apps.web.settings import WebSettings
from sonoseek.engine import open_engine

TOKEN = "a-token-of-some-length"  # noqa: S105


class TestExpiry:
    def test_a_session_ends_when_it_is_not_used(self) -> None:
        now = [0.0]
        sessions = Sessions(clock=lambda: now[0])
        value = sessions.start("ada")
        for _ in range(3):
            now[0] += IDLE_S - 1
            assert sessions.use(value) == "ada"
        now[0] += IDLE_S + 1
        assert sessions.use(value) is None
        assert len(sessions) == 0

    def test_and_after_a_week_however_it_is_used(self) -> None:
        now = [0.0]
        sessions = Sessions(clock=lambda: now[0])
        value = sessions.start("ada")
        while now[0] <= LIFETIME_S - 3600:
            assert sessions.use(value) == "ada"
            now[0] += 3600
        now[0] = LIFETIME_S + 1
        assert sessions.use(value) is None

    def test_what_has_ended_is_removed_without_a_request(self) -> None:
        now = [0.0]
        sessions = Sessions(clock=lambda: now[0])
        sessions.start("ada")
        now[0] = IDLE_S
        later = sessions.start("eve")
        now[0] = IDLE_S + 1
        sessions.expire()
        assert len(sessions) == 1
        assert sessions.use(later) == "eve"
        sessions.end(later)
        sessions.end(later)
        assert sessions.use(later) is None

    def test_of_too_many_the_one_that_was_not_used_for_the_longest_time_ends(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MAX_SESSIONS", 3)
        sessions = Sessions()
        first, second, third = (sessions.start(name) for name in "abc")
        sessions.use(first)
        fourth = sessions.start("d")
        assert [sessions.use(value) for value in (first, second, third, fourth)] == ["a", None, "c", "d"]


@pytest.fixture
def reader(gallery: Path, tmp_path: Path) -> Iterator[TestClient]:
    app = create_app(open_engine(gallery, threads=1), WebSettings(state=tmp_path / "state", token=TOKEN))
    with TestClient(app, base_url=BASE) as client:
        yield client


class TestSignOut:
    def test_it_ends_the_session_and_the_browser_forgets_both_cookies(self, reader: TestClient) -> None:
        assert reader.post("/api/session", json={"token": TOKEN}).status_code == 204
        cookies = dict(reader.cookies)
        assert set(cookies) == {"sonoseek", "sonoseek-reader"}
        assert reader.get("/api/about").json()["signed_in"] is True
        ended = reader.delete("/api/session")
        assert ended.status_code == 204
        assert dict(reader.cookies) == {}
        for line in ended.headers.get_list("set-cookie"):
            for word in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age=0"):
                assert word in line
        old = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
        detail(reader.get("/api/about", headers=old), 401)  # a copy of the cookie is worth nothing either
        assert reader.delete("/api/session").status_code == 204  # twice is fine

    def test_another_site_signs_nobody_out(self, reader: TestClient) -> None:
        reader.post("/api/session", json={"token": TOKEN})
        detail(reader.delete("/api/session", headers={"Origin": "https://evil.example"}), 403)
        assert reader.get("/api/about").status_code == 200

    def test_programs_with_the_token_have_no_session(self, reader: TestClient) -> None:
        known = {"Authorization": f"Bearer {TOKEN}"}
        assert reader.get("/api/about", headers=known).json()["signed_in"] is False

    def test_signing_in_again_keeps_the_browser_s_cookie_and_ends_the_session_before(self, reader: TestClient) -> None:
        reader.post("/api/session", json={"token": TOKEN})
        first = dict(reader.cookies)
        reader.post("/api/session", json={"token": TOKEN})
        second = dict(reader.cookies)
        assert first["sonoseek-reader"] == second["sonoseek-reader"]
        assert first["sonoseek"] != second["sonoseek"]
        old = {"Cookie": f"sonoseek={first['sonoseek']}"}
        reader.cookies.clear()
        assert reader.get("/api/about", headers=old).status_code == 401

    def test_a_made_up_browser_s_cookie_is_replaced_and_none_lets_in(self, reader: TestClient) -> None:
        for value in ("short", "x" * 44, "y" * 42 + "!"):
            reader.cookies.clear()
            headers = {"Cookie": f"sonoseek-reader={value}"}
            assert reader.post("/api/session", json={"token": TOKEN}, headers=headers).status_code == 204
            assert reader.cookies["sonoseek-reader"] != value
        only = {"Cookie": f"sonoseek-reader={reader.cookies['sonoseek-reader']}"}
        reader.cookies.clear()
        assert reader.get("/api/about", headers=only).status_code == 401

    def test_servers_on_two_ports_do_not_sign_each_other_out(self, reader: TestClient) -> None:
        answer = reader.post("http://localhost:8765/api/session", json={"token": TOKEN})
        names = {line.split("=")[0] for line in answer.headers.get_list("set-cookie")}
        assert names == {"sonoseek-8765", "sonoseek-reader-8765"}
        cookie = re.findall(r"sonoseek-8765=[^;]+", answer.headers["set-cookie"])[0]
        reader.cookies.clear()
        assert reader.get("http://localhost:8765/api/about", headers={"Cookie": cookie}).status_code == 200
        assert reader.get("http://localhost:8766/api/about", headers={"Cookie": cookie}).status_code == 401


@pytest.mark.peer
class TestProcess:
    def test_cookies_are_secure_behind_a_proxy_with_tls_alone(self, gallery: Path, tmp_path: Path) -> None:
        token = tmp_path / "token"
        token.write_text(TOKEN)
        proxied = {"X-Forwarded-Proto": "https"}
        for number, options in enumerate([("--root-path", "/a"), ()]):
            given = ("--gallery", gallery, "--state", tmp_path / str(number), "--token-file", token, *options)
            with serving(*given) as (address, _):
                plain, tls = (
                    httpx.post(f"{address}api/session", json={"token": TOKEN}, headers=more).headers.get_list(
                        "set-cookie"
                    )
                    for more in ({}, proxied)
                )
                assert not any("Secure" in line for line in plain)
                assert all(("Secure" in line) == bool(options) for line in tls)  # without a proxy anybody could say so
                assert all(("Path=/a;" in line) == bool(options) for line in tls)

    @pytest.mark.slow
    @pytest.mark.parametrize("how", ["term", "twice", "killed"])
    def test_nothing_of_an_upload_is_left_at_the_end(
        self, gallery: Path, scans: list[Path], tmp_path: Path, how: str
    ) -> None:
        state = tmp_path / "state"
        command = [sys.executable, "-m", "sonoseek", "serve", "--port", "0", "--quiet", "--no-token"]
        command += ["--gallery", str(gallery), "--state", str(state)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        try:
            address = re.findall(r"http://\S+", process.stdout.readline())[0]
            httpx.post(f"{address}api/query", files={"file": ("a.png", scans[0].read_bytes())}).raise_for_status()
            job = httpx.post(f"{address}api/jobs", json={"kind": "query", "title": "a"}).json()["job_id"]
            port = int(re.findall(r":(\d+)/", address)[0])
            with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
                line.sendall(
                    f"PUT /api/jobs/{job}/files/in/b.png HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                    "Content-Length: 1000000\r\n\r\n".encode()
                    + b"x" * 5000
                )
                wait_for(lambda: partial_files(state))
                assert list((state / "uploads").iterdir())
                process.send_signal({"term": signal.SIGTERM, "twice": signal.SIGINT, "killed": signal.SIGKILL}[how])
                if how == "twice":
                    time.sleep(0.5)
                    process.send_signal(signal.SIGINT)
                process.wait(30)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            process.wait(5)
            process.stdout.close()
        if how == "killed":  # the next one sweeps at its start
            assert partial_files(state)
            with serving("--gallery", gallery, "--state", state):
                assert not partial_files(state)
                assert list((state / "uploads").iterdir()) == []
        assert not partial_files(state)
        assert not (state / "uploads").exists()

    def test_an_address_that_is_taken_leaves_no_folder_of_uploads(self, gallery: Path, tmp_path: Path) -> None:
        with serving("--gallery", gallery, "--state", tmp_path / "a", LINK) as (printed, _):
            port = re.findall(r":(\d+)/", printed)[0]
            command = [sys.executable, "-m", "sonoseek", "serve", "--gallery", str(gallery), "--port", port]
            done = subprocess.run(
                [*command, "--state", str(tmp_path / "b"), "--quiet"], capture_output=True, text=True, check=False
            )
            assert done.returncode == 2
            assert "cannot be listened on" in done.stderr
            assert not (tmp_path / "b" / "uploads").exists()


def partial_files(state: Path) -> list[Path]:
    return list((state / "files").rglob(".*.part"))


def wait_for(seen: object) -> None:
    for _ in range(200):
        if callable(seen) and seen():
            return
        time.sleep(0.05)
    raise AssertionError("it does not come")
