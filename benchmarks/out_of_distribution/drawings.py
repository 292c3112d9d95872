"""Images that no network of this package was made for, drawn by code: no file is needed.

A prediction on one of them is worth nothing, however confident. They measure whether a bundle detects them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.core import NotFoundError
from sonoseek.datasets.phantom import make_phantom
from sonoseek.datasets.phantom.grid import Grid, make_grid
from sonoseek.datasets.phantom.noise import smooth_field
from sonoseek.datasets.phantom.physics import acquire
from sonoseek.datasets.phantom.tissue import Tissue

Pixels = NDArray[np.uint8]
Maker = Callable[[np.random.Generator], Pixels]

HEIGHTS, WIDTHS = (360, 620), (420, 760)
"""Smallest and largest side of a drawn picture, pixels: as exports of scanners have them."""
BLOOD_DB, MUSCLE_DB, BONE_DB, FLUID_DB = -64.0, -27.0, -4.0, -70.0
"""Backscatter relative to white, as in the phantom's tissue."""
LOSS = 0.5
"""Attenuation, dB/cm/MHz, one way."""
PHANTOM_SEEDS = 880_000_000
"""Phantoms that are turned over come from here on: no archive of phantoms holds them."""


def draw_ood_image(kind: str, seed: int) -> Pixels:
    """Draw one picture.

    Args:
        kind: a name in `STRANGERS`.
        seed: ≥ 0; the same seed gives the same pixels.

    Returns:
        uint8 (H, W).

    Raises:
        NotFoundError: no such kind.
    """
    if kind not in OOD_KINDS:
        raise NotFoundError(
            f"no kind of drawn image is called {kind!r}; there are: {', '.join(OOD_KINDS)}. Pick one of them."
        )
    return OOD_KINDS[kind](np.random.default_rng([seed, 3, *kind.encode()]))


def _shape(rng: np.random.Generator) -> tuple[int, int]:
    return int(rng.integers(*HEIGHTS)), int(rng.integers(*WIDTHS))


def _to_grey(values: NDArray[np.floating]) -> Pixels:
    """0 … 1 → uint8."""
    return np.asarray(np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)


def _black(rng: np.random.Generator) -> Pixels:
    return np.zeros(_shape(rng), np.uint8)


def _white(rng: np.random.Generator) -> Pixels:
    return np.full(_shape(rng), 255, np.uint8)


def _noise(rng: np.random.Generator) -> Pixels:
    return rng.integers(0, 256, _shape(rng), dtype=np.uint8)


def _gradient(rng: np.random.Generator) -> Pixels:
    height, width = _shape(rng)
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    slope = rows * np.sin(angle) + columns * np.cos(angle)
    return _to_grey((slope - slope.min()) / np.ptp(slope))


def _checkerboard(rng: np.random.Generator) -> Pixels:
    height, width = _shape(rng)
    side = int(rng.integers(8, 64))
    rows, columns = np.indices((height, width)) // side
    low, high = sorted(rng.integers(0, 256, 2))
    return np.where((rows + columns) % 2 == 0, np.uint8(low // 3), np.uint8(170 + high // 3))


def _text_page(rng: np.random.Generator) -> Pixels:
    height, width = _shape(rng)
    page = np.full((height, width), 250, np.uint8)
    letters = list("abcdefghijklmnopqrstuvwxyz    ,.")
    size = float(rng.uniform(0.4, 0.7))
    step = int(30 * size) + 4
    for row in range(30, height - 10, step):
        line = "".join(rng.choice(letters, int(width / (13 * size)) - 8))
        cv2.putText(page, line, (20, row), cv2.FONT_HERSHEY_SIMPLEX, size, 15, 1, cv2.LINE_AA)
    return page


def _natural_spectrum(rng: np.random.Generator) -> Pixels:
    """Noise whose amplitude falls as 1/frequency, as that of photographs does (Field 1987, JOSA A 4, 2379)."""
    height, width = _shape(rng)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.normal(size=(height, width))) / frequency
    field = np.fft.irfft2(spectrum, (height, width))
    return _to_grey(0.5 + 0.18 * field / field.std())


def _photograph(rng: np.random.Generator) -> Pixels:
    """Shaded solids before a textured ground and a bright sky."""
    ground = _natural_spectrum(rng).astype(np.float32) / 255
    height, width = ground.shape
    horizon = int(height * rng.uniform(0.3, 0.6))
    ground[:horizon] = np.linspace(0.95, 0.7, horizon, dtype=np.float32)[:, None]
    picture = _to_grey(ground)
    rows, columns = np.indices((height, width), np.float32)
    for _ in range(int(rng.integers(3, 8))):
        x, y = rng.uniform(0, width), rng.uniform(horizon - 30, height)
        radius = rng.uniform(20, 110)
        if rng.random() < 0.5:
            away = np.hypot(columns - x, rows - y) / radius
            lit = 0.25 + 0.7 * np.sqrt(
                np.clip(1 - np.hypot(columns - x + 0.4 * radius, rows - y + 0.4 * radius) / (2 * radius), 0, 1)
            )
            picture = np.where(away <= 1, _to_grey(lit), picture)
        else:
            first = (int(x - radius), int(y - 1.4 * radius))
            cv2.rectangle(picture, first, (int(x), int(y)), int(rng.integers(20, 235)), -1)
            cv2.rectangle(
                picture, (int(x), first[1] + 12), (int(x + radius / 2), int(y)), int(rng.integers(10, 120)), -1
            )
    return cv2.GaussianBlur(picture, (0, 0), 0.8).astype(np.uint8)


def _colour_chart(rng: np.random.Generator) -> Pixels:
    """Patches of drawn colours, as the grey that a reader makes of them."""
    rows, columns = int(rng.integers(3, 6)), int(rng.integers(4, 9))
    side, gap = int(rng.integers(50, 90)), int(rng.integers(4, 14))
    colours = rng.integers(0, 256, (rows, columns, 3)) @ np.array([0.299, 0.587, 0.114])
    chart = np.full((rows * (side + gap) + gap, columns * (side + gap) + gap), 20, np.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = gap + row * (side + gap), gap + column * (side + gap)
            chart[top : top + side, left : left + side] = np.uint8(colours[row, column])
    return chart


def _chest_xray(rng: np.random.Generator) -> Pixels:
    """Two dark lungs, ribs, spine and heart, softly grained."""
    side = int(rng.integers(440, 640))
    body = np.zeros((side, side), np.float32)
    tone = rng.uniform(0.55, 0.7)
    cv2.ellipse(body, (side // 2, int(side * 0.62)), (int(side * 0.46), int(side * 0.6)), 0, 0, 360, tone, -1)
    for sign in (-1, 1):
        centre = (int(side * (0.5 + sign * 0.2)), int(side * 0.5))
        cv2.ellipse(body, centre, (int(side * 0.14), int(side * 0.31)), sign * 6.0, 0, 360, 0.18, -1)
    for rib in range(9):
        for sign in (-1, 1):
            centre = (int(side * (0.5 + sign * 0.2)), int(side * (0.2 + 0.075 * rib)))
            cv2.ellipse(body, centre, (int(side * 0.17), int(side * 0.06)), sign * 15.0, 180, 360, 0.5, 5)
    cv2.rectangle(body, (int(side * 0.46), 0), (int(side * 0.54), side), tone + 0.15, -1)
    cv2.ellipse(
        body, (int(side * 0.57), int(side * 0.66)), (int(side * 0.14), int(side * 0.17)), 30.0, 0, 360, 0.75, -1
    )
    body = np.asarray(cv2.GaussianBlur(body, (0, 0), side / 110), np.float32)
    return _to_grey(body + 0.03 * rng.normal(size=body.shape))


def _phantom(rng: np.random.Generator) -> Pixels:
    return make_phantom(PHANTOM_SEEDS + int(rng.integers(0, 1_000_000))).scans[0].pixels


def _inverted_scan(rng: np.random.Generator) -> Pixels:
    return 255 - _phantom(rng)


def _upside_down_scan(rng: np.random.Generator) -> Pixels:
    return np.ascontiguousarray(_phantom(rng)[::-1])


def _sideways_scan(rng: np.random.Generator) -> Pixels:
    return np.ascontiguousarray(np.rot90(_phantom(rng)))


def _speckle(rng: np.random.Generator, grid: Grid, *, echo: NDArray[np.float32]) -> Pixels:
    """Speckle through the phantom's scanner, samples (depth, beam): ultrasound without a breast."""
    flat = np.full(echo.shape, -100.0, np.float32)
    loss = np.full(echo.shape, LOSS, np.float32)
    textured = echo + 2.5 * smooth_field(rng, echo.shape, cells=(18, 14))
    return acquire(rng, Tissue(echo_db=textured, mirror_db=flat, loss=loss), grid)


def _fan(samples: Pixels, *, half_angle: float, rows: int, face: float) -> Pixels:
    """Samples (depth, beam) as a sector of `half_angle` radians; the face lies `face` depths below the apex."""
    width = int(2 * rows * np.sin(half_angle)) + 20
    y, x = np.indices((rows, width), np.float32)
    x = x - width / 2
    reach = np.hypot(x, y + 1) / rows
    depth = (reach - face) / (1 - face) * (samples.shape[0] - 1)
    beam = (np.arctan2(x, y + 1) / half_angle + 1) / 2 * (samples.shape[1] - 1)
    return cv2.remap(samples, beam, depth.astype(np.float32), cv2.INTER_LINEAR, borderValue=0).astype(np.uint8)


def _plane(grid: Grid) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Depth and beam of every sample, each 0 … 1."""
    rows, beams = grid.x.shape
    depth, beam = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : beams * 1j]
    return depth.astype(np.float32), beam.astype(np.float32)


def _inside(depth: NDArray[np.float32], beam: NDArray[np.float32], *ellipse: float) -> NDArray[np.float32]:
    """Distance from an ellipse (depth, beam, half depth, half beam): below 1 within."""
    y, x, half_y, half_x = ellipse
    return np.asarray(np.hypot((depth - y) / half_y, (beam - x) / half_x), np.float32)


def _heart(rng: np.random.Generator) -> Pixels:
    """A fan with four dark chambers in muscle."""
    grid = make_grid("Aurelia 7", 45.0)
    depth, beam = _plane(grid)
    echo = np.full(depth.shape, MUSCLE_DB - 6, np.float32)
    jitter = rng.normal(0, 0.03, (4, 2))
    for (y, x, half_y, half_x), (dy, dx) in zip(
        ((0.4, 0.33, 0.2, 0.12), (0.4, 0.67, 0.17, 0.11), (0.75, 0.35, 0.11, 0.11), (0.75, 0.66, 0.11, 0.1)),
        jitter,
        strict=True,
    ):
        away = _inside(depth, beam, y + dy, x + dx, half_y, half_x)
        echo[away < 1.25] = MUSCLE_DB + 5
        echo[away < 1] = BLOOD_DB
    return _fan(_speckle(rng, grid, echo=echo), half_angle=0.7, rows=int(rng.integers(440, 600)), face=0.03)


def _vessel(rng: np.random.Generator) -> Pixels:
    """A long dark vessel with bright walls across a linear probe's picture, muscle around it."""
    grid = make_grid("Aurelia 7", 35.0)
    depth, beam = _plane(grid)
    middle = rng.uniform(0.35, 0.6) + rng.normal(0, 0.08) * (beam - 0.5)
    away = np.abs(depth - middle) / rng.uniform(0.07, 0.12)
    echo = np.full(depth.shape, MUSCLE_DB - 6, np.float32) + 4 * np.sin(60 * depth + 4 * beam).astype(np.float32)
    echo[away < 1.3] = MUSCLE_DB + 14
    echo[away < 1] = BLOOD_DB
    return np.asarray(grid.to_picture(_speckle(rng, grid, echo=echo)), np.uint8)


def _fetal_head(rng: np.random.Generator) -> Pixels:
    """A bright skull's ellipse with a midline in fluid, in a wide fan."""
    grid = make_grid("Aurelia 7", 45.0)
    depth, beam = _plane(grid)
    y, x = rng.normal((0.52, 0.5), 0.03)
    away = _inside(depth, beam, float(y), float(x), 0.25, 0.27)
    echo = np.full(depth.shape, FLUID_DB, np.float32)
    echo[(depth < 0.14) | (depth > 0.88)] = MUSCLE_DB
    echo[away < 1] = MUSCLE_DB - 12
    echo[np.abs(away - 1) < 0.06] = BONE_DB
    echo[(np.abs(depth - y) < 0.008) & (away < 0.8)] = BONE_DB - 12
    return _fan(_speckle(rng, grid, echo=echo), half_angle=0.6, rows=int(rng.integers(440, 600)), face=0.3)


OOD_KINDS: Mapping[str, Maker] = MappingProxyType(
    {
        "black": _black,
        "white": _white,
        "noise": _noise,
        "gradient": _gradient,
        "checkerboard": _checkerboard,
        "text page": _text_page,
        "natural spectrum": _natural_spectrum,
        "photograph": _photograph,
        "colour chart": _colour_chart,
        "chest X-ray": _chest_xray,
        "heart": _heart,
        "vessel": _vessel,
        "fetal head": _fetal_head,
        "inverted scan": _inverted_scan,
        "upside-down scan": _upside_down_scan,
        "sideways scan": _sideways_scan,
    }
)
"""Kind → what draws it. The first ten are no ultrasound, the next three no breast, the last three no upright scan."""
