"""How many threads OpenCV may use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import cv2


@contextlib.contextmanager
def single_threaded_opencv() -> Iterator[None]:
    """One thread for each call of OpenCV in this process while the block runs: threads of our own use all cores."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
