"""The server process: listening, timeouts of connections, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import time
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send
from threadpoolctl import threadpool_limits
from uvicorn.protocols.http.h11_impl import H11Protocol

from sonoseek.apps.web.settings import WebSettings
from sonoseek.core import InvalidValueError
from sonoseek.io.sandbox import close_readers, start_readers

HEADER_S = 20.0
"""Seconds for a request's headers: from the start of the connection, or from the first byte of the headers."""
MAX_OPEN_FILES = 16_384
"""Open files and connections that the process asks for."""


class HeaderTimeoutProtocol(H11Protocol):
    """Closes a connection whose request headers do not end in time; otherwise thousands of them could stay open.

    It holds for the first request and for every later one: uvicorn's own keep-alive timeout ends at the first byte.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """See `asyncio.Protocol.connection_made`."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEADER_S, self._close_on_timeout)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol.data_received`."""
        super().data_received(data)
        if not self._is_idle():
            self._cancel()
        elif self._timer is None:  # once per request, however slowly its bytes arrive
            self._timer = self.loop.call_later(HEADER_S, self._close_on_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol.connection_lost`."""
        self._cancel()
        super().connection_lost(exc)

    def _is_idle(self) -> bool:
        """Whether no request is being answered."""
        return bool(getattr(self.cycle, "response_complete", True))  # before the first request there is no cycle

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close_on_timeout(self) -> None:
        self._timer = None
        if self._is_idle() and not self.transport.is_closing():
            self.transport.close()


class IdleTracker:
    """The time of the last request, so that a server may end when nobody uses it any more."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self.last = time.monotonic()
        self.open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on."""
        self.last, self.open = time.monotonic(), self.open + 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.last, self.open = time.monotonic(), self.open - 1


def serve(
    app: FastAPI,
    settings: WebSettings,
    *,
    on_ready: Callable[[str], None] = lambda _: None,
    idle_s: float | None = None,
) -> None:
    """Listen until the process receives a signal to end.

    Args:
        app: of `create_app`.
        settings: the same.
        on_ready: called with the page's URL once the server answers.
        idle_s: end after so many seconds without a request; None: never.

    Raises:
        InvalidValueError: the address cannot be listened on.
    """
    _raise_file_limit()
    try:
        _serve(app, settings, on_ready=on_ready, idle_s=idle_s)
    finally:  # a second Ctrl+C, or an address that is taken, leaves no uploads behind either
        app.state.app_state.close()


def _serve(app: FastAPI, settings: WebSettings, *, on_ready: Callable[[str], None], idle_s: float | None) -> None:
    listener = listen(settings)
    start_readers()  # the first reader's scan does not wait for them
    port = listener.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    tracker = IdleTracker(app)
    config = uvicorn.Config(
        tracker,
        log_config=None,  # ours
        access_log=False,  # it would write paths, and so file names
        http=HeaderTimeoutProtocol,
        proxy_headers=settings.behind_proxy,  # without a proxy anybody could write them
        forwarded_allow_ips="127.0.0.1,::1",
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=10,
        h11_max_incomplete_event_size=32 << 10,
        lifespan="on",
    )
    server = uvicorn.Server(config)

    async def run() -> None:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not task.done():
            await asyncio.sleep(0.02)
        if server.started:
            on_ready(f"http://{host}:{port}{settings.root_path}/")
        while not task.done() and not server.should_exit:
            await asyncio.sleep(0.2)
            if idle_s is not None and tracker.open <= 1 and time.monotonic() - tracker.last > idle_s:
                server.should_exit = True  # one is open all the time: the lifespan
        app.state.app_state.closing.set()  # open event streams would otherwise be waited for
        close_readers()  # and a file that is made to be read for long
        await task

    with contextlib.closing(listener), contextlib.suppress(KeyboardInterrupt), threadpool_limits(1, "blas"):
        asyncio.run(run())


def listen(settings: WebSettings) -> socket.socket:
    """A listening socket on the configured address.

    Raises:
        InvalidValueError: it is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # TCP by name: asyncio sends at once on such sockets alone, and answers would wait 40 ms for an acknowledgement
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise InvalidValueError(
            f"{settings.host}:{settings.port} cannot be listened on ({error.strerror}); name another with --port, or "
            "--port 0 for any that is free."
        ) from error
    return listener


def _raise_file_limit() -> None:
    """A connection is an open file: a thousand clients must not exhaust a shell's default of 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(MAX_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
