"""Health, readiness and metrics for monitoring; and signing in."""

from __future__ import annotations

import secrets

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field

from sonoseek.apps.web.errors import RefusedError
from sonoseek.apps.web.readers import COOKIE
from sonoseek.apps.web.routes_query import StateDep
from sonoseek.apps.web.schemas import Readiness, Status
from sonoseek.core import GalleryError

router = APIRouter(tags=["system"])
MAX_SESSIONS = 10_000


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
    """Exchange the token for a session cookie, valid until the server ends."""
    token = app_state.settings.token
    if token is None or not secrets.compare_digest(sign_in.token.encode(), token.encode()):
        raise RefusedError(401, "this is not the server's token; ask whoever runs it.")
    if len(app_state.sessions) >= MAX_SESSIONS:
        app_state.sessions.clear()
    session = secrets.token_urlsafe(32)
    app_state.sessions.add(session)
    response = Response(status_code=204)
    response.set_cookie(
        COOKIE,
        session,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
        path=app_state.settings.root_path or "/",
    )
    return response
