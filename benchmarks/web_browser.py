"""What a reader waits for, in a real browser: `python benchmarks/web_browser.py --gallery galleries/phantom-10000`.

Starts a server on loopback (on a gallery of phantoms that it builds where there is none), drops scans on the page one
after the other in Debian's Chromium, and takes the time from the drop until the headline is in words and ten matches
stand there with their pictures, as the browser's own clock has it. Each scan is also put to `engine.query` without a
server in the moment before: the server's share is a ratio of neighbouring moments. Then the page's weight over the line
and the time until it takes a scan, in new profiles. Writes --out and prints a table. Needs Playwright and Chromium.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import platform
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright
from web_load import TIMING
from web_server import build, render, serving

import sonoseek
from sonoseek.engine import open_engine
from sonoseek.io import read_scan

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
WARM_UP = 3
# From a drop to the frame in which all of it is painted; polled once a frame.
DROP = """async ([name, text]) => {
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const held = new DataTransfer();
  held.items.add(new File([bytes], name, { type: "image/png" }));
  const before = document.querySelector(".facts-line .name")?.textContent;
  const start = performance.now();
  window.dispatchEvent(new DragEvent("drop", { dataTransfer: held, bubbles: true, cancelable: true }));
  const frame = () => new Promise(done => requestAnimationFrame(done));
  for (;;) {
    await frame();
    const named = document.querySelector(".facts-line .name")?.textContent;
    const pictures = [...document.querySelectorAll(".card .box img:first-child")];
    const there = pictures.length >= 10 && pictures.slice(0, 10).every(each => each.complete && each.naturalWidth);
    const headline = document.querySelector(".prediction h1")?.textContent.trim();
    if (named === name && named !== before && there && headline) break;
    if (performance.now() - start > 20000) throw new Error("nothing came");
  }
  await frame();
  return performance.now() - start;
}"""
WEIGHT = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
  .filter(each => !each.name.includes("/api/")).reduce((sum, each) => sum + each.transferSize, 0)"""


def drops(page: Page, paths: list[Path], gallery: Path) -> dict[str, Any]:
    """Drop each scan; seconds of the whole, of the server, and of the engine alone."""
    whole: list[float] = []
    server: list[float] = []
    alone: list[float] = []
    timings: list[str] = []
    page.on("response", lambda answer: timings.append(answer.headers.get("server-timing", "")))
    with open_engine(gallery, threads=1) as engine:
        for number, path in enumerate(paths):
            scan = read_scan(path)
            started = time.perf_counter()
            engine.query(scan)
            spent = time.perf_counter() - started
            timings.clear()
            waited = page.evaluate(DROP, [path.name, base64.b64encode(path.read_bytes()).decode()]) / 1e3
            told = next(text for text in timings if text)
            if number >= WARM_UP:
                whole.append(waited)
                alone.append(spent)
                server.append(sum(float(ms) for _, ms in TIMING.findall(told)) / 1e3)
    ratio = np.array(server) / np.array(alone)
    median, p95 = np.quantile(ratio, [0.5, 0.95])
    return {
        "drops": len(whole),
        "drop_to_screen_ms": spread(whole),
        "server_ms": spread(server),
        "engine_query_ms": spread(alone),
        "server_by_engine": {"median": round(float(median), 2), "p95": round(float(p95), 2)},
    }


def first_loads(browser: Browser, address: str, rounds: int) -> dict[str, Any]:
    """The page in new profiles: bytes over the line, and milliseconds until it takes a scan."""
    ready, weight = [], 0
    for _ in range(rounds):
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        page = context.new_page()
        page.goto(address)
        page.wait_for_selector(".drop")
        ready.append(page.evaluate("performance.now()") / 1e3)
        weight = int(page.evaluate(WEIGHT))
        context.close()
    return {"loads": rounds, "bytes": weight, "interactive_ms": spread(ready)}


def spread(seconds: list[float]) -> dict[str, float]:
    """Milliseconds."""
    values = np.array(seconds) * 1e3
    return {name: round(float(np.quantile(values, q)), 1) for name, q in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))}


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    scans = build(options.gallery, options.phantoms)
    (scratch / "asked").mkdir()
    paths = render(scratch / "asked", options.drops + WARM_UP)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with serving(options.gallery, scratch, options.workers) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        loads = first_loads(browser, server.address, options.loads)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(server.address)
        page.wait_for_selector(".drop")
        told = drops(page, paths, options.gallery)
        version = browser.version
        browser.close()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "sonoseek": sonoseek.__version__,
        "chromium": version,
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "scans": scans,
        "first_load": loads,
        **told,
    }


def table(told: dict[str, Any]) -> str:
    drop, load = told["drop_to_screen_ms"], told["first_load"]
    ready, ratio = load["interactive_ms"], told["server_by_engine"]["median"]
    rows = [
        ("drop to headline and 10 matches, p50 / p95", f"{drop['p50']:.0f} / {drop['p95']:.0f} ms", "400 / 800"),
        ("of it in the server, p50", f"{told['server_ms']['p50']:.1f} ms", ""),
        ("`engine.query` alone, p50", f"{told['engine_query_ms']['p50']:.1f} ms", ""),
        ("server by `engine.query`, median", f"{ratio:.2f}", "1.3"),
        ("page over the line, compressed", f"{load['bytes'] / 1e3:.1f} kB", "150"),
        ("first load until it takes a scan, p50 / max", f"{ready['p50']:.0f} / {ready['max']:.0f} ms", "1000"),
    ]
    return "\n".join(["| what | measured | target |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--gallery", type=Path, default=Path("galleries/phantom-10000"))
    parser.add_argument("--phantoms", type=int, default=10_000, help="of a gallery that has to be built")
    parser.add_argument("--drops", type=int, default=60)
    parser.add_argument("--loads", type=int, default=10)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        told = measure(options, Path(scratch))
    if options.out:
        options.out.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    print(table(told))


if __name__ == "__main__":
    main()
