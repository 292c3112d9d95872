"""The reader's mark from the command line and over HTTP: taken where the bundle reads marks, refused where not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator

from sonoseek.apps.web.app import create_app
from sonoseek.apps.web.settings import WebSettings
from sonoseek.core import Box
from sonoseek.engine import SearchEngine, open_engine
from sonoseek.io import read_scan
from sonoseek.reports import report_schema

MARK = {"top": 60.0, "left": 80.0, "bottom": 160.0, "right": 220.0}
TYPED = "60,80,160,220"


@pytest.fixture(scope="module")
def engine(marking_gallery: Path, marking_bundle: Path) -> Iterator[SearchEngine]:
    with open_engine(marking_gallery, bundle=marking_bundle, threads=1) as found:
        yield found


@pytest.fixture(scope="module")
def client(marking_gallery: Path, marking_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    app = create_app(
        open_engine(marking_gallery, bundle=marking_bundle, threads=1),
        WebSettings(state=tmp_path_factory.mktemp("state")),
    )
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as found:
        yield found


class TestCommandLine:
    def test_a_query_with_a_mark(
        self, run: Any, engine: SearchEngine, marking_gallery: Path, marking_bundle: Path, scan: Path
    ) -> None:
        arguments = ("query", scan, "-g", marking_gallery, "--bundle", marking_bundle, "-f")
        plain = json.loads(run(*arguments, "json").stdout)
        told = json.loads(run(*arguments, "json", "--lesion", TYPED).stdout)
        Draft202012Validator(report_schema()).validate(told)
        assert (plain["lesion"], told["lesion"]) == (None, MARK)
        report = engine.query(read_scan(scan), lesion=Box(**MARK))
        assert told["prediction"]["probabilities"] == pytest.approx(dict(report.prediction.probabilities), abs=1e-5)
        assert told["prediction"]["probabilities"] != pytest.approx(plain["prediction"]["probabilities"], abs=1e-5)
        table = run(*arguments, "table", "--lesion", TYPED).stdout
        assert "Read with the reader's mark: rows 60 to 160, columns 80 to 220 of the scan." in table

    def test_an_explanation_with_a_mark(
        self, run: Any, engine: SearchEngine, marking_gallery: Path, marking_bundle: Path, scan: Path, tmp_path: Path
    ) -> None:
        target = engine.bundle.classes[2]
        where = ("--bundle", marking_bundle, "--gallery", marking_gallery, "-k", 1, "--out", tmp_path)
        run("explain", scan, *where, "--target", target, "--lesion", TYPED)
        told = np.load(tmp_path / f"class_evidence-{target}.npz")
        reading = engine.read(read_scan(scan), lesion=Box(**MARK))
        assert float(told["value"]) == pytest.approx(float(reading.logits[2]), abs=1e-4)
        pair = np.load(tmp_path / "pair_evidence-match-01.npz")
        similarity = engine.query(reading, k=1).matches[0].similarity
        assert float(pair["heatmap"].sum(dtype=np.float64)) == pytest.approx(similarity, abs=1e-4)

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (("SCAN", "--lesion", "1,2,3"), "four numbers"),
            (("SCAN", "--lesion", "9,9,1,1"), "is empty"),
            (("SCAN", "--lesion", "9000,0,9900,9"), "does not cover a pixel of the scan"),
            (("SCAN", "SCAN", "--lesion", TYPED), "give that file alone"),
            (("--case", "folder/nobody", "--lesion", TYPED), "give the scan's file"),
        ],
    )
    def test_a_mark_that_cannot_be_meant_is_refused(
        self, run: Any, marking_gallery: Path, marking_bundle: Path, scan: Path, given: tuple[str, ...], said: str
    ) -> None:
        asked = (scan if each == "SCAN" else each for each in given)
        done = run("query", *asked, "-g", marking_gallery, "--bundle", marking_bundle, ok=False)
        assert said in " ".join(done.stderr.split())

    @pytest.mark.parametrize("verb", ["query", "explain"])
    def test_a_bundle_that_reads_none_is_named(self, run: Any, scan: Path, tmp_path: Path, verb: str) -> None:
        where = ("--out", tmp_path / "new") if verb == "explain" else ()
        done = run(verb, scan, "--lesion", TYPED, *where, ok=False)
        assert "reads no marks" in done.stderr
        assert not (tmp_path / "new").exists()


def ask(client: TestClient, scan: Path, **fields: str) -> Any:
    return client.post("/api/query", files={"file": (scan.name, scan.read_bytes())}, data=fields)


class TestServer:
    def test_the_page_is_told_whether_marks_are_read(self, client: TestClient, gallery: Path, tmp_path: Path) -> None:
        assert client.get("/api/about").json()["reads_marks"] is True
        app = create_app(open_engine(gallery, threads=1), WebSettings(state=tmp_path))
        with TestClient(app, base_url="http://localhost") as other:
            assert other.get("/api/about").json()["reads_marks"] is False

    def test_a_mark_is_another_question_and_leaves_the_first_as_it_was(
        self, client: TestClient, engine: SearchEngine, scan: Path
    ) -> None:
        plain = ask(client, scan, k="3")
        marked = ask(client, scan, k="3", lesion=TYPED)
        other = ask(client, scan, k="3", lesion="10,10,60,70")
        places = {each.headers["content-location"] for each in (plain, marked, other)}
        assert len(places) == 3
        documents = [each.json() for each in (plain, marked, other)]
        for document, box in zip(documents, (None, Box(**MARK), Box(10, 10, 60, 70)), strict=True):
            Draft202012Validator(report_schema()).validate(document)
            report = engine.query(read_scan(scan), k=3, lesion=box)
            assert document["prediction"]["probabilities"] == pytest.approx(
                dict(report.prediction.probabilities), abs=1e-6
            )
        assert [each["lesion"] for each in documents] == [
            None,
            MARK,
            {"top": 10.0, "left": 10.0, "bottom": 60.0, "right": 70.0},
        ]
        again = ask(client, scan, k="4")  # the scan's reading is at hand: the one without a mark
        assert again.json()["prediction"] == documents[0]["prediction"]
        said = client.get(f"{marked.headers['content-location']}/text").json()
        assert said["lesion"] == "Read with the reader's mark: rows 60 to 160, columns 80 to 220 of the scan."
        assert client.get(f"{plain.headers['content-location']}/text").json()["lesion"] is None
        for form in ("pdf", "html", "json"):
            assert client.get(f"{marked.headers['content-location']}/report.{form}").status_code == 200

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"lesion": "1,2,3"}, "four numbers"),
            ({"lesion": "9,9,1,1"}, "is empty"),
            ({"lesion": "9000,0,9900,9"}, "does not cover a pixel"),
        ],
    )
    def test_a_mark_that_cannot_be_meant_is_refused(
        self, client: TestClient, scan: Path, fields: dict[str, str], said: str
    ) -> None:
        answer = ask(client, scan, **fields)
        assert answer.status_code == 422
        assert said in answer.json()["detail"]

    def test_cases_and_several_files_are_not_marked(self, client: TestClient, archive: Path, scan: Path) -> None:
        match = ask(client, scan, k="1").json()["matches"][0]
        case = f"{match['dataset']}/{match['case_id']}"
        answer = client.post("/api/query", data={"case": case, "lesion": TYPED})
        assert answer.status_code == 422
        assert "query with the scan's file" in answer.json()["detail"]
        scans = [path for path in sorted(archive.glob("*/*.png")) if "_mask" not in path.name][:2]
        sent = [("file", (path.name, path.read_bytes())) for path in scans]
        answer = client.post("/api/query", files=sent, data={"lesion": TYPED})
        assert answer.status_code == 422
        assert "is of one file" in answer.json()["detail"]
