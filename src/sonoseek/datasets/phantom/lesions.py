"""Lesions: their contour, what they send back, and what they take from the beam."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoseek.datasets.phantom.grid import Grid
from sonoseek.datasets.phantom.noise import Floats
from sonoseek.datasets.phantom.plan import PhantomPlan

Polar = tuple[Floats, NDArray[np.int64], Floats]
"""(distance from the contour, index of the angle, distance from the centre), see `Lesion.polar`."""
_ANGLES = 720
_THETA = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Habit:
    """How a kind of lesion usually looks: ranges are (low, high), uniform.

    Attributes:
        length_mm: longer axis.
        aspect: shorter axis ÷ longer axis.
        upright: share that stands taller than wide.
        tilt_deg: standard deviation of the long axis from horizontal (or vertical, if upright).
        waves: strength of lobes: (2–4 per turn, 5–9 per turn, 10–30 per turn), relative to the radius.
        edge_mm: width of the margin's transition.
        ragged_mm: how far the margin strays from the contour, standard deviation.
        echo_db: below the surrounding gland.
        mottle_db: unevenness of the inside.
        loss: attenuation, dB/cm/MHz, one way. Fat and gland lie near 0.6.
        spikes: most spicules round the contour.
        halo: share with an echogenic rim.
        capsule: share with a thin bright capsule.
        chalk: share with calcifications.
        pull: tissue is drawn in (> 0) or pushed aside (< 0).
    """

    length_mm: tuple[float, float] = (7.0, 25.0)
    aspect: tuple[float, float] = (0.42, 0.76)
    upright: float = 0.0
    tilt_deg: float = 9.0
    waves: tuple[float, float, float] = (0.04, 0.01, 0.0)
    edge_mm: tuple[float, float] = (0.2, 0.4)
    ragged_mm: float = 0.0
    echo_db: tuple[float, float] = (12.0, 20.0)
    mottle_db: float = 2.0
    loss: tuple[float, float] = (0.0, 0.42)
    spikes: int = 0
    halo: float = 0.0
    capsule: float = 0.5
    chalk: float = 0.0
    pull: float = -0.4


HABITS = {
    "fibroadenoma": Habit(upright=0.04, chalk=0.04),
    "cyst": Habit(
        length_mm=(5, 22), aspect=(0.45, 0.92), waves=(0.02, 0.0, 0.0), edge_mm=(0.1, 0.25), echo_db=(60, 70),
        mottle_db=0.0, loss=(0.0, 0.05), capsule=0.9,
    ),
    "complicated cyst": Habit(
        length_mm=(5, 20), aspect=(0.45, 0.92), waves=(0.04, 0.02, 0.0), edge_mm=(0.15, 0.5), echo_db=(20, 28),
        mottle_db=2.0, loss=(0.0, 0.2), capsule=0.6,
    ),
    "adenosis": Habit(
        length_mm=(6, 18), aspect=(0.45, 0.8), upright=0.1, tilt_deg=14, waves=(0.1, 0.05, 0.01), edge_mm=(0.8, 1.8),
        ragged_mm=0.25, echo_db=(9, 13), mottle_db=3.0, loss=(0.5, 0.75), capsule=0.0, pull=0.0,
    ),
    "papilloma": Habit(
        length_mm=(5, 13), aspect=(0.42, 0.75), waves=(0.08, 0.03, 0.0), edge_mm=(0.3, 0.7), ragged_mm=0.1,
        echo_db=(11, 16), mottle_db=2.8, loss=(0.2, 0.5), capsule=0.3,
    ),
    "lipoma": Habit(
        length_mm=(9, 28), aspect=(0.28, 0.5), waves=(0.03, 0.01, 0.0), echo_db=(7, 10), mottle_db=2.0,
        loss=(0.45, 0.6), capsule=0.9,
    ),
    "phyllodes": Habit(
        length_mm=(18, 34), aspect=(0.5, 0.75), waves=(0.08, 0.04, 0.0), echo_db=(13, 18), mottle_db=2.4,
        loss=(0.1, 0.4), capsule=0.5,
    ),
    "ductal": Habit(
        length_mm=(9, 30), aspect=(0.6, 0.94), upright=0.56, tilt_deg=17, waves=(0.12, 0.08, 0.03),
        edge_mm=(0.6, 2.0), ragged_mm=0.24, echo_db=(7, 16), mottle_db=3.6, loss=(0.8, 1.45), spikes=11, halo=0.65,
        capsule=0.0, chalk=0.22, pull=0.25,
    ),
    "lobular": Habit(
        length_mm=(11, 32), aspect=(0.55, 0.9), upright=0.4, tilt_deg=20, waves=(0.14, 0.09, 0.03),
        edge_mm=(1.4, 3.0), ragged_mm=0.4, echo_db=(7, 13), mottle_db=3.2, loss=(0.95, 1.6), spikes=9, halo=0.3,
        capsule=0.0, pull=0.3,
    ),
    "in situ": Habit(
        length_mm=(8, 24), aspect=(0.4, 0.75), upright=0.2, tilt_deg=18, waves=(0.12, 0.08, 0.04),
        edge_mm=(0.6, 1.6), ragged_mm=0.3, echo_db=(8, 14), mottle_db=3.2, loss=(0.5, 0.8), capsule=0.0, chalk=0.75,
        pull=0.0,
    ),
    "mucinous": Habit(
        length_mm=(9, 26), aspect=(0.6, 0.92), upright=0.25, tilt_deg=14, waves=(0.06, 0.05, 0.02),
        edge_mm=(0.3, 0.9), ragged_mm=0.15, echo_db=(8, 13), mottle_db=3.0, loss=(0.1, 0.45), halo=0.1, capsule=0.1,
        pull=-0.3,
    ),
    "medullary": Habit(
        length_mm=(10, 30), aspect=(0.6, 0.92), upright=0.3, tilt_deg=14, waves=(0.07, 0.06, 0.02),
        edge_mm=(0.3, 0.9), ragged_mm=0.15, echo_db=(13, 19), mottle_db=2.6, loss=(0.35, 0.7), halo=0.2, capsule=0.05,
        pull=-0.4,
    ),
}  # fmt: skip
"""Kind → habit. BI-RADS Atlas, 5th edition, lexicon of ultrasound, turned into numbers by judgement."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesion:
    """One lesion as seen in one view.

    Attributes:
        kind: as in the plan.
        centre_mm: (x, y) in the grid's millimetres.
        axes_mm: full lengths along the first axis and across it.
        angle_deg: of the first axis from horizontal, positive turning right side down.
        radius_mm: float32 (720,), contour's distance from the centre over the angle from the x axis towards y; its area
            is exactly that of the ellipse with `axes_mm`.
        spikes: float32 (720,), 0 … 1, spicules over the angle.
        edge_mm, ragged_mm, echo_db, mottle_db, loss, pull: as in `Habit`, drawn.
        halo_db, capsule_db: brightness of rim and capsule above the surrounding; 0 without.
        chalk: number of calcifications.
    """

    kind: str
    centre_mm: tuple[float, float]
    axes_mm: tuple[float, float]
    angle_deg: float
    radius_mm: Floats
    spikes: Floats
    edge_mm: float
    ragged_mm: float
    echo_db: float
    mottle_db: float
    loss: float
    pull: float
    halo_db: float
    capsule_db: float
    chalk: int

    @property
    def extent_mm(self) -> tuple[float, float]:
        """(vertical, horizontal) size of the contour."""
        return float(np.ptp(self.radius_mm * np.sin(_THETA))), float(np.ptp(self.radius_mm * np.cos(_THETA)))

    def polar(self, x: Floats, y: Floats) -> Polar:
        """Where points lie in the lesion's own terms.

        Args:
            x: millimetres, broadcast with `y`.
            y: millimetres.

        Returns:
            Signed distance from the contour along the radius, millimetres, inside > 0; index of the angle in the
            tables; distance from the centre, millimetres.
        """
        dx, dy = x - np.float32(self.centre_mm[0]), y - np.float32(self.centre_mm[1])
        distance = np.hypot(dx, dy)
        index = (np.arctan2(dy, dx) * np.float32(_ANGLES / (2 * np.pi))).astype(np.int64) % _ANGLES
        return self.radius_mm[index] - distance, index, distance


def place_lesion(plan: PhantomPlan, grid: Grid, *, depth_mm: float) -> Lesion | None:
    """Draw the lesion of a plan, or None for a normal breast.

    Args:
        plan: whose patient's stream gives size and make, whose view's stream gives section and position.
        grid: the lesion lies whole inside its scan area.
        depth_mm: where the middle of the glandular zone lies in this patient.
    """
    if plan.kind == "none":
        return None
    habit = HABITS[plan.kind]
    patient = np.random.default_rng([plan.seed, 3])
    view = np.random.default_rng([plan.seed, 4, plan.view])
    room = min(grid.depth_mm * 0.62, grid.scanner.width_mm * 0.6)
    length = min(_within(patient, habit.length_mm), room)
    aspect = min(_within(patient, habit.aspect) * view.uniform(0.92, 1.08), 0.98)
    upright = patient.random() < habit.upright
    if upright:
        length = min(length, grid.depth_mm * 0.5)
    length *= view.uniform(0.9, 1.0)
    angle = (90.0 if upright else 0.0) + float(view.normal(0.0, habit.tilt_deg))
    axes = (length, length * aspect)
    spikes = _spike_table(view, habit.spikes)
    radius = _contour(view, axes, angle, waves=habit.waves, spikes=spikes)
    rows, columns = radius * np.sin(_THETA), radius * np.cos(_THETA)
    low, high = 3.0 - float(rows.min()), grid.depth_mm * 0.86 - float(rows.max())
    y = float(np.clip(depth_mm + patient.normal(0, 2.5) + view.normal(0, 0.8), low, max(low, high)))
    edge = grid.beam_edge_mm(max(0.0, y + float(rows.min()))) - 1.0
    left, right = -edge - float(columns.min()), edge - float(columns.max())
    x = float(np.clip(view.normal(0, 0.22) * edge, min(left, right), max(left, right)))
    return Lesion(
        kind=plan.kind,
        centre_mm=(x, y),
        axes_mm=axes,
        angle_deg=angle,
        radius_mm=radius,
        spikes=spikes,
        edge_mm=_within(patient, habit.edge_mm),
        ragged_mm=habit.ragged_mm,
        echo_db=_within(patient, habit.echo_db),
        mottle_db=habit.mottle_db,
        loss=_within(patient, habit.loss),
        pull=habit.pull,
        halo_db=view.uniform(4, 9) if patient.random() < habit.halo else 0.0,
        capsule_db=view.uniform(8, 15) if patient.random() < habit.capsule else 0.0,
        chalk=int(patient.integers(3, 16)) if patient.random() < habit.chalk else 0,
    )


def _within(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    return float(rng.uniform(*limits))


def _contour(
    rng: np.random.Generator,
    axes: tuple[float, float],
    angle_deg: float,
    *,
    waves: tuple[float, float, float],
    spikes: Floats,
) -> Floats:
    """Radius over the angle: an ellipse with lobes, of the ellipse's area."""
    turned = _THETA - np.float32(math.radians(angle_deg))
    a, b = axes[0] / 2, axes[1] / 2
    ellipse = a * b / np.hypot(b * np.cos(turned), a * np.sin(turned))
    bumps = np.zeros(_ANGLES, np.float32)
    for strength, orders in zip(waves, ((2, 3, 4), (5, 6, 7, 9), (11, 14, 17, 21, 26)), strict=True):
        for order in orders:
            phase = rng.uniform(0, 2 * np.pi)
            size = strength * rng.standard_normal() / math.sqrt(len(orders))
            bumps += np.float32(size) * np.cos(order * _THETA + np.float32(phase))
    shape = np.exp(np.clip(bumps, -0.5, 0.5)) + np.float32(0.09) * spikes
    radius = ellipse * shape
    return np.asarray(radius * math.sqrt(a * b / float(np.mean(radius**2))), np.float32)


def _spike_table(rng: np.random.Generator, most: int) -> Floats:
    """Narrow peaks of height 0.2 … 1 at random angles."""
    table = np.zeros(_ANGLES, np.float32)
    for _ in range(int(rng.integers(most // 3, most + 1)) if most else 0):
        centre, width = rng.uniform(0, 2 * np.pi), rng.uniform(0.04, 0.16)
        away = np.angle(np.exp(1j * (_THETA - centre)))
        table = np.maximum(table, np.exp(-((away / width) ** 2)) * rng.uniform(0.2, 1.0))
    return table.astype(np.float32)
