"""Views of a training scan: what another sonographer, scanner or archive might have made of it. Training side only."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.encoder import PADDING
from sonoseek.training.recipe import Augmentation

Canvas = NDArray[np.uint8]
SMALLEST = 0.2
"""A close-up's side is at least this share of the scan's longer side."""
KNOTS = 5
"""Pieces of a random tone curve."""
MARK_TEXTS = ("1 L", "+", "x", "R 12", "D1", "2.4cm", "GE", "RT", "LOQ", "A")


class View(NamedTuple):
    """One augmented view.

    canvas: float32 (S, S), 0 … 1 in the scan, exactly −1 in padding. lesion: uint8 (S, S), 255 in the lesion, moved as
    the scan was.
    """

    canvas: NDArray[np.float32]
    lesion: Canvas


def augment(
    canvas: Canvas,
    content: NDArray[np.int32],
    *,
    switches: Augmentation,
    rng: np.random.Generator,
    lesion: Canvas | None = None,
    style: Canvas | None = None,
    side: int | None = None,
) -> View:
    """Draw one view.

    The scan is cropped, mirrored left–right, turned and stretched a little, and fitted to the canvas again as
    preprocessing would fit it: centred, touching two edges, exactly −1 around it. Depth stays downwards.

    Args:
        canvas: uint8 (S, S).
        content: top, left, bottom, right of the scan on it.
        switches: how far to go.
        rng: the only source of randomness.
        lesion: uint8 (S, S), 255 in the lesion; None for none.
        style: grey values of another scan, any shape, whose tone this one may take; None: its own.
        side: of the view, pixels, that of a canvas read at a smaller size; None: S.
    """
    size = side or canvas.shape[0]
    shown = content
    if switches.close_up > 0 and rng.random() < switches.close_up:
        shown = close_up(content, lesion, rng=rng)
    matrix, box = _geometry(shown, size=size, switches=switches, rng=rng)
    top, left, bottom, right = box
    place = np.s_[top:bottom, left:right]
    scan = _moved(_only_content(canvas, content), matrix, side=size)[place]
    if style is not None and rng.random() < switches.style:
        scan = take_tone(scan, style, strength=rng.uniform(0.3, 1.0))
    scan = _tone(scan, switches=switches, rng=rng)
    if rng.random() < switches.shadow:
        scan = cast_shadow(scan, rng=rng)
    if rng.random() < switches.marks:
        scan = draw_marks(scan, rng=rng)
    scan = _storage(scan, switches=switches, rng=rng)
    view = np.full((size, size), PADDING, dtype=np.float32)
    np.multiply(scan, np.float32(1 / 255), out=view[place])
    moved = np.zeros((size, size), dtype=np.uint8)
    if lesion is not None:
        moved[place] = _moved(lesion, matrix, side=size)[place]
    return View(view, moved)


def close_up(content: NDArray[np.int32], lesion: Canvas | None, *, rng: np.random.Generator) -> NDArray[np.int32]:
    """A square around the lesion, not quite in its middle and of varying size; of a scan without one, anywhere.

    Args:
        content: top, left, bottom, right of the scan on the canvas.
        lesion: uint8 (S, S), 255 in the lesion; None for none.
        rng: the only source of randomness.

    Returns:
        Top, left, bottom, right, within `content`.
    """
    drawn = None if lesion is None else lesion > 127
    top, left, bottom, right = (float(edge) for edge in content)
    smallest = max(bottom - top, right - left) * SMALLEST
    if drawn is not None and drawn.any():
        rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
        extent = np.array([rows[-1] - rows[0] + 1.0, columns[-1] - columns[0] + 1.0])
        centre = np.array([rows[0], columns[0]]) + extent / 2 + rng.uniform(-0.15, 0.15, 2) * extent
        half = extent.max() / 2 * rng.uniform(1.2, 2.5)
    else:
        centre = np.array([rng.uniform(top, bottom), rng.uniform(left, right)])
        half = rng.uniform(SMALLEST, 1.0) * max(bottom - top, right - left) / 2
    half = max(half, smallest / 2)
    edges = np.concatenate([np.maximum(content[:2], centre - half), np.minimum(content[2:], centre + half)])
    whole: NDArray[np.int32] = np.rint(edges).astype(np.int32)
    return whole


def _moved(picture: Canvas, matrix: NDArray[np.float64], *, side: int) -> Canvas:
    size = (side, side)
    return np.asarray(
        cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), dtype=np.uint8
    )


def take_tone(scan: Canvas, style: Canvas, *, strength: float) -> Canvas:
    """Give a scan the grey-value distribution of another: another scanner's gain and dynamic range.

    Black is left out on both sides and stays black: it is where no echo came from.

    Args:
        scan: uint8, any shape; left as it is.
        style: uint8, any shape, at least one echo in it.
        strength: 0: unchanged, 1: the other's distribution.
    """
    own, other = (np.cumsum(np.bincount(picture.ravel(), minlength=256)[1:]) for picture in (scan, style))
    if own[-1] == 0 or other[-1] == 0:
        return scan.copy()
    grey = np.arange(1, 256)
    matched = np.interp(own / own[-1], other / other[-1], grey)
    table = np.concatenate([[0], np.clip(np.rint((1 - strength) * grey + strength * matched), 1, 255)])
    toned: Canvas = table.astype(np.uint8)[scan]
    return toned


def cast_shadow(scan: Canvas, *, rng: np.random.Generator) -> Canvas:
    """Darken a soft-edged strip from some depth downwards, as poor coupling, gas or a calcification does."""
    rows, columns = scan.shape
    centre, width = rng.uniform(0, columns), rng.uniform(0.03, 0.15) * columns
    across = np.exp(-0.5 * ((np.arange(columns) - centre) / width) ** 2)
    begins = rng.uniform(0, 0.6) * rows
    down = np.clip((np.arange(rows) - begins) / (0.1 * rows), 0, 1)
    transmitted = 1 - rng.uniform(0.3, 0.85) * down[:, None] * across[None, :]
    shadowed: Canvas = (scan * transmitted + 0.5).astype(np.uint8)
    return shadowed


def _only_content(canvas: Canvas, content: NDArray[np.int32]) -> Canvas:
    """Black around the content, so that nothing else can be turned into view."""
    top, left, bottom, right = content
    inside = np.zeros_like(canvas)
    inside[top:bottom, left:right] = canvas[top:bottom, left:right]
    return inside


def _geometry(
    content: NDArray[np.int32], *, size: int, switches: Augmentation, rng: np.random.Generator
) -> tuple[NDArray[np.float64], tuple[int, int, int, int]]:
    """The map from old canvas to new one, (2, 3), and the edges of the scan on the new one."""
    top, left, bottom, right = (float(edge) for edge in content)
    height, width = bottom - top, right - left
    cut = rng.uniform(0, switches.crop, 4)
    top, bottom = top + cut[0] * height, bottom - cut[1] * height
    left, right = left + cut[2] * width, right - cut[3] * width
    stretch = float(np.exp(rng.uniform(-1, 1) * np.log1p(switches.aspect)))
    height, width = bottom - top, (right - left) * stretch
    scale = size / max(height, width)
    if switches.shrink > 0:
        scale *= 1 - rng.uniform(0, switches.shrink)
    angle = np.deg2rad(rng.uniform(-switches.rotate, switches.rotate))
    mirror = -1.0 if rng.random() < switches.mirror else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.diag([mirror * stretch * scale, scale])
    centre = np.array([(left + right) / 2, (top + bottom) / 2])
    # OpenCV counts pixel centres, edges are half a pixel before them
    shift = size / 2 - 0.5 - linear @ (centre - 0.5)
    rows = min(size, max(1, round(height * scale)))
    columns = min(size, max(1, round(width * scale)))
    new_top, new_left = (size - rows) // 2, (size - columns) // 2
    return np.column_stack([linear, shift]), (new_top, new_left, new_top + rows, new_left + columns)


def _tone(scan: Canvas, *, switches: Augmentation, rng: np.random.Generator) -> Canvas:
    """Gain, contrast, gamma, a slope with depth, speckle. Black stays black: it is where no echo came from."""
    grey = np.linspace(0, 1, 256)
    if switches.curve > 0:
        grey = rising_curve(grey, share=rng.uniform(0, switches.curve), rng=rng)
    gamma = np.exp(rng.uniform(-1, 1) * np.log1p(switches.gamma))
    contrast = 1 + rng.uniform(-1, 1) * switches.contrast
    gain = 1 + rng.uniform(-1, 1) * switches.gain
    curve = np.clip(((grey**gamma - 0.3) * contrast + 0.3) * gain, 0, 1) * 255
    curve[0] = 0
    toned: Canvas = np.rint(curve).astype(np.uint8)[scan]
    factors: NDArray[np.float32] | None = None
    if switches.tgc > 0:
        slope = rng.uniform(-1, 1) * switches.tgc
        factors = np.linspace(1 - slope, 1 + slope, scan.shape[0], dtype=np.float32)[:, None]
    if switches.speckle > 0:
        deviation = rng.uniform(0, switches.speckle)
        grain = rng.uniform(1, max(1.0, switches.grain))
        rows, columns = (max(2, round(side / grain)) for side in scan.shape)
        noise = 1 + deviation * rng.standard_normal((rows, columns), dtype=np.float32)
        smooth = np.asarray(cv2.resize(noise, (scan.shape[1], scan.shape[0])), dtype=np.float32)
        factors = smooth if factors is None else smooth * factors
    if factors is None:
        return toned
    brightened: Canvas = np.clip(toned * factors + 0.5, 0, 255).astype(np.uint8)
    return brightened


def rising_curve(grey: NDArray[np.float64], *, share: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random rising tone curve through (0, 0) and (1, 1): what another scanner's grey map makes of the same echoes.

    Args:
        grey: values 0 … 1.
        share: 0: unchanged, 1: the random curve alone, which may flatten a fifth of the greys almost to one.
        rng: the only source of randomness.
    """
    steps = rng.exponential(size=KNOTS)
    heights = np.concatenate([[0.0], np.cumsum(steps) / steps.sum()])
    curve = np.interp(grey, np.linspace(0, 1, KNOTS + 1), heights)
    mixed: NDArray[np.float64] = (1 - share) * grey + share * curve
    return mixed


def draw_marks(scan: Canvas, *, rng: np.random.Generator) -> Canvas:
    """Burn in crosses, dotted lines or a few letters, as scanners do. The input is left as it is."""
    marked = scan.copy()
    rows, columns = scan.shape
    white = int(rng.integers(150, 256))
    for _ in range(int(rng.integers(1, 4))):
        at = (int(rng.integers(0, columns)), int(rng.integers(0, rows)))
        kind = rng.integers(0, 3)
        if kind == 0:
            arm = int(rng.integers(2, 6))
            cv2.drawMarker(marked, at, white, int(rng.choice([cv2.MARKER_CROSS, cv2.MARKER_TILTED_CROSS])), 2 * arm, 1)
        elif kind == 1:
            end = at + rng.integers(-columns // 3, columns // 3 + 1, 2)
            for point in np.linspace(at, end, int(rng.integers(5, 15))).astype(int):
                cv2.circle(marked, (int(point[0]), int(point[1])), 1, white, -1)
        else:
            text = str(rng.choice(MARK_TEXTS))
            cv2.putText(marked, text, at, cv2.FONT_HERSHEY_SIMPLEX, float(rng.uniform(0.25, 0.5)), white, 1)
    return marked


def _storage(scan: Canvas, *, switches: Augmentation, rng: np.random.Generator) -> Canvas:
    """What a smaller or lossy file does to a scan."""
    stored: cv2.typing.MatLike = scan
    if rng.random() < switches.blur:
        if rng.random() < 0.5:
            stored = cv2.GaussianBlur(stored, (0, 0), float(rng.uniform(0.4, 1.2)))
        else:
            stored = _coarser(stored, rng.uniform(0.5, 0.9))
    if switches.downsample > 0 and rng.random() < switches.downsample:
        stored = _coarser(stored, rng.uniform(0.35, 0.9))
    if rng.random() < switches.jpeg:
        _, code = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 95))])
        return np.asarray(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE), dtype=np.uint8)
    return np.asarray(stored, dtype=np.uint8)


def _coarser(scan: cv2.typing.MatLike, factor: float) -> cv2.typing.MatLike:
    """The scan as if it had been stored at `factor` of its size."""
    rows, columns = scan.shape[:2]
    small = cv2.resize(
        scan, (max(1, round(columns * factor)), max(1, round(rows * factor))), interpolation=cv2.INTER_AREA
    )
    return cv2.resize(small, (columns, rows), interpolation=cv2.INTER_LINEAR)
