"""For those who run the server: health, readiness, metrics; and signing in."""

from __future__ import annotations

import secrets
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field

from sonoseek.apps.web.errors import RefusedError
from sonoseek.apps.web.routes_query import StateDep
from sonoseek.apps.web.security import COOKIE
from sonoseek.core import GalleryError

router = APIRouter(tags=["system"])
MOST_SESSIONS = 10_000


class SignIn(BaseModel):
    """What a reader gives."""

    model_config = ConfigDict(extra="forbid")
    token: str = Field(max_length=1000)


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process lives."""
    return {"status": "alive"}


@router.get("/readyz", responses={503: {"description": "The archive cannot be read now, or batch jobs cannot run."}})
async def readyz(app_state: StateDep) -> dict[str, Any]:
    """The archive can be searched and the network is loaded.

    `batch` is "working", or "in trouble" while jobs wait because their list cannot be written: see the log.
    """
    try:
        state = await app_state.pool.run(app_state.gallery.state)
    except GalleryError as error:  # as said above; elsewhere it is this server's error, here it is the answer
        raise RefusedError(503, str(error)) from error
    if not app_state.runner.alive:
        raise RefusedError(503, "the thread that works on batch jobs has ended; its reason is in the log. Start anew.")
    batch = "in trouble" if app_state.runner.failing else "working"
    return {"status": "ready", "bundle_id": app_state.engine.bundle.bundle_id, "gallery_state": state, "batch": batch}


@router.get("/metrics", responses={200: {"content": {"text/plain": {}}}}, response_class=Response)
async def metrics(app_state: StateDep) -> Response:
    """For Prometheus."""
    return Response(generate_latest(app_state.metrics.registry), media_type=CONTENT_TYPE_LATEST)


@router.post("/api/session", status_code=204)
async def sign_in(request: Request, given: SignIn, app_state: StateDep) -> Response:
    """Give the token once; a cookie stands for it from then on, until the server ends."""
    token = app_state.settings.token
    if token is None or not secrets.compare_digest(given.token.encode(), token.encode()):
        raise RefusedError(401, "this is not the server's token; ask whoever runs it.")
    if len(app_state.sessions) >= MOST_SESSIONS:
        app_state.sessions.clear()
    session = secrets.token_urlsafe(32)
    app_state.sessions.add(session)
    answer = Response(status_code=204)
    answer.set_cookie(
        COOKIE,
        session,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
        path=app_state.settings.root_path or "/",
    )
    return answer
