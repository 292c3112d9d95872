"""The server as a process: it listens, says where, and ends as it should."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import time
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send
from threadpoolctl import threadpool_limits
from uvicorn.protocols.http.h11_impl import H11Protocol

from sonoseek.apps.web.settings import WebSettings
from sonoseek.core import InvalidValueError

HEAD_S = 20.0
"""Seconds in which a request's head must be here: from the connection's beginning, or from the head's first byte."""
FILES = 16_384
"""Open files and connections that the process asks to be allowed."""


class ImpatientProtocol(H11Protocol):
    """Closes a connection on which a request's head never ends: a thousand of them would otherwise stay for ever.

    Of the first request and of every later one: uvicorn's own patience with a connection that rests ends at a byte.
    """

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """See `asyncio.Protocol.connection_made`."""
        super().connection_made(transport)
        self._late = self.loop.call_later(HEAD_S, self._close_late)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol.data_received`."""
        super().data_received(data)
        if not self._between():
            self._forget()
        elif self._late is None:  # once a head, whatever else trickles in
            self._late = self.loop.call_later(HEAD_S, self._close_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol.connection_lost`."""
        self._forget()
        super().connection_lost(exc)

    def _between(self) -> bool:
        """Whether no request is being answered."""
        return bool(getattr(self.cycle, "response_complete", True))  # before the first request there is no cycle

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _close_late(self) -> None:
        self._late = None
        if self._between() and not self.transport.is_closing():
            self.transport.close()


class Busy:
    """Remembers when something was last asked, so that a server may end when nobody does any more."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self.last = time.monotonic()
        self.open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on."""
        self.last, self.open = time.monotonic(), self.open + 1

        async def passed(message: Message) -> None:
            await send(message)

        try:
            await self._app(scope, receive, passed)
        finally:
            self.last, self.open = time.monotonic(), self.open - 1


def serve(
    app: FastAPI,
    settings: WebSettings,
    *,
    on_ready: Callable[[str], None] = lambda _: None,
    idle_s: float | None = None,
) -> None:
    """Listen until the process is told to end.

    Args:
        app: of `create_app`.
        settings: the same.
        on_ready: called with the page's address once it answers.
        idle_s: end when nobody has asked anything for so many seconds; None: never.

    Raises:
        InvalidValueError: the address cannot be listened on.
    """
    _allow_files()
    listening = listen(settings)
    port = listening.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    busy = Busy(app)
    config = uvicorn.Config(
        busy,
        log_config=None,  # ours
        access_log=False,  # it would write paths, and so file names
        http=ImpatientProtocol,
        proxy_headers=True,
        forwarded_allow_ips="127.0.0.1,::1",
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=10,
        h11_max_incomplete_event_size=32 << 10,
        lifespan="on",
    )
    server = uvicorn.Server(config)

    async def run() -> None:
        task = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started and not task.done():
            await asyncio.sleep(0.02)
        if server.started:
            on_ready(f"http://{host}:{port}{settings.root_path}/")
        while not task.done() and not server.should_exit:
            await asyncio.sleep(0.2)
            if idle_s is not None and busy.open <= 1 and time.monotonic() - busy.last > idle_s:
                server.should_exit = True  # one is open all the time: the application's life
        app.state.room.closing.set()  # who watches a job would otherwise be waited for
        await task

    with contextlib.closing(listening), contextlib.suppress(KeyboardInterrupt), threadpool_limits(1, "blas"):
        asyncio.run(run())


def listen(settings: WebSettings) -> socket.socket:
    """A socket on the address asked for.

    Raises:
        InvalidValueError: it is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # TCP by name: asyncio sends at once on such sockets alone, and answers would wait 40 ms for an acknowledgement
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((settings.host, settings.port))
        found.listen(2048)
    except OSError as error:
        found.close()
        raise InvalidValueError(
            f"{settings.host}:{settings.port} cannot be listened on ({error.strerror}); name another with --port, or "
            "--port 0 for any that is free."
        ) from error
    return found


def _allow_files() -> None:
    """A connection is an open file: a thousand readers at once must not exhaust a shell's default of 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
