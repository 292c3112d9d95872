"""How many cores there are for this process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


def available_cores() -> int:
    """Cores that this process may use, 1 or more; a container may have fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def single_threaded_opencv() -> Iterator[None]:
    """One thread for each call of OpenCV in this process while the block runs: threads of our own use all cores."""
    import cv2  # not needed by those who only ask for the number of cores

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
