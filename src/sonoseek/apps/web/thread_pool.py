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
MAX_QUEUE = 128
"""Calls per worker that may wait; more are refused at once, so that nobody waits for minutes without an answer."""
MAX_PRIORITY_RUN = 3
"""Priority calls in a row while another call waits."""
Call = tuple[Future[Any], Callable[[], Any]]


class WorkerPool:
    """As many threads as there are cores, with two bounded queues.

    Queries have priority over pictures: each answer is followed by a dozen pictures, and behind those of all other
    readers a query would wait many times its own duration. To avoid starvation, after a few priority calls in a row
    another call has its turn.
    """

    def __init__(self, size: int, *, metrics: Metrics) -> None:
        self._pool = ThreadPoolExecutor(max_workers=size, thread_name_prefix="sonoseek-web")
        self._max_waiting = size * MAX_QUEUE
        self._waiting = 0
        self._metrics = metrics
        self._priority: deque[Call] = deque()
        self._others: deque[Call] = deque()
        self._priority_run = 0
        self._lock = threading.Lock()

    async def run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call in a worker and await the result.

        Raises:
            TemporaryError: too many calls are waiting; and whatever the call raises.
        """
        return await self._run(self._others, partial(call, *args, **kwargs))

    async def run_priority(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The same, before all waiting calls of `run`.

        Raises:
            TemporaryError: as `run`.
        """
        return await self._run(self._priority, partial(call, *args, **kwargs))

    async def _run(self, queue: deque[Call], call: Callable[[], T]) -> T:
        if self._waiting >= self._max_waiting:
            raise TemporaryError(
                f"{self._waiting} calls are waiting for {self._max_waiting // MAX_QUEUE} workers; try again in a few "
                "seconds."
            )
        self._waiting += 1
        self._metrics.waiting.set(self._waiting)
        future: Future[T] = Future()
        try:
            queue.append((future, call))
            self._pool.submit(self._work)  # runs whichever call is next by then, not this one
            return await asyncio.wrap_future(future)
        finally:
            self._waiting -= 1
            self._metrics.waiting.set(self._waiting)

    def _work(self) -> None:
        with self._lock:  # there are as many calls as submissions: one of the two queues is not empty
            priority = bool(self._priority) and (self._priority_run < MAX_PRIORITY_RUN or not self._others)
            self._priority_run = self._priority_run + 1 if priority else 0
            future, call = (self._priority if priority else self._others).popleft()
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = call()
        except BaseException as error:  # raised again where the result is awaited
            future.set_exception(error)
        else:
            future.set_result(result)

    def close(self) -> None:
        """Finish what runs, and accept no more calls."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for queue in (self._priority, self._others):
            for future, _ in queue:
                future.cancel()
