"""The server put together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

import sonoseek
from sonoseek.apps.web import (
    errors,
    routes_archive,
    routes_jobs,
    routes_pictures,
    routes_query,
    routes_system,
)
from sonoseek.apps.web.logging_metrics import Observe
from sonoseek.apps.web.page import page_router
from sonoseek.apps.web.security import Guard
from sonoseek.apps.web.settings import WebSettings
from sonoseek.apps.web.state import Room
from sonoseek.apps.web.upload_limits import Intake
from sonoseek.core import DISCLAIMER
from sonoseek.engine import SearchEngine
from sonoseek.reports import report_schema

TIDY_S = 60.0
DESCRIPTION = f"A search engine for breast ultrasound. {DISCLAIMER.capitalize()}."
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": told, "content": {"application/problem+json": {"schema": errors.PROBLEM}}}
    for status, told in (
        (400, "The request is not sound HTTP, or is for another host."),
        (401, "The server's token is missing."),
        (403, "Sent by another site's page."),
        (404, "Not there, or not at hand any more."),
        (405, "Not with this method."),
        (408, "Sent too slowly."),
        (409, "Another bundle's."),
        (413, "Too long, or a picture too large."),
        (415, "No form."),
        (422, "A value breaks a rule, or a file is no scan."),
        (503, "Too much at once; try again."),
        (507, "No room on the server's disk."),
    )
}


def create_app(engine: SearchEngine, settings: WebSettings | None = None) -> FastAPI:
    """The reading room's server as an ASGI application.

    Args:
        engine: with a gallery, opened with one thread: the server's workers share it. Closed when the application ends.
        settings: of the server; None: the default.

    Raises:
        InvalidValueError: the engine has no gallery.
        SonoseekError: another server uses the state folder.
    """
    settings = settings or WebSettings()
    room = Room(engine, settings)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(room.warm_up)
        tidying = asyncio.create_task(_tidy(room))
        try:
            yield
        finally:
            tidying.cancel()
            await asyncio.to_thread(room.close)

    app = FastAPI(
        title="sonoseek",
        version=sonoseek.__version__,
        description=DESCRIPTION,
        lifespan=life,
        responses=PROBLEMS,
        docs_url=None,  # it would load its script from elsewhere
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    app.state.room = room
    errors.install(app)
    for routes in (routes_query, routes_pictures, routes_archive, routes_jobs, routes_system):
        app.include_router(routes.router)
    app.include_router(page_router())
    app.add_middleware(Intake, settings=settings, on_refusal=lambda reason: room.metrics.refused.labels(reason).inc())
    app.add_middleware(Guard, settings=settings, sessions=room.sessions)
    app.add_middleware(Observe, metrics=room.metrics)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]  # FastAPI's own way to extend it
    return app


async def _tidy(room: Room) -> None:
    """Nothing that was sent outlives its time by more than a minute, however idle the server is."""
    while True:
        await asyncio.sleep(TIDY_S)
        await asyncio.to_thread(room.tidy)


def _described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the report's published schema among its parts."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
        )
        parts = document.setdefault("components", {}).setdefault("schemas", {})
        report = report_schema()
        for name, part in report.pop("$defs", {}).items():
            parts[f"Report-{name}"] = _relocated(part)
        parts["Report"] = _relocated({key: value for key, value in report.items() if key not in ("$schema", "$id")})
        app.openapi_schema = document
    return app.openapi_schema


def _relocated(part: Any) -> Any:
    """References within the report's schema, as references within the document."""
    if isinstance(part, dict):
        return {
            key: value.replace("#/$defs/", "#/components/schemas/Report-")
            if key == "$ref" and isinstance(value, str)
            else _relocated(value)
            for key, value in part.items()
        }
    return [_relocated(each) for each in part] if isinstance(part, list) else part
