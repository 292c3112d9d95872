"""The parent's side: child processes that read files; started when needed, reused, replaced when they die or hang.

A file cannot be trusted before it is parsed, and a thread that parses can be neither stopped nor bounded in memory.
`subprocess` rather than `fork`: the parent runs threads. A child dies with its parent, for its socket ends.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from sonoseek.core import TemporaryError
from sonoseek.core.cores import available_cores
from sonoseek.io.sandbox.protocol import Connection, read_message, write_message

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 60.0
"""For Python, numpy and pydicom to load; 0.4 s on an idle machine, and no fault of the file's when it is more."""
MOST_READERS = 4
"""Children of one parent that read at once, at most; never more than there are cores."""
SLOW_S = 0.5
"""A file that takes longer than this gives way: its child goes on with the least priority, beside those above."""
MOST_SLOW = 4
"""Children that go on like this, at most; further ones keep their place among the others."""
CLOCK = 5.0
"""The limit on the clock, as a multiple of that of the processor: on a busy machine a sound file must not fail."""
_LEAST_PRIORITY = 19
# sonoseek's own folder goes last on the path, so that it shadows nothing that is installed; -P keeps the working
# directory, which may be a folder of foreign files, off it.
_START = "import sys; sys.path.append(sys.argv[1]); from sonoseek.io.worker import main; main()"
_ENVIRONMENT = ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE")
"""What a child gets of the parent's environment: where libraries lie and how texts are written; no token, no path."""


class ReaderDiedError(Exception):
    """The child ended in the middle of a file."""


class ReaderTimeoutError(Exception):
    """The child did not answer in time and was killed."""


class Reader:
    """One child process. Not thread-safe: one thread at a time."""

    def __init__(self) -> None:
        """Start the child; it loads its libraries while this process goes on.

        Raises:
            TemporaryError: it cannot be started.
        """
        root = str(Path(__file__).resolve().parents[3])
        self._stream = Connection()
        try:
            self._process = subprocess.Popen(  # our own interpreter and our own code
                [sys.executable, "-P", "-c", _START, root],
                stdin=self._stream.child_socket.fileno(),
                stdout=self._stream.child_pipe,
                stderr=subprocess.DEVNULL,  # decoders print there
                env=child_environment(),
            )
        except OSError as error:
            self._stream.close()
            raise _not_started(error) from error
        finally:
            self._stream.give_away()
        self._ready: Mapping[str, Any] | None = None
        self.retired = False

    def wait_until_ready(self) -> Mapping[str, Any]:
        """Its first message: "missing", what of its confinement this system lacks.

        Raises:
            TemporaryError: it did not start.
        """
        if self._ready is None:
            try:
                self._stream.set_times(timeout_s=START_TIMEOUT_S)
                self._ready, _ = self._receive(payload_limit=0)
            except (ReaderDiedError, ReaderTimeoutError) as error:
                self.retired = True
                raise _not_started(error) from error
        return self._ready

    def request_reply(
        self,
        request: Mapping[str, object],
        *,
        file: BinaryIO | None,
        payload: memoryview | None,
        timeout_s: float,
        payload_limit: int,
        when_slow: Any,
    ) -> tuple[dict[str, Any], bytearray]:
        """Send one request and wait for its answer.

        Raises:
            ReaderDiedError: the child ended.
            ReaderTimeoutError: no answer in time; the child is dead now.
            TemporaryError: it did not start.
        """
        self.wait_until_ready()

        def give_way() -> None:
            os.setpriority(os.PRIO_PROCESS, self._process.pid, _LEAST_PRIORITY)
            self.retired = True  # a priority is not won back
            when_slow()

        self._stream.set_times(timeout_s=timeout_s, slow_s=SLOW_S, when_slow=give_way)
        try:
            self._stream.send_file(file)
            write_message(self._stream, request, payload)
        except TimeoutError as error:
            raise self._late() from error
        except OSError as error:
            raise self._ended() from error
        reply, pixels = self._receive(payload_limit=payload_limit)
        self.retired |= bool(reply.get("retire"))
        return reply, pixels

    @property
    def usable(self) -> bool:
        """Whether it runs and may be given another file."""
        return not self.retired and self._process.poll() is None

    @property
    def loaded(self) -> bool:
        """Whether it has loaded its libraries: it answers at once."""
        return self._ready is not None or self._stream.has_answer()

    def kill(self) -> None:
        """End it now; whoever waits for its answer gets an error."""
        self._process.kill()

    def close(self) -> None:
        """End it; it holds nothing worth saving."""
        self._process.kill()
        self._process.wait()
        self._stream.close()

    def _receive(self, *, payload_limit: int) -> tuple[dict[str, Any], bytearray]:
        try:
            return read_message(self._stream, payload_limit=payload_limit)
        except TimeoutError as error:
            raise self._late() from error
        except (EOFError, OSError, ValueError) as error:
            raise self._ended() from error

    def _late(self) -> ReaderTimeoutError:
        self._process.kill()
        return ReaderTimeoutError("no answer in time")

    def _ended(self) -> ReaderDiedError | ReaderTimeoutError:
        try:
            code = self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return ReaderDiedError("it closed its pipe")
        if code in (-signal.SIGPROF, -signal.SIGALRM):  # it ended itself: see `sonoseek.io.sandbox.limits`
            return ReaderTimeoutError(f"signal {-code}")
        return ReaderDiedError(f"signal {-code}" if code < 0 else f"exit code {code}")


def child_environment() -> dict[str, str]:
    """What a child that deals with foreign files gets of this process's environment; its libraries use one thread."""
    # A pool of BLAS threads costs start-up time and address space.
    single = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**{name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}, **single}


def _not_started(error: Exception) -> TemporaryError:
    return TemporaryError(
        f"the process that reads files did not start ({error}); it needs {sys.executable} with pydicom and Pillow. "
        'Check: python -c "import pydicom.pixels, PIL"'
    )


class ReaderPool:
    """Up to `size` children at once, and `MOST_SLOW` that have given way; a thread takes one, or waits for one."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._idle: list[Reader] = []
        self._busy: set[Reader] = set()
        self._free = threading.Semaphore(size)
        self._slow = threading.Semaphore(MOST_SLOW)
        self._lock = threading.Lock()
        self._closed = False

    def request_reply(
        self, request: Mapping[str, object], *, timeout_s: float, payload_limit: int, **sent: Any
    ) -> tuple[dict[str, Any], bytearray]:
        """As `Reader.request_reply`, with whichever child is free; thread-safe."""
        places = [self._free]

        def make_room() -> None:
            if self._slow.acquire(blocking=False):
                places[0] = self._slow
                self._free.release()

        self._free.acquire()
        try:
            reader = self._take()
            try:
                return reader.request_reply(
                    request, timeout_s=timeout_s, payload_limit=payload_limit, when_slow=make_room, **sent
                )
            except BaseException:  # an interrupted exchange leaves half an answer in the pipe
                reader.retired = True
                raise
            finally:
                self._give_back(reader)
        finally:
            places[0].release()

    def start(self, count: int) -> None:
        """Have so many ready, without waiting for them."""
        with self._lock:
            missing = count - len(self._idle) - len(self._busy)
            self._idle.extend(Reader() for _ in range(missing))

    def _take(self) -> Reader:
        while True:
            with self._lock:
                loaded = [place for place, reader in enumerate(self._idle) if reader.loaded]
                reader = self._idle.pop(loaded[-1] if loaded else -1) if self._idle else Reader()
                if reader.usable:
                    self._busy.add(reader)
                    return reader
            reader.close()  # killed while it was idle, by the system or by a person

    def _give_back(self, reader: Reader) -> None:
        with self._lock:
            self._busy.discard(reader)
            keep = reader.usable and not self._closed
            if keep:
                self._idle.append(reader)
            elif not self._closed and len(self._idle) + len(self._busy) < self._size:
                with contextlib.suppress(TemporaryError):  # the next file tries again, and says so
                    self._idle.append(Reader())  # now, so that the next file does not wait for it
        if not keep:
            logger.debug("a process that reads files is replaced")
            reader.close()

    def close(self) -> None:
        """End the children, those that read as well."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for reader in self._busy:
                reader.kill()
        for reader in idle:
            reader.close()


_POOLS: dict[int, ReaderPool] = {}
_POOLS_LOCK = threading.Lock()


def request_reply(
    request: Mapping[str, object],
    *,
    file: BinaryIO | None = None,
    payload: memoryview | None = None,
    cpu_s: float,
    payload_limit: int,
) -> tuple[dict[str, Any], bytearray]:
    """Have one of this process's children answer `request`; thread-safe.

    Args:
        request: JSON-able.
        file: what is read, opened; the child gets it with this request.
        payload: bytes to go with it, instead of a file.
        cpu_s: seconds of the processor until the child ends itself; on the clock it is killed after `CLOCK` times as
            many. Starting a child does not count.
        payload_limit: bytes of the answer.

    Raises:
        ReaderDiedError, ReaderTimeoutError: see `Reader.request_reply`.
        TemporaryError: no child could be started.
    """
    request = {**request, "cpu_s": cpu_s, "wall_s": 2 * CLOCK * cpu_s}
    return _pool().request_reply(
        request, file=file, payload=payload, timeout_s=CLOCK * cpu_s, payload_limit=payload_limit
    )


def start_readers(count: int = 0) -> None:
    """Start children ahead of need, without waiting for them; 0: as many as read at once."""
    _pool().start(min(count or _most(), _most()))


def close_readers() -> None:
    """End all children of this process, in the middle of a file too; the next file starts new ones."""
    with _POOLS_LOCK:
        pool = _POOLS.pop(os.getpid(), None)
    if pool is not None:
        pool.close()


def protections() -> list[str]:
    """What of a child's confinement this system lacks, in words; empty where nothing is missing.

    Raises:
        TemporaryError: no child could be started.
    """
    reader = Reader()
    try:
        return [str(item) for item in reader.wait_until_ready().get("missing", ())]
    finally:
        reader.close()


def _most() -> int:
    return min(MOST_READERS, available_cores())


def _pool() -> ReaderPool:
    """This process's pool. Keyed by process id: after a fork the sockets belong to the other process."""
    owner = os.getpid()
    with _POOLS_LOCK:
        if owner not in _POOLS:
            _POOLS[owner] = ReaderPool(_most())
            atexit.register(_close, owner)
        return _POOLS[owner]


def _close(owner: int) -> None:
    if owner == os.getpid():
        close_readers()
