"""A cache bounded in number, size and time."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from sonoseek.core import NotFoundError

T = TypeVar("T")


class TTLCache(Generic[T]):
    """Values by key; the least recently used one is evicted first. Thread-safe."""

    def __init__(
        self,
        kind: str,
        *,
        max_entries: int,
        ttl_s: float,
        max_size: int | None = None,
        size_of: Callable[[T], int] = lambda _: 0,
        on_evict: Callable[[T], None] = lambda _: None,
    ) -> None:
        """An empty cache.

        Args:
            kind: of the values, for messages: "scan".
            max_entries: number of values at most.
            ttl_s: seconds since its last use after which a value is evicted.
            max_size: sum of the sizes at most; the last value stays whatever its size. None: no limit.
            size_of: size of a value.
            on_evict: called with each value that is evicted or removed.
        """
        self._kind = kind
        self._max_entries, self._ttl_s, self._max_size = max_entries, ttl_s, max_size
        self._size_of, self._on_evict = size_of, on_evict
        self._entries: OrderedDict[str, tuple[float, T]] = OrderedDict()
        self._size = 0
        self._lock = threading.RLock()

    def put(self, key: str, value: T) -> T:
        """Store a value; it replaces one of the same key."""
        with self._lock:
            self.remove(key)
            self._entries[key] = (time.monotonic(), value)
            self._size += self._size_of(value)
            self.expire()
        return value

    def find(self, key: str) -> T | None:
        """The value of this key, or None."""
        with self._lock:
            self.expire()
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries[key] = (time.monotonic(), entry[1])
            self._entries.move_to_end(key)
            return entry[1]

    def get(self, key: str) -> T:
        """The value of this key.

        Raises:
            NotFoundError: there is none, or it was evicted.
        """
        value = self.find(key)
        if value is None:
            raise NotFoundError(
                f"{self._kind} {key[:16]!r} is not cached any more; the server keeps it for "
                f"{self._ttl_s / 60:g} minutes, and no longer than it runs. Send the scan again."
            )
        return value

    def remove(self, key: str) -> None:
        """Remove a value, if it is there."""
        with self._lock:
            entry = self._entries.pop(key, None)
            if entry is not None:
                self._size -= self._size_of(entry[1])
                self._on_evict(entry[1])

    def remove_if(self, condition: Callable[[str, T], bool]) -> None:
        """Remove the values of which `condition(key, value)` is true."""
        with self._lock:
            for key in [key for key, (_, value) in self._entries.items() if condition(key, value)]:
                self.remove(key)

    def expire(self) -> None:
        """Evict what is past its time; otherwise the last values would stay until the next use."""
        with self._lock:
            now = time.monotonic()
            while self._entries:
                key, (used, _) = next(iter(self._entries.items()))
                too_large = self._max_size is not None and self._size > self._max_size and len(self._entries) > 1
                if not (too_large or len(self._entries) > self._max_entries or now - used > self._ttl_s):
                    return
                self.remove(key)

    def clear(self) -> None:
        """Remove everything."""
        with self._lock:
            for key in list(self._entries):
                self.remove(key)

    def __iter__(self) -> Iterator[str]:
        """The keys, the least recently used first."""
        with self._lock:
            return iter(list(self._entries))

    def __len__(self) -> int:
        return len(self._entries)
