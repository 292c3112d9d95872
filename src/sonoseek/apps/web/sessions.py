"""Sessions: what `POST /api/session` begins, and what ends by itself, by sign-out or with the server."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

IDLE_S = 12 * 3600.0
"""Seconds without a request after which a session ends: a reader's shift."""
LIFETIME_S = 7 * 86_400.0
"""Seconds after which it ends, however it is used."""
MAX_SESSIONS = 10_000
"""Beyond it the session that was not used for the longest time ends."""


@dataclass
class Session:
    """One browser that is signed in.

    Attributes:
        reader: whose requests these are.
        started: when it began, seconds of the clock.
        used: its last request, seconds of the clock.
    """

    reader: str
    started: float
    used: float


class Sessions:
    """The open sessions by the value of their cookie. Safe for several threads."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}  # the one used last is the last

    def start(self, reader: str) -> str:
        """Begin a session; the result is its cookie's value, 256 random bits."""
        value, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            while len(self._sessions) >= MAX_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
            self._sessions[value] = Session(reader=reader, started=now, used=now)
        return value

    def use(self, value: str) -> str | None:
        """The reader of a session, which is in use from now; None: there is no such session, or it has ended."""
        now = self._clock()
        with self._lock:
            session = self._sessions.pop(value, None)
            if session is None or _has_ended(session, now):
                return None
            session.used = now
            self._sessions[value] = session
        return session.reader

    def is_open(self, value: str) -> bool:
        """Whether a session goes on; unlike `use` this does not prolong it."""
        now = self._clock()
        with self._lock:
            session = self._sessions.get(value)
            return session is not None and not _has_ended(session, now)

    def end(self, value: str) -> None:
        """Sign out; a session that has ended stays so."""
        with self._lock:
            self._sessions.pop(value, None)

    def expire(self) -> None:
        """Remove the sessions that have ended."""
        now = self._clock()
        with self._lock:
            self._sessions = {
                value: session for value, session in self._sessions.items() if not _has_ended(session, now)
            }

    def __len__(self) -> int:
        return len(self._sessions)


def _has_ended(session: Session, now: float) -> bool:
    return now - session.used > IDLE_S or now - session.started > LIFETIME_S
