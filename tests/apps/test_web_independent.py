"""What the API counts as one case: defaults, how they are switched off, and what the JSON says then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator

from sonoseek.apps.web.app import create_app
from sonoseek.apps.web.settings import WebSettings
from sonoseek.engine import open_engine
from sonoseek.reports import report_schema


@pytest.fixture(scope="module")
def client(copies: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = WebSettings(state=tmp_path_factory.mktemp("state"))
    app = create_app(open_engine(copies, threads=1), settings)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as found:
        yield found


@pytest.fixture
def ask(client: TestClient, asked: list[Path]) -> Any:
    def call(**fields: str) -> dict[str, Any]:
        answer = client.post("/api/query", files={"file": ("a.png", asked[3].read_bytes())}, data={"k": "20", **fields})
        assert answer.status_code == 200, answer.text
        report: dict[str, Any] = answer.json()
        Draft202012Validator(report_schema()).validate(report)
        return report

    return call


@pytest.mark.parametrize(
    ("fields", "matches", "near_duplicates", "same_patient"),
    [
        ({}, 8, 2, 2),  # 12 scans: one case three times, one patient three times
        ({"per_patient": "true", "deduplicate": "true"}, 8, 2, 2),
        ({"per_patient": "false"}, 10, 2, 0),
        ({"deduplicate": "false"}, 10, 0, 2),
        ({"per_patient": "false", "deduplicate": "false"}, 12, 0, 0),
    ],
)
def test_matches_are_independent_unless_asked_otherwise(
    ask: Any, fields: dict[str, str], matches: int, near_duplicates: int, same_patient: int
) -> None:
    report = ask(**fields)
    assert len(report["matches"]) == matches
    assert sum(match["near_duplicates"] for match in report["matches"]) == near_duplicates
    assert sum(match["same_patient"] for match in report["matches"]) == same_patient
    assert report["similar_cases"]["labels"] == {"benign": 4, "normal": 3, "malignant": 1}  # however they are listed
    codes = [each["code"] for each in report["warnings"]]
    assert ("not_independent" in codes) is (fields.get("per_patient") == "false")


def test_a_filter_hides_cases_from_the_list_and_not_from_the_count(ask: Any) -> None:
    whole, part = ask(), ask(where="label != 'benign'")
    assert whole["hidden_by_filter"] is None
    assert part["hidden_by_filter"] == {"labels": {"benign": 4}, "total": 4}
    assert part["similar_cases"]["labels"] == whole["similar_cases"]["labels"]
    assert {match["label"] for match in part["matches"]} == {"normal", "malignant"}
    codes = {each["code"] for each in whole["warnings"]}
    assert {each["code"] for each in part["warnings"]} <= codes


def test_the_published_form_states_the_defaults(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    content = document["paths"]["/api/query"]["post"]["requestBody"]["content"]
    fields = content["multipart/form-data"]["schema"]["properties"]
    defaults = {name: fields[name]["default"] for name in ("include_same", "per_patient", "deduplicate")}
    assert defaults == {"include_same": False, "per_patient": True, "deduplicate": True}
    batch = document["components"]["schemas"]["NewJob"]["properties"]
    assert (batch["per_patient"]["default"], batch["deduplicate"]["default"]) == (True, True)
