"""The server's line before its workers, and how much its shelves hold."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest

from sonoseek.apps.web.cache import HeldReport, Shelf, reading_bytes, report_bytes
from sonoseek.apps.web.logging_metrics import Metrics
from sonoseek.apps.web.thread_pool import IN_A_ROW, LINE, Workers
from sonoseek.core import Scan, TemporaryError
from sonoseek.engine import open_engine


async def in_line(workers: Workers, calls: list[str]) -> list[str]:
    """Names of calls in the order in which one worker takes them; those with a ? ask to be first."""
    taken: list[str] = []
    gate = threading.Event()
    busy = asyncio.ensure_future(workers.run(gate.wait))
    await asyncio.sleep(0.05)
    waiting = [
        asyncio.ensure_future((workers.run_first if "?" in name else workers.run)(taken.append, name)) for name in calls
    ]
    await asyncio.sleep(0.05)
    gate.set()
    await asyncio.gather(busy, *waiting)
    return taken


def test_questions_go_before_pictures_and_pictures_do_not_starve() -> None:
    workers = Workers(1, metrics=Metrics())
    pictures, questions = [f"p{n}" for n in range(4)], [f"q{n}?" for n in range(2 * IN_A_ROW)]
    taken = asyncio.run(in_line(workers, pictures + questions))
    workers.close()
    n = IN_A_ROW
    assert taken == [*questions[:n], "p0", *questions[n:], "p1", "p2", "p3"]


def test_a_call_that_nobody_waits_for_any_more_is_passed_over_and_errors_reach_whoever_waits() -> None:
    workers = Workers(1, metrics=Metrics())

    async def leave() -> list[str]:
        taken: list[str] = []
        gate = threading.Event()
        busy = asyncio.ensure_future(workers.run(gate.wait))
        await asyncio.sleep(0.05)
        left, stayed = (asyncio.ensure_future(workers.run(taken.append, name)) for name in ("left", "stayed"))
        await asyncio.sleep(0.05)
        left.cancel()
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(busy, stayed)
        with pytest.raises(ZeroDivisionError):
            await workers.run_first(divmod, 1, 0)
        return taken

    assert asyncio.run(leave()) == ["stayed"]
    workers.close()


def test_a_line_has_an_end_and_closing_lets_those_who_wait_go() -> None:
    workers = Workers(1, metrics=Metrics())

    async def crowd() -> int:
        gate = threading.Event()
        waiting = [asyncio.ensure_future(workers.run(gate.wait)) for _ in range(LINE)]
        await asyncio.sleep(0.05)
        with pytest.raises(TemporaryError, match="try again"):
            await workers.run_first(gate.wait)
        closing = asyncio.ensure_future(asyncio.to_thread(workers.close))
        await asyncio.sleep(0.1)
        gate.set()
        await closing
        done = await asyncio.gather(*waiting, return_exceptions=True)
        return sum(isinstance(each, asyncio.CancelledError) for each in done)

    assert asyncio.run(crowd()) == LINE - 1


def test_reports_are_weighed_with_their_readings_and_the_heaviest_do_not_pile_up(gallery: Path) -> None:
    rng = np.random.default_rng(0)
    with open_engine(gallery, threads=1) as engine:
        sides, weights = (240, 960), []
        for side in sides:
            scan = Scan(pixels=rng.integers(0, 255, (side, side), dtype=np.uint8))
            reading = engine.read(scan)
            held = HeldReport(report=engine.query([reading], k=5), readings=(reading,))
            assert reading_bytes(reading) >= 2 * side * side
            weights.append(report_bytes(held))
        assert weights[1] > weights[0] > reading_bytes(reading) / 16
        shelf: Shelf[HeldReport] = Shelf("report", count=100, seconds=60, most=4 * weights[1], size=report_bytes)
        for number in range(8):
            shelf.put(str(number), held)
        assert len(shelf) == 4
        assert shelf.find("7") is held
