"""Limits on request bodies: length, time, and how many are received at once; an ASGI middleware.

The length that a client claims is not trusted. A body that is too long or too slow is refused in the middle, and what
was stored of it is deleted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sonoseek.apps.web.errors import RefusedError, problem
from sonoseek.apps.web.settings import WebSettings

MAX_BODY = 256 << 10
"""Bytes of a body without files."""
IDLE_S = 30.0
"""Seconds without a byte that end a request."""
QUEUE_S = 30.0
"""Seconds that a request with files waits for its turn."""
DRAIN, DRAIN_S = 4 << 20, 5.0
"""Bytes, and seconds, of a refused body that are still received and discarded."""
DRAIN_IDLE_S = 0.5
"""Seconds without a byte that end this."""
MAX_QUEUE = 16
"""Times `uploads_at_once` that may wait; more are refused at once."""


class UploadLimitsMiddleware:
    """See the module."""

    def __init__(self, app: ASGIApp, *, settings: WebSettings, on_refusal: Callable[[str], None]) -> None:
        """Wrap `app`; `on_refusal` is called with "length", "slow", "busy" or "left"."""
        self._app = app
        self._settings = settings
        self._on_refusal = on_refusal
        self._turns = asyncio.Semaphore(settings.uploads_at_once)
        self._queued = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; its body is received within the limits."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS", "DELETE"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        files = headers.get("content-type", "").lower().startswith("multipart/") or scope["method"] == "PUT"
        limit = self._settings.max_upload_mb << 20 if files else MAX_BODY
        claimed = headers.get("content-length", "")
        if claimed.isdigit() and int(claimed) > limit:
            self._on_refusal("length")
            await _drain(receive, most=DRAIN)
            await _answer(scope, receive, send, 413, _too_long(limit))
            return
        if not files:
            await self._app(scope, self._limited(receive, limit, lambda: None), send)
            return
        if self._queued >= MAX_QUEUE * self._settings.uploads_at_once:
            self._on_refusal("busy")
            await _drain(receive, most=limit)
            await _answer(scope, receive, send, 503, _busy(self._queued))
            return
        self._queued += 1
        try:
            await asyncio.wait_for(self._turns.acquire(), QUEUE_S)
        except TimeoutError:
            self._on_refusal("busy")
            await _drain(receive, most=limit)
            await _answer(scope, receive, send, 503, _busy(self._queued))
            return
        finally:
            self._queued -= 1
        acquired = True

        def release() -> None:
            nonlocal acquired
            if acquired:
                acquired = False
                self._turns.release()

        try:
            await self._app(scope, self._limited(receive, limit, release), send)
        finally:
            release()

    def _limited(self, receive: Receive, limit: int, on_complete: Callable[[], None]) -> Receive:
        received, ended = 0, False
        deadline = time.monotonic() + self._settings.upload_timeout_s

        async def limited() -> Message:
            nonlocal received, ended
            if ended:  # the body is complete; the next message is the disconnect
                return await receive()
            left = min(IDLE_S, deadline - time.monotonic())
            try:
                message = await asyncio.wait_for(receive(), max(left, 0.001))
            except TimeoutError:
                self._on_refusal("slow")
                raise RefusedError(
                    408,
                    f"the request was not sent within {self._settings.upload_timeout_s:g} s, or paused for "
                    f"{IDLE_S:g} s; nothing of it was kept. Send it again over a faster connection.",
                ) from None
            if message["type"] == "http.disconnect":
                self._on_refusal("left")
                ended = True
                on_complete()
                return message
            received += len(message.get("body", b""))
            if received > limit:
                self._on_refusal("length")
                raise RefusedError(413, _too_long(limit))
            if not message.get("more_body", False):
                ended = True
                on_complete()
            return message

        return limited


async def _drain(receive: Receive, *, most: int) -> None:
    """Receive and discard a refused body for a while: a client that is still sending does not read the answer.

    Where a connection is closed with unread bytes, the answer is lost.
    """
    deadline, received = time.monotonic() + DRAIN_S, 0
    while received < most and (left := deadline - time.monotonic()) > 0:
        try:
            message = await asyncio.wait_for(receive(), min(left, DRAIN_IDLE_S))
        except TimeoutError:
            return
        received += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


async def _answer(scope: Scope, receive: Receive, send: Send, status: int, detail: str) -> None:
    response = problem(status, detail, request_id=scope.get("request_id", ""), headers={"Connection": "close"})
    await response(scope, receive, send)


def _too_long(limit: int) -> str:
    shown = f"{limit >> 20} MiB" if limit >= 1 << 20 else f"{limit >> 10} KiB"
    return f"the request is longer than {shown}, this server's limit; send less, or raise --max-upload-mb."


def _busy(queued: int) -> str:
    return f"{queued} requests are waiting to send files, more than this server takes; try again in a few seconds."
