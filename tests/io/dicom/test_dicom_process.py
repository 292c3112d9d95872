"""The child processes: quick to start, reused, replaced when they hang or die, gone when the parent is."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from dicom_files import save, speckle, us_dataset
from hypothesis import given
from hypothesis import strategies as st

from sonoseek.core import ScanReadError, Settings, TemporaryError
from sonoseek.io.dicom import read_dicom
from sonoseek.io.sandbox import pool as pools
from sonoseek.io.sandbox.protocol import read_message, write_message

GREY = speckle().astype(np.uint8)
posix = pytest.mark.skipif(os.name != "posix", reason="signals")


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return save(us_dataset(GREY), tmp_path / "good.dcm")


@pytest.fixture
def own_pool() -> Iterator[None]:
    """A fresh pool for this test, whatever others left behind."""
    pools._close(os.getpid())
    yield
    pools._close(os.getpid())


def reader_ids() -> list[int]:
    return [reader._process.pid for reader in pools._pool()._idle]


def gone(pid: int, *, within_s: float = 5.0) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
            state = (
                Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] if sys.platform == "linux" else ""
            )
        except (ProcessLookupError, FileNotFoundError):
            return True
        if state == "Z":  # dead, and nobody has asked for its exit code
            return True
        time.sleep(0.02)
    return False


def test_one_child_reads_many_files(own_pool: None, good: Path) -> None:
    assert np.array_equal(read_dicom(good).pixels, GREY)
    first = reader_ids()
    start = time.perf_counter()
    for _ in range(50):
        read_dicom(good)
    assert (time.perf_counter() - start) / 50 < 0.05
    assert reader_ids() == first
    assert len(first) == 1


def test_a_cold_read_is_quick(own_pool: None, good: Path) -> None:
    start = time.perf_counter()
    read_dicom(good)
    assert time.perf_counter() - start < 5.0  # 0.4 s on an idle machine; the limit allows for a busy one


@posix
def test_a_hung_child_is_stopped_and_replaced(own_pool: None, good: Path) -> None:
    read_dicom(good)
    (pid,) = reader_ids()
    os.kill(pid, signal.SIGSTOP)
    start = time.perf_counter()
    with pytest.raises(ScanReadError, match=r"stopped after 0\.5 s"):
        read_dicom(good, settings=Settings(read_timeout_s=0.5))
    assert time.perf_counter() - start < 5.0  # five times as long on the clock
    assert gone(pid)
    assert np.array_equal(read_dicom(good).pixels, GREY)
    assert reader_ids() != [pid]


@posix
def test_a_child_that_dies_while_reading_is_an_error_of_the_file(own_pool: None, good: Path) -> None:
    read_dicom(good)
    (pid,) = reader_ids()
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(0.3, os.kill, (pid, signal.SIGSEGV)).start()
    threading.Timer(0.4, os.kill, (pid, signal.SIGCONT)).start()
    with pytest.raises(ScanReadError, match=r"signal 11"):
        read_dicom(good, settings=Settings(read_timeout_s=10))
    assert np.array_equal(read_dicom(good).pixels, GREY)


@posix
def test_a_child_that_died_while_idle_is_not_noticed(own_pool: None, good: Path) -> None:
    read_dicom(good)
    (pid,) = reader_ids()
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    assert np.array_equal(read_dicom(good).pixels, GREY)


def test_threads_share_the_children(own_pool: None, tmp_path: Path) -> None:
    pictures = [speckle(40, 50, seed=seed).astype(np.uint8) for seed in range(6)]
    paths = [save(us_dataset(picture), tmp_path / f"{index}.dcm") for index, picture in enumerate(pictures)]
    with ThreadPoolExecutor(6) as threads:
        scans = list(threads.map(read_dicom, paths * 10))
    for index, scan in enumerate(scans):
        assert np.array_equal(scan.pixels, pictures[index % 6])
    assert 1 <= len(reader_ids()) <= min(pools.MOST_READERS, os.cpu_count() or 1)


ORPHAN = """
import os, signal, sys
from sonoseek.io.dicom import read_dicom
from sonoseek.io.sandbox import pool
read_dicom(sys.argv[1])
print(pool._pool()._idle[0]._process.pid, flush=True)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@posix
@pytest.mark.parametrize("ending", ["killed", "finished"])
def test_a_child_dies_with_its_parent(good: Path, ending: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ORPHAN, str(good), ending], capture_output=True, text=True
    )
    assert gone(int(done.stdout))
    assert done.stderr == ""


FORK = """
import os, sys
from sonoseek.io.dicom import read_dicom
from sonoseek.io.sandbox import pool
first = read_dicom(sys.argv[1])
(reader,) = pool._pool()._idle
child = os.fork()
if child == 0:
    same = read_dicom(sys.argv[1]) == first and pool._pool()._idle[0]._process.pid != reader._process.pid
    pool._close(os.getpid())
    os._exit(0 if same else 1)
_, status = os.waitpid(child, 0)
assert read_dicom(sys.argv[1]) == first
assert pool._pool()._idle == [reader]
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_starts_its_own(good: Path) -> None:
    subprocess.run([sys.executable, "-c", FORK, str(good)], check=True, timeout=60)


def test_a_foreign_module_in_the_working_directory_is_not_run(good: Path, tmp_path: Path) -> None:
    (tmp_path / "pydicom.py").write_text("raise SystemExit('run')")
    code = (
        "import sys; sys.path.remove(''); from sonoseek.io.dicom import read_dicom; "
        "print(read_dicom(sys.argv[1]).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(good)], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "(96, 128)"


def test_the_parent_never_imports_pydicom(good: Path) -> None:
    code = (
        "import sys; from sonoseek.io.dicom import read_dicom; read_dicom(sys.argv[1]); print('pydicom' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(good)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_reader_that_cannot_start_is_temporary(
    own_pool: None, good: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pools.sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(TemporaryError, match="did not start"):
        read_dicom(good)
    monkeypatch.undo()
    monkeypatch.setattr(pools, "_START", "raise SystemExit(3)")
    with pytest.raises(TemporaryError, match="exit code 3"):
        read_dicom(good)


headers = st.dictionaries(
    st.text().filter(lambda key: key != "payload"), st.none() | st.integers() | st.text() | st.lists(st.integers())
)


@given(headers, st.binary(max_size=500))
def test_a_message_comes_through(header: dict[str, object], payload: bytes) -> None:
    stream = io.BytesIO()
    write_message(stream, header, memoryview(payload))
    stream.seek(0)
    found, data = read_message(stream, payload_limit=500)
    assert found == {**header, "payload": len(payload)}
    assert data == payload


@given(st.binary(max_size=60))
def test_noise_is_no_message(data: bytes) -> None:
    with pytest.raises((EOFError, ValueError)):
        read_message(io.BytesIO(data + b"\0"), payload_limit=0)


def test_a_payload_beyond_the_limit_is_refused_unread() -> None:
    stream = io.BytesIO()
    write_message(stream, {}, memoryview(bytes(10)))
    stream.seek(0)
    with pytest.raises(ValueError, match="10 bytes; 0 … 9"):
        read_message(stream, payload_limit=9)


@posix
def test_a_name_that_is_no_utf_8_reaches_the_child(tmp_path: Path) -> None:
    save(us_dataset(GREY), tmp_path / "scan.dcm")
    path = (tmp_path / "scan.dcm").rename(Path(os.fsdecode(os.fsencode(tmp_path) + b"/m\xe4rz.dcm")))
    scan = read_dicom(path)
    assert np.array_equal(scan.pixels, GREY)
    scan.source.encode("utf-8")
