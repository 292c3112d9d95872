"""One scan under every method: its maps on the cells of the canvas, and how long each took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sonoseek.encoder import Encoder, Encoding
from sonoseek.explain.perturbation import blurred

Cells = NDArray[np.float32]
Canvas = NDArray[np.float32]
CENTRE_WIDTH = 0.25
"""Standard deviation of the centre's Gaussian, as a share of the scan's height and width."""
BASELINE_CELLS = 40
"""Cells a side of the baselines' maps."""


class Peers(Protocol):
    """Gradient methods on the network that a bundle was exported from; `sonoseek.training.saliency` has them."""

    names: Sequence[str]

    def explain(self, method: str, canvas: Canvas, target: int, *, nothing: Canvas, randomised: bool = False) -> Cells:
        """A map of one class's logit on its own grid; `randomised`: of the network with random weights."""
        ...

    def randomised(self) -> Encoder:
        """The network with random weights, as an encoder."""
        ...

    def plain(self, canvas: Canvas) -> float:
        """Seconds of one plain run, where the gradient methods run: the median of several."""
        ...


OpenPeers = Callable[[Path], Peers | None]
"""A bundle's folder → its peers, or None where its network is not available. Picklable: workers call it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkInput:
    """A scan as it enters the network, and its encoding.

    Attributes:
        canvas: (1, S, S). nothing: the same, blurred.
        scan_pixels: flat indices of the canvas pixels that hold scan.
        encoding: of the canvas alone, N = 1.
    """

    canvas: Canvas
    nothing: Canvas
    scan_pixels: NDArray[np.intp]
    encoding: Encoding


def network_input_of(encoder: Encoder, canvas: Canvas) -> NetworkInput:
    """Encode a canvas, and blur it."""
    return NetworkInput(
        canvas=canvas,
        nothing=blurred(canvas),
        scan_pixels=np.flatnonzero(canvas.reshape(-1) >= 0),
        encoding=encoder.encode(canvas[np.newaxis]),
    )


def centre(network_input: NetworkInput) -> Cells:
    """A Gaussian around the middle of the scan, whatever is in it."""
    rows, columns = np.nonzero(network_input.canvas[0] >= 0)
    side = network_input.canvas.shape[-1]
    place = (np.arange(BASELINE_CELLS) + 0.5) * side / BASELINE_CELLS
    height, width = np.ptp(rows) + 1.0, np.ptp(columns) + 1.0
    down = np.exp(-0.5 * np.square((place - rows.mean()) / (CENTRE_WIDTH * height)))
    across = np.exp(-0.5 * np.square((place - columns.mean()) / (CENTRE_WIDTH * width)))
    return np.outer(down, across).astype(np.float32)


def noise(network_input: NetworkInput, seed: int) -> Cells:
    """Noise where there is scan, whatever it shows: normal numbers on 10 × 10 cells, each repeated 4 × 4 times."""
    import cv2

    coarse = np.random.default_rng(seed).normal(size=(BASELINE_CELLS // 4, BASELINE_CELLS // 4))
    scanned = (network_input.canvas[0] >= 0).astype(np.float32)
    covered = np.asarray(cv2.resize(scanned, (BASELINE_CELLS, BASELINE_CELLS), interpolation=cv2.INTER_AREA)) > 0.999
    return np.where(covered, coarse.repeat(4, 0).repeat(4, 1), 0.0).astype(np.float32)


def ranked(cells: Cells, network_input: NetworkInput) -> NDArray[np.intp]:
    """The canvas pixels that hold scan, the most important first; cells are interpolated, equal ones in order."""
    return network_input.scan_pixels[np.argsort(-_on_the_scan(cells, network_input), kind="stable")]


def _on_the_scan(cells: Cells, network_input: NetworkInput) -> NDArray[np.float32]:
    """The values of the canvas pixels that hold scan, interpolated between cells."""
    import cv2

    side = network_input.canvas.shape[-1]
    fine = cells if cells.shape == (side, side) else cv2.resize(cells, (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(fine, np.float32).reshape(-1)[network_input.scan_pixels]


def rank_correlation(one: Cells, other: Cells, network_input: NetworkInput) -> float:
    """Spearman's ρ between two maps over the pixels that hold scan; 0 where either is constant.

    Source: Adebayo et al. 2018 (arXiv:1810.03292).
    """
    from scipy.stats import rankdata

    return correlation(*(rankdata(_on_the_scan(cells, network_input)) for cells in (one, other)))


def correlation(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Pearson's r between two maps on one grid; 0 where either is constant."""
    if min(float(np.ptp(one)), float(np.ptp(other))) == 0.0:
        return 0.0
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
