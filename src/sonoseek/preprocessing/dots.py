"""Dotted lines between calipers."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.preprocessing.bitmaps import Bitmap, outlines, over, tophat, window

Point = NDArray[np.float32]

DOT = 7
"""Pixels: dots are smaller than this, in either direction."""
BEAT = 10
"""Pixels: a dotted line has at least one dot in so many."""
ARM = 3
"""Pixels: shortest arm of a crossing."""
SLANTED = np.maximum(np.eye(2 * ARM + 1, dtype=np.uint8), np.eye(2 * ARM + 1, dtype=np.uint8)[::-1])
UPRIGHT = np.zeros_like(SLANTED)
UPRIGHT[ARM], UPRIGHT[:, ARM] = 1, 1
"""The two crossings that end a line."""
MIN_LENGTH, MAX_LENGTH = 24.0, 800.0
"""Pixels between the ends of a dotted line."""
END = 6.0
"""Pixels: half a crossing, not counted as line."""
FIRST_BEATS = 6
"""Beats without a miss by which a line is recognised that has one end only."""
BESIDE = 7.0
"""Pixels beside a line where there must be fewer dots than on it."""
MAX_ENDS = 12
"""With more crossings than this the picture is too busy to tell."""


def dotted_lines(pixels: Bitmap, annotations: Bitmap, *, rise: int) -> Bitmap | None:
    """Find the dots on straight lines between annotations.

    Args:
        pixels: uint8 (H, W).
        annotations: uint8 (H, W), 255 on the annotations found so far, among them the ends of the lines.
        rise: grey levels by which most dots of a line stand above what is around them.

    Returns:
        uint8 (H, W), 255 on the dots; None where there is no such line.
    """
    ends = _crossings(annotations)
    if not len(ends):
        return None
    raised = cv2.min(tophat(pixels, 1, DOT), tophat(pixels, DOT, 1))
    blobs = cv2.dilate(over(raised, rise), window(3, 3))
    lines = np.zeros_like(pixels)
    lone = set(range(len(ends)))
    for first, last in itertools.combinations(range(len(ends)), 2):
        if _is_dotted(blobs, ends[first], ends[last]):
            _draw(lines, ends[first], ends[last])
            lone -= {first, last}
    for index in lone:  # its partner lies outside of the picture, or drowned in bright tissue
        stop = _follow(blobs, ends[index])
        if stop is not None:
            _draw(lines, ends[index], stop)
    if not cv2.countNonZero(lines):
        return None
    return cv2.bitwise_and(lines, over(raised, rise // 3))


def _draw(lines: Bitmap, start: Point, stop: Point) -> None:
    """Draw the way from `start` to `stop` (column, row) into `lines`, to a sixteenth of a pixel."""
    sixteenths = [tuple(round(16 * float(part)) for part in end) for end in (start, stop)]
    cv2.line(lines, sixteenths[0], sixteenths[1], 255, 3, cv2.LINE_8, 4)


def _crossings(annotations: Bitmap) -> NDArray[np.float32]:
    """Centres (column, row) of + and × in the annotations: four arms, and nothing between the arms."""
    centres = []
    for arms, gaps in ((UPRIGHT, SLANTED), (SLANTED, UPRIGHT)):
        for outline in outlines(cv2.dilate(cv2.erode(annotations, arms), window(3, 3))):
            left, top, cols, rows = cv2.boundingRect(outline)
            row, col = top + rows // 2, left + cols // 2
            part = annotations[max(row - ARM, 0) : row + ARM + 1, max(col - ARM, 0) : col + ARM + 1]
            if part.shape == gaps.shape and (part[gaps > 0] > 0).mean() < 0.75:
                centres.append((left + (cols - 1) / 2, top + (rows - 1) / 2))
    return np.array(centres if len(centres) <= MAX_ENDS else [], np.float32).reshape(-1, 2)


def _is_dotted(blobs: Bitmap, start: Point, stop: Point) -> bool:
    """Whether blobs keep a beat on the way from `start` to `stop` (column, row), and do not beside it."""
    way = stop - start
    length = float(np.hypot(way[0], way[1]))
    if not MIN_LENGTH <= length <= MAX_LENGTH:
        return False
    way = way[None] / length
    beats = int((length - 2 * END) / BEAT)
    on_line = float(_beats(blobs, start, way, count=beats).mean())
    return on_line >= 0.75 and on_line >= 1.5 * max(
        float(_beats(blobs, start, way, count=beats, beside=side).mean()) for side in (-BESIDE, BESIDE)
    )


def _follow(blobs: Bitmap, start: Point) -> Point | None:
    """Where the dotted line ends that sets out from `start` (column, row), in any direction; None if there is none."""
    turns = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    for count in (2, FIRST_BEATS):  # few directions pass the first, short look
        turns = turns[_beats(blobs, start, _directions(turns), count=count).all(axis=1)]
    if not len(turns):
        return None
    turn, count = float(turns[len(turns) // 2]), FIRST_BEATS
    limit = max(blobs.shape)
    while count * BEAT < limit:  # twice as far each time, and twice as fine
        fan = turn + np.linspace(-1.0, 1.0, 9) * 2.0 / (count * BEAT)
        matches = _beats(blobs, start, _directions(fan), count=2 * count)
        best = int(matches.mean(axis=1).argmax())
        turn = float(fan[best])
        misses = np.flatnonzero(~(matches[best][:-1] | matches[best][1:]))
        if len(misses):
            count = max(int(misses[0]), 1)
            break
        count *= 2
    stop = start + np.float32(END + count * BEAT) * _directions(np.array([turn]))[0].astype(np.float32)
    return stop if count >= FIRST_BEATS and _is_dotted(blobs, start, stop) else None


def _directions(turns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors (column, row), (N, 2), of angles in radians (N,)."""
    return np.stack([np.cos(turns), np.sin(turns)], axis=1)


def _beats(
    blobs: Bitmap, start: Point, ways: NDArray[np.floating], *, count: int, beside: float = 0.0
) -> NDArray[np.bool_]:
    """Whether each of `count` beats along each of the unit vectors `ways` (N, 2) holds a blob: bool (N, count)."""
    along = END + np.arange(count * BEAT)
    cols = np.rint(start[0] + ways[:, :1] * along - beside * ways[:, 1:]).astype(np.intp)
    rows = np.rint(start[1] + ways[:, 1:] * along + beside * ways[:, :1]).astype(np.intp)
    within = (cols >= 0) & (cols < blobs.shape[1]) & (rows >= 0) & (rows < blobs.shape[0])
    hit = within & (blobs[np.where(within, rows, 0), np.where(within, cols, 0)] > 0)
    return np.asarray(hit.reshape(len(ways), count, BEAT).any(axis=2), np.bool_)
