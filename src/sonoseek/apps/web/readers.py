"""Who sends a request: the reader whom the proxy names, the holder of the token, or a session."""

from __future__ import annotations

import hashlib
import re
import secrets

from starlette.requests import HTTPConnection

from sonoseek.apps.web.sessions import Sessions
from sonoseek.apps.web.settings import WebSettings

SESSION, BROWSER = "sonoseek", "sonoseek-reader"
"""Names of the cookies: of a session, and of a browser, which outlives it and lets nobody in."""
EVERYBODY = "everybody"
"""The reader of a server that asks nobody."""


def cookie_name(request: HTTPConnection, name: str) -> str:
    """A cookie's name for the port that the reader uses: browsers send cookies to every port of a machine."""
    port = re.search(r":(\d{1,5})$", request.headers.get("host", ""))
    return f"{name}-{port[1]}" if port else name


def cookie(request: HTTPConnection, name: str) -> str:
    """A cookie's value, "" where there is none."""
    return request.cookies.get(cookie_name(request, name), "")


def proxy_user(request: HTTPConnection, settings: WebSettings) -> str | None:
    """The reader's name in the proxy's header; None: it is missing or empty, or there are several."""
    names = [] if settings.user_header is None else request.headers.getlist(settings.user_header)
    return names[0].strip() or None if len(names) == 1 else None


def reader_of(request: HTTPConnection, settings: WebSettings, sessions: Sessions) -> str | None:
    """Name of who sends a request, the same for all requests of one reader; None: the request may not pass."""
    if settings.token is None:
        signed_in: str | None = EVERYBODY
    elif _has_token(request, settings.token):
        signed_in = "token"
    else:
        signed_in = sessions.use(cookie(request, SESSION))
    if settings.user_header is None or signed_in is None:
        return signed_in
    user = proxy_user(request, settings)
    return None if user is None else f"user {user}"


def is_still_signed_in(request: HTTPConnection, settings: WebSettings, sessions: Sessions) -> bool:
    """Whether a request that has passed may be answered further; a stream ends with the session that it began in."""
    if settings.token is None or _has_token(request, settings.token):
        return True
    return sessions.is_open(cookie(request, SESSION))


def _has_token(request: HTTPConnection, token: str) -> bool:
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    return kind.lower() == "bearer" and secrets.compare_digest(given.encode(), token.encode())


def owner_of(reader: str) -> str:
    """Under which name a reader's batch jobs are kept: 32 hex digits of a hash; "" of everybody."""
    return "" if reader == EVERYBODY else hashlib.sha256(reader.encode()).hexdigest()[:32]
