"""A network for tests: instant, deterministic, and it keeps a bundle's promises exactly; and scans for it."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.core import PATHOLOGIES, Scan
from sonoseek.encoder import Bundle, Encoding, OODModel
from sonoseek.preprocessing import PreprocessingRecipe

DIMENSION = 24
CELLS = 14


class FakeEncoder:
    """Random projections of each cell's brightness, contrast and slope: similar scans are similar, all promises kept.

    evidence is exactly 0 in cells of padding, embedding its mean over cells, logits linear in the embedding.
    """

    def __init__(
        self,
        *,
        bundle_id: str = "fake-000000000000",
        abstain_below: float = 0.0,
        scale: float = 8.0,
        ood: OODModel | None = None,
    ) -> None:
        rng = np.random.default_rng(7)
        self.calls = 0
        self.threads: set[str] = set()
        self._project = rng.normal(size=(DIMENSION, 4)).astype(np.float32)
        self._bundle = Bundle(
            path=Path("fake"),
            name="fake",
            version="1",
            bundle_id=bundle_id,
            classes=PATHOLOGIES,
            recipe=PreprocessingRecipe(),
            temperature=1.5,
            head_weight=(rng.normal(size=(3, DIMENSION)) * scale).astype(np.float32),
            head_bias=np.array([0.3, -0.1, -0.2], np.float32),
            abstain_below=abstain_below,
            conformal_quantile=0.7,
            operating_points={},
            training={},
            embedding_dim=DIMENSION,
            grid=(CELLS, CELLS),
            fine_grid=(2 * CELLS, 2 * CELLS),
            ood=ood,
            duplicate_threshold=0.99999,  # unlike scans are close together in this space
        )

    @property
    def bundle(self) -> Bundle:
        return self._bundle

    def encode(self, canvases: NDArray[np.float32]) -> Encoding:
        self.calls += 1
        self.threads.add(threading.current_thread().name)
        count, _, size, _ = canvases.shape
        side = size // CELLS
        tiles = canvases.reshape(count, CELLS, side, CELLS, side).transpose(0, 1, 3, 2, 4)
        seen = (tiles >= 0).any(axis=(3, 4))
        grey = np.where(tiles >= 0, tiles, 0.5) - 0.4
        features = np.stack(
            [
                grey.mean(axis=(3, 4)),
                grey.std(axis=(3, 4)),
                np.diff(grey, axis=3).mean(axis=(3, 4)) * 30,
                grey.max(axis=(3, 4)) * grey.min(axis=(3, 4)),
            ],
            axis=1,
        )
        evidence = np.tanh(np.einsum("df,nfhw->ndhw", self._project, features) * 2) * seen[:, None]
        evidence = np.ascontiguousarray(evidence, np.float32)
        embedding = evidence.mean(axis=(2, 3))
        logits = embedding @ self._bundle.head_weight.T + self._bundle.head_bias
        lit = 0.05 + np.clip(canvases, 0, 1).reshape(count, 2 * CELLS, side // 2, 2 * CELLS, side // 2).mean((2, 4))
        blocks = lit.reshape(count, CELLS, 2, CELLS, 2)
        within = (blocks / blocks.mean((2, 4), keepdims=True)).reshape(lit.shape).astype(np.float32)
        return Encoding(logits=logits, embedding=embedding, evidence=evidence, spatial_weights=within)


def draw_scan(seed: int, *, shape: tuple[int, int] = (160, 220)) -> Scan:
    """Speckle with a dark blob: enough of a scan for preprocessing to keep it, at a fraction of a phantom's cost."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=shape), (0, 0), 1.5) * 260 + 120
    rows, columns = np.indices(shape)
    centre, radius = rng.uniform(0.3, 0.7, 2) * shape, rng.uniform(0.08, 0.25) * min(shape)
    blob = np.exp(-(((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / radius**2))
    return Scan(pixels=np.clip(noise * (1 - 0.8 * blob), 4, 250).astype(np.uint8), source=f"scan {seed}")
