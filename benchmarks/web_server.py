"""A server process of the reading room on loopback, its gallery of phantoms, and scans to query with.

Shared by the scripts beside it that measure or attack the server. Needs Linux (/proc) and httpx.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from PIL import Image

from sonoseek.datasets.phantom import PhantomDataset
from sonoseek.encoder import open_encoder
from sonoseek.gallery import create_gallery, open_gallery
from sonoseek.indexing.build import build_index

QUERY_SEED = 90_002
"""Phantoms that are queried come from another seed than the archive's."""
TICKS = os.sysconf("SC_CLK_TCK")
START_S, STOP_S = 90.0, 20.0
READY = re.compile(r"http://127\.0\.0\.1:\d+/")


@dataclass
class Server:
    """The server process."""

    process: subprocess.Popen[bytes]
    address: str
    state: Path

    def memory_mb(self) -> tuple[float, float]:
        """Resident, and of it what is no file's."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        fields = {name: value for name, _, value in (line.partition(":") for line in lines)}
        return tuple(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon"))  # type: ignore[return-value]

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def spool_mb(self) -> tuple[int, float]:
        """Uploaded files on the disk, and their size."""
        sizes = [path.stat().st_size for path in (self.state / "uploads").rglob("*") if path.is_file()]
        return len(sizes), round(sum(sizes) / 2**20, 1)


def machine_cpu_s() -> float:
    """Seconds in which this machine's cores were busy, by whatever process."""
    fields = [int(number) for number in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS


class Scans:
    """Files to query with, none of them twice the same bytes."""

    def __init__(self, files: list[bytes]) -> None:
        self._files = files
        self._given = 0

    def next(self) -> tuple[str, bytes]:
        """A name and a PNG; from the second round on with a comment of its own."""
        number, self._given = self._given, self._given + 1
        around, which = divmod(number, len(self._files))
        return f"scan-{number}.png", commented(self._files[which], str(around)) if around else self._files[which]


def commented(png: bytes, words: str) -> bytes:
    """The same picture as another file: a tEXt chunk before the last one, IEND."""
    chunk = b"tEXt" + b"Comment\0" + words.encode("latin-1")
    return png[:-12] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[-12:]


def build(gallery: Path, phantoms: int) -> int:
    """An archive of phantoms, unless there is one; returns how many scans it holds."""
    if gallery.exists():
        with open_gallery(gallery) as found:
            return found.count()
    encoder = open_encoder(threads=1)
    bundle, size = encoder.bundle.bundle_id, encoder.bundle.embedding_dim
    with create_gallery(gallery, bundle_id=bundle, dimension=size) as target:
        build_index(PhantomDataset(count=phantoms, seed=0), target, encoder)
        return target.count()


def render(folder: Path, count: int) -> list[Path]:
    """Phantoms to query with, as files."""
    source = PhantomDataset(count=count, seed=QUERY_SEED)
    paths = []
    for number, record in enumerate(source.records()):
        paths.append(folder / f"{number:05d}.png")
        Image.fromarray(source.load(record.case_id, masks=False).scans[0].pixels).save(paths[-1], compress_level=3)
    return paths


@contextlib.contextmanager
def serving(gallery: Path, scratch: Path, workers: int, *, token: str | None = None) -> Iterator[Server]:
    """A server on a free port; stopped in the end whatever happens, and by itself when it is idle.

    With a token it finds that in `SONOSEEK_TOKEN`.
    """
    log_file = scratch / "server.log"
    options = ["--gallery", gallery, "--port", 0, "--state", scratch / "state", "--workers", workers, "--idle", 180]
    options += [] if token else ["--no-token"]
    command = [sys.executable, "-m", "sonoseek.apps.cli", "serve", "--quiet", *map(str, options)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SONOSEEK")}
    environment |= {"SONOSEEK_TOKEN": token} if token else {}
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
    try:
        yield Server(process, wait_until_ready(process, log_file), scratch / "state")
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if loud := [line for line in log_file.read_text("utf-8", "replace").splitlines() if not READY.search(line)]:
            print("the server log_file:", *(line[:300] for line in loud[:20]), sep="\n  ", file=sys.stderr)


def wait_until_ready(process: subprocess.Popen[bytes], log_file: Path) -> str:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode}:\n{log_file.read_text('utf-8', 'replace')}")
        if found := READY.search(log_file.read_text("utf-8", "replace")):
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{found[0]}readyz", trust_env=False, timeout=5).status_code == 200:
                    return found[0]
        time.sleep(0.1)
    raise SystemExit(f"the server was not ready within {START_S:g} s:\n{log_file.read_text('utf-8', 'replace')}")
