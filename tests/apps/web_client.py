"""A client of the reading room's server, for tests of its REST API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

BASE = "http://localhost"


def ask(client: TestClient, *files: Path, **fields: Any) -> Any:
    """A query with files and fields."""
    sent = [("file", (path.name, path.read_bytes(), "image/png")) for path in files]
    return client.post("/api/query", files=sent, data=fields)


def detail(answer: Any, status: int) -> str:
    """The sentence of a problem document."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    assert document["request_id"] == answer.headers["x-request-id"]
    return str(document["detail"])
