"""The schemas that the page's types are generated from are those of the server."""

from __future__ import annotations

import json
from pathlib import Path

from sonoseek.apps.web.app import create_api
from sonoseek.apps.web.openapi import schemas_only

COMMITTED = Path(__file__).parents[2] / "frontend/openapi.json"


def test_the_pages_schemas_are_the_servers() -> None:
    made = json.loads(json.dumps(schemas_only(create_api().openapi())))
    assert json.loads(COMMITTED.read_text("utf-8")) == made, "run: npm --prefix frontend run types"
