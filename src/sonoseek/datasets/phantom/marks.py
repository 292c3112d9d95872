"""What scanners burn into the picture: user interface, captions, calipers.

Nothing here may reveal the diagnosis. The plan draws calipers and captions independently of the pathology. On a normal
breast, calipers measure a place where a lesion might have been, of a lesion's size.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.datasets.phantom.grid import Grid
from sonoseek.datasets.phantom.lesions import Lesion, place_lesion
from sonoseek.datasets.phantom.plan import PhantomPlan, draw_kind

Pixels = NDArray[np.uint8]

_FONT = cv2.FONT_HERSHEY_SIMPLEX


def burn_in(rng: np.random.Generator, picture: Pixels, *, plan: PhantomPlan, grid: Grid, lesion: Lesion | None) -> None:
    """Draw everything that the scanner and its user add to the scan area, in place.

    Args:
        rng: of the view's marks.
        picture: uint8 (H, W).
        plan: of the phantom.
        grid: of the picture.
        lesion: which calipers measure; None on a normal breast.
    """
    layout = plan.scanner.layout
    {"bare": _bare, "ruler": _ruler, "console": _console, "portable": _portable}[layout](picture, plan, grid)
    if plan.calipers:
        _calipers(rng, picture, plan=plan, grid=grid, target=lesion or _decoy(rng, plan, grid))
    if plan.caption:
        _caption(rng, picture, plan=plan, grid=grid)


def _decoy(rng: np.random.Generator, plan: PhantomPlan, grid: Grid) -> Lesion:
    """A place to measure where there is no lesion: sized, shaped and placed as lesions are."""
    kind = draw_kind(rng, "benign" if rng.random() < 0.67 else "malignant")
    lesion = place_lesion(replace(plan, kind=kind), grid, depth_mm=float(rng.uniform(8, 18)))
    if lesion is None:  # pragma: no cover - benign and malignant kinds always give one
        raise RuntimeError(kind)
    return lesion


def _write(
    picture: Pixels, text: str, row: float, column: float, *, size: float = 0.4, grey: int = 200, bold: int = 1
) -> None:
    cv2.putText(picture, text, (round(column), round(row)), _FONT, size, int(grey), bold, cv2.LINE_AA)


def _calipers(rng: np.random.Generator, picture: Pixels, *, plan: PhantomPlan, grid: Grid, target: Lesion) -> None:
    """Crosses at the ends of one or two measured axes, joined by dots, numbered, with their lengths."""
    row, column = grid.pixel(*target.centre_mm)
    grey = int(rng.integers(200, 256))
    arm = 4 if rng.random() < 0.5 else 6
    dotted = rng.random() < 0.6
    lengths = []
    for number in range(plan.calipers):
        angle = np.radians(target.angle_deg + 90 * number + rng.normal(0, 4))
        half = 0.5 * target.axes_mm[number] * rng.uniform(0.95, 1.1) / grid.spacing_mm
        step = np.array([np.sin(angle), np.cos(angle)]) * half
        ends = [np.array([row, column]) - step, np.array([row, column]) + step]
        if dotted:
            for share in np.arange(0, 1, 4.0 / (2 * half)):
                dot = ends[0] + (ends[1] - ends[0]) * share
                cv2.circle(picture, (round(dot[1]), round(dot[0])), 0, grey, -1)
        for end in ends:
            place = (round(end[1]), round(end[0]))
            cv2.drawMarker(picture, place, grey, cv2.MARKER_CROSS, 2 * arm, 1 + (arm > 4), cv2.LINE_8)
        _write(picture, str(number + 1), ends[0][0] + 14, ends[0][1] - 9, size=0.42, grey=grey)
        lengths.append(2 * half * grid.spacing_mm)
    if rng.random() < 0.6:
        bottom = grid.window[1] - 8
        for number, length in enumerate(lengths):
            text = f"{number + 1} D {length / 10:.2f} cm"
            _write(picture, text, bottom - 15 * (len(lengths) - 1 - number), grid.window[2] + 8, size=0.42, grey=grey)


def _caption(rng: np.random.Generator, picture: Pixels, *, plan: PhantomPlan, grid: Grid) -> None:
    """Side and place, as the sonographer types it."""
    top, bottom, left, right = grid.window
    side = {"left": ("LT", "L BREAST", "LEFT"), "right": ("RT", "R BREAST", "RIGHT")}[plan.laterality]
    text = f"{side[int(rng.integers(3))]} {plan.quadrant}"
    if rng.random() < 0.4:
        text = f"{side[0]} {int(rng.integers(1, 13))}:00 {int(rng.integers(1, 9))} CM FN"
    row = top + (bottom - top) * rng.uniform(0.8, 0.95)
    column = left + (right - left) * rng.uniform(0.2, 0.6)
    _write(picture, text, row, column, size=0.5, grey=int(rng.integers(190, 250)), bold=2)


def _bare(picture: Pixels, plan: PhantomPlan, grid: Grid) -> None:
    """A saved picture without interface: only the maker's orientation mark."""
    _, bottom, left, right = grid.window
    cv2.circle(picture, (left + 7, 8), 5, 220, 1, cv2.LINE_AA)
    cv2.line(picture, (left + 8, 9), (left + 13, 14), 220, 1, cv2.LINE_AA)
    if picture.shape[1] - right > 20:
        _ticks(picture, plan, grid, column=right + 4, length=5)
        _focus(picture, bottom * 0.42, right + 18)


def _ruler(picture: Pixels, plan: PhantomPlan, grid: Grid) -> None:
    """Header of one line, grey wedge on the left, centimetres on the right."""
    top, bottom, left, right = grid.window
    height, _ = picture.shape
    _write(picture, f"SIMULATION  {plan.acquired:%d.%m.%Y}", 14, 8)
    _write(picture, f"L12-4 {plan.scanner.frequency_mhz:.0f}MHz {plan.depth_mm / 10:.1f}cm", 28, 8, size=0.36, grey=170)
    wedge = np.linspace(255, 0, min(120, height - top - 40)).astype(np.uint8)
    picture[top + 10 : top + 10 + wedge.size, 6:14] = wedge[:, None]
    _ticks(picture, plan, grid, column=right + 4, length=6, numbers=True)
    _focus(picture, top + (bottom - top) * 0.4, right + 34)
    _write(picture, "MI 1.1 TIs 0.2", height - 7, left, size=0.34, grey=150)


def _console(picture: Pixels, plan: PhantomPlan, grid: Grid) -> None:
    """Logo strip above, settings in a column, ruler, a box for the breast below."""
    top, bottom, _, right = grid.window
    height, width = picture.shape
    picture[:26] = 38
    cv2.putText(picture, "DORADO", (10, 19), cv2.FONT_HERSHEY_DUPLEX, 0.55, 235, 1, cv2.LINE_AA)
    _write(picture, "BREAST  SIMULATED PATIENT", 18, 120, size=0.38)
    _write(picture, f"{plan.acquired:%Y-%m-%d}", 18, width - 90, size=0.38)
    depth, range_db = f" {plan.depth_mm / 10:.1f}cm", f" DR {plan.scanner.dynamic_range_db:.0f}"
    lines = (f"FR {round(900 / plan.depth_mm)}Hz", "2D", range_db, " CMP 2", depth, " PERS Med")
    for number, text in enumerate(lines):
        _write(picture, text, top + 24 + 16 * number, 8, size=0.36, grey=170)
    _ticks(picture, plan, grid, column=right + 6, length=5, numbers=True)
    _focus(picture, top + (bottom - top) * 0.38, right + 40)
    cv2.circle(picture, (width - 34, height - 22), 15, 150, 1, cv2.LINE_AA)
    cv2.circle(picture, (width - 34, height - 22), 3, 150, 1, cv2.LINE_AA)
    cv2.line(picture, (width - 44, height - 36), (width - 38, height - 29), 230, 2, cv2.LINE_AA)


def _portable(picture: Pixels, plan: PhantomPlan, grid: Grid) -> None:
    """Small print and a dotted depth axis."""
    height, width = picture.shape
    _write(picture, "estuary go", 16, 8, size=0.45, grey=180)
    _write(
        picture, f"{plan.scanner.frequency_mhz:.1f} MHz   {plan.depth_mm:.0f} mm", height - 9, 8, size=0.36, grey=150
    )
    cv2.rectangle(picture, (width - 34, 7), (width - 12, 17), 150, 1)
    cv2.rectangle(picture, (width - 32, 9), (width - 20, 15), 150, -1)
    _ticks(picture, plan, grid, column=width - 12, length=0)


def _ticks(picture: Pixels, plan: PhantomPlan, grid: Grid, *, column: int, length: int, numbers: bool = False) -> None:
    """A tick every 5 mm of depth, longer at whole centimetres."""
    for half_centimetres in range(int(plan.depth_mm / 5) + 1):
        row = round(grid.pixel(0.0, 5.0 * half_centimetres)[0])
        long = half_centimetres % 2 == 0
        cv2.line(picture, (column, row), (column + length + (3 if long else 0), row), 190 if long else 130, 1)
        if numbers and long and half_centimetres:
            _write(picture, str(half_centimetres // 2), row + 4, column + length + 6, size=0.34, grey=170)


def _focus(picture: Pixels, row: float, column: int) -> None:
    """A triangle at the focus, pointing at the scan."""
    points = np.array([[column, row], [column + 8, row - 5], [column + 8, row + 5]])
    cv2.fillPoly(picture, [points.round().astype(np.int32)], 200)
