"""How the reading room's server bears one reader and many at once: `python benchmarks/web_load.py`.

    OPENBLAS_NUM_THREADS=1 python benchmarks/web_load.py    # about ten minutes, and to build its gallery once
    python benchmarks/web_load.py --gallery /tmp/small --phantoms 30 --readers 4 --seconds 3 --one 5 --own 4

Starts a server process of its own on loopback, on a gallery of phantoms that it builds where there is none, and asks
what the page asks for each scan that is dropped on it: the question with its file, then, over six connections as a
browser has them, the sentences, the scan, two heatmap layers and ten pictures of the archive.

First one reader, each scan also put to `engine.query` without a server in the moment before, so that the server's share
is a ratio of neighbouring moments. Then many readers without a pause, the server's memory watched every second. No
two questions send the same bytes: phantoms come from another seed than the archive's, each reader has its own, and when
all of them were asked they go round again under another comment in the file; neither a reading nor a report that the
server keeps at hand ever answers.

Readers run in this process on the same cores as the server: the CPU seconds of both are told, and those that others on
the machine took. Needs Linux (/proc) and
httpx; writes figures as JSON to --out and prints a table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
from web_server import Scans, Server, build, machine_cpu_s, render, serving

import sonoseek
from sonoseek.engine import open_engine
from sonoseek.io import read_scan

WARM_UP = 3
"""Drops before anything is timed."""
MOST_DROPS = 50_000
CONNECTIONS = 6
"""To one server, as browsers open them."""
REQUEST_S = 60.0
ALLOWED = 1.3
"""Times what many readers would wait if every core did only their work."""
TIMING = re.compile(r"(\w+);dur=([\d.]+)")


@dataclass
class Spent:
    """Seconds of every drop, those of the question as the server tells them, and what went wrong."""

    query: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    receive: list[float] = field(default_factory=list)
    answer: list[float] = field(default_factory=list)
    requests: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def told(self) -> dict[str, Any]:
        return {
            "drops": len(self.whole),
            "requests": self.requests,
            "errors": sum(self.errors.values()),
            "errors_by_kind": dict(self.errors),
            "query_ms": milliseconds(self.query),
            "query_receive_ms": milliseconds(self.receive),
            "query_answer_ms": milliseconds(self.answer),
            "whole_ms": milliseconds(self.whole),
        }

    def clear(self) -> None:
        for times in (self.query, self.whole, self.receive, self.answer):
            times.clear()


def milliseconds(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    p50, p95 = np.percentile(seconds, [50, 95])
    return {"p50": round(1e3 * p50, 1), "p95": round(1e3 * p95, 1), "max": round(1e3 * max(seconds), 1)}


def reader(server: Server) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    return httpx.AsyncClient(base_url=server.address, limits=limits, timeout=REQUEST_S, trust_env=False)


async def drop(client: httpx.AsyncClient, name: str, scan: bytes, spent: Spent) -> None:
    """What the page asks when a scan is dropped on it."""
    started = time.perf_counter()
    try:
        spent.requests += 1
        answer = await client.post("/api/query", files={"file": (name, scan, "image/png")})
        asked = time.perf_counter() - started
        if answer.status_code != 200:
            spent.errors[f"POST /api/query: {answer.status_code}"] += 1
            return
        report = answer.headers["content-location"]
        matches = answer.json()["matches"]
        below = ("text", "scan?form=png", "heatmaps/0/warm", "heatmaps/0/cool")
        pictures = [f"/api/pictures/{match['scan_id']}?size=320&form=webp" for match in matches]
        asks = [f"{report}/{path}" for path in below] + pictures
        spent.requests += len(asks)
        answers = await asyncio.gather(*(client.get(path) for path in asks), return_exceptions=True)
    except (httpx.HTTPError, ValueError, KeyError) as error:
        spent.errors[f"POST /api/query: {type(error).__name__}"] += 1
        return
    for path, each in zip(asks, answers, strict=True):
        what = re.sub(r"[0-9a-f]{24,64}", "ID", path)
        if isinstance(each, BaseException):
            spent.errors[f"GET {what}: {type(each).__name__}"] += 1
        elif each.status_code != 200 or not each.content:
            spent.errors[f"GET {what}: {each.status_code}"] += 1
    timing = {name: float(ms) / 1e3 for name, ms in TIMING.findall(answer.headers.get("server-timing", ""))}
    spent.query.append(asked)
    spent.receive.append(timing["receive"])
    spent.answer.append(timing["answer"])
    spent.whole.append(time.perf_counter() - started)


async def ask_alone(server: Server, gallery: Path, paths: list[Path]) -> dict[str, Any]:
    """One reader; each scan is put to an engine in this process in the moment before."""
    spent, engine_s, file_s = Spent(), [], []
    with open_engine(gallery, threads=1) as engine:
        async with reader(server) as client:
            for number, path in enumerate(paths):
                started = time.perf_counter()
                scan = read_scan(path)
                read = time.perf_counter()
                engine.query(scan)
                done = time.perf_counter()
                await drop(client, path.name, path.read_bytes(), spent)
                if number < WARM_UP:
                    spent.clear()
                    continue
                engine_s.append(done - read)
                file_s.append(done - started)
    told = spent.told() | {"engine_query_ms": milliseconds(engine_s), "read_and_engine_query_ms": milliseconds(file_s)}
    for name, alone in (("engine_query", "engine_query_ms"), ("read_and_engine_query", "read_and_engine_query_ms")):
        told[f"query_by_{name}"] = {
            point: round(told["query_ms"][point] / told[alone][point], 2)
            for point in ("p50", "p95")
            if told["query_ms"]
        }
    return told


async def ask_together(server: Server, shares: list[Scans], seconds: float) -> dict[str, Any]:
    """Many readers without a pause, and the server's memory every second."""
    spent, memory = Spent(), []
    started = time.monotonic()
    cpu, own, busy = server.cpu_s(), sum(os.times()[:2]), machine_cpu_s()

    async def one(scans: Scans) -> None:
        async with reader(server) as client:
            for _ in range(MOST_DROPS // len(shares)):
                if time.monotonic() - started > seconds:
                    return
                await drop(client, *scans.next(), spent)

    async def watch() -> None:
        for second in range(int(seconds) + 1):
            await asyncio.sleep(max(0.0, started + second - time.monotonic()))
            memory.append(server.memory_mb())

    await asyncio.gather(watch(), *(one(scans) for scans in shares))
    lasted = time.monotonic() - started
    cpu, own, busy = server.cpu_s() - cpu, sum(os.times()[:2]) - own, machine_cpu_s() - busy
    files, size = server.spool_mb()
    resident, anonymous = (np.array([pair[side] for pair in memory]) for side in (0, 1))
    minute = max(1, min(60, len(memory) // 3))
    return spent.told() | {
        "readers": len(shares),
        "seconds": round(lasted, 1),
        "requests_per_s": round(spent.requests / lasted, 1),
        "drops_per_s": round(len(spent.whole) / lasted, 2),
        "server_cpu_s": round(cpu, 1),
        "readers_cpu_s": round(own, 1),
        "others_cpu_s": round(max(0.0, busy - cpu - own), 1),
        "spool": {"files": files, "mb": size},
        "rss_mb": {
            "first_minute": round(float(np.median(resident[:minute])), 1),
            "last_minute": round(float(np.median(resident[-minute:])), 1),
            "most": round(float(resident.max()), 1),
            "not_of_files_last_minute": round(float(np.median(anonymous[-minute:])), 1),
            "every_second": [round(each) for each in resident],
        },
    }


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    held = build(options.gallery, options.phantoms)
    alone = options.one + WARM_UP
    paths = render(scratch, alone + options.readers * options.own)
    files = [path.read_bytes() for path in paths[alone:]]
    shares = [Scans(files[n * options.own : (n + 1) * options.own]) for n in range(options.readers)]
    cores = len(os.sched_getaffinity(0))
    with serving(options.gallery, scratch, options.workers) as server:
        one = asyncio.run(ask_alone(server, options.gallery, paths[:alone]))
        many = asyncio.run(ask_together(server, shares, options.seconds))
    for name in ("query_ms", "whole_ms"):
        if one[name] and many[name]:
            allowed = options.readers * one[name]["p95"] / cores * ALLOWED
            many[f"{name}_p95_allowed"] = round(allowed, 1)
            many[f"{name}_p95_by_allowed"] = round(many[name]["p95"] / allowed, 2)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {
            "sonoseek": sonoseek.__version__,
            "python": platform.python_version(),
            "onnxruntime": onnxruntime.__version__,
            "numpy": np.__version__,
        },
        "cores": cores,
        "gallery_scans": held,
        "errors": one["errors"] + many["errors"],
        "one_reader": one,
        "many_readers": many,
    }


def table(told: dict[str, Any]) -> str:
    one, many = told["one_reader"], told["many_readers"]
    name = f"{many['readers']} readers"

    def row(what: str, figures: dict[str, float]) -> str:
        return f"| {what} | {' | '.join(f'{figures[point]:g}' if point in figures else '' for point in POINTS)} |"

    rss = many["rss_mb"]
    return "\n".join(
        [
            "| | p50 | p95 | max |",
            "|---|---|---|---|",
            row("`engine.query` without a server, ms", one["engine_query_ms"]),
            row("`read_scan` and `engine.query` without a server, ms", one["read_and_engine_query_ms"]),
            row("one reader: query, ms", one["query_ms"]),
            row("one reader: query / `engine.query`", one["query_by_engine_query"]),
            row("one reader: query / `read_scan` and `engine.query`", one["query_by_read_and_engine_query"]),
            row("one reader: the whole, ms", one["whole_ms"]),
            row(f"{name}: query, ms", many["query_ms"]),
            row(f"{name}: of it until the file is kept", many["query_receive_ms"]),
            row(f"{name}: of it until it is answered", many["query_answer_ms"]),
            row(f"{name}: the whole, ms", many["whole_ms"]),
            row(f"{name}: query allowed, ms", {"p95": many.get("query_ms_p95_allowed", 0.0)}),
            row(f"{name}: the whole allowed, ms", {"p95": many.get("whole_ms_p95_allowed", 0.0)}),
            "",
            f"{name} for {many['seconds']:g} s: {many['drops']} scans, {many['requests']} requests "
            f"({many['requests_per_s']:g} per second), {told['errors']} errors. CPU seconds: server "
            f"{many['server_cpu_s']:g}, readers {many['readers_cpu_s']:g}, others on this machine "
            f"{many['others_cpu_s']:g}, of {told['cores']} cores. Server's memory: "
            f"{rss['first_minute']:g} MB in the first minute, {rss['last_minute']:g} MB in the last, "
            f"{rss['most']:g} MB at most; {many['spool']['files']} files at hand, {many['spool']['mb']:g} MB on disk.",
        ]
    )


POINTS = ("p50", "p95", "max")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gallery", type=Path, default=Path("galleries/phantom-10000"), help="built where it is not")
    parser.add_argument("--phantoms", type=int, default=10_000, help="in a gallery that is built")
    parser.add_argument("--one", type=int, default=60, help="scans of the one reader")
    parser.add_argument("--readers", type=int, default=16, help="at once")
    parser.add_argument("--seconds", type=float, default=300.0, help="that they ask for")
    parser.add_argument("--own", type=int, default=30, help="phantoms of each reader")
    parser.add_argument("--workers", type=int, default=0, help="the server's threads; 0: one per core")
    parser.add_argument("--out", type=Path, default=Path("docs/results/web-load.json"))
    options = parser.parse_args()
    if not (0 < options.seconds <= 3600 and 1 <= options.readers <= 256 and min(options.one, options.own) > 0):
        parser.error("--seconds is above 0 and at most 3600, --readers 1 … 256, --one and --own at least 1")
    with tempfile.TemporaryDirectory(prefix="sonoseek-load-") as scratch:
        told = measure(options, Path(scratch))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(table(told))
    if told["errors"]:
        raise SystemExit(
            f"{told['errors']} errors: {told['one_reader']['errors_by_kind']} {told['many_readers']['errors_by_kind']}"
        )


if __name__ == "__main__":
    main()
