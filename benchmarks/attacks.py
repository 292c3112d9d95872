"""What one reader notices while another client uploads files of known attacks: `python benchmarks/attacks.py`.

    python benchmarks/attacks.py [--seconds 5] [--out docs/results/attacks] [--attack NAME …]    # about four minutes

For each attack of tests/io/fuzz_attacks.py a server process of its own on loopback, on a gallery of phantoms. One
reader asks with a new scan as soon as the last one is answered: first alone, then while another client uploads the
attack again and again. The figure is the 95th percentile of the reader's answers with the attack, divided by that
without it; it may be 2 at most. For comparison the other client also uploads sound scans. Afterwards the server must be
ready, answer a sound scan, and have left nothing in its temporary folder.

Both clients run in this process, on the same cores as the server. Needs Linux (/proc) and httpx. Writes OUT.md and
OUT.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np

sys.path.extend(str(Path(__file__).parents[1] / part) for part in (".", "tests/io", "tests/io/dicom"))
from fuzz_attacks import ATTACKS

from benchmarks.web_server import Scans, Server, build, machine_cpu_s, render, serving

TARGET = 2.0
"""Times what the reader waits without the attack."""
PHANTOMS, OWN, WARM_UP = 200, 24, 6
LINE_S = 60.0
"""Seconds that the reader waits for one answer, and a sound scan afterwards."""
BOUNDARY = b"attack"
SOUND = "(a sound scan)"
PAGE = """# Attacks on the server

How long one reader waits while another client uploads files of known attacks without a pause. Compared are the 95th
percentiles of the answers to the reader's new scans, alone and during the attack. It may double at most. The first row
is the cost of another ordinary reader. Written by `python benchmarks/attacks.py`. `tests/io/fuzz_attacks.py` makes the
files; [Odd files](reading.md) says what each takes without a server.

"""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of one attack.

    Attributes:
        attack: name of its file.
        kb: of the file.
        alone_ms, attacked_ms: p50 and p95 of the reader's answers.
        answers: how many the reader had in both spans.
        ratio: of the two 95th percentiles.
        uploads: what the other client was answered: status, or "none", → how often.
        ready: whether the server was ready afterwards and answered a sound scan.
        left: files in its temporary folder afterwards that were not there before.
    """

    attack: str
    kb: int
    alone_ms: tuple[float, float]
    attacked_ms: tuple[float, float]
    answers: tuple[int, int]
    ratio: float
    uploads: dict[str, int]
    ready: bool
    left: int


def ask(client: httpx.Client, scans: Scans) -> float:
    """Seconds of one question with a scan that was not asked before."""
    name, content = scans.next()
    started = time.perf_counter()
    client.post("/api/query", files={"file": (name, content, "image/png")}).raise_for_status()
    return time.perf_counter() - started


def asked_for(seconds: float, client: httpx.Client, scans: Scans) -> list[float]:
    ends = time.monotonic() + seconds
    took = []
    while time.monotonic() < ends or len(took) < WARM_UP:
        took.append(ask(client, scans))
    return took


@contextlib.contextmanager
def uploading(server: Server, name: str, data: bytes, token: str) -> Iterator[Counter[str]]:
    """Another client that uploads a file again and again; gives the answers' counts, complete once the block ends."""
    place = urlsplit(server.address)
    disposition = f'form-data; name="file"; filename="{name.encode("ascii", "replace").decode()}"'
    body = b"--%s\r\nContent-Disposition: %s\r\nContent-Type: image/png\r\n\r\n" % (BOUNDARY, disposition.encode())
    tail = b"\r\n--%s--\r\n" % BOUNDARY
    head = (
        f"POST /api/query HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}\r\n"
        f"Content-Length: {len(body) + len(data) + len(tail)}\r\n\r\n"
    ).encode()
    answers: Counter[str] = Counter()
    stop = threading.Event()
    lines: list[socket.socket] = []

    def upload() -> None:
        while not stop.is_set():
            try:
                with socket.create_connection((place.hostname, place.port), timeout=LINE_S) as line:
                    lines[:] = [line]
                    for piece in (head, body, data, tail):
                        line.sendall(piece)
                    answers[line.recv(64).split()[1].decode()] += 1
            except (OSError, IndexError):
                answers["none"] += 1
                stop.wait(0.2)

    thread = threading.Thread(target=upload, daemon=True)
    thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for line in lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def measure(name: str, make: Callable[[], bytes], *, gallery: Path, files: list[bytes], seconds: float) -> Figures:
    data, token = make(), secrets.token_urlsafe(24)
    scans = Scans(files)
    with tempfile.TemporaryDirectory(prefix="sonoseek-attack-") as folder:
        scratch, temporary = Path(folder), Path(folder, "temporary")
        temporary.mkdir()
        with environment(TMPDIR=str(temporary)), serving(gallery, scratch, 0, token=token) as server:
            headers = {"Authorization": f"Bearer {token}"}
            with httpx.Client(base_url=server.address, timeout=LINE_S, trust_env=False, headers=headers) as client:
                for _ in range(WARM_UP):
                    ask(client, scans)
                before = set(temporary.rglob("*"))
                alone = asked_for(seconds, client, scans)
                with uploading(server, name, data, token) as answers:
                    time.sleep(0.3)
                    try:
                        attacked = asked_for(seconds, client, scans)
                    except httpx.HTTPError:
                        attacked = [LINE_S]
                ready = is_ready(client, scans)
                left = len(set(temporary.rglob("*")) - before)
    one, other = (tuple(round(1e3 * float(p), 1) for p in np.percentile(each, [50, 95])) for each in (alone, attacked))
    return Figures(
        attack=name,
        kb=len(data) >> 10,
        alone_ms=(one[0], one[1]),
        attacked_ms=(other[0], other[1]),
        answers=(len(alone), len(attacked)),
        ratio=round(other[1] / one[1], 2),
        uploads=dict(answers),
        ready=ready,
        left=left,
    )


def is_ready(client: httpx.Client, scans: Scans) -> bool:
    try:
        ask(client, scans)
        return client.get("/readyz").status_code == 200
    except httpx.HTTPError:
        return False


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """With these variables, which a process that is started inherits."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def table(rows: list[Figures]) -> str:
    lines = [
        "| upload | KB | alone, p50 / p95 ms | with it, p50 / p95 ms | ratio of p95 | its answers | ready after |",
        "|---|--:|--:|--:|--:|---|---|",
    ]
    for row in rows:
        uploads = ", ".join(f"{status}: {count}" for status, count in sorted(row.uploads.items())) or "no answer yet"
        alone, attacked = (f"{p50:.0f} / {p95:.0f}" for p50, p95 in (row.alone_ms, row.attacked_ms))
        ready = ("yes" if row.ready else "no") + (f", {row.left} files left" if row.left else "")
        lines.append(f"| {row.attack} | {row.kb:,} | {alone} | {attacked} | {row.ratio:.2f} | {uploads} | {ready} |")
    beyond = [row.attack for row in rows if row.attack != SOUND and (row.ratio > TARGET or not row.ready or row.left)]
    summary = f"Beyond the target: {', '.join(beyond)}." if beyond else "All are within the target."
    return "\n".join(lines) + f"\n\n{summary}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gallery", type=Path, help="of phantoms; by default one is built for the run")
    parser.add_argument("--seconds", type=float, default=5.0, help="with each attack, and as many without")
    parser.add_argument("--attack", action="append", choices=[SOUND, *ATTACKS], help="this one alone; may be repeated")
    parser.add_argument("--out", type=Path, default=Path("docs/results/attacks"), help="without its ending")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="sonoseek-attacks-") as folder, environment(SONOSEEK_BUNDLE="fast"):
        gallery = options.gallery or Path(folder, "gallery")
        build(gallery, PHANTOMS)
        files = [path.read_bytes() for path in render(Path(folder), OWN)]
        rows = []
        attacks = {SOUND: lambda: files[0], **ATTACKS}
        for name in options.attack or attacks:
            busy, began = machine_cpu_s(), time.monotonic()
            rows.append(measure(name, attacks[name], gallery=gallery, files=files, seconds=options.seconds))
            cores = (machine_cpu_s() - busy) / (time.monotonic() - began)
            print(f"{name}: {rows[-1].ratio:.2f} ({cores:.1f} cores busy)", flush=True)
    machine = f"{len(os.sched_getaffinity(0))} cores; {load:.1f} processes of others wanted them when it began."
    text = f"{table(rows)} Measured on {machine}"
    print(text)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".md").write_text(f"{PAGE}{text}\n", encoding="utf-8")
    document = {"target": TARGET, "seconds": options.seconds, "attacks": [asdict(row) for row in rows]}
    options.out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
