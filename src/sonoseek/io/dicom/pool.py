"""Child processes that read DICOM: started when first needed, reused, replaced when they die or hang.

A file cannot be trusted before it is parsed, and a thread that parses can be neither stopped nor bounded in memory.
`subprocess` rather than `fork`: the parent runs threads. A child dies with its parent, for its standard input ends.
"""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from sonoseek.core import TemporaryError
from sonoseek.io.dicom.protocol import read_message, write_message

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 60.0
"""For Python, numpy and pydicom to load; 0.4 s on an idle machine, and no fault of the file's when it is more."""
MOST_READERS = 4
"""Children of one parent, at most; never more than there are cores."""
# sonoseek's own folder goes last on the path, so that it shadows nothing that is installed; -P keeps the working
# directory, which may be a folder of foreign files, off it.
_START = "import sys; sys.path.append(sys.argv[1]); from sonoseek.io.dicom.worker import main; main()"


class ReaderDiedError(Exception):
    """The child ended in the middle of a file."""


class ReaderTimeoutError(Exception):
    """The child did not answer in time and was killed."""


class Reader:
    """One child process. Not thread-safe: one thread at a time."""

    def __init__(self) -> None:
        """Start the child and wait until it has loaded its libraries.

        Raises:
            TemporaryError: it did not start.
        """
        root = str(Path(__file__).resolve().parents[2])
        single = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        try:
            self._process = subprocess.Popen(  # our own interpreter and our own code
                [sys.executable, "-P", "-c", _START, root],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # decoders print there
                bufsize=0,
                env={**os.environ, **single},  # a pool of BLAS threads costs start-up time and address space
            )
            self._wait(timeout_s=START_TIMEOUT_S, payload_limit=0)
        except (OSError, ReaderDiedError, ReaderTimeoutError) as error:
            if hasattr(self, "_process"):
                self.close()
            raise TemporaryError(
                f"the DICOM reader process did not start ({error}); it needs {sys.executable} "
                'with pydicom. Check: python -c "import pydicom.pixels"'
            ) from error
        self.retired = False

    def request_reply(
        self, request: Mapping[str, object], *, timeout_s: float, payload_limit: int
    ) -> tuple[dict[str, Any], bytearray]:
        """Send one request and wait for its answer.

        Raises:
            ReaderDiedError: the child ended.
            ReaderTimeoutError: no answer within `timeout_s`; the child is dead now.
        """
        try:
            write_message(cast(BinaryIO, self._process.stdin), request)
        except OSError as error:
            raise ReaderDiedError(self._ending()) from error
        reply, payload = self._wait(timeout_s=timeout_s, payload_limit=payload_limit)
        self.retired |= bool(reply.get("retire"))
        return reply, payload

    @property
    def usable(self) -> bool:
        """Whether it runs and may be given another file."""
        return not self.retired and self._process.poll() is None

    def close(self) -> None:
        """Kill the child; it holds nothing worth saving."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _wait(self, *, timeout_s: float, payload_limit: int) -> tuple[dict[str, Any], bytearray]:
        """Read one answer. A timer kills the child, which ends the read: this works on every platform."""
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(timeout_s, stop)
        timer.daemon = True
        timer.start()
        try:
            return read_message(cast(BinaryIO, self._process.stdout), payload_limit=payload_limit)
        except (EOFError, OSError, ValueError) as error:
            if late.is_set():
                raise ReaderTimeoutError(f"no answer within {timeout_s:g} s") from error
            raise ReaderDiedError(self._ending()) from error
        finally:
            timer.cancel()

    def _ending(self) -> str:
        try:
            code = self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return "it closed its pipe"
        return f"signal {-code}" if code < 0 else f"exit code {code}"


class ReaderPool:
    """Up to `size` children; a thread takes one, or waits for one."""

    def __init__(self, size: int) -> None:
        self._idle: list[Reader] = []
        self._free = threading.Semaphore(size)
        self._lock = threading.Lock()

    def request_reply(
        self, request: Mapping[str, object], *, timeout_s: float, payload_limit: int
    ) -> tuple[dict[str, Any], bytearray]:
        """As `Reader.request_reply`, with whichever child is free; thread-safe."""
        with self._free:
            reader = self._take()
            try:
                return reader.request_reply(request, timeout_s=timeout_s, payload_limit=payload_limit)
            except BaseException:  # an interrupted exchange leaves half an answer in the pipe
                reader.retired = True
                raise
            finally:
                self._give_back(reader)

    def _take(self) -> Reader:
        while True:
            with self._lock:
                reader = self._idle.pop() if self._idle else None
            if reader is None:
                return Reader()
            if reader.usable:
                return reader
            reader.close()  # killed while it was idle, by the system or by a person

    def _give_back(self, reader: Reader) -> None:
        if reader.usable:
            with self._lock:
                self._idle.append(reader)
        else:
            logger.debug("a DICOM reader process is replaced")
            reader.close()

    def close(self) -> None:
        """Kill the idle children."""
        with self._lock:
            idle, self._idle = self._idle, []
        for reader in idle:
            reader.close()


_POOLS: dict[int, ReaderPool] = {}
_POOLS_LOCK = threading.Lock()


def request_reply(
    request: Mapping[str, object], *, timeout_s: float, payload_limit: int
) -> tuple[dict[str, Any], bytearray]:
    """Have one of this process's children answer `request`; thread-safe.

    Args:
        request: JSON-able.
        timeout_s: seconds from asking to the answer. The child is stopped a little earlier, so that the caller's
            error comes within it. Starting a child does not count.
        payload_limit: bytes.

    Raises:
        ReaderDiedError, ReaderTimeoutError: see `Reader.request_reply`.
        TemporaryError: no child could be started.
    """
    return _pool().request_reply(request, timeout_s=0.95 * timeout_s, payload_limit=payload_limit)


def _pool() -> ReaderPool:
    """This process's pool. Keyed by process id: after a fork the pipes belong to the other process."""
    owner = os.getpid()
    with _POOLS_LOCK:
        if owner not in _POOLS:
            _POOLS[owner] = ReaderPool(min(MOST_READERS, os.cpu_count() or 1))
            atexit.register(_close, owner)
        return _POOLS[owner]


def _close(owner: int) -> None:
    if owner == os.getpid() and owner in _POOLS:
        _POOLS.pop(owner).close()
