"""A pool of threads for the network and for drawing, so that the event loop never waits for either."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from sonoseek.apps.web.logging_metrics import Metrics
from sonoseek.core import TemporaryError

P = ParamSpec("P")
T = TypeVar("T")
LINE = 128
"""Calls per worker that may wait; more are turned away, so that nobody waits for minutes in silence."""
IN_A_ROW = 3
"""Questions that go before a picture that waits."""
Call = tuple[Future[Any], Callable[[], Any]]


class Workers:
    """As many threads as there are cores, and a line of bounded length before them.

    Questions go before pictures: each answer is followed by a dozen of them, and behind those of all other readers a
    question would wait for many times what it takes. Nothing starves: after a few questions in a row the rest has a
    turn.
    """

    def __init__(self, size: int, *, metrics: Metrics) -> None:
        self._pool = ThreadPoolExecutor(max_workers=size, thread_name_prefix="sonoseek-web")
        self._most = size * LINE
        self._waiting = 0
        self._metrics = metrics
        self._first: deque[Call] = deque()
        self._others: deque[Call] = deque()
        self._row = 0
        self._choosing = threading.Lock()

    async def run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call in a worker and wait for it, the loop being free meanwhile.

        Raises:
            TemporaryError: too many calls are waiting; and whatever the call raises.
        """
        return await self._run(self._others, partial(call, *args, **kwargs))

    async def run_first(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The same, before all calls of `run` that still wait.

        Raises:
            TemporaryError: as `run`.
        """
        return await self._run(self._first, partial(call, *args, **kwargs))

    async def _run(self, line: deque[Call], call: Callable[[], T]) -> T:
        if self._waiting >= self._most:
            raise TemporaryError(
                f"{self._waiting} calls are waiting for {self._most // LINE} workers; try again in a few seconds."
            )
        self._waiting += 1
        self._metrics.waiting.set(self._waiting)
        future: Future[T] = Future()
        try:
            line.append((future, call))
            self._pool.submit(self._work)  # whichever call is first by then, not this one
            return await asyncio.wrap_future(future)
        finally:
            self._waiting -= 1
            self._metrics.waiting.set(self._waiting)

    def _work(self) -> None:
        with self._choosing:  # there are as many calls as turns: one of the two lines is not empty
            first = bool(self._first) and (self._row < IN_A_ROW or not self._others)
            self._row = self._row + 1 if first else 0
            future, call = (self._first if first else self._others).popleft()
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = call()
        except BaseException as error:  # whoever waits has it
            future.set_exception(error)
        else:
            future.set_result(result)

    def close(self) -> None:
        """Finish what runs, and take no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for line in (self._first, self._others):
            for future, _ in line:
                future.cancel()
