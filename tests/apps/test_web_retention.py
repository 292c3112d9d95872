"""How long the server keeps a scan, what its log holds of it, and its errors when the disk is full."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import logging
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

from sonoseek.apps.web import app as app_module
from sonoseek.apps.web import logging_metrics
from sonoseek.apps.web.app import create_app
from sonoseek.apps.web.server import listen
from sonoseek.apps.web.settings import WebSettings
from sonoseek.apps.web.state import AppState
from sonoseek.core import ScanReadError
from sonoseek.engine import open_engine

BASE = "http://localhost"
PATIENT = "MEIER_ANNA"


@pytest.fixture
def client(gallery: Path, tmp_path: Path) -> Iterator[TestClient]:
    app = create_app(open_engine(gallery, threads=1), WebSettings(state=tmp_path / "state", writable=True))
    with TestClient(app, base_url=BASE, raise_server_exceptions=False) as found:
        yield found


@pytest.fixture
def app_state(client: TestClient) -> AppState:
    found: AppState = client.app.state.app_state  # type: ignore[attr-defined]
    return found


def ask(client: TestClient, *scans: Path) -> httpx.Response:
    answer = client.post("/api/query", files=[("file", (path.name, path.read_bytes())) for path in scans])
    assert answer.status_code == 200, answer.text
    return answer


def detail(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told: str = answer.json()["detail"]
    return told


class TestLeaving:
    def test_deleting_a_scan_takes_every_report_of_it_and_no_other(
        self, client: TestClient, app_state: AppState, asked: list[Path]
    ) -> None:
        alone, both, other = ask(client, asked[0]), ask(client, asked[1], asked[0]), ask(client, asked[1])
        deleted = alone.headers["sonoseek-uploads"]
        assert client.delete(f"/api/uploads/{deleted}").status_code == 204
        for gone in (alone, both):
            place = gone.headers["content-location"]
            for path in (place, f"{place}/text", f"{place}/scan", f"{place}/report.pdf"):
                assert "Send the scan again" in detail(client.get(path), 404)
        assert client.get(f"{other.headers['content-location']}/scan").status_code == 200
        assert not [key for key in app_state.encoded_scans if key.startswith(deleted)]
        assert [path.name for path in (app_state.jobs.folder / "uploads").glob("*/*")] == [asked[1].name]
        assert ask(client, asked[0]).status_code == 200  # it may be sent again

    @pytest.mark.parametrize("when", ["before it is read", "while it is searched with"])
    def test_what_is_made_of_a_scan_as_it_is_deleted_is_not_kept(
        self, client: TestClient, app_state: AppState, asked: list[Path], monkeypatch: pytest.MonkeyPatch, when: str
    ) -> None:
        files = {"file": (asked[2].name, asked[2].read_bytes())}
        (sent,) = client.post("/api/uploads", files=files).json()
        upload = app_state.uploads.get(sent["upload_id"])
        name, holder = ("load_scan", app_state) if when == "before it is read" else ("query", app_state.engine)
        work = getattr(holder, name)

        def meanwhile(*args: Any, **values: Any) -> Any:
            app_state.delete_upload(upload)
            return work(*args, **values)

        monkeypatch.setattr(holder, name, meanwhile)
        answer = client.post("/api/query", data={"upload": upload.upload_id})
        assert detail(answer, 404).endswith(("Send the scan again.", "send it again."))
        assert (len(app_state.reports), len(app_state.encoded_scans), len(app_state.uploads)) == (0, 0, 0)

    def test_an_idle_server_evicts_in_time(
        self, gallery: Path, asked: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(app_module, "EXPIRE_S", 0.05)
        settings = WebSettings(state=tmp_path / "state", cache_minutes=1 / 120)
        with TestClient(create_app(open_engine(gallery, threads=1), settings), base_url=BASE) as client:
            app_state: AppState = client.app.state.app_state  # type: ignore[attr-defined]
            ask(client, asked[0])
            end = time.monotonic() + 10
            folder = tmp_path / "state" / "uploads"
            caches = (app_state.uploads, app_state.encoded_scans, app_state.reports)
            while any(map(len, caches)) or any(folder.iterdir()):
                assert time.monotonic() < end
                time.sleep(0.05)


class TestNoRoom:
    def test_an_upload_is_told_so_and_leaves_nothing(
        self, client: TestClient, app_state: AppState, asked: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: Any
    ) -> None:
        def full(*_: Any) -> Any:
            raise OSError(errno.ENOSPC, "No space left on device", "/state/uploads/MEIER_ANNA.png")

        monkeypatch.setattr(app_state.upload_store, "save", full)
        answer = client.post("/api/query", files={"file": (asked[0].name, asked[0].read_bytes())})
        assert "disk is full" in detail(answer, 507)
        assert "MEIER" not in answer.text + caplog.text
        assert "ENOSPC" in caplog.text

    def test_jobs_cannot_be_begun_and_health_says_so(self, client: TestClient, app_state: AppState) -> None:
        app_state.jobs._connection.execute("PRAGMA max_page_count = 1")
        title = "x" * 200
        answers = [client.post("/api/jobs", json={"kind": "query", "title": title}) for _ in range(40)]
        assert "disk is full" in detail(answers[-1], 507)
        app_state.jobs._connection.execute("PRAGMA max_page_count = 1000000")
        assert client.post("/api/jobs", json={"kind": "query", "title": title}).status_code == 201
        assert client.get("/readyz").json()["batch"] == "working"

    def test_without_its_thread_the_server_is_not_ready(self, client: TestClient, app_state: AppState) -> None:
        app_state.runner.close()
        assert "batch jobs has ended" in detail(client.get("/readyz"), 503)

    def test_other_errors_of_the_system_are_the_server_s(
        self, client: TestClient, app_state: AppState, asked: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: Any) -> Any:
            raise OSError(errno.EIO, "I/O error", "/state/uploads/MEIER_ANNA.png")

        monkeypatch.setattr(app_state.upload_store, "save", broken)
        answer = client.post("/api/query", files={"file": (asked[0].name, asked[0].read_bytes())})
        assert "an error of its own" in detail(answer, 500)


class TestTwoJobsOfOneName:
    def test_the_second_is_refused_at_once_even_side_by_side(self, client: TestClient) -> None:
        body = {"kind": "index", "title": "friday", "total": 1}

        async def begin() -> list[httpx.Response]:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(client.app), base_url=BASE) as line:
                return await asyncio.gather(*(line.post("/api/jobs", json=body) for _ in range(6)))

        answers = asyncio.run(begin())
        assert sorted(each.status_code for each in answers) == [201] + [422] * 5
        assert all("has not ended" in detail(each, 422) for each in answers if each.status_code == 422)
        assert client.post("/api/jobs", json={**body, "extend": True}).status_code == 201

    def test_what_came_into_the_archive_meanwhile_is_not_pushed_out(
        self, archive: Path, gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another process may add the dataset between a job's beginning and its turn."""
        import shutil

        own = tmp_path / "own"
        shutil.copytree(gallery, own)
        app = create_app(open_engine(own, threads=1), WebSettings(state=tmp_path / "state", writable=True))
        with TestClient(app, base_url=BASE) as client:
            app_state: AppState = app.state.app_state
            held = app_state.info()
            monkeypatch.setattr(
                app_state, "info", lambda: (held[0], type(held[1])(**{**vars_of(held[1]), "by_dataset": {}}))
            )
            job = client.post("/api/jobs", json={"kind": "index", "title": "folder"}).json()["job_id"]
            scan = next(path for path in sorted(archive.glob("benign/*.png")) if "_mask" not in path.name)
            client.put(f"/api/jobs/{job}/files/benign/{scan.name}", content=scan.read_bytes())
            client.post(f"/api/jobs/{job}/start")
            end = time.monotonic() + 20
            while not (told := client.get(f"/api/jobs/{job}").json())["state"].startswith(("done", "failed")):
                assert time.monotonic() < end
                time.sleep(0.05)
            assert told["state"] == "failed"
            assert "has a dataset called 'folder' already" in told["error"]


def vars_of(info: Any) -> dict[str, Any]:
    return {name: getattr(info, name) for name in info.__dataclass_fields__}


class TestLog:
    @pytest.fixture
    def lines(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        """The program's own way to log, into a string; what it changed is put back."""
        root, held = logging.getLogger(), {name: logging.getLogger(name) for name in ("", *logging_metrics.LOGGERS)}
        before = {name: (log.handlers, log.level, log.propagate) for name, log in held.items()}
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
        out = io.StringIO()
        logging_metrics.configure_logging(out)
        try:
            yield lambda: [json.loads(line) for line in out.getvalue().splitlines()]
        finally:
            for name, log in held.items():
                log.handlers, log.level, log.propagate = before[name]
            assert root.handlers is before[""][0]

    def test_an_error_is_told_by_kind_and_place_and_names_no_file(self, lines: Any) -> None:
        try:
            try:
                raise FileNotFoundError(errno.ENOENT, "No such file", f"/in/{PATIENT}.png")
            except OSError as error:
                raise ScanReadError(f"{PATIENT}.png does not read") from error
        except ScanReadError:
            logging.getLogger("sonoseek.batch").exception("a batch job broke")
        (line,) = lines()
        assert "FileNotFoundError 2" in line["error"]
        assert "ScanReadError" in line["error"]
        assert "test_web_retention.py" in line["error"]
        assert "MEIER" not in json.dumps(line)

    def test_other_errors_keep_their_text(self, lines: Any) -> None:
        try:
            np.zeros(3) + np.zeros(4)
        except ValueError:
            logging.getLogger("sonoseek.web").exception("broke")
        assert lines()[0]["error"].count("ValueError: operands could not be broadcast")

    def test_what_reads_scans_is_not_quoted_either(self, lines: Any) -> None:
        logging.getLogger("sonoseek.datasets.folder").warning("no scans: DOE_JOHN.doc")
        logging.getLogger("sonoseek.apps.web.errors").warning("the disk refused: ENOSPC")
        reading, ours = lines()
        assert (reading["logger"], reading["message"].endswith(logging_metrics.OMITTED)) == (
            "sonoseek.datasets.folder",
            True,
        )
        assert ours["message"] == "the disk refused: ENOSPC"

    def test_other_libraries_notices_are_named_and_not_quoted(self, lines: Any) -> None:
        logging.getLogger("pydicom").warning("Invalid value for PN: 'MEIER^ANNA'")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = logging_metrics._log_warning  # type: ignore[assignment]  # the context puts the old one back
            warnings.warn("Invalid value for VR UI: 'MEIER^ANNA'", UserWarning, stacklevel=1)
        notice, warning = lines()
        assert (notice["logger"], notice["level"]) == ("pydicom", "warning")
        assert warning["message"].startswith("UserWarning at test_web_retention.py:")
        assert "MEIER" not in json.dumps([notice, warning])


def test_answers_do_not_wait_for_an_acknowledgement() -> None:
    """On a socket of no named protocol asyncio leaves the delay on: 40 ms for each small answer on a kept line."""
    with listen(WebSettings(port=0)) as found:
        assert found.proto == socket.IPPROTO_TCP


def test_caches_can_be_expired_from_another_thread(app_state: AppState) -> None:
    threads = [threading.Thread(target=app_state.expire) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
