"""Read files in a process of their own and measure each: what came of it, CPU seconds, memory, and what was printed.

`measured(paths)` starts the process, and another one whenever a file takes the first beyond its time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

START_S = 60.0
"""For the process to import what it needs."""
HANG_S = 20.0
"""Wall seconds after which a file counts as one that hangs. Its process is ended."""
LIMITS = {"CPU s": 2.3, "MB": 512, "bytes printed": 10_000}
"""What one file may take at a time: 2 s of the reader, and what its parent and its end take."""
TYPED = ("ScanReadError", "ScanTooLargeError", "InvalidValueError")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one file.

    Attributes:
        outcome: "read", the name of a typed error, "untyped: …" or "hung".
        detail: the error's text.
        shape: of the picture that was read.
        sha256: of its pixels.
        frames: what `frame_count` gave, or its error, in words.
        cpu_s: CPU seconds of all processes that took part, of the call that took most: counting, the first or the last
            frame.
        seconds: the same by the clock on the wall.
        memory_mb: MiB beyond what the process had taken before; or the peak of a child that read for it, if more.
        printed: bytes on standard output and standard error since the file before.
    """

    outcome: str
    detail: str = ""
    shape: tuple[int, ...] | None = None
    sha256: str | None = None
    frames: str = ""
    cpu_s: float = 0.0
    seconds: float = 0.0
    memory_mb: float = 0.0
    printed: int = 0

    def faults(self) -> list[str]:
        """What no file may do: another error than a typed one, too much time, memory or log."""
        typed = self.outcome in ("read", *TYPED)
        took = {"CPU s": self.cpu_s, "MB": self.memory_mb, "bytes printed": self.printed}
        over = [f"{took[name]:.1f} {name}, at most {most}" for name, most in LIMITS.items() if took[name] > most]
        return ([] if typed else [f"{self.outcome}: {self.detail}"]) + over


def measured(paths: Sequence[Path], *, scratch: Path, hang_s: float = HANG_S, last: bool = True) -> list[Outcome]:
    """Count the frames of each file, and read its first and its last one.

    Args:
        paths: the files.
        scratch: an empty folder: the temporary folder of the process, where nothing may be left.
        hang_s: wall seconds for one file.
        last: also read the last frame, where there are several.
    """
    found: list[Outcome] = []
    while len(found) < len(paths):
        found += _of_one_process(paths[len(found) :], scratch=scratch, hang_s=hang_s, last=last)
    return found


def _of_one_process(paths: Sequence[Path], *, scratch: Path, hang_s: float, last: bool) -> list[Outcome]:
    log = scratch.with_name(f"{scratch.name}.log")
    environment = {**os.environ, "TMPDIR": str(scratch), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(Path(__file__)), json.dumps([str(path) for path in paths]), str(int(last))]
    found: list[Outcome] = []
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment)
    assert process.stdout is not None
    try:
        with selectors.DefaultSelector() as ready:
            ready.register(process.stdout, selectors.EVENT_READ)
            printed = 0
            ready.select(START_S)
            process.stdout.readline()
            while len(found) < len(paths):
                if not ready.select(hang_s):
                    found.append(Outcome(outcome="hung", seconds=hang_s, cpu_s=hang_s))
                    break
                line = process.stdout.readline()
                if not line:
                    ending = f"untyped: the process ended with {process.wait()}"
                    found.append(Outcome(outcome=ending, detail=log.read_text("utf-8", "replace")[-500:]))
                    break
                if line.startswith(b"{"):
                    size = log.stat().st_size
                    reply = json.loads(line)
                    reply["shape"] = None if reply["shape"] is None else tuple(reply["shape"])
                    found.append(Outcome(**reply, printed=size - printed))
                    printed = size
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    return found


def _children() -> list[int]:
    found: list[int] = []
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            found += map(int, path.read_text().split())
    return found


def _cpu_s() -> float:
    """Of this process and all that it started, living and dead."""
    spent = sum(os.times()[:4])
    for number in _children():
        try:
            fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        spent += (int(fields[11]) + int(fields[12])) / TICKS
    return spent


def _memory(number: int | str, name: str) -> float:
    """MiB."""
    try:
        text = Path(f"/proc/{number}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith(name)), 0.0)


def _reset_peaks() -> None:
    for number in ("self", *_children()):
        with contextlib.suppress(OSError):
            Path(f"/proc/{number}/clear_refs").write_text("5")


def _tried(path: str, *, last: bool, warm: Path) -> dict[str, object]:
    from sonoseek.core import SonoseekError
    from sonoseek.io import frame_count, read_scan

    found: dict[str, object] = {"shape": None, "sha256": None, "frames": "", "detail": "", "cpu_s": 0.0}

    def timed(call: Callable[[], Any]) -> Any:
        if warm.exists():
            read_scan(warm)  # a reader has started now
        before = _cpu_s()
        try:
            return call()
        finally:
            found["cpu_s"] = max(cast(float, found["cpu_s"]), _cpu_s() - before)

    try:
        count = timed(lambda: frame_count(path))
        found["frames"] = str(count)
    except SonoseekError as error:
        count, found["frames"] = 1, type(error).__name__
    except BaseException as error:
        return {**found, "outcome": f"untyped: {type(error).__name__}", "detail": f"frame_count: {error}"[:500]}
    try:
        scan = timed(lambda: read_scan(path))
        found |= {"outcome": "read", "shape": scan.shape, "sha256": hashlib.sha256(scan.pixels.tobytes()).hexdigest()}
        if last and count > 1:
            timed(lambda: read_scan(path, frame=count - 1))
    except SonoseekError as error:
        if "outcome" not in found:
            found |= {"outcome": type(error).__name__, "detail": str(error)[:500]}
    except BaseException as error:
        found |= {"outcome": f"untyped: {type(error).__name__}", "detail": str(error)[:500]}
    return found


def main() -> None:
    paths, last = json.loads(sys.argv[1]), bool(int(sys.argv[2]))
    warm = Path(paths[0]).parent / "sound.dcm"
    print("ready", flush=True)
    for path in paths:
        _reset_peaks()
        before, began = _memory("self", "VmRSS"), time.perf_counter()
        found = _tried(path, last=last, warm=warm)
        found["seconds"] = time.perf_counter() - began
        own = _memory("self", "VmHWM") - before
        found["memory_mb"] = max([own, *(_memory(number, "VmHWM") for number in _children())])
        sys.stderr.flush()
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
