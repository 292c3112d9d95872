"""HEAD requests, answered as GET without the body on every route: an ASGI middleware."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadMiddleware:
    """See the module; the routes see GET."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; of HEAD drop the body of its response."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        scope["method"] = "GET"
        complete = False

        async def send_headers(message: Message) -> None:
            nonlocal complete
            if message["type"] == "http.response.start":
                await send(message)
            elif message["type"] == "http.response.body" and not complete:
                complete = True  # also of a stream that goes on: it ends as the client disconnects
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self._app(scope, receive, send_headers)
