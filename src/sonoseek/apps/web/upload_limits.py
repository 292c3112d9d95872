"""What may be sent, how much of it, and how slowly: an ASGI layer that holds every body to its limits as it arrives.

Nothing is trusted: not the length that a client claims, nor that it will ever send it. A body that is too long or too
slow is refused in the middle, and what was kept of it is let go; only so many are received at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sonoseek.apps.web.errors import RefusedError, problem
from sonoseek.apps.web.settings import WebSettings

SMALL = 256 << 10
"""Bytes of a body without files."""
QUIET_S = 30.0
"""Seconds without a byte that end a request."""
PATIENCE_S = 30.0
"""Seconds that a request waits for its turn to send files."""
LISTENED, LISTENED_S = 4 << 20, 5.0
"""Bytes, and seconds, of a body that is refused which are still let go by."""
SILENT_S = 0.5
"""Seconds without a byte that end this."""
LINE = 16
"""Times `uploads_at_once` that may wait in line; more are turned away at once."""


class Intake:
    """See the module."""

    def __init__(self, app: ASGIApp, *, settings: WebSettings, on_refusal: Callable[[str], None]) -> None:
        """Wrap `app`; `on_refusal` is told "length", "slow", "busy" or "left"."""
        self._app = app
        self._settings = settings
        self._told = on_refusal
        self._turns = asyncio.Semaphore(settings.uploads_at_once)
        self._line = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request's body through within its limits."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS", "DELETE"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        files = headers.get("content-type", "").lower().startswith("multipart/") or scope["method"] == "PUT"
        limit = self._settings.max_upload_mb << 20 if files else SMALL
        claimed = headers.get("content-length", "")
        if claimed.isdigit() and int(claimed) > limit:
            self._told("length")
            await _drain(receive, most=LISTENED)
            await _answer(scope, receive, send, 413, _too_long(limit))
            return
        if not files:
            await self._app(scope, self._limited(receive, limit, lambda: None), send)
            return
        if self._line >= LINE * self._settings.uploads_at_once:
            self._told("busy")
            await _drain(receive, most=limit)
            await _answer(scope, receive, send, 503, _busy(self._line))
            return
        self._line += 1
        try:
            await asyncio.wait_for(self._turns.acquire(), PATIENCE_S)
        except TimeoutError:
            self._told("busy")
            await _drain(receive, most=limit)
            await _answer(scope, receive, send, 503, _busy(self._line))
            return
        finally:
            self._line -= 1
        held = True

        def let_go() -> None:
            nonlocal held
            if held:
                held = False
                self._turns.release()

        try:
            await self._app(scope, self._limited(receive, limit, let_go), send)
        finally:
            let_go()

    def _limited(self, receive: Receive, limit: int, whole: Callable[[], None]) -> Receive:
        seen, ended = 0, False
        deadline = time.monotonic() + self._settings.upload_timeout_s

        async def limited() -> Message:
            nonlocal seen, ended
            if ended:  # the body is here; what comes now is that the client has gone, whenever that is
                return await receive()
            left = min(QUIET_S, deadline - time.monotonic())
            try:
                message = await asyncio.wait_for(receive(), max(left, 0.001))
            except TimeoutError:
                self._told("slow")
                raise RefusedError(
                    408,
                    f"the request was not sent within {self._settings.upload_timeout_s:g} s, or rested for "
                    f"{QUIET_S:g} s; nothing of it was kept. Send it again over a better line.",
                ) from None
            if message["type"] == "http.disconnect":
                self._told("left")
                ended = True
                whole()
                return message
            seen += len(message.get("body", b""))
            if seen > limit:
                self._told("length")
                raise RefusedError(413, _too_long(limit))
            if not message.get("more_body", False):
                ended = True
                whole()
            return message

        return limited


async def _drain(receive: Receive, *, most: int) -> None:
    """Let a body that nobody will read go by, for a while: who is still sending does not listen.

    An answer that is followed by the end of a connection with unread bytes is thrown away on the way.
    """
    deadline, seen = time.monotonic() + LISTENED_S, 0
    while seen < most and (left := deadline - time.monotonic()) > 0:
        try:
            message = await asyncio.wait_for(receive(), min(left, SILENT_S))
        except TimeoutError:
            return
        seen += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


async def _answer(scope: Scope, receive: Receive, send: Send, status: int, detail: str) -> None:
    answer = problem(status, detail, request_id=scope.get("request_id", ""), headers={"Connection": "close"})
    await answer(scope, receive, send)


def _too_long(limit: int) -> str:
    shown = f"{limit >> 20} MiB" if limit >= 1 << 20 else f"{limit >> 10} KiB"
    return f"the request is longer than {shown}, this server's limit; send less, or raise --max-upload-mb."


def _busy(line: int) -> str:
    return f"{line} requests are waiting to send files, more than this server takes; try again in a few seconds."
