"""The ASGI application: routes, middlewares, lifespan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from sonoseek.apps.web import (
    errors,
    openapi_document,
    routes_archive,
    routes_frames,
    routes_jobs,
    routes_pictures,
    routes_query,
    routes_system,
    routes_worklist,
)
from sonoseek.apps.web.head_requests import HeadMiddleware
from sonoseek.apps.web.logging_metrics import RequestLog
from sonoseek.apps.web.page import page_route
from sonoseek.apps.web.security import SecurityMiddleware
from sonoseek.apps.web.settings import WebSettings
from sonoseek.apps.web.state import AppState
from sonoseek.apps.web.upload_limits import UploadLimitsMiddleware
from sonoseek.core.version import __version__
from sonoseek.engine import SearchEngine

EXPIRE_S = 60.0
"""Seconds between two evictions of what is past its time."""


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

    app = create_api(lifespan=lifespan)
    app.state.app_state = app_state
    errors.install(app)
    app.router.routes.append(page_route())
    refused = app_state.metrics.refused
    app.add_middleware(HeadMiddleware)
    app.add_middleware(
        UploadLimitsMiddleware, settings=settings, on_refusal=lambda reason: refused.labels(reason).inc()
    )
    app.add_middleware(SecurityMiddleware, settings=settings, sessions=app_state.sessions)
    app.add_middleware(RequestLog, metrics=app_state.metrics)
    return app


def create_api(**options: Any) -> FastAPI:
    """The REST API's routes and OpenAPI document, without anything that answers; `options` are FastAPI's."""
    api = FastAPI(
        title="sonoseek",
        version=__version__,
        description=openapi_document.DESCRIPTION,
        responses=openapi_document.PROBLEM_RESPONSES,
        docs_url=None,  # it would load its script from elsewhere
        redoc_url=None,
        separate_input_output_schemas=False,
        **options,
    )
    for routes in (
        *(routes_query, routes_frames, routes_pictures, routes_archive),
        *(routes_jobs, routes_worklist, routes_system),
    ):
        api.include_router(routes.router)
    api.openapi = lambda: openapi_document.document(api)  # type: ignore[method-assign]  # FastAPI's own way to extend it
    return api


async def _expire(app_state: AppState) -> None:
    """Evict once a minute, however idle the server is."""
    while True:
        await asyncio.sleep(EXPIRE_S)
        await asyncio.to_thread(app_state.expire)
