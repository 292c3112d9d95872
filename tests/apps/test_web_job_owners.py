"""Batch jobs are their owner's: for everybody else they are not there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from web_client import BASE, detail

from sonoseek.apps.web.app import create_app
from sonoseek.apps.web.settings import WebSettings
from sonoseek.batch import JobStore
from sonoseek.core import NotFoundError
from sonoseek.engine import open_engine

TOKEN = "a-token-of-some-length"  # noqa: S105
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@contextmanager
def server(gallery: Path, state: Path, **values: Any) -> Iterator[FastAPI]:
    app = create_app(open_engine(gallery, threads=1), WebSettings(state=state, **({"token": TOKEN} | values)))
    with TestClient(app, base_url=BASE):
        yield app


def browser(app: FastAPI, *, cookies: dict[str, str] | None = None, token: str = TOKEN) -> TestClient:
    """A browser that has signed in."""
    client = TestClient(app, base_url=BASE)
    client.cookies.update(cookies or {})
    assert client.post("/api/session", json={"token": token}).status_code == 204
    return client


def new_job(client: TestClient, title: str = "a", **headers: str) -> str:
    answer = client.post("/api/jobs", json={"kind": "query", "title": title}, headers=headers)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["job_id"])


def titles(client: TestClient, **headers: str) -> list[str]:
    return [job["title"] for job in client.get("/api/jobs", headers=headers).json()]


def test_another_reader_meets_no_job_by_any_operation(gallery: Path, scans: list[Path], tmp_path: Path) -> None:
    with server(gallery, tmp_path) as app:
        ada, eve = browser(app), browser(app)
        job = new_job(ada)
        operations = [operation for operation in app.openapi()["paths"] if operation.startswith("/api/jobs/{job_id}")]
        assert len(operations) == 8
        calls = [
            (method.upper(), path.replace("{name}", "a.png").replace("{number}", "1"))
            for path in operations
            for method in app.openapi()["paths"][path]
        ]
        assert len(calls) == 9

        def meets_nothing(client: TestClient, **headers: str) -> None:
            assert titles(client, **headers) == []
            for method, path in calls:
                unknown, own = (
                    detail(client.request(method, path.format(job_id=each), content=b"x", headers=headers), 404)
                    for each in ("0" * 16, job)
                )
                assert own == unknown.replace("0" * 16, job)

        def meets_nothing_at_all() -> None:
            meets_nothing(eve)
            meets_nothing(TestClient(app, base_url=BASE), **BEARER)

        meets_nothing_at_all()
        assert ada.put(f"/api/jobs/{job}/files/a.png", content=scans[0].read_bytes()).status_code == 204
        meets_nothing_at_all()
        assert ada.post(f"/api/jobs/{job}/start").status_code == 200
        assert "done" in ada.get(f"/api/jobs/{job}/events").text
        meets_nothing_at_all()
        assert ada.get(f"/api/jobs/{job}").json()["done"] == 1
        assert ada.get(f"/api/jobs/{job}/rows").json()[0]["name"] == "a.png"
        assert ada.post(f"/api/jobs/{job}/rows/1/open").status_code == 200
        assert ada.delete(f"/api/jobs/{job}").status_code == 204


def test_a_stream_of_events_ends_with_its_session(gallery: Path, tmp_path: Path) -> None:
    with server(gallery, tmp_path) as app:
        ada = browser(app)
        job = new_job(ada)  # receives files: its stream has no end of its own
        with ThreadPoolExecutor(1) as pool:
            stream = pool.submit(ada.get, f"/api/jobs/{job}/events")
            with pytest.raises(TimeoutError):
                stream.result(timeout=1.0)
            app.state.app_state.sessions.end(ada.cookies["sonoseek"])
            assert "receiving" in stream.result(timeout=5).text


def test_a_browser_finds_its_jobs_after_a_restart_and_after_its_session(gallery: Path, tmp_path: Path) -> None:
    with server(gallery, tmp_path) as app:
        ada = browser(app)
        job = new_job(ada)
        app.state.app_state.sessions.end(ada.cookies["sonoseek"])
        assert ada.get("/api/jobs").status_code == 401
        ada.post("/api/session", json={"token": TOKEN})
        assert titles(ada) == ["a"]
        kept = {"sonoseek-reader": ada.cookies["sonoseek-reader"]}
    other = "another-token-of-some-length"
    with server(gallery, tmp_path, token=other) as app:  # the operator changed the token meanwhile
        assert titles(browser(app, token=other)) == []
        again = browser(app, cookies=kept, token=other)
        assert again.get(f"/api/jobs/{job}").status_code == 200


def test_sign_out_leaves_the_next_reader_of_the_browser_nothing(gallery: Path, tmp_path: Path) -> None:
    with server(gallery, tmp_path) as app:
        client = browser(app)
        job = new_job(client)
        client.delete("/api/session")
        client.post("/api/session", json={"token": TOKEN})
        assert titles(client) == []
        detail(client.get(f"/api/jobs/{job}"), 404)


def test_the_proxy_s_reader_is_one_owner_in_every_browser(gallery: Path, tmp_path: Path) -> None:
    with server(gallery, tmp_path, token=None, user_header="X-Remote-User") as app:
        first, second = TestClient(app, base_url=BASE), TestClient(app, base_url=BASE)
        job = new_job(first, **{"X-Remote-User": "ada"})
        assert titles(second, **{"X-Remote-User": "ada"}) == ["a"]
        for other in ("eve", "Ada", "token", "everybody"):
            assert titles(first, **{"X-Remote-User": other}) == []
            detail(first.get(f"/api/jobs/{job}", headers={"X-Remote-User": other}), 404)


def test_holders_of_the_token_are_one_owner(gallery: Path, tmp_path: Path) -> None:
    with server(gallery, tmp_path) as app:
        new_job(TestClient(app, base_url=BASE), **BEARER)
        assert titles(TestClient(app, base_url=BASE), **BEARER) == ["a"]
        assert titles(browser(app)) == []
    with server(gallery, tmp_path, token=TOKEN[::-1]) as app:
        assert titles(TestClient(app, base_url=BASE), Authorization=f"Bearer {TOKEN[::-1]}") == ["a"]
        assert titles(TestClient(app, base_url=BASE), Authorization=f"Bearer {TOKEN[::-1]}") == ["a"]


def test_without_a_token_jobs_are_everybody_s_and_those_of_before_too(gallery: Path, tmp_path: Path) -> None:
    with closing(JobStore(tmp_path)) as store:
        store.create("query", title="before")
        with closing(sqlite3.connect(tmp_path / "jobs.sqlite")) as older:
            older.executescript("ALTER TABLE jobs DROP COLUMN owner; PRAGMA user_version = 1;")
    with server(gallery, tmp_path, token=None) as app:
        new_job(TestClient(app, base_url=BASE))
        assert titles(TestClient(app, base_url=BASE)) == ["a", "before"]
    with server(gallery, tmp_path) as app:
        assert titles(browser(app)) == []


def test_the_store_does_not_say_who_the_owners_are(gallery: Path, tmp_path: Path) -> None:
    with server(gallery, tmp_path) as app:
        ada = browser(app)
        new_job(ada)
        secret = ada.cookies["sonoseek-reader"]
    with server(gallery, tmp_path, token=None, user_header="X-Remote-User") as app:
        new_job(TestClient(app, base_url=BASE), **{"X-Remote-User": "ada.lovelace"})
    content = b"".join(path.read_bytes() for path in tmp_path.glob("jobs.sqlite*"))
    assert secret.encode() not in content
    assert b"lovelace" not in content


def test_a_store_gives_jobs_to_their_owner(tmp_path: Path) -> None:
    with closing(JobStore(tmp_path)) as store:
        job = store.create("query", title="a", owner="x")
        assert store.get(job.job_id, owner="x") == store.get(job.job_id) == job
        assert store.list(owner="x") == store.list() == (job,)
        assert store.list(owner="") == store.list(owner="y") == ()
        for owner in ("", "y"):
            with pytest.raises(NotFoundError, match="of yours"):
                store.get(job.job_id, owner=owner)
        waiting = store.next_waiting()
        assert waiting is None or waiting.owner == "x"
