"""The breast behind the picture: echo strength and attenuation of every sample of a grid."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sonoseek.datasets.phantom.grid import Grid
from sonoseek.datasets.phantom.implant import add_lesion
from sonoseek.datasets.phantom.lesions import Lesion
from sonoseek.datasets.phantom.noise import Floats, floats, ramp, smooth_field, smooth_line

SKIN_DB, FAT_DB, GLAND_DB, MUSCLE_DB, CHEST_DB = -27.0, -36.0, -26.0, -38.0, -42.0
"""Mean backscatter, relative to what is shown white at the usual gain."""
FAT_LOSS, GLAND_LOSS, MUSCLE_LOSS, CHEST_LOSS, RIB_LOSS = 0.52, 0.68, 0.74, 1.0, 5.0
"""Attenuation, dB/cm/MHz, one way."""
BAND_LOSS = 0.16
"""Standard deviation of the attenuation from beam to beam."""
SLAB_ROWS = 32


@dataclass(frozen=True, kw_only=True)
class Layers:
    """A patient's breast, from the skin down, millimetres.

    Attributes:
        skin: thickness.
        fat: depth of the border between subcutaneous fat and gland.
        gland: depth of the gland's lower border.
        muscle: depth of the pectoral fascia.
        chest: depth of the chest wall.
        density: 0 (nearly all fat) … 1 (nearly all gland), share of gland in the glandular zone.
        tilt: slope of the deep layers.
        ribs: a rib is in the plane.
        waviness: how strongly the layers undulate, millimetres.
    """

    skin: float
    fat: float
    gland: float
    muscle: float
    chest: float
    density: float
    tilt: float
    ribs: bool
    waviness: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Tissue:
    """What the beam meets, float32 (Z, B) each.

    Attributes:
        echo_db: backscatter of diffuse scatterers.
        mirror_db: echo of smooth surfaces, which does not speckle; −100 where there is none.
        loss: attenuation, dB/cm/MHz, one way.
    """

    echo_db: Floats
    mirror_db: Floats
    loss: Floats


def draw_layers(seed: int, view: int) -> Layers:
    """The layers of a patient; the view shifts them a little."""
    patient, scan = np.random.default_rng([seed, 5]), np.random.default_rng([seed, 6, view])
    skin = patient.uniform(0.9, 2.1)
    fat = skin + patient.gamma(4.0, 1.25) * scan.uniform(0.85, 1.15)
    gland = fat + patient.uniform(7.0, 17.0) * scan.uniform(0.85, 1.15)
    muscle = gland + patient.uniform(0.8, 4.0)
    return Layers(
        skin=skin,
        fat=fat,
        gland=gland,
        muscle=muscle,
        chest=muscle + patient.uniform(5.0, 11.0),
        density=float(patient.beta(2.6, 1.5)),
        tilt=float(scan.normal(0.0, 0.09)),
        ribs=bool(scan.random() < 0.35),
        waviness=float(scan.uniform(0.4, 1.5)),
    )


def make_tissue(rng: np.random.Generator, grid: Grid, *, layers: Layers, lesion: Lesion | None) -> Tissue:
    """Lay the breast out on a grid.

    Args:
        rng: of the view; textures are drawn from it.
        grid: where.
        layers: of the patient.
        lesion: in it, or None.
    """
    polar = lesion.polar(grid.x, grid.y) if lesion is not None else None
    depth = _folded_depth(rng, grid, layers=layers, lesion=lesion, away=polar[0] if polar else None)
    textures = _folded_textures(rng, grid, depth=depth)
    echo, mirror, loss = _fill(rng, grid, layers=layers, depth=depth, textures=textures)
    _add_skin(rng, grid, layers=layers, echo=echo, mirror=mirror)
    if layers.ribs:
        _add_rib(rng, grid, layers=layers, depth=depth, echo=echo, mirror=mirror, loss=loss)
    if lesion is not None and polar is not None:
        add_lesion(rng, grid, lesion=lesion, polar=polar, echo=echo, mirror=mirror, loss=loss)
    # Fat and fibres never weaken neighbouring beams alike: hence the light and dark bands down every scan.
    loss += smooth_field(rng, echo.shape, cells=(7 / grid.step_mm[0], 4 / grid.step_mm[1])) * np.float32(BAND_LOSS)
    return Tissue(echo_db=echo, mirror_db=mirror, loss=loss)


def _folded_depth(
    rng: np.random.Generator, grid: Grid, *, layers: Layers, lesion: Lesion | None, away: Floats | None
) -> Floats:
    """Depth of every sample in the unfolded breast: layers undulate, tilt, and bend round a lesion."""
    shape, (dz, dx) = grid.x.shape, grid.step_mm
    fold = smooth_field(rng, shape, cells=(17 / dz, 16 / dx)) * np.float32(layers.waviness)
    fold += smooth_field(rng, shape, cells=(4.5 / dz, 6.5 / dx)) * np.float32(0.24 * layers.waviness)
    fold += grid.x * np.float32(layers.tilt)
    # Skin lies flat on the probe, muscle nearly so on the ribs: the soft layers between fold most.
    depth = grid.z + fold * ramp(grid.z, layers.skin, layers.skin + 9.0) * (
        1.0 - 0.6 * ramp(grid.z, layers.gland - 4, layers.muscle + 4)
    )
    if lesion is not None and away is not None and lesion.pull:
        near = np.exp(np.minimum(away, 0) * np.float32(3.2 / max(lesion.axes_mm)))
        near *= ramp(grid.z, layers.skin, layers.skin + 3.0)
        depth += (grid.y - np.float32(lesion.centre_mm[1])) * near * np.float32(lesion.pull)
    return depth.astype(np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Textures:
    """Random fields that follow the folds, float32 (Z, B), mean 0, deviation about 1.

    Attributes:
        line: 0 … 1, septa and ligaments, bright where they meet the beam squarely.
        lobes: lobules of fat and gland.
        strands: long fibres.
        strokes: ≥ 0, short bright fibres with tapering ends.
        patches: millimetres-wide zones.
        lobules: −1 … 1, one sign on either side of a septum.
    """

    line: Floats
    lobes: Floats
    strands: Floats
    strokes: Floats
    patches: Floats
    lobules: Floats


def _folded_textures(rng: np.random.Generator, grid: Grid, *, depth: Floats) -> _Textures:
    shape, (dz, dx) = grid.x.shape, grid.step_mm
    coarse = rng.uniform(0.8, 1.25)
    septa = smooth_field(rng, shape, cells=(3.2 * coarse / dz, 9.0 * coarse / dx))
    septa += np.float32(0.35) * smooth_field(rng, shape, cells=(1.5 / dz, 3.2 / dx))
    lobes = smooth_field(rng, shape, cells=(1.5 * coarse / dz, 4.2 * coarse / dx)) * np.float32(0.75)
    lobes += smooth_field(rng, shape, cells=(0.6 / dz, 1.1 / dx)) * np.float32(0.5)
    strands = smooth_field(rng, shape, cells=(0.6 / dz, 9.0 / dx)) * np.float32(0.8)
    strands += smooth_field(rng, shape, cells=(0.33 / dz, 1.5 / dx)) * np.float32(0.5)
    strokes = smooth_field(rng, shape, cells=(0.55 / dz, 3.6 / dx)) * np.float32(0.8)
    strokes += smooth_field(rng, shape, cells=(0.33 / dz, 1.1 / dx)) * np.float32(0.65)
    patches = smooth_field(rng, shape, cells=(5.5 / dz, 9.0 / dx))
    rows = depth * np.float32(1 / dz) - np.float32(0.5)
    sway = smooth_field(rng, shape, cells=(6 / dz, 8 / dx)) * np.float32(0.8 / dx)
    columns = np.arange(shape[1], dtype=np.float32)[None, :] + sway
    septa, lobes, strands, strokes, patches = (
        floats(cv2.remap(plane, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))
        for plane in (septa, lobes, strands, strokes, patches)
    )
    thin = np.square(septa * np.float32(1 / 0.12))
    line = np.exp(-thin) * _flatness(septa, (dz, dx)) * np.clip(0.75 + 0.5 * strands, 0, 1)
    return _Textures(
        line=line,
        lobes=lobes,
        strands=strands,
        strokes=np.maximum(strokes - np.float32(0.4), 0),
        patches=patches,
        lobules=np.clip(septa * 2, -1, 1),
    )


def _fill(
    rng: np.random.Generator, grid: Grid, *, layers: Layers, depth: Floats, textures: _Textures
) -> tuple[Floats, Floats, Floats]:
    """(echo, mirror, loss) of fat, gland, muscle and chest wall, as in `Tissue`."""
    beams = grid.x.shape[1]
    scallop = np.abs(smooth_line(rng, beams, cell=7.0 / grid.step_mm[1])) * np.float32(1.6) - np.float32(1.2)
    echo, mirror, loss = (np.empty_like(depth) for _ in range(3))
    # Slabs that stay in the cache: three times as fast as the whole grid at once.
    for first in range(0, len(depth), SLAB_ROWS):
        rows = slice(first, first + SLAB_ROWS)
        slab = _Textures(**{name: getattr(textures, name)[rows] for name in _Textures.__dataclass_fields__})
        echo[rows], mirror[rows], loss[rows] = _fill_slab(slab, layers=layers, depth=depth[rows], scallop=scallop)
    _add_fasciae(grid, layers=layers, depth=depth, textures=textures, echo=echo, mirror=mirror)
    return echo, mirror, loss


def _fill_slab(textures: _Textures, *, layers: Layers, depth: Floats, scallop: Floats) -> tuple[Floats, Floats, Floats]:
    line, lobes, strands, patches = textures.line, textures.lobes, textures.strands, textures.patches
    into_gland = ramp(depth - scallop, layers.fat - 0.3, layers.fat + 0.3)
    below_gland = ramp(depth + scallop * np.float32(0.4), layers.gland - 0.4, layers.gland + 0.4)
    into_muscle = ramp(depth, layers.muscle - 0.15, layers.muscle + 0.15)
    into_chest = ramp(depth, layers.chest - 0.2, layers.chest + 0.2)
    # A fatty breast has islands of gland, a dense one islands of fat.
    threshold = 0.9 - 2.9 * layers.density
    share = into_gland * (1 - below_gland) * ramp(patches + lobes * np.float32(0.35), threshold, threshold + 0.6)

    strokes = textures.strokes * np.clip(np.float32(0.7) + np.float32(0.5) * patches, 0, 2)
    fat_db = FAT_DB + 1.2 * patches + 1.4 * textures.lobules + 1.0 * strands + 5.0 * strokes + 12.0 * line
    gland_db = GLAND_DB + 2.2 * lobes + 2.0 * strands + 1.5 * patches + 9.0 * strokes + 4.0 * line
    gland_db -= 10.0 * ramp(-lobes, 0.6, 1.2)
    muscle_db = MUSCLE_DB + 14.0 * ramp(strands, 0.4, 2.0) + 6.0 * strokes + 1.5 * patches
    chest_db = CHEST_DB + 6.0 * strokes + 3.0 * patches + 3.0 * strands
    chest_db -= np.float32(0.7) * np.maximum(depth - np.float32(layers.chest), 0)
    echo = fat_db + (gland_db - fat_db) * share
    echo += (muscle_db - echo) * into_muscle
    echo += (chest_db - echo) * into_chest
    loss = FAT_LOSS + (GLAND_LOSS - FAT_LOSS) * share
    loss += (MUSCLE_LOSS - loss) * into_muscle
    loss += (CHEST_LOSS - loss) * into_chest
    mirror = -27 - 30 * (1 - line) + 3 * patches - 60 * into_muscle
    return echo, mirror, loss


def _add_fasciae(
    grid: Grid, *, layers: Layers, depth: Floats, textures: _Textures, echo: Floats, mirror: Floats
) -> None:
    """Bright sheets between the layers, broken where they tilt."""
    shallowest, deepest = depth.min(axis=1), depth.max(axis=1)
    breaks = 5 * textures.strands + 5 * textures.lobes + 4 * textures.patches + 9 * textures.strokes
    breaks += 26 * _flatness(depth, grid.step_mm) - 30
    for at, thick, bright in (
        (layers.muscle, 0.16, -27.0),
        (layers.chest, 0.2, -27.0),
        (layers.gland, 0.14, -33.0),
        (layers.fat, 0.14, -33.0),
    ):
        band = (shallowest < at + 1) & (deepest > at - 1)
        if not band.any():
            continue
        rows = np.s_[int(band.argmax()) : len(band) - int(band[::-1].argmax())]
        off = np.square((depth[rows] - np.float32(at)) * np.float32(1 / thick))
        echo[rows] += 7 * np.exp(off * np.float32(-0.16)) * np.clip(np.float32(1) + textures.lobes[rows], 0, 2)
        np.maximum(mirror[rows], np.float32(bright) + breaks[rows] - 8 * off, out=mirror[rows])


def _flatness(field: Floats, step: tuple[float, float]) -> Floats:
    """How squarely a field's contours meet the beam, 1 level … 0 upright: a tilted mirror sends less back."""
    down = cv2.Sobel(field, cv2.CV_32F, 0, 1, ksize=3) * np.float32(1 / step[0])
    across = cv2.Sobel(field, cv2.CV_32F, 1, 0, ksize=3) * np.float32(1 / step[1])
    down *= down
    across *= across
    return floats(down / (down + across * np.float32(1.5) + np.float32(1e-6)))


def _add_skin(rng: np.random.Generator, grid: Grid, *, layers: Layers, echo: Floats, mirror: Floats) -> None:
    """Gel, the two lines of the skin and the dermis between them."""
    beams, per_mm = grid.x.shape[1], 1 / grid.step_mm[1]
    bottom = int(np.searchsorted(grid.z[:, 0], layers.skin + 1.5))
    z = grid.z[:bottom]
    lower = layers.skin + smooth_line(rng, beams, cell=9 * per_mm) * np.float32(0.13)
    inside = ramp(z, 0.35, 0.5) * (1 - ramp(z - lower, -0.1, 0.1))
    echo[:bottom] += (SKIN_DB - echo[:bottom]) * inside
    echo[:bottom] += (-32 - echo[:bottom]) * (1 - ramp(z, 0.25, 0.4))
    flicker = smooth_line(rng, beams, cell=5 * per_mm) * np.float32(2.5)
    np.maximum(mirror[:bottom], -22 + flicker - np.square((z - 0.4) / 0.16) * 8, out=mirror[:bottom])
    np.maximum(mirror[:bottom], -24 - flicker - np.square((z - lower) / 0.18) * 8, out=mirror[:bottom])


def _add_rib(
    rng: np.random.Generator, grid: Grid, *, layers: Layers, depth: Floats, echo: Floats, mirror: Floats, loss: Floats
) -> None:
    """A rib cut across: a bright arc, nothing behind it."""
    half = rng.uniform(5.0, 9.0)
    centre = rng.uniform(-0.5, 0.5) * grid.scanner.width_mm
    bulge = 1 - np.square((grid.x - np.float32(centre)) * np.float32(1 / half))
    below = depth - np.float32(layers.chest + 2.0) + np.float32(2.8) * np.maximum(bulge, 0)
    bone = ramp(below, -0.1, 0.1) * ramp(bulge, 0.0, 0.1)
    echo += (-45 - echo) * bone
    mirror -= 60 * bone
    loss += (RIB_LOSS - loss) * bone
    rough = smooth_line(rng, grid.x.shape[1], cell=1.6 / grid.step_mm[1])
    top = -23 - 26 * (1 - bulge) + 4 * rough
    np.maximum(mirror, top - np.square(below / np.float32(0.3)) * 8 - 60 * (bulge < 0.02), out=mirror)
    echo += (12 + 3 * rough) * np.exp(-np.square((below - np.float32(0.3)) / np.float32(0.5))) * ramp(bulge, 0.0, 0.5)
