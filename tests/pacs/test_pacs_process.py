"""The service as a process of its own: killed at any moment, with a large cine, and idle."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_archive import FakeArchive
from pacs_parts import SR, US_CINE, association, free_port, picture, save, store, stored_files, wait_for, write_settings
from pydicom.uid import generate_uid

from sonoseek.pacs.journal import Journal

HERE = Path(__file__).resolve().parent
Begin = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def begin() -> Iterator[Begin]:
    running: list[subprocess.Popen[str]] = []

    def start(settings: Path, *, query_s: float = 0.0) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(HERE), str(HERE.parents[1] / "src")])
        process = subprocess.Popen(
            [sys.executable, HERE / "service_process.py", settings, str(query_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().strip(), "the service did not start"
        return process

    yield start
    for each in running:
        each.kill()
        each.wait()
        for stream in (each.stdin, each.stdout):
            if stream is not None:
                stream.close()


def _try_to_store(port: int, dataset: Any, acknowledged: set[str], sent: threading.Event) -> None:
    try:
        with association(port) as assoc:
            if assoc.is_established:
                assoc.acse_timeout = assoc.dimse_timeout = 2
                sent.set()
                if assoc.send_c_store(dataset).get("Status") == 0x0000:
                    acknowledged.add(dataset.SOPInstanceUID)
    except Exception:  # it was killed
        return


@pytest.mark.parametrize("rounds", [pytest.param(6, marks=pytest.mark.slow), pytest.param(50, marks=pytest.mark.long)])
def test_a_service_that_is_killed_loses_nothing_and_makes_one_result_a_study(
    begin: Begin, tmp_path: Path, rounds: int
) -> None:
    archive = FakeArchive().start()
    archive.delay_s = 0.1
    port = free_port()
    archive.report_to = port
    peer = "commitment = true\nretry_seconds = 0.2\nretry_limit_seconds = 0.5\ncommitment_seconds = 2"
    settings = write_settings(
        tmp_path, port=port, peers=[(archive.title, archive.port, peer)], rule="quiet_seconds = 0.1\nattempts = 1000"
    )
    acknowledged: set[str] = set()
    chance = random.Random(rounds)
    pictures = [picture(study=generate_uid(), grey=50, side=1024) for _ in range(rounds)]
    states: set[str] = set()
    for index, each in enumerate(pictures):
        process = begin(settings, query_s=0.3)
        sent = threading.Event()
        sender = threading.Thread(target=_try_to_store, args=(port, each, acknowledged, sent))
        sender.start()
        sent.wait(5)
        time.sleep(chance.uniform(0.0, (0.06, 0.8, 1.6)[index % 3]))  # receiving, querying, sending
        process.send_signal(signal.SIGKILL)
        process.wait()
        sender.join()
        journal = Journal(tmp_path / "state")
        written = {row[0] for row in journal.database.all("SELECT sop_uid FROM received")}
        states |= {row.state for row in journal.studies()}
        journal.close()
        assert acknowledged <= written
    begin(settings)
    for each in pictures:
        if each.SOPInstanceUID not in acknowledged:
            store(port, each)  # as its sender does
    journal = Journal(tmp_path / "state")
    try:
        wait_for(lambda: [row.state for row in journal.studies()] == ["committed"] * rounds, seconds=30 + rounds)
        assert journal.database.one("SELECT count(*) FROM done") == rounds
        assert journal.database.one("SELECT count(*) FROM outbox") == 2 * rounds
    finally:
        journal.close()
        archive.stop()
    assert len({uid for uid in archive.stored if archive.classes[uid] == SR}) == rounds
    assert len(set(archive.stored)) == 2 * rounds
    assert len(stored_files(tmp_path / "state" / "received")) == rounds
    assert not stored_files(tmp_path / "state" / "incoming")
    if rounds > 6:
        assert states >= {"waiting", "querying", "queried"}, "no kill met one of the phases"


def memory_mb(process: subprocess.Popen[str]) -> tuple[float, float]:
    """Of a process: now in memory, and at most so far."""
    lines = dict(
        line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if ":" in line
    )
    return float(lines["VmRSS"].split()[0]) / 1024, float(lines["VmHWM"].split()[0]) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("megabytes", [60, pytest.param(700, marks=pytest.mark.long)])
def test_a_large_cine_is_received_in_little_memory(begin: Begin, tmp_path: Path, megabytes: int) -> None:
    port = free_port()
    process = begin(write_settings(tmp_path, port=port, rule="quiet_seconds = 600"))
    before, _ = memory_mb(process)
    file = _cine(tmp_path / "cine.dcm", megabytes)
    with association(port, contexts=(US_CINE,)) as assoc:
        assert assoc.is_established
        assert assoc.send_c_store(file).Status == 0x0000
    _, most = memory_mb(process)
    print(f"{megabytes} MB: {before:.0f} MB before, at most {most:.0f} MB")
    assert most < 150
    assert most - before < 25
    (kept,) = stored_files(tmp_path / "state" / "received")
    assert kept.stat().st_size > megabytes << 20


def _cine(file: Path, megabytes: int) -> Path:
    """A multi-frame picture of that many MiB, written sparsely."""
    frames = megabytes
    dataset = picture(sop_class=US_CINE, frames=2, side=8)
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames, 1024, 1024
    del dataset.PixelData
    save(dataset, file)
    with file.open("ab") as out:
        out.write(b"\xe0\x7f\x10\x00OB\x00\x00" + struct.pack("<I", frames << 20))
        out.truncate(out.tell() + (frames << 20))
    return file


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("seconds", [2, pytest.param(10, marks=pytest.mark.long)])
def test_an_idle_service_does_not_wake(begin: Begin, tmp_path: Path, seconds: int) -> None:
    archive = FakeArchive().start()
    port = free_port()
    process = begin(write_settings(tmp_path, port=port, peers=[(archive.title, archive.port, "")]))
    store(port, picture())
    wait_for(lambda: len(archive.stored) == 2)
    archive.stop()
    wait_for(lambda: _switches(process) == (time.sleep(0.5), _switches(process))[1])
    before = _switches(process)
    time.sleep(seconds)
    assert _switches(process) == before


def _switches(process: subprocess.Popen[str]) -> int:
    """How often its threads have gone to sleep so far: each wake-up ends in one."""
    total = 0
    for status in Path(f"/proc/{process.pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if "ctxt_switches" in line:
                total += int(line.split()[1])
    return total


def test_a_disk_that_is_really_full_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("the system mounts no small disk for a test")
    path = os.pathsep.join([str(HERE), str(HERE.parents[1] / "src")])
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, HERE / "full_disk.py", tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["statuses"][0] == 0x0000
    assert result["statuses"][-1] == 0xA700
    assert set(result["statuses"]) == {0x0000, 0xA700}
    assert result["lost"] == []
    assert result["again"] == 0x0000
    assert result["start"].startswith("OSError: [Errno 28] No space left on device: ")
