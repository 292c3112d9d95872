"""Batch jobs over HTTP: what comes of them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from web_jobs import (
    TABLE,
    begun,
    detail,
    ended,
    lay_out,
    new,
    opened,
    until,
    writable_server,
)

from sonoseek.apps.web.settings import WebSettings
from sonoseek.apps.web.state import AppState
from sonoseek.core import InvalidValueError


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


class TestWork:
    def test_questions_have_a_row_each_and_refused_files_a_reason(
        self, client: TestClient, app_state: AppState, scans: list[Path]
    ) -> None:
        files = {f"week/{path.name}": path.read_bytes() for path in scans[:3]}
        job = begun(client, {**files, "notes.txt": b"no picture", ".hidden.png": b"x"}, k=2, total=4)
        told = ended(client, job)
        assert (told["state"], told["done"], told["total"], told["refused"], told["error"]) == ("done", 4, 4, 1, "")
        assert told["summary"]["answered"] == 3
        rows = client.get(f"/api/jobs/{job}/rows").json()
        assert {row["name"] for row in rows} == {*files, "notes.txt"}
        (refused,) = [row for row in rows if row["refused"]]
        assert refused["refused"].startswith("notes.txt: by its first bytes")
        alone = client.post("/api/query", files={"file": ("a.png", scans[0].read_bytes())}, data={"k": "2"}).json()
        (same,) = [row for row in rows if row["name"].endswith(scans[0].name)]
        assert same["outcome"]["scan_id"] == alone["scan"]["scan_id"]
        assert same["outcome"]["match"]["scan_id"] == alone["matches"][0]["scan_id"]
        assert client.get(f"/api/jobs/{job}/rows", params={"after": 3}).json() == rows[3:]
        assert client.get(f"/api/jobs/{job}/rows", params={"limit": 2}).json() == rows[:2]
        assert job in [each["job_id"] for each in client.get("/api/jobs").json()]
        assert app_state.jobs.files(job).is_dir()  # so that its rows can be opened

    def test_a_table_for_a_spreadsheet_runs_nothing(self, client: TestClient, scans: list[Path]) -> None:
        names = ["=HYPERLINK(1).png", "+1.png", "-1.png", "@a.png", 'a,"b".png']
        job = begun(client, {name: scans[0].read_bytes() for name in names} | {"=no.txt": b"no"})
        ended(client, job)
        answer = client.get(f"/api/jobs/{job}/rows.csv")
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert f"sonoseek-{job}.csv" in answer.headers["content-disposition"]
        table = list(csv.DictReader(io.StringIO(answer.text)))
        assert {row["name"] for row in table} == {f"'{n}" for n in [*names[:4], "=no.txt"]} | {names[4]}
        assert not [value for row in table for value in row.values() if value[:1] in ("=", "+", "-", "@", "\t")]
        assert sum(float(table[0][name]) for name in ("normal", "benign", "malignant")) == pytest.approx(1, abs=1e-3)
        assert list(table[0]) == TABLE

    def test_the_table_says_what_is_not_ruled_out_and_what_was_learnt_from(
        self, client: TestClient, scans: list[Path]
    ) -> None:
        job = begun(client, {f"{path.parent.name}/{path.name}": path.read_bytes() for path in scans[::5]})
        assert ended(client, job)["summary"]["seen_in_training"] == 0
        rows = client.get(f"/api/jobs/{job}/rows").json()
        table = list(csv.DictReader(io.StringIO(client.get(f"/api/jobs/{job}/rows.csv").text)))
        for row, line in zip(rows, table, strict=True):
            told = row["outcome"]
            assert line["headline"].startswith("malignancy ") or told["label"] is None
            assert line["malignancy_not_ruled_out"] == ("yes" if told["not_ruled_out"] else "")
            assert (line["reference"], line["seen_in_training"]) == (row["name"].split("/")[0], "")
            assert float(line["malignant"]) == told["likelihood_of_malignancy"]
        assert {line["malignancy_not_ruled_out"] for line in table} == {"yes", ""}

    def test_predictions_are_held_against_folders(self, client: TestClient, scans: list[Path]) -> None:
        files = {f"{path.parent.name}/{path.name}": path.read_bytes() for path in scans[::6]}
        told = ended(client, begun(client, {**files, "loose.png": scans[0].read_bytes()}, kind="evaluate"))
        assert told["summary"]["scored"] == len(files)
        assert sum(map(sum, told["summary"]["confusion"])) == len(files)
        assert 0 <= told["summary"]["accuracy"][0] <= 1

    def test_a_folder_goes_into_the_archive_and_questions_find_it(self, client: TestClient, scans: list[Path]) -> None:
        before, names = client.get("/api/about").json(), (scans[0], scans[14], scans[-1])
        case = "folder/" + client.get("/api/archive/projection").json()["case_id"][0]
        asked = client.post("/api/query", data={"case": case, "k": "3"}).headers["content-location"]
        assert client.post("/api/query", data={"case": case, "k": "3"}).headers["content-location"] == asked
        files = {f"{path.parent.name}/{path.name}": path.read_bytes() for path in names}
        job = begun(client, {**files, "benign/broken.png": b"\x89PNG\r\n\x1a\nno more"}, kind="index", title="tuesday")
        told = ended(client, job)
        assert (told["state"], told["error"]) == ("done", "")
        assert (told["summary"]["added"], told["summary"]["refused"]) == (3, 1)
        (row,) = client.get(f"/api/jobs/{job}/rows").json()
        assert "broken.png" in row["refused"]
        about = client.get("/api/about").json()
        assert about["scans"] == before["scans"] + 3
        assert about["gallery_state"] != before["gallery_state"]
        assert client.get("/api/archive").json()["by_dataset"]["tuesday"] == 3
        assert client.get("/api/archive/projection").json()["state"] == about["gallery_state"]
        again = client.post("/api/query", data={"case": case, "k": "3"})
        assert again.headers["content-location"] != asked

    def test_one_patient_over_half_of_a_folder_is_said(self, client: TestClient, scans: list[Path]) -> None:
        rows = [f"a.png,benign,{'ANON17' if n < 20 else '0'},{n}" for n in range(22)]
        table = "\n".join(["file,pathology,patient,case_id", *rows]).encode()
        told = {"a.png": scans[0].read_bytes(), "manifest.csv": table}
        found = ended(client, begun(client, told, kind="index", title="one patient"))
        large, placeholder = found["summary"]["warnings"]
        assert "patient 'ANON17' holds 20 of the 22 cases of 'one patient' (91 %)" in large
        assert placeholder.startswith("2 scans carry the placeholder patient id '0'")

    def test_a_folder_of_the_server(self, client: TestClient, folders: Path) -> None:
        told = ended(client, new(client, kind="evaluate", folder="friday"))
        assert (told["state"], told["error"]) == ("done", "")
        assert told["done"] == len([p for p in folders.glob("friday/*/*.png") if "_mask" not in p.name])
        assert len(list(folders.glob("friday/*/*.png"))) == 12  # they are the server's: nothing is taken away

    def test_events_tell_the_progress_and_end(self, client: TestClient, scans: list[Path]) -> None:
        job = begun(client, {f"{n}.png": scans[n].read_bytes() for n in range(6)})
        answer = client.get(f"/api/jobs/{job}/events")
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
        assert [each["done"] for each in told] == sorted(each["done"] for each in told)
        assert (told[-1]["state"], told[-1]["done"]) == ("done", 6)


class TestRows:
    """From a row of the table back to the scan that it is of."""

    def test_the_highest_likelihood_of_malignancy_comes_first(self, client: TestClient, scans: list[Path]) -> None:
        job = begun(client, {f"{n}.png": scans[n * 3].read_bytes() for n in range(8)} | {"0.txt": b"no"})
        ended(client, job)
        rows = client.get(f"/api/jobs/{job}/rows", params={"order": "malignancy"}).json()
        chances = [row["outcome"]["probabilities"]["malignant"] for row in rows[:-1]]
        assert chances == sorted(chances, reverse=True)
        assert len(set(chances)) > 3
        assert rows[-1]["name"] == "0.txt"
        page = client.get(f"/api/jobs/{job}/rows", params={"order": "malignancy", "skip": 3, "limit": 2}).json()
        assert page == rows[3:5]
        refused = client.get(f"/api/jobs/{job}/rows", params={"order": "malignancy", "refused": True}).json()
        assert refused == rows[-1:]
        table = list(csv.DictReader(io.StringIO(client.get(f"/api/jobs/{job}/rows.csv").text)))
        assert [row["number"] for row in table] == [str(n) for n in range(1, 10)]
        assert "order" in detail(client.get(f"/api/jobs/{job}/rows", params={"order": "x"}), 422)

    def test_a_row_opens_the_very_scan(self, client: TestClient, app_state: AppState, scans: list[Path]) -> None:
        files = {f"a/{path.name}": path.read_bytes() for path in scans[:3]}
        job = begun(client, {**files, "no.txt": b"no"}, k=3, where="label = 'benign'")
        assert ended(client, job)["openable"] is True
        for row in client.get(f"/api/jobs/{job}/rows").json():
            answer = client.post(f"/api/jobs/{job}/rows/{row['number']}/open")
            if row["refused"]:
                assert "was refused, so there is no scan to open: no.txt" in detail(answer, 422)
                continue
            assert answer.status_code == 200, answer.text
            told = answer.json()
            assert told["upload_id"] == hashlib.sha256(files[row["name"]]).hexdigest()
            assert (told["options"]["k"], told["options"]["where"]) == (3, "label = 'benign'")
            asked = {"upload": told["upload_id"], "k": "3", "where": "label = 'benign'"}
            report = client.post("/api/query", data=asked).json()
            assert report["scan"]["scan_id"] == row["outcome"]["scan_id"]
            assert report["matches"][0]["scan_id"] == row["outcome"]["match"]["scan_id"]
        assert "has no row 99" in detail(client.post(f"/api/jobs/{job}/rows/99/open"), 404)
        shutil.rmtree(app_state.jobs.files(job))
        said = detail(client.post(f"/api/jobs/{job}/rows/1/open"), 404)
        assert "is not on this server any more; the files of a batch job stay for 24 hours after its end" in said
        assert str(app_state.jobs.folder) not in said
        assert client.get(f"/api/jobs/{job}").json()["openable"] is False

    def test_a_file_of_the_server_that_is_another_by_now_is_not_opened(
        self, client: TestClient, folders: Path, scans: list[Path]
    ) -> None:
        place = folders / "changing"
        place.mkdir()
        shutil.copy(scans[0], place / "a.png")
        job = new(client, folder="changing")
        ended(client, job)
        assert client.post(f"/api/jobs/{job}/rows/1/open").status_code == 200
        shutil.copy(scans[1], place / "a.png")
        assert "has changed since the job queried" in detail(client.post(f"/api/jobs/{job}/rows/1/open"), 404)
        shutil.rmtree(place)
        assert "is not on this server any more" in detail(client.post(f"/api/jobs/{job}/rows/1/open"), 404)

    def test_nothing_is_kept_where_that_is_set(self, gallery: Path, scans: list[Path], tmp_path: Path) -> None:
        with opened(gallery, WebSettings(state=tmp_path, batch_retention_hours=0)) as client:
            job = begun(client, {"a.png": scans[0].read_bytes()})
            ended(client, job)
            until(lambda: client.get(f"/api/jobs/{job}").json()["openable"], lambda there: not there)
            assert client.get("/api/about").json()["batch_retention_hours"] == 0
        for wrong in (
            {"batch_retention_hours": -1},
            {"batch_retention_hours": float("inf")},
            {"batch_retention_mb": -1},
        ):
            with pytest.raises(InvalidValueError, match="files of ended batch jobs are kept for"):
                WebSettings(**wrong)  # type: ignore[arg-type]


class TestMachine:
    """What a job may see of the server's disk, and tell of it."""

    @pytest.mark.parametrize("named", ["..", "../outside", "/etc", "way out", "nowhere", "a\0b", "friday/../.."])
    def test_folders_outside_are_refused(self, client: TestClient, named: str) -> None:
        body = {"kind": "query", "title": "a", "folder": named}
        assert "is no folder below the one" in detail(client.post("/api/jobs", json=body), 422)

    def test_without_folders_and_writing_neither_is_offered(self, gallery: Path, tmp_path: Path) -> None:
        with opened(gallery, WebSettings(state=tmp_path)) as client:
            said = detail(client.post("/api/jobs", json={"kind": "query", "title": "a", "folder": "."}), 422)
            assert "--folders" in said
            said = detail(client.post("/api/jobs", json={"kind": "index", "title": "a"}), 422)
            assert "--writable" in said

    @pytest.mark.parametrize(
        ("files", "kind", "said"),
        [
            ({"manifest.csv": b"file,pathology\n/etc/hostname,benign\n"}, "index", "lies outside its folder"),
            ({"manifest.csv": b"file,pathology\n../../jobs.sqlite,benign\n"}, "index", "lies outside its folder"),
            ({"manifest.csv": b"fil,pathology\n"}, "index", "manifest.csv has the columns"),
            (
                {"manifest.csv": b"case_id,file,pathology,dataset\nc,a.png,normal,folder\n", "a.png": b"\x89PNG"},
                "index",
                "has a dataset called 'folder' already",
            ),
            ({"a/b.png": b""}, "index", "looked for sub-folders"),
            ({"a/b.png": b""}, "evaluate", "no file lies in a folder called"),
        ],
    )
    def test_what_fails_as_a_whole_says_why_and_not_where(
        self, client: TestClient, app_state: AppState, files: dict[str, bytes], kind: str, said: str
    ) -> None:
        job = begun(client, files, kind=kind, title="wednesday")
        told = ended(client, job)
        assert told["state"] == "failed"
        assert said in told["error"]
        assert str(app_state.jobs.folder) not in told["error"]
        assert "wednesday" not in client.get("/api/archive").json()["by_dataset"]
        until(lambda: app_state.jobs.files(job).exists(), lambda there: not there)

    def test_a_folder_job_that_is_done_before_its_sender_is_told(
        self, client: TestClient, app_state: AppState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create = app_state.jobs.create

        def slowly(*args: Any, **values: Any) -> Any:
            job = create(*args, **values)
            until(lambda: app_state.jobs.get(job.job_id).state, lambda state: state == "done")
            return job

        monkeypatch.setattr(app_state.jobs, "create", slowly)
        assert ended(client, new(client, folder="friday"))["state"] == "done"
