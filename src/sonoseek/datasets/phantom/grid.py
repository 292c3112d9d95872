"""Where the beams of a scanner run, and how their samples become the pixels of a picture.

Three systems: samples (depth along the beam, beam number), millimetres (x to the right from the picture's middle axis,
y downwards from the lowest point of the face), and picture pixels. Pixel centres: pixel (r, c) lies at r, c.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.datasets.phantom.noise import Floats
from sonoseek.datasets.phantom.scanners import Scanner, get_scanner

AXIAL_STEP_WAVES = 0.75
"""Samples lie this many wavelengths apart along a beam: the pulse is about one and a half wavelengths long."""
LATERAL_STEP_WAVES = 0.75
"""The same across: the beam in focus is about one and a half wavelengths wide."""
SOUND_MM_PER_US = 1.54


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """The samples of one scanner at one depth.

    Attributes:
        scanner: whose beams they are.
        depth_mm: depth setting.
        step_mm: (along the beam, between beams at the face) distance of samples.
        x, y: float32 (Z, B) millimetres of every sample.
        z: float32 (Z, 1) depth along the beam, millimetres.
        spacing_mm: of the picture's pixels, both ways.
        picture: (H, W) pixels.
        origin: (row, column) of the millimetre system's zero in the picture.
        lookup: fixed-point maps of the scan conversion, or None where samples are only rescaled.
        window: (top, bottom, left, right) pixels that the scan area spans.
        area: bool (H, W), the scan area.
    """

    scanner: Scanner
    depth_mm: float
    step_mm: tuple[float, float]
    x: Floats
    y: Floats
    z: Floats
    spacing_mm: float
    picture: tuple[int, int]
    origin: tuple[float, float]
    lookup: tuple[NDArray[np.int16], NDArray[np.uint16]] | None
    window: tuple[int, int, int, int]
    area: NDArray[np.bool_]

    def to_picture(self, samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Scan conversion: uint8 (Z, B) samples → uint8 (H, W), 0 outside the scan area."""
        picture = np.zeros(self.picture, np.uint8)
        top, bottom, left, right = self.window
        if self.lookup is None:
            picture[top:bottom, left:right] = cv2.resize(
                samples, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR
            )
            return picture
        picture[top:bottom, left:right] = cv2.remap(
            samples, self.lookup[0], self.lookup[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        picture[~self.area] = 0
        return picture

    def pixel(self, x_mm: float, y_mm: float) -> tuple[float, float]:
        """(row, column) of a point."""
        return self.origin[0] + y_mm / self.spacing_mm, self.origin[1] + x_mm / self.spacing_mm

    def beam_edge_mm(self, y_mm: float) -> float:
        """Half the width of the scan area at a depth, millimetres."""
        scanner = self.scanner
        half = scanner.width_mm / 2
        if scanner.shape == "linear":
            return half
        if scanner.shape == "trapezoid":
            return half * (1 + y_mm / scanner.apex_mm)
        return (y_mm + scanner.apex_mm) * math.tan(half / scanner.apex_mm)


@lru_cache(maxsize=16)
def make_grid(scanner_name: str, depth_mm: float) -> Grid:
    """The grid of a scanner at a depth; arrays are shared between callers and read-only."""
    scanner = get_scanner(scanner_name)
    wave = SOUND_MM_PER_US / scanner.frequency_mhz
    rows = min(int(depth_mm / (AXIAL_STEP_WAVES * wave)), 400)
    beams = min(int(scanner.width_mm / (LATERAL_STEP_WAVES * wave)), 420)
    z = ((np.arange(rows, dtype=np.float32) + np.float32(0.5)) * np.float32(depth_mm / rows))[:, None]
    face = (np.arange(beams, dtype=np.float32) + np.float32(0.5)) * np.float32(scanner.width_mm / beams)
    face = (face - np.float32(scanner.width_mm / 2))[None, :]
    x, y = _beam_points(scanner, z, face)
    spacing = depth_mm / scanner.rows
    lift = float(max(0.0, -_beam_points(scanner, z[:1] * 0, face)[1].min()))
    half = float(np.abs(x).max()) + 0.5 * scanner.width_mm / beams
    top, right, bottom, left = scanner.margins
    height = round((depth_mm + lift) / spacing)
    width = round(2 * half / spacing)
    picture = (top + height + bottom, left + width + right)
    origin = (top + lift / spacing - 0.5, left + width / 2 - 0.5)
    window = (top, top + height, left, left + width)
    lookup = None
    area = np.zeros(picture, np.bool_)
    if scanner.shape == "linear":
        area[window[0] : window[1], window[2] : window[3]] = True
    else:
        row, column = _samples_of_pixels(scanner, window, origin, spacing, shape=(rows, beams), depth_mm=depth_mm)
        inside = (row > -0.5) & (row < rows - 0.5) & (column > -0.5) & (column < beams - 0.5)
        area[window[0] : window[1], window[2] : window[3]] = inside
        steps, fractions = cv2.convertMaps(column, row, cv2.CV_16SC2)
        lookup = (np.asarray(steps, np.int16), np.asarray(fractions, np.uint16))
    for array in (x, y, z, area):
        array.flags.writeable = False
    return Grid(
        scanner=scanner,
        depth_mm=depth_mm,
        step_mm=(depth_mm / rows, scanner.width_mm / beams),
        x=x,
        y=y,
        z=z,
        spacing_mm=spacing,
        picture=picture,
        origin=origin,
        lookup=lookup,
        window=window,
        area=area,
    )


def _beam_points(scanner: Scanner, z: Floats, face: Floats) -> tuple[Floats, Floats]:
    """Millimetres (x, y) of depth `z` (Z, 1) on the beams that leave the face at `face` (1, B)."""
    if scanner.shape == "linear":
        return np.broadcast_to(face, (len(z), face.size)).copy(), np.broadcast_to(z, (len(z), face.size)).copy()
    if scanner.shape == "trapezoid":
        return face * (1 + z / scanner.apex_mm), np.broadcast_to(z, (len(z), face.size)).copy()
    angle = face / np.float32(scanner.apex_mm)
    radius = z + np.float32(scanner.apex_mm)
    return radius * np.sin(angle), radius * np.cos(angle) - np.float32(scanner.apex_mm)


def _samples_of_pixels(
    scanner: Scanner,
    window: tuple[int, int, int, int],
    origin: tuple[float, float],
    spacing: float,
    *,
    shape: tuple[int, int],
    depth_mm: float,
) -> tuple[Floats, Floats]:
    """Sample (row, beam) under every pixel of the window: the inverse of `_beam_points`."""
    y = ((np.arange(window[0], window[1], dtype=np.float32) - origin[0]) * spacing)[:, None]
    x = ((np.arange(window[2], window[3], dtype=np.float32) - origin[1]) * spacing)[None, :]
    if scanner.shape == "trapezoid":
        z = np.broadcast_to(y, (y.size, x.size))
        face = x / (1 + y / scanner.apex_mm)
    else:
        z = np.hypot(x, y + scanner.apex_mm) - scanner.apex_mm
        face = np.arctan2(x, y + scanner.apex_mm) * scanner.apex_mm
    row = z / depth_mm * shape[0] - 0.5
    column = (face / scanner.width_mm + 0.5) * shape[1] - 0.5
    return row.astype(np.float32), column.astype(np.float32)
