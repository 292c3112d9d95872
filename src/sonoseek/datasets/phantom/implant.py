"""Puts a lesion into the tissue: inside, margin, rim, capsule, spicules, calcifications, edge shadows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sonoseek.datasets.phantom.grid import Grid
from sonoseek.datasets.phantom.lesions import Lesion, Polar
from sonoseek.datasets.phantom.noise import Floats, floats, smooth_field

_REFERENCE_DB = -26.0
"""What a lesion's `echo_db` counts down from: the gland's level, a little lower as fat surrounds many lesions."""


def add_lesion(
    rng: np.random.Generator, grid: Grid, *, lesion: Lesion, polar: Polar, echo: Floats, mirror: Floats, loss: Floats
) -> None:
    """Change the tissue of a grid, in place, to hold a lesion.

    Args:
        rng: of the view.
        grid: where.
        lesion: what.
        polar: of the grid about the lesion, `lesion.polar(grid.x, grid.y)`.
        echo: as in `Tissue`, float32 (Z, B).
        mirror: as in `Tissue`, float32 (Z, B).
        loss: as in `Tissue`, float32 (Z, B).
    """
    reach = 0.5 * max(lesion.axes_mm) + 2.0
    near = np.flatnonzero(polar[0].max(axis=1) > -reach)
    rows = slice(int(near[0]), int(near[-1]) + 1)
    away, index, distance = polar[0][rows], polar[1][rows], polar[2][rows]
    y, echo, mirror, loss = grid.y[rows], echo[rows], mirror[rows], loss[rows]
    dz, dx = grid.step_mm
    mottle = smooth_field(rng, echo.shape, cells=(0.8 / dz, 1.5 / dx)) * np.float32(0.6)
    mottle += smooth_field(rng, echo.shape, cells=(2.2 / dz, 3.4 / dx)) * np.float32(0.7)
    if lesion.ragged_mm:
        fine = smooth_field(rng, echo.shape, cells=(0.6 / dz, 0.9 / dx))
        away = floats(away + (np.float32(0.5) * fine + mottle) * np.float32(lesion.ragged_mm))
    # A margin is sharp here and lost there.
    sharp = np.exp(smooth_field(rng, echo.shape, cells=(4.5 / dz, 4.5 / dx)) * np.float32(min(0.6, lesion.edge_mm)))
    inside = np.clip(away * sharp * np.float32(1 / lesion.edge_mm) + np.float32(0.5), 0, 1)
    outside = np.maximum(-away, 0)
    _add_surround(lesion, echo=echo, inside=inside, outside=outside, index=index, mottle=mottle)
    echo += (np.float32(_REFERENCE_DB - lesion.echo_db) + mottle * np.float32(lesion.mottle_db) - echo) * inside
    mirror -= 70 * inside
    loss += (np.float32(lesion.loss) - loss) * inside
    if lesion.capsule_db:
        upright = np.abs(y - np.float32(lesion.centre_mm[1])) / (distance + np.float32(0.1))
        shell = -40 + lesion.capsule_db + 22 * (np.square(upright) - 1) + 5 * mottle
        np.maximum(mirror, shell - np.square(away * np.float32(1 / 0.16)) * 6, out=mirror)
        _add_edge_shadows(grid.x[rows], y, lesion=lesion, loss=loss)
    if lesion.kind == "cyst":
        front = (away < np.float32(0.3 * min(lesion.axes_mm))) & (y < lesion.centre_mm[1]) & (away > 0)
        fog = -47 - away * np.float32(6.0) + 2 * np.sin(y * 7) + 3 * mottle
        np.maximum(echo, np.where(front, fog, np.float32(-100)), out=echo)
    _add_chalk(rng, grid.x[rows], y, lesion=lesion, mirror=mirror)


def _add_surround(
    lesion: Lesion, *, echo: Floats, inside: Floats, outside: Floats, index: NDArray[np.int64], mottle: Floats
) -> None:
    """Spicules, dark lines with bright flanks, and the echogenic rim."""
    if lesion.spikes.any():
        reach = np.exp(outside * np.float32(-4.5 / max(lesion.axes_mm))) * (1 - inside)
        spike = lesion.spikes[index]
        flank = np.maximum(lesion.spikes[(index + 16) % lesion.spikes.size], lesion.spikes[index - 16])
        echo += (5 * flank * (1 - spike) - 10 * spike) * reach
    if lesion.halo_db:
        rim = np.exp(-np.square(outside * np.float32(0.55))) * (1 - inside)
        echo += np.float32(lesion.halo_db) * rim * np.clip(1 + 0.7 * mottle, 0, 1.8)


def _add_chalk(rng: np.random.Generator, x: Floats, y: Floats, *, lesion: Lesion, mirror: Floats) -> None:
    """A cluster of calcifications, each smaller than the pulse."""
    width = lesion.axes_mm[1]
    cluster = rng.normal(0, 0.12, 2) * width
    for _ in range(lesion.chalk):
        at_x, at_y = lesion.centre_mm + np.clip(cluster + rng.normal(0, 0.14, 2) * width, -0.4 * width, 0.4 * width)
        nearest = np.square(x - np.float32(at_x)) + np.square(y - np.float32(at_y))
        row, column = np.unravel_index(nearest.argmin(), nearest.shape)
        patch = np.s_[max(int(row) - 1, 0) : row + 1, max(int(column) - 1, 0) : column + 2]
        np.maximum(mirror[patch], np.float32(rng.uniform(-32, -16)), out=mirror[patch])


def _add_edge_shadows(x: Floats, y: Floats, *, lesion: Lesion, loss: Floats) -> None:
    """Refraction at the sides of a smooth lesion leaves two thin shadows."""
    vertical, horizontal = lesion.extent_mm
    for side in (-0.5, 0.5):
        column = np.abs(x - np.float32(lesion.centre_mm[0] + side * horizontal)) < 0.45
        row = np.abs(y - np.float32(lesion.centre_mm[1])) < 0.2 * vertical
        loss[column & row] += np.float32(5.0 / vertical)
