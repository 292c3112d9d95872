"""The worker pool's queues, and the limits of the caches."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest

from sonoseek.apps.web.cached_report import CachedReport, encoded_scan_bytes, report_bytes
from sonoseek.apps.web.logging_metrics import Metrics
from sonoseek.apps.web.thread_pool import MAX_PRIORITY_RUN, MAX_QUEUE, WorkerPool
from sonoseek.apps.web.ttl_cache import TTLCache
from sonoseek.core import Scan, TemporaryError
from sonoseek.engine import open_engine


async def run_all(pool: WorkerPool, calls: list[str]) -> list[str]:
    """Names of calls in the order in which one worker takes them; those with a ? have priority."""
    taken: list[str] = []
    gate = threading.Event()
    busy = asyncio.ensure_future(pool.run(gate.wait))
    await asyncio.sleep(0.05)
    waiting = [
        asyncio.ensure_future((pool.run_priority if "?" in name else pool.run)(taken.append, name)) for name in calls
    ]
    await asyncio.sleep(0.05)
    gate.set()
    await asyncio.gather(busy, *waiting)
    return taken


def test_queries_go_before_pictures_and_pictures_do_not_starve() -> None:
    pool = WorkerPool(1, metrics=Metrics())
    pictures, queries = [f"p{n}" for n in range(4)], [f"q{n}?" for n in range(2 * MAX_PRIORITY_RUN)]
    taken = asyncio.run(run_all(pool, pictures + queries))
    pool.close()
    n = MAX_PRIORITY_RUN
    assert taken == [*queries[:n], "p0", *queries[n:], "p1", "p2", "p3"]


def test_a_cancelled_call_is_skipped_and_errors_reach_the_caller() -> None:
    pool = WorkerPool(1, metrics=Metrics())

    async def leave() -> list[str]:
        taken: list[str] = []
        gate = threading.Event()
        busy = asyncio.ensure_future(pool.run(gate.wait))
        await asyncio.sleep(0.05)
        left, stayed = (asyncio.ensure_future(pool.run(taken.append, name)) for name in ("left", "stayed"))
        await asyncio.sleep(0.05)
        left.cancel()
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(busy, stayed)
        with pytest.raises(ZeroDivisionError):
            await pool.run_priority(divmod, 1, 0)
        return taken

    assert asyncio.run(leave()) == ["stayed"]
    pool.close()


def test_the_queue_is_bounded_and_closing_cancels_waiting_calls() -> None:
    pool = WorkerPool(1, metrics=Metrics())

    async def crowd() -> int:
        gate = threading.Event()
        waiting = [asyncio.ensure_future(pool.run(gate.wait)) for _ in range(MAX_QUEUE)]
        await asyncio.sleep(0.05)
        with pytest.raises(TemporaryError, match="try again"):
            await pool.run_priority(gate.wait)
        closing = asyncio.ensure_future(asyncio.to_thread(pool.close))
        await asyncio.sleep(0.1)
        gate.set()
        await closing
        done = await asyncio.gather(*waiting, return_exceptions=True)
        return sum(isinstance(each, asyncio.CancelledError) for each in done)

    assert asyncio.run(crowd()) == MAX_QUEUE - 1


def test_sizes_of_reports_include_encoded_scans_and_the_cache_is_bounded_by_them(gallery: Path) -> None:
    rng = np.random.default_rng(0)
    with open_engine(gallery, threads=1) as engine:
        sides, sizes = (240, 960), []
        for side in sides:
            scan = Scan(pixels=rng.integers(0, 255, (side, side), dtype=np.uint8))
            encoded = engine.read(scan)
            cached = CachedReport(report=engine.query([encoded], k=5), encoded_scans=(encoded,))
            assert encoded_scan_bytes(encoded) >= 2 * side * side
            sizes.append(report_bytes(cached))
        assert sizes[1] > sizes[0] > encoded_scan_bytes(encoded) / 16
        cache: TTLCache[CachedReport] = TTLCache(
            "report", max_entries=100, ttl_s=60, max_size=4 * sizes[1], size_of=report_bytes
        )
        for number in range(8):
            cache.put(str(number), cached)
        assert len(cache) == 4
        assert cache.find("7") is cached
