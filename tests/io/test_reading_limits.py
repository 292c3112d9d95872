"""What the process that parses foreign files may not do, and that nobody waits for a file that is made to be slow."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from sonoseek.core import ScanReadError, Settings
from sonoseek.io import frame_count, read_scan
from sonoseek.io.sandbox import close_readers, pool, protections, start_readers


def _has_both() -> bool:
    """Whether this kernel has Landlock and this system libseccomp, asked of them and not of our own code."""
    if sys.platform != "linux" or ctypes.util.find_library("seccomp") is None:
        return False
    return int(ctypes.CDLL(None).syscall(444, None, 0, 1)) > 0  # landlock_create_ruleset: its version


confining = pytest.mark.skipif(not _has_both(), reason="needs a Linux kernel with Landlock, and libseccomp")
GREY = np.random.default_rng(0).integers(0, 256, (90, 120), np.uint8)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "scan.png"), GREY)
    return tmp_path / "scan.png"


@pytest.fixture
def one_reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A fresh pool with place for one file at a time."""
    close_readers()
    monkeypatch.setattr(pool, "MOST_READERS", 1)
    yield
    close_readers()


def reader_ids() -> list[int]:
    return [reader._process.pid for reader in pool._pool()._idle]


CONFINED = """
import ctypes, os, socket, subprocess, sys, threading
from pathlib import Path
from sonoseek.io.sandbox.limits import confine
opened = open(sys.argv[1], "rb")
assert confine([*filter(None, sys.path), sys.prefix, sys.base_prefix]) == []

def refused(act):
    try:
        act()
    except OSError as error:
        return True
    return False

acts = {
    "open another file": lambda: open(sys.argv[2]).read(),
    "list a folder": lambda: os.listdir(os.path.dirname(sys.argv[2])),
    "make a file": lambda: open(sys.argv[1] + ".new", "w"),
    "append to a file": lambda: open(sys.argv[2], "a"),
    "make a folder": lambda: os.mkdir(sys.argv[1] + ".folder"),
    "delete": lambda: os.unlink(sys.argv[1]),
    "rename": lambda: os.rename(sys.argv[1], sys.argv[1] + ".other"),
    "link": lambda: os.symlink(sys.argv[1], sys.argv[1] + ".link"),
    "TCP": lambda: socket.socket(),
    "UDP": lambda: socket.socket(type=socket.SOCK_DGRAM),
    "a local socket": lambda: socket.socket(socket.AF_UNIX),
    "a process": lambda: subprocess.run(["/bin/true"]),
    "fork": os.fork,
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "a signal to the parent": lambda: os.kill(os.getppid(), 0),
    "the parent's environment": lambda: open(f"/proc/{os.getppid()}/environ", "rb").read(),
}
for name, act in acts.items():
    if not refused(act):
        print(name)
assert opened.read(4) == b"\\x89PNG"  # what is open stays readable,
import wave, fractions  # and Python's own folders
worked = []
thread = threading.Thread(target=lambda: worked.append(1))
thread.start(); thread.join()
assert worked
"""


@confining
def test_a_confined_process_reads_what_it_was_given_and_does_nothing_else(scan: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    done = subprocess.run(
        [sys.executable, "-c", CONFINED, str(scan), str(tmp_path / "token")], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["scan.png", "token"]


@confining
def test_this_system_lacks_nothing() -> None:
    assert protections() == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_reader_is_not_told_the_token(scan: Path, one_reader: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SONOSEEK_TOKEN", "a-token-of-the-server")
    monkeypatch.setenv("HOME_OF_SECRETS", "/secrets")
    read_scan(scan)
    (pid,) = reader_ids()
    given = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"a-token-of-the-server" not in given
    assert b"SECRETS" not in given
    assert b"OMP_NUM_THREADS=1" in given


SPIN = """
import sys, time
from sonoseek.io.sandbox.limits import end_limits, start_limits
start_limits(memory=1 << 30, cpu_s=0.2, wall_s=30)
if sys.argv[1] == "spin":
    while True: pass
if sys.argv[1] == "memory":
    try:
        bytearray(2 << 30)
    except MemoryError:
        end_limits()
        bytearray(2 << 30)
        print("refused, then allowed")
if sys.argv[1] == "sleep":
    start_limits(memory=1 << 30, cpu_s=5, wall_s=0.2)
    time.sleep(30)
"""


@pytest.mark.parametrize(
    ("how", "ending"), [("spin", -signal.SIGPROF), ("sleep", -signal.SIGALRM), ("memory", 0)], ids=str
)
def test_the_limits_end_a_process(how: str, ending: int) -> None:
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", SPIN, how], capture_output=True, text=True, timeout=60)
    assert done.returncode == ending
    assert time.monotonic() - start < 10
    assert how != "memory" or done.stdout == "refused, then allowed\n"


def test_a_stuck_reader_keeps_nobody_waiting(scan: Path, tmp_path: Path, one_reader: None) -> None:
    other = tmp_path / "other.png"
    cv2.imwrite(str(other), GREY)
    read_scan(scan)
    (pid,) = reader_ids()
    os.kill(pid, signal.SIGSTOP)
    failed: list[Exception] = []

    def stuck() -> None:
        try:
            read_scan(scan, settings=Settings(read_timeout_s=3.0))
        except ScanReadError as error:
            failed.append(error)

    thread = threading.Thread(target=stuck)
    thread.start()
    time.sleep(0.05)
    start = time.monotonic()
    for _ in range(3):
        assert np.array_equal(read_scan(other).pixels, GREY)
    assert time.monotonic() - start < 8.0  # a new process starts; the stuck one has 15 s
    assert thread.is_alive()
    close_readers()  # as the server does at its end
    thread.join(5)
    assert not thread.is_alive()
    assert "the reader process ended" in str(failed[0])


def test_readers_are_started_ahead_and_once(scan: Path, one_reader: None, monkeypatch: pytest.MonkeyPatch) -> None:
    start = time.monotonic()
    start_readers()
    start_readers()
    assert time.monotonic() - start < 0.5  # it does not wait for them
    (pid,) = reader_ids()
    assert frame_count(scan) == 1
    assert reader_ids() == [pid]
