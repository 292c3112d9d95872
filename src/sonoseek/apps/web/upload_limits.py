"""Limits on request bodies: length, time, rate, and how many are received at once; an ASGI middleware.

The length that a client claims is not trusted. A body that is too long or too slow is refused in the middle, and what
was stored of it is deleted. One client sends half of all files at most: however slowly it sends them, others have room.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sonoseek.apps.web.errors import RefusedError, problem
from sonoseek.apps.web.readers import EVERYBODY
from sonoseek.apps.web.settings import WebSettings

MAX_BODY = 256 << 10
"""Bytes of a body without files."""
IDLE_S = 30.0
"""Seconds without a byte that end a request."""
GRACE_S, MIN_RATE = 30.0, 16 << 10
"""Seconds after which a body must have arrived with so many bytes per second, on average."""
QUEUE_S = 30.0
"""Seconds that a request with files waits for its turn."""
DRAIN, DRAIN_S = 4 << 20, 5.0
"""Bytes, and seconds, of a refused body that are still received and discarded."""
DRAIN_IDLE_S = 0.5
"""Seconds without a byte that end this."""
MAX_QUEUE = 16
"""Times `uploads_at_once` that may wait, of one client half of them; more are refused at once."""


BUSY = "more requests are waiting to send files than this server takes; try again in a few seconds."
SHARE = (
    "as many requests of yours as this server takes from one reader are sending files already, half of all; try again "
    "when one of them has ended."
)


@dataclass
class _Share:
    """One client's part of the turns, and how many of its requests have or await one."""

    turns: asyncio.Semaphore
    requests: int = 0


class UploadTurns:
    """Turns to send files: so many at once, at most half of them one client's. A client waits in a queue of its own."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._share = max(1, at_once // 2)
        self._turns = asyncio.Semaphore(at_once)
        self._clients: dict[str, _Share] = {}

    def refusal(self, client: str) -> int | None:
        """Status with which a request is refused at once: the client's queue is full, 429, or all are, 503."""
        if self._requests(client) >= self._share * (1 + MAX_QUEUE):
            return 429
        if sum(share.requests for share in self._clients.values()) >= self._at_once * (1 + MAX_QUEUE):
            return 503
        return None

    def has_its_share(self, client: str) -> bool:
        """Whether a client's requests have or await as many turns as one client gets."""
        return self._requests(client) >= self._share

    async def acquire(self, client: str) -> Callable[[], None]:
        """Wait for a turn; the result gives it back, once."""
        share = self._clients.setdefault(client, _Share(asyncio.Semaphore(self._share)))
        share.requests += 1
        with ExitStack() as stack:
            stack.callback(self._leave, client)
            await share.turns.acquire()
            stack.callback(share.turns.release)
            await self._turns.acquire()
            stack.callback(self._turns.release)
            return stack.pop_all().close
        raise AssertionError  # for the type checker: the stack suppresses nothing

    def _requests(self, client: str) -> int:
        return share.requests if (share := self._clients.get(client)) else 0

    def _leave(self, client: str) -> None:
        share = self._clients[client]
        share.requests -= 1
        if not share.requests:
            del self._clients[client]


class UploadLimitsMiddleware:
    """See the module."""

    def __init__(self, app: ASGIApp, *, settings: WebSettings, on_refusal: Callable[[str], None]) -> None:
        """Wrap `app`; `on_refusal` is called with "length", "slow", "busy", "share" or "left"."""
        self._app = app
        self._settings = settings
        self._on_refusal = on_refusal
        self._turns = UploadTurns(settings.uploads_at_once)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; its body is received within the limits."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS", "DELETE"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        multipart = headers.get("content-type", "").lower().startswith("multipart/")
        files = scope.get("reader") is not None and (multipart or scope["method"] == "PUT")
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
        client = _client(scope)
        refusal = self._turns.refusal(client)
        release = None
        if refusal is None:
            try:
                release = await asyncio.wait_for(self._turns.acquire(client), QUEUE_S)
            except TimeoutError:
                refusal = 429 if self._turns.has_its_share(client) else 503
        if release is None:
            self._on_refusal("share" if refusal == 429 else "busy")
            await _drain(receive, most=limit)
            await _answer(scope, receive, send, refusal or 503, SHARE if refusal == 429 else BUSY)
            return
        try:
            await self._app(scope, self._limited(receive, limit, release), send)
        finally:
            release()

    def _limited(self, receive: Receive, limit: int, on_complete: Callable[[], None]) -> Receive:
        received, ended = 0, False
        started = time.monotonic()
        deadline = started + self._settings.upload_timeout_s

        async def limited() -> Message:
            nonlocal received, ended
            if ended:  # the body is complete; the next message is the disconnect
                return await receive()
            due = min(deadline, started + max(GRACE_S, received / MIN_RATE))
            left = min(IDLE_S, due - time.monotonic())
            try:
                message = await asyncio.wait_for(receive(), max(left, 0.001))
            except TimeoutError:
                self._on_refusal("slow")
                raise RefusedError(
                    408,
                    f"the request was not sent within {self._settings.upload_timeout_s:g} s, paused for {IDLE_S:g} s, "
                    f"or came with less than {MIN_RATE >> 10} KiB per second; nothing of it was kept. Send it again "
                    "over a faster connection.",
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


def _client(scope: Scope) -> str:
    """Who sends a request: the reader; of a server that asks nobody, the address."""
    reader = scope.get("reader")
    return str(reader) if reader != EVERYBODY else f"address {(scope.get('client') or ('',))[0]}"
