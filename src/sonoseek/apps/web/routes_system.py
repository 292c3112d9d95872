"""Health, readiness and metrics for monitoring; and signing in."""

from __future__ import annotations

import re
import secrets
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field

from sonoseek.apps.web.errors import RefusedError
from sonoseek.apps.web.readers import BROWSER, SESSION, cookie, cookie_name
from sonoseek.apps.web.routes_query import StateDep
from sonoseek.apps.web.schemas import Readiness, Status
from sonoseek.apps.web.state import AppState
from sonoseek.core import GalleryError

router = APIRouter(tags=["system"])
BROWSER_S = 400 * 86_400
"""Seconds that a browser keeps the cookie of its own, as long as browsers keep any."""
BROWSER_VALUE = re.compile(r"[A-Za-z0-9_-]{43}")


class SignIn(BaseModel):
    """The token."""

    model_config = ConfigDict(extra="forbid")
    token: str = Field(max_length=1000)


@router.get("/healthz")
async def healthz() -> Status:
    """The process is alive."""
    return Status(status="alive")


@router.get("/readyz", responses={503: {"description": "The archive cannot be read now, or batch jobs cannot run."}})
async def readyz(app_state: StateDep) -> Readiness:
    """The archive can be searched and the network is loaded.

    `batch` is "working", or "in trouble" while jobs wait because their list cannot be written: see the log.
    """
    try:
        gallery_state = await app_state.pool.run(app_state.gallery.state)
    except GalleryError as error:  # elsewhere a 500, here the expected answer
        raise RefusedError(503, str(error)) from error
    if not app_state.runner.alive:
        raise RefusedError(
            503, "the thread that runs batch jobs has ended; the log has the reason. Restart the server."
        )
    return Readiness(
        status="ready",
        bundle_id=app_state.engine.bundle.bundle_id,
        gallery_state=gallery_state,
        batch="in trouble" if app_state.runner.failing else "working",
    )


@router.get("/metrics", responses={200: {"content": {"text/plain": {}}}}, response_class=Response)
async def metrics(app_state: StateDep) -> Response:
    """Metrics for Prometheus."""
    return Response(generate_latest(app_state.metrics.registry), media_type=CONTENT_TYPE_LATEST)


@router.post("/api/session", status_code=204)
async def create_session(request: Request, sign_in: SignIn, app_state: StateDep) -> Response:
    """Exchange the token for a session cookie: valid for 12 hours after its last use, 7 days, or until the server ends.

    A second cookie says which browser it is, so that it finds its batch jobs again; it lets nobody in.
    """
    token = app_state.settings.token
    if token is None or not secrets.compare_digest(sign_in.token.encode(), token.encode()):
        raise RefusedError(401, "this is not the server's token; ask whoever runs it.")
    app_state.sessions.end(cookie(request, SESSION))
    browser = cookie(request, BROWSER)
    if not BROWSER_VALUE.fullmatch(browser):
        browser = secrets.token_urlsafe(32)
    response = Response(status_code=204)
    attributes = _attributes(request, app_state)
    session = app_state.sessions.start(f"browser {browser}")
    response.set_cookie(cookie_name(request, SESSION), session, **attributes)
    response.set_cookie(cookie_name(request, BROWSER), browser, max_age=BROWSER_S, **attributes)
    return response


@router.delete("/api/session", status_code=204)
async def end_session(request: Request, app_state: StateDep) -> Response:
    """Sign out. The browser forgets that it is this reader, since the next one at it may be another."""
    app_state.sessions.end(cookie(request, SESSION))
    response = Response(status_code=204)
    for name in (SESSION, BROWSER):
        response.delete_cookie(cookie_name(request, name), **_attributes(request, app_state))
    return response


def _attributes(request: Request, app_state: AppState) -> dict[str, Any]:
    """Of the cookies. Over plain HTTP browsers drop `Secure` ones; behind a proxy X-Forwarded-Proto counts."""
    return {
        "httponly": True,
        "samesite": "strict",
        "secure": request.url.scheme == "https",
        "path": app_state.settings.root_path or "/",
    }
