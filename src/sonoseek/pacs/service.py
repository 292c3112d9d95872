"""Listener, worker and outbox of one state folder, put together: what `sonoseek pacs listen` runs."""

from __future__ import annotations

import logging
import os
import stat
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from sonoseek.core import TemporaryError
from sonoseek.core.files import lock_file, make_private_folder
from sonoseek.pacs.listener import Listener
from sonoseek.pacs.outbox import PeerSender
from sonoseek.pacs.query import Tools, real_tools
from sonoseek.pacs.rules import PacsConfig
from sonoseek.pacs.state import State
from sonoseek.pacs.syslog import SyslogForwarder
from sonoseek.pacs.worker import Worker

logger = logging.getLogger(__name__)


class Service:
    """All threads of one state folder. A context manager: in the block it runs."""

    def __init__(self, config: PacsConfig, *, tools: Tools | None = None, listen: bool = True) -> None:
        """Take the folder, put back what a crash has left, and start.

        Args:
            config: whole.
            tools: for queries; None: the packages themselves.
            listen: False: nothing is received and nothing queried; what waits in the outbox is sent.

        Raises:
            TemporaryError: another process uses the folder.
            SonoseekError: the journal is another version's, or damaged.
            InvalidValueError: a certificate does not load.
            OSError: the port is in use, or the folder cannot be written.
        """
        self.config = config
        self._stack = ExitStack()
        try:
            self._start(config, tools, listen=listen)
        except BaseException:
            self._stack.close()
            raise

    def _start(self, config: PacsConfig, tools: Tools | None, *, listen: bool) -> None:
        make_private_folder(config.state)
        lock = lock_file(config.state / "lock")
        if lock is None:
            raise TemporaryError(
                f"{config.state}: another process uses this state folder; one at a time may. Stop it, or name another "
                "`state`."
            )
        self._stack.callback(lock.close)
        state = State(config)
        self.journal, self.store, self.audit = state.journal, state.store, state.audit
        self._stack.callback(self.journal.close)
        self.journal.recover()
        self.journal.outbox.recover()
        self.journal.outbox.adapt({peer.name: peer.commitment for peer in config.peers})
        removed = self.store.sweep(received=self.journal.files(), outbox=self.journal.outbox.files())
        if removed:
            logger.warning("%d files that a process had not finished were removed", removed)
        self._forwarder: SyslogForwarder | None = None
        if config.audit.syslog is not None:
            forwarder = self._forwarder = SyslogForwarder(config.audit.syslog, file=self.audit.file, state=config.state)
            self.audit.on_message = forwarder.wake
            forwarder.start()
            self._stack.callback(forwarder.stop)
        self.audit.started()
        self._stack.callback(self.audit.stopped)
        self.senders = [PeerSender(peer, state, on_visit=lambda: self.worker.wake()) for peer in config.peers]
        self.worker = Worker(state, tools=tools or real_tools(config), on_result=self._wake_senders)
        for sender in self.senders:
            sender.start()
            self._stack.callback(sender.stop)
        self._start_wake_file()
        if listen:
            self.worker.start()
            self._stack.callback(self.worker.stop)
            self.listener = Listener(state, on_received=self.worker.wake, on_report=self.wake)
            self._stack.callback(self.listener.stop)

    def wake(self) -> None:
        """Look again at what is to be done."""
        self.worker.wake()
        self._wake_senders()
        if self._forwarder is not None:  # the reading room writes messages too
            self._forwarder.wake()

    def _wake_senders(self) -> None:
        for sender in self.senders:
            sender.wake()

    def _start_wake_file(self) -> None:
        """Other processes, such as `pacs retry`, wake this one through a named pipe."""
        path = self.config.state / "wake"
        with suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        handle = os.open(path, os.O_RDWR)  # both ends: reading never meets an end
        stopping = threading.Event()

        def read() -> None:
            while not stopping.is_set():
                os.read(handle, 4096)
                self.wake()

        thread = threading.Thread(target=read, name="pacs-wake", daemon=True)
        thread.start()

        def stop() -> None:
            stopping.set()
            os.write(handle, b"x")
            thread.join()
            os.close(handle)

        self._stack.callback(stop)

    def stop(self) -> None:
        """End every thread and give the folder back. Stopping twice is fine."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def wake_service(folder: Path) -> bool:
    """Wake the service that uses a state folder; returns whether one was there."""
    path = folder / "wake"
    try:
        if not stat.S_ISFIFO(path.stat().st_mode):
            return False
        handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # no pipe, or nobody reads it
        return False
    try:
        os.write(handle, b"x")
    finally:
        os.close(handle)
    return True
