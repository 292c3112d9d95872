"""A server that is killed in the middle of a batch: the next one goes on, and nothing is lost or counted twice."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sonoseek.apps.cli.data import write_phantoms
from sonoseek.gallery import open_gallery

pytestmark = [pytest.mark.peer, pytest.mark.slow]


class Server:
    """`sonoseek serve` on one gallery and one state, that can be killed and started again."""

    def __init__(self, gallery: Path, state: Path) -> None:
        self.options = [
            "--batch-retention-hours",
            "0",
            "--gallery",
            str(gallery),
            "--state",
            str(state),
            "--writable",
            "--no-token",
            "--port",
            "0",
            "--quiet",
        ]
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "sonoseek", "serve", *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        found = re.search(r"http://\S+", self.process.stdout.readline())
        assert found is not None
        self.client = httpx.Client(base_url=found[0], timeout=30)

    def kill(self, how: int = signal.SIGKILL) -> None:
        self.client.close()
        self.process.send_signal(how)
        self.process.wait(20)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def send(self, kind: str, folder: Path, title: str) -> str:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        body = {"kind": kind, "title": title, "total": len(files)}
        job = self.client.post("api/jobs", json=body).raise_for_status().json()["job_id"]
        for path in files:
            name = path.relative_to(folder).as_posix()
            self.client.put(f"api/jobs/{job}/files/{name}", content=path.read_bytes()).raise_for_status()
        self.client.post(f"api/jobs/{job}/start").raise_for_status()
        return str(job)

    def job(self, job: str) -> dict[str, Any]:
        told: dict[str, Any] = self.client.get(f"api/jobs/{job}").raise_for_status().json()
        return told

    def wait(self, job: str, *, done: int | None = None) -> dict[str, Any]:
        """Until a job has ended, or has finished so many files."""
        for _ in range(600):
            told = self.job(job)
            if told["state"] in ("done", "failed", "stopped") or (done is not None and told["done"] >= done):
                return told
            time.sleep(0.02)
        raise AssertionError(f"the job does not end: {told}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty phantoms, and one file that is none."""
    place = tmp_path / "monday"
    write_phantoms(place, count=40, seed=404)
    for mask in place.rglob("*_mask*"):
        mask.unlink()
    (place / "benign" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    return place


@pytest.fixture
def server(gallery: Path, tmp_path: Path) -> Iterator[Server]:
    own = tmp_path / "gallery"
    shutil.copytree(gallery, own)
    found = Server(own, tmp_path / "state")
    yield found
    found.kill(signal.SIGTERM)
    assert not (tmp_path / "state" / "uploads").exists()
    assert not list((tmp_path / "state" / "files").rglob("*.png"))


def test_questions_go_on_where_they_were(server: Server, folder: Path, tmp_path: Path) -> None:
    job = server.send("evaluate", folder, "monday")
    before = server.wait(job, done=5)
    assert before["state"] == "running", "the machine is too fast for this test: give it more files"
    server.kill()
    assert (tmp_path / "state" / "files" / job).is_dir()
    server.start()
    after = server.wait(job)
    assert after["state"] == "done"
    assert (after["done"], after["total"], after["refused"]) == (41, 41, 1)
    rows = server.client.get(f"api/jobs/{job}/rows", params={"limit": 1000}).json()
    assert [row["number"] for row in rows] == list(range(1, 42))
    assert len({row["name"] for row in rows}) == 41
    (bad,) = [row for row in rows if row["refused"]]
    assert bad["name"] == "benign/broken.png"
    assert str(tmp_path) not in bad["refused"]
    assert after["summary"]["scored"] == 40
    assert server.client.get(f"api/jobs/{job}/rows.csv").text.count("\n") == 42


def test_an_index_build_goes_on_where_it_was(server: Server, folder: Path, tmp_path: Path) -> None:
    job = server.send("index", folder, "monday")
    for round_ in range(3):
        told = server.wait(job, done=6 * (round_ + 1))
        if told["state"] != "running":
            break
        server.kill()
        server.start()
    assert server.wait(job)["state"] == "done"
    assert server.client.get("api/about").json()["scans"] == 70
    with open_gallery(tmp_path / "gallery") as kept:
        assert kept.verify() == ()
        assert kept.count() == 70
        mine = [entry.record.case_id for entry in kept if entry.record.dataset == "monday"]
    assert len(mine) == len(set(mine)) == 40


def test_a_second_server_on_the_same_state_is_refused(server: Server) -> None:
    command = [sys.executable, "-m", "sonoseek", "serve", *server.options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ))
    assert done.returncode == 2
    assert "another server uses the folder" in done.stderr


def test_a_name_that_the_archive_has_is_not_taken_by_accident(server: Server) -> None:
    body = {"kind": "index", "title": "folder"}
    refused = server.client.post("api/jobs", json=body)
    assert refused.status_code == 422
    assert "has a dataset called 'folder' already" in refused.json()["detail"]
    assert server.client.post("api/jobs", json={**body, "extend": True}).status_code == 201


def test_a_watcher_does_not_hold_up_the_end(server: Server) -> None:
    job = server.client.post("api/jobs", json={"kind": "query", "title": "a"}).json()["job_id"]
    with server.client.stream("GET", f"api/jobs/{job}/events") as events:
        line = next(events.iter_lines())
        assert line == "event: progress"
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(8)
    assert time.monotonic() - started < 6
    server.kill()  # it has ended: its pipes and the client are closed
    server.start()


def test_a_folder_without_a_reference_standard_fails_with_a_sentence(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "flat"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"1")
    for kind, said in (("evaluate", "without a reference standard"), ("index", "no folder dataset")):
        told = server.wait(server.send(kind, folder, "flat"))
        assert told["state"] == "failed"
        assert said in told["error"]
        assert str(tmp_path) not in told["error"]
    twice = server.client.post(f"api/jobs/{told['job_id']}/start")
    assert twice.status_code == 422
    late = server.client.put(f"api/jobs/{told['job_id']}/files/b.png", content=b"1")
    assert "is failed; files are sent before it is started" in late.json()["detail"]
    climbs = server.client.put(f"api/jobs/{told['job_id']}/files/%2e%2e/%2e%2e/b.png", content=b"1")
    assert climbs.status_code in (404, 422)
