"""Access control and security headers: one ASGI middleware around everything else.

Against pages of other sites, from which a browser would send requests to this machine: the name in Host must be one of
ours (DNS rebinding). Every request, reads too, must come from our own page by Sec-Fetch-Site; for browsers without it,
Origin is checked where something is changed. Links to the page itself may stand anywhere.

Against other users: a token, as `Authorization: Bearer` or as the cookie that `POST /api/session` sets, and the
reader's name in the header of a proxy that has authenticated them.
"""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sonoseek.apps.web.errors import problem
from sonoseek.apps.web.readers import proxy_user, reader_of
from sonoseek.apps.web.sessions import Sessions
from sonoseek.apps.web.settings import LOOPBACK_NAMES, WebSettings, is_loopback

MONITORING = ("/healthz", "/readyz")
"""Paths that are open to everybody."""
PUBLIC = (*MONITORING, "/api/session")
"""Paths that need no token; the page's own files hold no data and need none either."""
OWN_SITE = ("same-origin", "none")
"""Values of Sec-Fetch-Site for our own page and for what the reader does, such as an address that is typed."""
SAFE = ("GET", "HEAD", "OPTIONS")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class SecurityMiddleware:
    """See the module."""

    def __init__(self, app: ASGIApp, *, settings: WebSettings, sessions: Sessions) -> None:
        """Wrap `app`.

        Args:
            app: the application.
            settings: token, allowed hosts and prefix.
            sessions: that are open; shared with the routes that begin and end them.
        """
        self._app = app
        self._settings = settings
        self._sessions = sessions
        self._names = {*LOOPBACK_NAMES, *(host.lower() for host in settings.allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with `reader` in its scope, or answer it with 400, 401 or 403."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        prefix = self._settings.root_path
        if prefix:  # a proxy may strip it or not: the routes see it once either way
            path = scope["path"]
            whole = path if path == prefix or path.startswith(prefix + "/") else prefix + path
            scope["root_path"], scope["path"] = prefix, whole

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Content-Security-Policy", POLICY)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, with_headers)
            return
        status, detail = refusal
        extra = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        response = problem(status, detail, request_id=scope.get("request_id", ""), headers=extra)
        await response(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        name = (_parts(f"//{host}").hostname or "").lower()
        if is_loopback(self._settings.host) and not (name in self._names or is_loopback(name)):
            return 400, (
                f"the request is for {name[:80]!r}, and this server answers for {', '.join(sorted(self._names))}; "
                "name the proxy's host with --allow-host."
            )
        path = scope["path"].removeprefix(self._settings.root_path)
        if headers.get("sec-fetch-site", "none") not in OWN_SITE and not _follows_link(scope["method"], path, headers):
            return 403, (
                "the request comes from a page of another site or port; only this server's own page may send it. Open "
                "the page's address itself."
            )
        origin = headers.get("origin")
        if scope["method"] not in SAFE and origin is not None and _parts(origin).netloc.lower() != host.lower():
            return 403, f"the request comes from a page of {origin[:80]!r}; only this server's own page may send it."
        request, settings = HTTPConnection(scope), self._settings
        if settings.user_header and path not in MONITORING and proxy_user(request, settings) is None:
            return 401, (
                f"the request has not one {settings.user_header} with the reader's name; this server is reached "
                "through the proxy that signs readers in. Open the proxy's address."
            )
        scope["reader"] = reader_of(request, settings, self._sessions)
        if scope["reader"] is not None or _is_public(path):
            return None
        return 401, "this server asks for its token; send it as 'Authorization: Bearer TOKEN', or sign in on the page."


def _follows_link(method: str, path: str, headers: Headers) -> bool:
    """Whether a reader follows a link to the page itself, which may stand on any site; a frame or a picture is none."""
    return (
        method in ("GET", "HEAD")
        and path in ("", "/", "/index.html")
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )


def _is_public(path: str) -> bool:
    return path in PUBLIC or not (path.startswith("/api") or path in ("/metrics", "/openapi.json", "/docs"))


def _parts(address: str) -> SplitResult:
    """The parts of a URL; all empty where it is none, such as "http://["."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")
