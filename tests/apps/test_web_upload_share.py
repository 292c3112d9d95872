"""One reader's slow connections leave room for the others."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from web_pages import LINK, serving

from sonoseek.apps.web.upload_limits import MAX_QUEUE, UploadTurns

FORM = b'--X\r\nContent-Disposition: form-data; name="file"; filename="scan.png"\r\nContent-Type: image/png\r\n\r\n'
AT_ONCE = 16
PAUSE_S = 20.0
"""Seconds between two bytes of the slow connections: less than the pause that ends a request."""


class TestTurns:
    def test_one_client_has_half_and_another_need_not_wait(self) -> None:
        async def use() -> None:
            turns = UploadTurns(4)
            first = [await turns.acquire("a") for _ in range(2)]
            waiting = asyncio.create_task(turns.acquire("a"))
            await asyncio.sleep(0)
            assert not waiting.done()
            assert turns.has_its_share("a")
            assert not turns.has_its_share("b")
            others = [await asyncio.wait_for(turns.acquire("b"), 1) for _ in range(2)]
            third = asyncio.create_task(turns.acquire("c"))
            await asyncio.sleep(0.01)
            assert not third.done()  # all four are taken
            first[0]()
            first[0]()  # given back once, however often
            await asyncio.sleep(0.01)
            assert waiting.done() != third.done()
            for release in (*others, first[1]):
                release()
            (await waiting)()
            (await third)()
            assert turns._clients == {}

        asyncio.run(use())

    def test_who_stops_waiting_leaves_nothing_behind(self) -> None:
        async def use() -> None:
            turns = UploadTurns(2)
            release = await turns.acquire("a")
            for _ in range(5):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(turns.acquire("a"), 0.01)
            release()
            (await asyncio.wait_for(turns.acquire("a"), 1))()
            assert turns._clients == {}

        asyncio.run(use())

    def test_queues_have_an_end_the_client_s_own_first(self) -> None:
        async def use() -> None:
            turns = UploadTurns(2)
            tasks = [asyncio.create_task(turns.acquire("a")) for _ in range(1 + MAX_QUEUE)]
            await asyncio.sleep(0.01)
            assert turns.refusal("a") == 429
            assert turns.refusal("b") is None
            tasks += [asyncio.create_task(turns.acquire("b")) for _ in range(1 + MAX_QUEUE)]
            await asyncio.sleep(0.01)
            assert turns.refusal("c") == 503
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run(use())


class Slow:
    """Connections that send a byte every twenty seconds."""

    def __init__(self, address: str, cookie: str, count: int) -> None:
        self._port = int(re.findall(r":(\d+)/", address)[0])
        head = (
            f"POST /api/query HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nCookie: {cookie}\r\n"
            "Content-Type: multipart/form-data; boundary=X\r\nContent-Length: 1048576\r\n\r\n"
        )
        self.lines = [socket.create_connection(("127.0.0.1", self._port), timeout=20) for _ in range(count)]
        for line in self.lines:
            line.sendall(head.encode() + FORM)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        while not self._over.wait(PAUSE_S):
            for line in self.lines:
                with contextlib.suppress(OSError):
                    line.sendall(b"x")

    @staticmethod
    def answer(line: socket.socket) -> bytes:
        """All of it; the connection's timeout is longer than the server's patience."""
        line.settimeout(60)
        answer = b""
        while not answer.endswith(b"}"):
            answer += line.recv(65_536) or b" closed }"
        return answer

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        for line in self.lines:
            line.close()


@contextlib.contextmanager
def signed_in(address: str, token: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=60) as client:
        client.post("api/session", json={"token": token}).raise_for_status()
        yield client


@pytest.mark.peer
@pytest.mark.slow
def test_sixteen_slow_connections_of_one_reader_do_not_hold_up_another(
    gallery: Path, scans: list[Path], tmp_path: Path
) -> None:
    with serving("--gallery", gallery, "--state", tmp_path, LINK) as (printed, _):
        address, token = printed.split("#token=")

        def seconds(client: httpx.Client, scan: Path) -> float:
            started = time.monotonic()
            client.post("api/query", files={"file": (scan.name, scan.read_bytes())}).raise_for_status()
            return time.monotonic() - started

        with signed_in(address, token) as attacker, signed_in(address, token) as reader:
            alone = max(seconds(reader, scan) for scan in scans[:3])
            cookie = "; ".join(f"{name}={value}" for name, value in attacker.cookies.items())
            slow = Slow(address, cookie, AT_ONCE)
            try:
                time.sleep(1)
                meanwhile = [seconds(reader, scan) for scan in scans[3:8]]
                print(f"{alone:.2f} s alone, {max(meanwhile):.2f} s with {AT_ONCE} slow connections")
                assert max(meanwhile) < max(3.0, 5 * alone)  # without a share of its own it waited for half a minute
                answers = [slow.answer(line) for line in slow.lines[: AT_ONCE // 2]]
                assert all(answer.startswith(b"HTTP/1.1 408") for answer in answers)
                assert all(b"less than 16 KiB per second" in answer for answer in answers)
            finally:
                slow.close()
