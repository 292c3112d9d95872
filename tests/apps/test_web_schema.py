"""Every operation of the OpenAPI document, asked by schemathesis: it keeps to what it says, and never breaks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from sonoseek.apps.web.app import create_app
from sonoseek.apps.web.settings import WebSettings
from sonoseek.engine import open_engine

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
TOKEN = "a-token-of-some-length"  # noqa: S105
KNOWN = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def app(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    state = tmp_path_factory.mktemp("schema")
    settings = WebSettings(state=state, folders=state, allowed_hosts=("testserver",), token=TOKEN)
    made = create_app(open_engine(gallery, threads=1), settings)
    with TestClient(made):
        yield made


@pytest.fixture(scope="module")
def known(app: FastAPI, archive: Path) -> dict[str, Any]:
    """Names that exist: without them hardly an operation would get further than 404."""
    client = TestClient(app, base_url="http://localhost", headers=KNOWN)
    scan = next(path for path in sorted(archive.glob("malignant/*.png")) if "_mask" not in path.name)
    answer = client.post("/api/query", files={"file": ("a.png", scan.read_bytes())}, data={"k": "2"})
    report = answer.json()
    job, over = (client.post("/api/jobs", json={"kind": "query", "title": title}).json() for title in ("a", "over"))
    client.put(f"/api/jobs/{over['job_id']}/files/a.png", content=scan.read_bytes())
    client.post(f"/api/jobs/{over['job_id']}/start")
    assert client.get(f"/api/jobs/{over['job_id']}/events").text.count("event: progress") >= 1  # until it has ended
    return {
        "report_id": answer.headers["content-location"].rsplit("/", 1)[-1],
        "upload_id": answer.headers["sonoseek-uploads"],
        "scan_id": report["matches"][0]["scan_id"],
        "dataset": report["matches"][0]["dataset"],
        "case_id": report["matches"][0]["case_id"],
        "job_id": job["job_id"],
        "over": over["job_id"],
        "rank": 1,
        "number": 0,
        "frame": 0,
    }


ENDED = ("/api/jobs/{job_id}/events", "/api/jobs/{job_id}/rows", "/api/jobs/{job_id}/rows.csv")
"""Asked of a job that has ended: its events have an end, and it has rows."""


@pytest.mark.slow
def test_every_operation_keeps_to_what_it_says(app: FastAPI, known: dict[str, Any]) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=KNOWN)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 25
    for operation in operations:

        @settings(
            max_examples=12,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(), exists=st.booleans())
        def keeps(case: Any, exists: bool) -> None:
            taken = exists and case.method.upper() != "DELETE"  # what is deleted would be missed by the rest
            if (taken or case.path == ENDED[0]) and case.path_parameters:  # names that exist get further than 404
                there = {**known, "job_id": known["over" if case.path in ENDED else "job_id"]}
                case.path_parameters = {name: there.get(name, value) for name, value in case.path_parameters.items()}
            case.call_and_validate(checks=CHECKS, headers=KNOWN)

        keeps()


def test_every_reference_of_the_document_leads_somewhere(app: FastAPI) -> None:
    document = app.openapi()

    def references(part: Any) -> Iterator[str]:
        if isinstance(part, dict):
            if isinstance(part.get("$ref"), str):
                yield part["$ref"]
            for value in part.values():
                yield from references(value)
        elif isinstance(part, list):
            for value in part:
                yield from references(value)

    found = set(references(document))
    assert "#/components/schemas/Report" in found
    for reference in found:
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step.replace("~1", "/").replace("~0", "~")]
    assert document["info"]["description"].endswith("Research use only, not for diagnosis.")
