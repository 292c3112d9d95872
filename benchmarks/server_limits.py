"""Figures that must hold of the reading room's server, as one table: `python benchmarks/server_limits.py`.

    python benchmarks/server_limits.py [--queries 5000] [--out docs/results/server-limits]    # 5,000 take ten minutes

A server process on loopback, on a gallery of phantoms: memory over many queries; 1,000 uploads at once; 600 watchers of
a job; 1,500 connections that send half a head; names of other hosts (DNS rebinding); pages of other origins; paths that
lead out of their folder. After each, a sound scan must be answered within 5 s. Last, the tests that kill a gallery's
writers in 200 rounds, and a server in the middle of its batches.

Needs Linux (/proc), httpx and pytest. Writes OUT.md and OUT.json, and ends with 1 where a figure does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

sys.path.append(str(Path(__file__).parents[1]))
from benchmarks.attacks import PHANTOMS, ask, environment
from benchmarks.web_server import Scans, Server, build, render, serving

GROWTH_MB = 60
"""What the queries may add to the server's memory, once its caches are full."""
FILLED = 500
"""Queries that fill them."""
UPLOADS, WATCHERS, HALF_HEADS = 1000, 600, 1500
ANSWER_S = 5.0
CLOSED = ("ReadError", "WriteError", "RemoteProtocolError")
"""What a client sees that is turned away, with 503, while it still sends its file."""
OUTSIDE = (
    "/../../../../etc/passwd",
    "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/..%2f..%2f..%2fetc/passwd",
    "/assets/..%5c..%5c..%5cetc/passwd",
    "/api/reports/..%2f..%2fetc%2fpasswd/scan",
    "/api/pictures/..%2f..%2fgallery.db",
    "/api/uploads/..%2f..%2fetc%2fpasswd",
)
KILLS = ("tests/gallery/test_gallery_kills.py", "tests/apps/test_web_kill.py")
PAGE = """# Limits of the server

Figures that must hold of a server on loopback; after each, a sound scan was answered within 5 s. The last line is of
tests, which kill a gallery's writers and a server that works on a batch. Written by
`python benchmarks/server_limits.py`.

"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table: what was done, what came of it, and whether that is as it must be."""

    what: str
    result: str
    holds: bool


class Checks:
    """The checks, each against the same server."""

    def __init__(self, server: Server, client: httpx.Client, scans: Scans, *, queries: int) -> None:
        self.server, self.client, self.scans, self.queries = server, client, scans, queries
        self.place = urlsplit(server.address)

    def memory(self) -> Row:
        for _ in range(FILLED):
            ask(self.client, self.scans)
        before = self.server.memory_mb()[1]
        for _ in range(self.queries):
            ask(self.client, self.scans)
        grown = self.server.memory_mb()[1] - before
        return Row(what=f"memory over {self.queries:,} queries", result=f"{grown:+.0f} MB", holds=grown <= GROWTH_MB)

    def uploads(self) -> Row:
        async def run() -> Counter[str]:
            limits = httpx.Limits(max_connections=UPLOADS)
            headers = dict(self.client.headers)
            async with httpx.AsyncClient(
                base_url=self.server.address, limits=limits, timeout=60, trust_env=False, headers=headers
            ) as client:
                sent = [self.scans.next() for _ in range(UPLOADS)]
                posts = [client.post("/api/uploads", files={"file": (n, c, "image/png")}) for n, c in sent]
                answers = await asyncio.gather(*posts, return_exceptions=True)
            return Counter(
                type(each).__name__ if isinstance(each, BaseException) else str(each.status_code) for each in answers
            )

        found = asyncio.run(run())
        allowed = {"200", "201", "429", "503", *CLOSED}
        return Row(what=f"{UPLOADS:,} uploads at once", result=words(found), holds=set(found) <= allowed)

    def watchers(self) -> Row:
        job = self.client.post("/api/jobs", json={"kind": "query", "title": "watched"}).json()["job_id"]
        head = self._head("GET", f"/api/jobs/{job}/events")
        lines = [self._open(head) for _ in range(WATCHERS)]
        found = Counter(self._status(line) for line in lines)
        row = self._row(f"{WATCHERS} watchers of a job", found, {"200", "429", "503"})
        for line in lines:
            line.close()
        self.client.delete(f"/api/jobs/{job}")
        return row

    def half_heads(self) -> Row:
        lines = [self._open(b"POST /api/query HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ") for _ in range(HALF_HEADS)]
        row = self._row(f"{HALF_HEADS:,} half-sent heads", Counter({"open": len(lines)}), {"open"})
        for line in lines:
            line.close()
        return row

    def other_hosts(self) -> Row:
        names = ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example:80", "10.0.0.1")
        found = Counter(self.client.get("/api/about", headers={"Host": name}).status_code for name in names)
        return Row(what="names of other hosts", result=words(found), holds=set(found) == {400})

    def other_origins(self) -> Row:
        origins = ("https://evil.example", "null", f"http://localhost:{(self.place.port or 0) + 1}", "file://")
        sent = {"file": self.scans.next()}
        found = Counter(
            self.client.post("/api/query", files=sent, headers={"Origin": origin}).status_code for origin in origins
        )
        return Row(what="pages of other origins", result=words(found), holds=set(found) == {403})

    def outside(self) -> Row:
        found: Counter[str] = Counter()
        for path in OUTSIDE:
            with self._open(self._head("GET", path)) as line:
                line.settimeout(10)
                answer = b""
                while piece := line.recv(65_536):
                    answer += piece
            leaks = b"root:" in answer or b"SQLite format" in answer
            found["leaked" if leaks else answer.split()[1].decode()] += 1
        return Row(what="paths that lead out", result=words(found), holds="leaked" not in found)

    def _head(self, method: str, path: str) -> bytes:
        token = self.client.headers["authorization"]
        lines = (f"{method} {path} HTTP/1.1", f"Host: {self.place.netloc}", f"Authorization: {token}")
        return "\r\n".join((*lines, "Connection: close", "", "")).encode()

    def _open(self, head: bytes) -> socket.socket:
        line = socket.create_connection((self.place.hostname, self.place.port), timeout=20)
        line.sendall(head)
        return line

    @staticmethod
    def _status(line: socket.socket) -> str:
        try:
            return line.recv(64).split()[1].decode()
        except (OSError, IndexError):
            return "closed"

    def _row(self, what: str, found: Counter[str], allowed: set[str]) -> Row:
        """While all of them are open a sound scan must be answered."""
        took = ask(self.client, self.scans)
        result = f"{words(found)}; a scan meanwhile in {took:.1f} s"
        return Row(what=what, result=result, holds=set(found) <= allowed and took < ANSWER_S)


def kills() -> Row:
    """The tests that kill writers and servers, in a process of their own."""
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-m", "long or peer", "-p", "no:cacheprovider", *KILLS]
    ended = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    rounds = re.findall(r"\d+ kills, .* at most", ended.stdout)
    tests = re.findall(r"\d+ (?:passed|failed)", ended.stdout)
    result = "; ".join([*rounds, f"tests: {', '.join(tests)}"])
    return Row(what="writers and a server killed", result=result, holds=ended.returncode == 0)


def words(found: Counter[str] | Counter[int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(found.items(), key=str))


def guarded(check: Callable[[], Row], checks: Checks) -> Row:
    """A check, and the sound scan after it."""
    try:
        row = check()
        took = ask(checks.client, checks.scans)
    except httpx.HTTPError as error:
        return Row(what=check.__name__.replace("_", " "), result=f"{type(error).__name__}: {error}"[:200], holds=False)
    return row if took < ANSWER_S else Row(what=row.what, result=f"{row.result}; then {took:.1f} s", holds=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=Path("docs/results/server-limits"), help="without its ending")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192), most))
    token = secrets.token_urlsafe(24)
    with tempfile.TemporaryDirectory(prefix="sonoseek-limits-") as folder, environment(SONOSEEK_BUNDLE="fast"):
        gallery = Path(folder, "gallery")
        build(gallery, PHANTOMS)
        scans = Scans([path.read_bytes() for path in render(Path(folder), 24)])
        headers = {"Authorization": f"Bearer {token}"}
        rows = []
        with (
            serving(gallery, Path(folder), 0, token=token) as server,
            httpx.Client(base_url=server.address, timeout=60, trust_env=False, headers=headers) as client,
        ):
            checks = Checks(server, client, scans, queries=options.queries)
            for check in (
                checks.other_hosts,
                checks.other_origins,
                checks.outside,
                checks.half_heads,
                checks.watchers,
                checks.uploads,
                checks.memory,
            ):
                started = time.monotonic()
                rows.append(guarded(check, checks))
                print(f"{rows[-1]} ({time.monotonic() - started:.0f} s)", flush=True)
    rows.append(kills())
    print(rows[-1], flush=True)
    lines = ["| what | result | holds |", "|---|---|---|"]
    lines += [f"| {row.what} | {row.result} | {'yes' if row.holds else 'no'} |" for row in rows]
    options.out.with_suffix(".md").write_text(PAGE + "\n".join(lines) + "\n", encoding="utf-8")
    options.out.with_suffix(".json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", "utf-8")
    if not all(row.holds for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
