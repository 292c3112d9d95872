"""Who sends a request: the reader whom the proxy names, the holder of the token, or a session."""

from __future__ import annotations

import secrets

from starlette.requests import HTTPConnection

from sonoseek.apps.web.settings import WebSettings

COOKIE = "sonoseek"
EVERYBODY = "everybody"
"""The reader of a server that asks nobody."""


def proxy_user(request: HTTPConnection, settings: WebSettings) -> str | None:
    """The reader's name in the proxy's header; None: it is missing or empty, or there are several."""
    names = [] if settings.user_header is None else request.headers.getlist(settings.user_header)
    return names[0].strip() or None if len(names) == 1 else None


def reader_of(request: HTTPConnection, settings: WebSettings, sessions: set[str]) -> str | None:
    """Name of who sends a request, the same for all requests of one reader; None: the request may not pass."""
    if settings.token is None:
        signed_in: str | None = EVERYBODY
    else:
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and secrets.compare_digest(given.encode(), settings.token.encode()):
            signed_in = "token"
        else:
            session = request.cookies.get(COOKIE, "")
            signed_in = f"session {session}" if session in sessions else None
    if settings.user_header is None or signed_in is None:
        return signed_in
    user = proxy_user(request, settings)
    return None if user is None else f"user {user}"
