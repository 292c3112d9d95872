"""A scan that the network was trained on: the report says so first, and a job does not score it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from sonoseek.apps.web.app import create_app
from sonoseek.apps.web.settings import WebSettings
from sonoseek.encoder import load_bundle, open_encoder
from sonoseek.encoder.seen import hash_bytes, training_scans
from sonoseek.engine import SearchEngine
from sonoseek.gallery import open_gallery
from sonoseek.io import read_scan


@pytest.fixture(scope="module")
def client(gallery: Path, asked: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server whose bundle has learnt from the first of the scans."""
    scan = read_scan(asked[0])
    bundle = replace(load_bundle(), training_scans=training_scans([("hospital", scan.scan_id, hash_bytes(scan))]))
    engine = SearchEngine(open_encoder(bundle, threads=1), open_gallery(gallery))
    app = create_app(engine, WebSettings(state=tmp_path_factory.mktemp("state")))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as found:
        yield found


def test_the_report_says_it_first(client: TestClient, asked: list[Path]) -> None:
    codes = []
    for path in (asked[0], asked[4]):
        report = client.post("/api/query", files={"file": ("a.png", path.read_bytes())}).json()
        codes.append([(each["severity"], each["code"]) for each in report["warnings"]])
    assert codes[0][0] == ("high", "seen_in_training")
    assert "seen_in_training" not in dict(codes[1]).values()


def test_a_job_counts_it_and_does_not_score_it(client: TestClient, asked: list[Path]) -> None:
    job = client.post("/api/jobs", json={"kind": "evaluate", "title": "monday"}).json()["job_id"]
    for path in (asked[0], *asked[3:6]):
        client.put(f"/api/jobs/{job}/files/{path.parent.name}/{path.name}", content=path.read_bytes())
    client.post(f"/api/jobs/{job}/start")
    client.get(f"/api/jobs/{job}/events")  # until it has ended
    told = client.get(f"/api/jobs/{job}").json()
    assert (told["state"], told["summary"]["answered"]) == ("done", 4)
    assert (told["summary"]["seen_in_training"], told["summary"]["scored"]) == (1, 3)
    table = list(csv.DictReader(io.StringIO(client.get(f"/api/jobs/{job}/rows.csv").text)))
    assert {row["name"].split("/")[1]: row["seen_in_training"] for row in table} == {
        asked[0].name: "yes",
        **{path.name: "" for path in asked[3:6]},
    }
