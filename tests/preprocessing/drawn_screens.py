"""Drawn ultrasound pictures with known truth: speckled tissue, a screen around it, marks upon it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

INK = 231


@dataclass(frozen=True)
class Drawn:
    pixels: NDArray[np.uint8]
    area: NDArray[np.bool_]
    ink: NDArray[np.bool_]


def speckle(height: int, width: int, *, seed: int) -> NDArray[np.uint8]:
    """Log-compressed speckle, wider than tall, with bright layers, a skin line, a dark lesion and a calcification."""
    rng = np.random.default_rng(seed)
    field = rng.normal(size=(height, width)) + 1j * rng.normal(size=(height, width))
    real = cv2.GaussianBlur(np.ascontiguousarray(field.real), (0, 0), sigmaX=3.0, sigmaY=1.4)
    imag = cv2.GaussianBlur(np.ascontiguousarray(field.imag), (0, 0), sigmaX=3.0, sigmaY=1.4)
    depth, across = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    gain = np.ones((height, width))
    gain[np.abs(depth - 0.04) < 0.012] = 6.0  # skin
    for level, slope in ((0.3, 0.1), (0.55, -0.08), (0.8, 0.05)):
        gain[np.abs(depth - level - slope * (across - 0.5)) < 0.006] = 5.0  # Cooper's ligaments, fascia
    gain[((depth - 0.45) / 0.12) ** 2 + ((across - 0.45) / 0.15) ** 2 < 1] = 0.12
    gain[((depth - 0.45) * height) ** 2 + ((across - 0.45) * width) ** 2 < 6] = 6.0
    gain = cv2.GaussianBlur(gain, (0, 0), sigmaX=2.0, sigmaY=1.0)
    echo = 20 * np.log10(np.hypot(real, imag) / np.hypot(real, imag).mean() * gain + 1e-3)
    return np.clip((echo + 38 - 10 * depth) * 255 / 60, 4, 255).astype(np.uint8)


def cross(pixels: NDArray[np.uint8], row: int, col: int, *, slanted: bool = False) -> None:
    arms = ((-6, -6, 6, 6), (-6, 6, 6, -6)) if slanted else ((-6, 0, 6, 0), (0, -6, 0, 6))
    for up, back, down, forth in arms:
        cv2.line(pixels, (col + back, row + up), (col + forth, row + down), INK, 2)


def dotted(pixels: NDArray[np.uint8], start: tuple[int, int], stop: tuple[int, int]) -> None:
    beats = int(np.hypot(stop[0] - start[0], stop[1] - start[1]) // 7)
    for step in range(2, beats - 1):
        row = round(start[0] + (stop[0] - start[0]) * step / beats)
        col = round(start[1] + (stop[1] - start[1]) * step / beats)
        pixels[row : row + 2, col : col + 2] = INK


def annotate(pixels: NDArray[np.uint8], *, slanted: bool = False, lines: bool = True) -> NDArray[np.bool_]:
    """Draw calipers, a dotted line and text where a person would; return the inked pixels."""
    before = pixels.copy()
    height, width = pixels.shape
    ends = [(int(0.45 * height), int(c * width)) for c in (0.29, 0.61)] + [
        (int(r * height), int(0.45 * width)) for r in (0.32, 0.58)
    ]
    for row, col in ends:
        cross(pixels, row, col, slanted=slanted)
    if lines:
        dotted(pixels, ends[0], ends[1])
        dotted(pixels, ends[2], ends[3])
    cv2.putText(pixels, "RT AXILLA", (int(0.1 * width), int(0.9 * height)), cv2.FONT_HERSHEY_SIMPLEX, 0.5, INK, 2)
    cv2.putText(pixels, "LOQ 4", (int(0.6 * width), int(0.7 * height)), cv2.FONT_HERSHEY_DUPLEX, 0.5, INK, 1)
    return before != pixels


def screen(*, sector: bool, seed: int, backdrop: int = 0, marks: bool = True, ruler: bool = True) -> Drawn:
    """A whole screen, 640×800: a scan in it, a header, a ruler, a grey wedge, parameters, a white frame line."""
    height, width = 640, 800
    pixels = np.full((height, width), backdrop, np.uint8)
    area = np.zeros((height, width), np.uint8)
    if sector:
        apex, inner, outer, half = (400, -80), 170, 640, 24
        angles = np.radians(np.linspace(90 - half, 90 + half, 100))
        arcs = [
            np.stack([apex[0] + radius * np.cos(turn), apex[1] + radius * np.sin(turn)], axis=1)
            for radius, turn in ((inner, angles), (outer, angles[::-1]))
        ]
        cv2.fillPoly(area, [np.rint(np.concatenate(arcs)).astype(np.int32)], 1)
    else:
        area[70:580, 130:650] = 1
    tissue = speckle(height, width, seed=seed)
    pixels[area > 0] = tissue[area > 0]
    light = 255 if backdrop < 128 else 0
    if ruler:
        cv2.putText(pixels, "St. Nobody  12L-RS  MI 1.2  TIs 0.3", (20, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.6, light, 1)
        cv2.line(pixels, (0, 45), (width - 1, 45), light, 1)
        for row in range(80, 580, 25):
            cv2.line(pixels, (712, row), (718, row), light, 1)
        pixels[100:300, 770:780] = np.linspace(255, 0, 200).astype(np.uint8)[:, None]
        for index, text in enumerate(("FR 21", "DR 66", "G 48")):
            cv2.putText(pixels, text, (8, 120 + 22 * index), cv2.FONT_HERSHEY_SIMPLEX, 0.5, light, 1)
    ink = np.zeros((height, width), np.bool_)
    if marks:
        top, left = (130, 250) if sector else (70, 130)
        part = pixels[top : top + 400, left : left + 320]
        ink[top : top + 400, left : left + 320] = annotate(part)
    return Drawn(pixels=pixels, area=area > 0, ink=ink & (area > 0))
