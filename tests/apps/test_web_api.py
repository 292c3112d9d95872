"""Queries over the REST API: answers and refusals."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator
from web_client import ask, detail

from sonoseek.core import Box
from sonoseek.engine import SearchEngine
from sonoseek.io import read_scan
from sonoseek.reports import report_schema
from sonoseek.reports.json import encode_json


@pytest.fixture(scope="module")
def asked(client: TestClient, scans: list[Path]) -> Any:
    """The response to an ordinary query."""
    return ask(client, scans[0], k="4")


class TestQuery:
    def test_it_is_the_engines_report_under_the_published_schema(
        self, asked: Any, engine: SearchEngine, scans: list[Path]
    ) -> None:
        assert asked.status_code == 200
        document = asked.json()
        Draft202012Validator(report_schema()).validate(document)
        same = json.loads(encode_json(engine.query(read_scan(scans[0]), k=4)))
        for told in (document, same):
            told.pop("created")
        assert document == same

    @pytest.mark.parametrize(
        ("fields", "options"),
        [
            ({"k": "0"}, {"k": 0}),
            ({"where": "label = 'benign'"}, {"where": "label = 'benign'"}),
            ({"per_patient": "false", "deduplicate": "0"}, {"per_patient": False, "deduplicate": False}),
            ({"include_same": "yes"}, {"include_same": True}),
            ({"region": "50,60,200,300"}, {"region": Box(top=50, left=60, bottom=200, right=300)}),
        ],
    )
    def test_options_reach_the_engine(
        self, client: TestClient, engine: SearchEngine, scans: list[Path], fields: Any, options: Any
    ) -> None:
        told = ask(client, scans[1], **fields).json()
        report = engine.query(read_scan(scans[1]), **options)
        assert [m["scan_id"] for m in told["matches"]] == [m.scan_id for m in report.matches]
        assert told["warnings"] == [asdict(each) for each in report.warnings]

    def test_liked_and_disliked_and_crop(self, client: TestClient, engine: SearchEngine, scans: list[Path]) -> None:
        first = ask(client, scans[2], k="5").json()["matches"]
        names = [f"{match['dataset']}/{match['case_id']}" for match in first]
        told = ask(client, scans[2], k="5", liked=names[1:3], disliked=names[0]).json()
        assert set(told["liked"]) == {match["scan_id"] for match in first[1:3]}
        assert told["disliked"] == [first[0]["scan_id"]]
        assert first[0]["scan_id"] not in {match["scan_id"] for match in told["matches"]}
        scan = read_scan(scans[2])
        crop = Box(top=10, left=10, bottom=scan.shape[0] - 10, right=scan.shape[1] - 20)
        sides = f"{crop.top},{crop.left},{crop.bottom},{crop.right}"
        told = ask(client, scans[2], crop=sides).json()
        assert told["crop"] == {name: float(getattr(crop, name)) for name in ("top", "left", "bottom", "right")}
        report = engine.query(engine.read(scan, crop=crop))
        assert told["prediction"]["probabilities"] == pytest.approx(dict(report.prediction.probabilities))

    def test_several_files_are_views(self, client: TestClient, scans: list[Path]) -> None:
        told = ask(client, scans[0], scans[1]).json()
        assert len(told["views"]) == 1
        assert "2 views together" in " ".join(each["text"] for each in told["warnings"])

    def test_a_file_is_sent_once_and_asked_again(self, client: TestClient, asked: Any, scans: list[Path]) -> None:
        upload = asked.headers["sonoseek-uploads"]
        again = client.post("/api/query", data={"upload": upload, "k": "4"})
        assert again.headers["content-location"] == asked.headers["content-location"]
        assert again.json() == asked.json()
        other = client.post("/api/query", data={"upload": upload, "k": "3"})
        assert other.headers["content-location"] != asked.headers["content-location"]
        kept = client.get(f"/api/uploads/{upload}").json()
        assert (kept["name"], kept["frames"]) == (scans[0].name, 1)
        assert "Send the scan again" in detail(client.post("/api/query", data={"upload": "0" * 64}), 404)

    def test_a_case_of_the_archive_asks_without_a_file(self, client: TestClient, engine: SearchEngine) -> None:
        record = next(iter(engine.gallery or ())).record
        told = client.post("/api/query", data={"case": f"{record.dataset}/{record.case_id}", "k": "3"})
        assert told.status_code == 200
        report = engine.query_case(record.dataset, record.case_id, k=3)
        assert [m["scan_id"] for m in told.json()["matches"]] == [m.scan_id for m in report.matches]
        said = detail(client.post("/api/query", data={"case": "a/b"}), 404)
        assert said.startswith("the archive holds no case 'b' of 'a'")

    def test_a_file_may_be_taken_off_the_server(self, client: TestClient, scans: list[Path]) -> None:
        upload = ask(client, scans[5]).headers["sonoseek-uploads"]
        assert client.delete(f"/api/uploads/{upload}").status_code == 204
        assert client.get(f"/api/uploads/{upload}").status_code == 404
        app_state = client.app.state.app_state  # type: ignore[attr-defined]
        assert len(list((app_state.settings.state / "uploads").iterdir())) == len(app_state.uploads)

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"k": "x"}, "k is 'x'"),
            ({"k": "-1"}, "k is '-1'"),
            ({"k": "100000"}, "k is '100000'"),
            ({"k": "000000000000201"}, "k is '0000"),
            ({"k": "0" * 5000}, "k is '0000"),
            ({"k": "1.5"}, "k is '1.5'"),
            ({"k": "١"}, "k is '١'"),
            ({"case": "nothing"}, "write DATASET/CASE"),
            ({"liked": ["a/b"] * 33}, "more than 32 scans"),
            ({"crop": "1,2,3,inf"}, "crop is '1,2,3,inf'"),
            ({"upload": ["0" * 64] * 8}, "8 views at most"),
            ({"frame": "1"}, "frame is 1"),
            ({"where": "agee < 3"}, "agee"),
            ({"where": "a" * 3000}, "3000 characters"),
            ({"per_patient": "perhaps"}, "per_patient is 'perhaps'"),
            ({"region": "1,2,3"}, "region is '1,2,3'"),
            ({"region": "5,5,1,9"}, "is empty"),
            ({"region": "nan,1,2,3"}, "region is 'nan"),
            ({"region": "90000,90000,90001,90001"}, "lies outside"),
            ({"crop": "0,0,2,2"}, "the crop"),
            ({"colour": "red"}, "no field 'colour'"),
            ({"k": ["1", "2"]}, "given twice"),
            ({"case": "a/b"}, "one of the two"),
            ({"liked": "nowhere/nothing"}, "holds no case"),
        ],
    )
    def test_a_wrong_field_is_named(self, client: TestClient, scans: list[Path], fields: Any, said: str) -> None:
        answer = ask(client, scans[0], **fields)
        assert said in detail(answer, 404 if fields == {"liked": "nowhere/nothing"} else 422)

    def test_what_is_no_form_is_refused(self, client: TestClient, scans: list[Path]) -> None:
        assert "send a form" in detail(client.post("/api/query", content=scans[0].read_bytes()), 415)
        assert "send a form" in detail(client.post("/api/query", json={"k": 3}), 415)
        assert "query with files" in detail(client.post("/api/query", data={"k": "3"}), 422)
        wrong = client.post("/api/query", files={"scan": ("a.png", scans[0].read_bytes())})
        assert "files go into 'file'" in detail(wrong, 422)
        wrong = client.post("/api/uploads", files={"scan": ("a.png", scans[0].read_bytes())})
        assert "files go into 'file'" in detail(wrong, 422)
        for path in ("/api/query", "/api/uploads"):  # a text where a file belongs
            said = detail(client.post(path, files={"file": (None, "no file")}), 422)
            assert "field 'file' holds a text" in said

    def test_media_types_and_character_sets_as_clients_write_them(self, client: TestClient) -> None:
        form = b'--X\r\nContent-Disposition: form-data; name="k"\r\n\r\n1\r\n--X--\r\n'
        for kind, status, said in (
            ("Multipart/Form-Data; boundary=X", 422, "query with files"),  # the type's case means nothing: it is read
            ("multipart/form-data; boundary=X; charset=undefined", 400, "UTF-8"),
            ("multipart/form-data", 400, "boundary"),
            ("multipart/mixed; boundary=X", 415, "send a form"),
        ):
            for path in ("/api/query", "/api/uploads") if status == 400 else ("/api/query",):
                assert said in detail(client.post(path, content=form, headers={"Content-Type": kind}), status)

    @pytest.mark.parametrize("name", ["超" * 120 + ".png", "🧠" * 90 + ".png", "a" * 500 + ".png", "..", "/", "."])
    def test_a_files_name_may_be_anything(self, client: TestClient, scans: list[Path], name: str) -> None:
        answer = client.post(
            "/api/query", files={"file": (name, scans[3].read_bytes() + name.encode())}, data={"k": "0"}
        )
        assert answer.status_code == 200, answer.text
        kept = client.get(f"/api/uploads/{answer.headers['sonoseek-uploads']}").json()["name"]
        assert kept.endswith(".png") or kept == "scan"

    def test_what_is_no_scan_is_refused_without_naming_this_machine(
        self, client: TestClient, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        said = detail(client.post("/api/query", files={"file": ("../../x/notes.txt", b"no picture")}), 422)
        assert said.startswith("notes.txt: by its first bytes")
        assert str(tmp_path_factory.getbasetemp()) not in said
        app_state = client.app.state.app_state  # type: ignore[attr-defined]
        assert len(list((app_state.settings.state / "uploads").iterdir())) == len(app_state.uploads)

    def test_the_same_bytes_at_once_under_two_names_are_kept_once_and_answered(
        self, client: TestClient, scans: list[Path]
    ) -> None:
        data, answers = scans[20].read_bytes(), []

        def send(name: str) -> None:
            answers.append(client.post("/api/query", files={"file": (name, data)}, data={"k": "1"}).status_code)

        threads = [threading.Thread(target=send, args=(f"{number}.png",)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [200] * 8
        app_state = client.app.state.app_state  # type: ignore[attr-defined]
        assert len(list((app_state.settings.state / "uploads").iterdir())) == len(app_state.uploads)
