"""From a plan to a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Case, Scan
from sonoseek.datasets.phantom.grid import Grid, make_grid
from sonoseek.datasets.phantom.lesions import Lesion, place_lesion
from sonoseek.datasets.phantom.marks import burn_in
from sonoseek.datasets.phantom.physics import acquire
from sonoseek.datasets.phantom.plan import PhantomPlan, plan_phantom
from sonoseek.datasets.phantom.tissue import draw_layers, make_tissue


@dataclass(frozen=True, kw_only=True)
class PhantomTruth:
    """The lesion as it was put in, before any pixel was drawn.

    Attributes:
        kind: of the lesion.
        centre: (row, column) in pixels; may be fractional.
        axes_mm: full lengths along the first axis and across it; the mask's area is that of this ellipse.
        angle_deg: of the first axis from horizontal, positive with its right end down.
        extent_mm: (vertical, horizontal) size of the mask.
        spacing_mm: (row, column), millimetres per pixel.
    """

    kind: str
    centre: tuple[float, float]
    axes_mm: tuple[float, float]
    angle_deg: float
    extent_mm: tuple[float, float]
    spacing_mm: tuple[float, float]

    @property
    def taller_than_wide(self) -> bool:
        """Not parallel to the skin: higher than it is wide."""
        return self.extent_mm[0] > self.extent_mm[1]


def _lay_out(plan: PhantomPlan) -> tuple[Grid, Lesion | None]:
    grid = make_grid(plan.scanner.name, plan.depth_mm)
    layers = draw_layers(plan.seed, plan.view)
    return grid, place_lesion(plan, grid, depth_mm=(layers.fat + layers.gland) / 2)


def truth_of(plan: PhantomPlan) -> PhantomTruth | None:
    """The lesion of a plan without rendering it; None for a normal breast."""
    grid, lesion = _lay_out(plan)
    if lesion is None:
        return None
    return PhantomTruth(
        kind=lesion.kind,
        centre=grid.pixel(*lesion.centre_mm),
        axes_mm=lesion.axes_mm,
        angle_deg=lesion.angle_deg,
        extent_mm=lesion.extent_mm,
        spacing_mm=(grid.spacing_mm, grid.spacing_mm),
    )


def render_plan(plan: PhantomPlan) -> Case:
    """Draw the phantom: one scan and its lesion's mask (all False for a normal breast)."""
    grid, lesion = _lay_out(plan)
    rng = np.random.default_rng([plan.seed, 7, plan.view])
    tissue = make_tissue(rng, grid, layers=draw_layers(plan.seed, plan.view), lesion=lesion)
    pixels = grid.to_picture(acquire(rng, tissue, grid))
    burn_in(np.random.default_rng([plan.seed, 8, plan.view]), pixels, plan=plan, grid=grid, lesion=lesion)
    scan = Scan(
        pixels=pixels,
        spacing_mm=(grid.spacing_mm, grid.spacing_mm),
        patient_id=plan.patient_id,
        laterality=plan.laterality,
        source=f"{plan.case_id} ({plan.scanner.name})",
    )
    return Case(**vars(plan.record()), scans=(scan,), lesion_masks=(_mask(grid, lesion),))


def _mask(grid: Grid, lesion: Lesion | None) -> NDArray[np.bool_]:
    """Pixels whose centre lies within the contour, bool (H, W)."""
    mask = np.zeros(grid.picture, np.bool_)
    if lesion is None:
        return mask
    reach = float(lesion.radius_mm.max()) / grid.spacing_mm + 2
    row, column = grid.pixel(*lesion.centre_mm)
    top, bottom = max(int(row - reach), 0), min(int(row + reach) + 1, mask.shape[0])
    left, right = max(int(column - reach), 0), min(int(column + reach) + 1, mask.shape[1])
    y = ((np.arange(top, bottom, dtype=np.float32) - grid.origin[0]) * grid.spacing_mm)[:, None]
    x = ((np.arange(left, right, dtype=np.float32) - grid.origin[1]) * grid.spacing_mm)[None, :]
    mask[top:bottom, left:right] = lesion.polar(x.astype(np.float32), y.astype(np.float32))[0] > 0
    return mask & grid.area


def make_phantom(seed: int, *, pathology: str | None = None, scanner: str | None = None, view: int = 0) -> Case:
    """Simulate one breast ultrasound.

    Args:
        seed: ≥ 0; the same seed gives the same pixels.
        pathology: one of `core.PATHOLOGIES`, or None to draw one with BUSI's shares.
        scanner: one of `SCANNERS`, or None to draw one.
        view: 0-based; other views of the same seed show the same patient again.

    Returns:
        A case with one scan, uint8 (H, W) with its true spacing, and its lesion's mask, all False for a normal breast.

    Raises:
        InvalidValueError: negative seed or view, or an unknown pathology.
        NotFoundError: an unknown scanner.
    """
    return render_plan(plan_phantom(seed, view=view, pathology=pathology, scanner=scanner))
