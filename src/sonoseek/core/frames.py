"""Which frames of a cine loop are read."""

from __future__ import annotations

MAX_FRAMES = 240
"""Of one loop that are read; longer ones are thinned out evenly."""


def sampled_frames(frames: int, *, most: int = MAX_FRAMES) -> list[int]:
    """The frames of a loop to read, 0-based, ascending.

    Args:
        frames: of the loop, 1 or more.
        most: all of them up to here; more are thinned out evenly, the first and the last stay. Of 1: the middle one.
    """
    if frames <= most:
        return list(range(frames))
    if most == 1:
        return [frames // 2]
    return sorted({round(index * (frames - 1) / (most - 1)) for index in range(most)})
