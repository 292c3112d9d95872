"""A thread's sleep until a point in time, which others may end. Nothing ticks meanwhile."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod

LONGEST_S = 3600.0
"""Of one sleep: the system's clock may be set meanwhile, and a lock waits no longer than its type allows."""


class Alarm:
    """What one thread waits on."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._rung = False
        self.stopped = False

    def ring(self) -> None:
        """End the wait, or the next one."""
        with self._condition:
            self._rung = True
            self._condition.notify_all()

    def stop(self) -> None:
        """End this wait and all further ones."""
        self.stopped = True
        self.ring()

    def wait(self, *, until: float | None) -> None:
        """Sleep, for `LONGEST_S` at most: who waits looks again what is due.

        Args:
            until: seconds since 1970; None: until somebody rings.
        """
        with self._condition:
            if not self._rung and not self.stopped:
                self._condition.wait(None if until is None else min(max(0.0, until - time.time()), LONGEST_S))
            self._rung = False


class AlarmThread(ABC):
    """A thread that works until it is stopped; meanwhile it sleeps by its `alarm`."""

    def __init__(self, name: str) -> None:
        self.alarm = Alarm()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Look again what is to be done."""
        self.alarm.ring()

    def stop(self) -> None:
        """End after what is being done. Stopping twice is fine."""
        self.alarm.stop()
        if self._thread.is_alive():
            self._thread.join()

    @abstractmethod
    def _run(self) -> None:
        """Work until the alarm says stop."""
