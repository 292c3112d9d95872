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
from sonoseek.apps.web.logging_metrics import RequestLog
from sonoseek.apps.web.page import page_router
from sonoseek.apps.web.security import SecurityMiddleware
from sonoseek.apps.web.settings import WebSettings
from sonoseek.apps.web.state import AppState
from sonoseek.apps.web.upload_limits import UploadLimitsMiddleware
from sonoseek.core import DISCLAIMER
from sonoseek.engine import SearchEngine
from sonoseek.reports import report_schema

EXPIRE_S = 60.0
"""Seconds between two evictions of what is past its time."""
DESCRIPTION = f"A search engine for breast ultrasound. {DISCLAIMER.capitalize()}."
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": description, "content": {"application/problem+json": {"schema": errors.PROBLEM}}}
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


def create_app(engine: SearchEngine, settings: WebSettings | None = None) -> FastAPI:
    """The reading room's server as an ASGI application.

    Args:
        engine: with a gallery, opened with one thread: the worker pool shares it. Closed when the application ends.
        settings: of the server; None: the defaults.

    Raises:
        InvalidValueError: the engine has no gallery.
        SonoseekError: another server uses the state folder.
    """
    settings = settings or WebSettings()
    app_state = AppState(engine, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(app_state.warm_up)
        expiring = asyncio.create_task(_expire(app_state))
        try:
            yield
        finally:
            expiring.cancel()
            await asyncio.to_thread(app_state.close)

    app = FastAPI(
        title="sonoseek",
        version=sonoseek.__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        responses=PROBLEM_RESPONSES,
        docs_url=None,  # it would load its script from elsewhere
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    app.state.app_state = app_state
    errors.install(app)
    for routes in (routes_query, routes_pictures, routes_archive, routes_jobs, routes_system):
        app.include_router(routes.router)
    app.include_router(page_router())
    app.add_middleware(
        UploadLimitsMiddleware,
        settings=settings,
        on_refusal=lambda reason: app_state.metrics.refused.labels(reason).inc(),
    )
    app.add_middleware(SecurityMiddleware, settings=settings, sessions=app_state.sessions)
    app.add_middleware(RequestLog, metrics=app_state.metrics)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's own way to extend it
    return app


async def _expire(app_state: AppState) -> None:
    """Evict once a minute, however idle the server is."""
    while True:
        await asyncio.sleep(EXPIRE_S)
        await asyncio.to_thread(app_state.expire)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the report's published schema among its components."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
        )
        parts = document.setdefault("components", {}).setdefault("schemas", {})
        report = report_schema()
        for name, part in report.pop("$defs", {}).items():
            parts[f"Report-{name}"] = _with_refs_moved(part)
        parts["Report"] = _with_refs_moved(
            {key: value for key, value in report.items() if key not in ("$schema", "$id")}
        )
        app.openapi_schema = document
    return app.openapi_schema


def _with_refs_moved(part: Any) -> Any:
    """References within the report's schema, as references within the OpenAPI document."""
    if isinstance(part, dict):
        return {
            key: value.replace("#/$defs/", "#/components/schemas/Report-")
            if key == "$ref" and isinstance(value, str)
            else _with_refs_moved(value)
            for key, value in part.items()
        }
    return [_with_refs_moved(each) for each in part] if isinstance(part, list) else part
