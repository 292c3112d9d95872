"""The OpenAPI document, with the report's published schema among its components."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from sonoseek.apps.web.errors import PROBLEM
from sonoseek.apps.web.schemas import FrameEnd, FramePrediction
from sonoseek.core import DISCLAIMER
from sonoseek.reports import report_schema

DESCRIPTION = f"A search engine for breast ultrasound. {DISCLAIMER.capitalize()}."
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": description,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status, description in (
        (400, "The request is not valid HTTP, or is for another host."),
        (401, "The server's token is missing."),
        (403, "Sent by another site's page."),
        (404, "Not there, or not cached any more."),
        (405, "The method is not allowed."),
        (408, "Sent too slowly."),
        (409, "Of another bundle."),
        (413, "The body is too long, or a picture too large."),
        (415, "The body is no form."),
        (422, "A value breaks a rule, or a file is no scan."),
        (503, "Too many requests at once; try again."),
        (507, "The server's disk is full."),
    )
}


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of an application, made once."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
        )
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = PROBLEM
        for event in (FramePrediction, FrameEnd):  # of a stream, whose events OpenAPI cannot describe
            schemas[event.__name__] = event.model_json_schema()
        report = report_schema()
        for name, schema in report.pop("$defs", {}).items():
            schemas[f"Report-{name}"] = _move_references(schema)
        schemas["Report"] = _move_references({key: report[key] for key in report if key not in ("$schema", "$id")})
        app.openapi_schema = made
    return app.openapi_schema


def _move_references(schema: Any) -> Any:
    """References within the report's schema, as references within the OpenAPI document."""
    if isinstance(schema, dict):
        return {
            key: value.replace("#/$defs/", "#/components/schemas/Report-")
            if key == "$ref" and isinstance(value, str)
            else _move_references(value)
            for key, value in schema.items()
        }
    return [_move_references(each) for each in schema] if isinstance(schema, list) else schema
