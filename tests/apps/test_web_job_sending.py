"""Batch jobs over HTTP: how they are sent and ended, and what is turned away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from web_jobs import (
    begun,
    detail,
    ended,
    inside,
    lay_out,
    new,
    put,
    still_works,
    together,
    until,
    writable_server,
)

from sonoseek.apps.web.state import AppState


@pytest.fixture(scope="module")
def folders(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out(tmp_path_factory.mktemp("folders"), archive)


@pytest.fixture(scope="module")
def client(gallery: Path, folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with writable_server(gallery, folders, tmp_path_factory.mktemp("own")) as found:
        yield found


@pytest.fixture
def app_state(client: TestClient) -> AppState:
    found: AppState = client.app.state.app_state  # type: ignore[attr-defined]
    return found


class TestEnds:
    def test_stop_keeps_rows_and_their_files(self, client: TestClient, app_state: AppState, scans: list[Path]) -> None:
        job = begun(client, {f"{n}.png": scans[n % 9].read_bytes() for n in range(12)})
        until(lambda: client.get(f"/api/jobs/{job}").json()["done"], lambda done: done >= 1)
        told = client.post(f"/api/jobs/{job}/stop").json()
        assert told["state"] == "stopped"
        rows = client.get(f"/api/jobs/{job}/rows").json()
        assert 1 <= len(rows) < 12
        assert client.get(f"/api/jobs/{job}").json()["state"] == "stopped"
        assert client.post(f"/api/jobs/{job}/stop").status_code == 200  # it has ended: nothing to do
        assert "is stopped" in detail(client.post(f"/api/jobs/{job}/start"), 422)
        assert "is stopped" in detail(put(client, job, "a.png", b""), 422)
        assert client.post(f"/api/jobs/{job}/rows/1/open").status_code == 200
        assert client.delete(f"/api/jobs/{job}").status_code == 204
        until(lambda: app_state.jobs.files(job).exists(), lambda there: not there)

    def test_stop_before_anything_was_asked_takes_the_files(self, client: TestClient, app_state: AppState) -> None:
        job = new(client)
        put(client, job, "a.png", b"1")
        assert client.post(f"/api/jobs/{job}/stop").json()["openable"] is False
        assert not app_state.jobs.files(job).exists()

    def test_a_job_that_is_deleted_in_the_middle_stops_nobody_elses(
        self, client: TestClient, app_state: AppState, scans: list[Path]
    ) -> None:
        job = begun(client, {f"{n}.png": scans[n % 9].read_bytes() for n in range(12)})
        until(lambda: client.get(f"/api/jobs/{job}").json()["done"], lambda done: done >= 1)
        assert "stop it before" in detail(client.delete(f"/api/jobs/{job}"), 422)
        client.post(f"/api/jobs/{job}/stop")
        assert client.delete(f"/api/jobs/{job}").status_code == 204
        assert "there is no job" in detail(client.get(f"/api/jobs/{job}"), 404)
        still_works(client, scans[0])
        assert not app_state.jobs.files(job).exists()

    def test_a_watcher_of_a_job_that_is_deleted_comes_to_an_end(self, client: TestClient) -> None:
        job = new(client)
        threading.Timer(0.6, lambda: client.delete(f"/api/jobs/{job}")).start()
        answer = client.get(f"/api/jobs/{job}/events")
        assert answer.status_code == 200
        assert answer.text.count("event: progress") == 1

    def test_delete_takes_files_that_wait(self, client: TestClient, app_state: AppState) -> None:
        job = new(client)
        put(client, job, "x/a.png", b"1")
        assert app_state.jobs.files(job).is_dir()
        assert client.delete(f"/api/jobs/{job}").status_code == 204
        assert not app_state.jobs.files(job).exists()
        for path in ("", "/rows", "/rows.csv", "/events"):
            assert "there is no job" in detail(client.get(f"/api/jobs/{job}{path}"), 404)


class TestSending:
    @pytest.mark.parametrize(
        "name",
        [
            "%2e%2e/a",
            "a/%2e%2e/%2e%2e/b",
            "/etc/passwd",
            "..%5Ca",
            "C:%5Ca",
            "a%00b",
            "a%09b",
            "%2e",
            "a" * 300,
            "a/" * 20,
        ],
    )
    def test_names_that_lead_elsewhere_are_refused(self, client: TestClient, app_state: AppState, name: str) -> None:
        job = new(client)
        assert "no name of a file within a folder" in detail(put(client, job, name, b"x"), 422)
        assert not app_state.jobs.files(job).exists()

    def test_long_names_in_any_script_are_taken(self, client: TestClient, scans: list[Path]) -> None:
        name = "超" * 76 + ".png"  # 232 bytes
        job = begun(client, {name: scans[0].read_bytes()})
        assert ended(client, job)["refused"] == 0
        assert client.get(f"/api/jobs/{job}/rows").json()[0]["name"] == name

    def test_the_same_name_again_replaces_it(self, client: TestClient, app_state: AppState) -> None:
        job = new(client)
        for content in (b"1" * (1 << 20), b"2" * (3 << 19), b"3"):
            assert put(client, job, "a.png", content).status_code == 204
            assert app_state.job_bytes[job] == len(content)
        assert [path.read_bytes() for path in app_state.jobs.files(job).iterdir()] == [b"3"]

    def test_more_than_a_job_may_hold_is_refused(self, client: TestClient, app_state: AppState) -> None:
        job = new(client)
        assert put(client, job, "a", b"1" * (3 << 19)).status_code == 204
        assert "more than 2 MiB of files" in detail(put(client, job, "b", b"1" * (1 << 20)), 413)
        assert put(client, job, "c", b"1" * (1 << 18)).status_code == 204
        assert {path.name for path in app_state.jobs.files(job).iterdir()} == {"a", "c"}

    def test_files_on_their_way_at_once_count_together(self, client: TestClient, app_state: AppState) -> None:
        job = new(client)

        async def both() -> list[httpx.Response]:
            half = asyncio.Event()

            async def slowly(*, first: bool) -> AsyncIterator[bytes]:
                yield b"1" * (3 << 18)
                if first:
                    await half.wait()
                half.set()
                yield b"1" * (3 << 18)

            async with inside(client) as line:
                return await asyncio.gather(
                    *(line.put(f"/api/jobs/{job}/files/{n}", content=slowly(first=n == 0)) for n in range(2))
                )

        answers = sorted(answer.status_code for answer in together(client, both))
        kept = sum(path.stat().st_size for path in app_state.jobs.files(job).rglob("*"))
        assert answers == [204, 413]
        assert kept <= 2 << 20
        assert app_state.job_bytes[job] == kept

    @pytest.mark.parametrize(("how", "status"), [("stop", 422), ("delete", 404)])
    def test_a_job_that_ends_while_a_file_is_on_its_way(
        self, client: TestClient, app_state: AppState, how: str, status: int
    ) -> None:
        job = new(client)

        async def send() -> httpx.Response:
            async def slowly() -> AsyncIterator[bytes]:
                yield b"1" * 1000
                done = await (
                    line.delete(f"/api/jobs/{job}") if how == "delete" else line.post(f"/api/jobs/{job}/stop")
                )
                assert done.status_code in (200, 204)
                yield b"1"

            async with inside(client) as line:
                return await line.put(f"/api/jobs/{job}/files/a.png", content=slowly())

        detail(together(client, send), status)
        assert not app_state.jobs.files(job).exists()

    def test_what_cannot_be_begun(self, client: TestClient) -> None:
        job = new(client)
        assert "has no files yet" in detail(client.post(f"/api/jobs/{job}/start"), 422)
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"kind": "paint"}, "kind"),
            ({"title": ""}, "title"),
            ({"title": "a\nb"}, "printable"),
            ({"total": -1}, "total"),
            ({"k": 201}, "k: "),
            ({"where": "agee < 3"}, "agee"),
            ({"colour": "red"}, "colour"),
            ({"kind": "index", "title": "a/b"}, "DATASET/CASE"),
            ({"kind": "index", "title": "folder"}, "has a dataset called 'folder' already"),
        ]
        for fields, said in wrong:
            body = {"kind": "query", "title": "monday", **fields}
            assert said in detail(client.post("/api/jobs", json=body), 422)
