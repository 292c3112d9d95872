"""A projection of a gallery into the plane: near scans mostly lie near, and a new scan can be placed.

The plane is the one in which the unit embeddings vary most (principal components; Pearson 1901). It is linear, so it
is the same every time, a new scan is placed exactly, and the share of the variance that it shows is known. It does
not show every neighbourhood: two scans that lie together here may differ in the directions that are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import InvalidValueError
from sonoseek.core.arrays import unit_rows
from sonoseek.gallery import Gallery, GalleryEntry

__all__ = ["Projection", "project_gallery"]

MOST = 4_000
"""Scans on a map, at most: more are a blot, and a random sample shows the same shape."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """The scans of a gallery in the plane.

    Attributes:
        gallery_state: which state of it (`Gallery.state`).
        entries: the scans that are shown, without pictures; a sample where there are too many.
        places: float32 (n, 2), x and y of each.
        total: scans in the gallery.
        explained: shares of the variance along x and y, 0 … 1.
        centre: float32 (D,), mean of the unit embeddings.
        axes: float32 (2, D), orthonormal.
    """

    gallery_state: str
    entries: tuple[GalleryEntry, ...]
    places: NDArray[np.float32]
    total: int
    explained: tuple[float, float]
    centre: NDArray[np.float32]
    axes: NDArray[np.float32]

    def place(self, embedding: NDArray[np.float32]) -> tuple[float, float]:
        """Where a scan lies: x and y.

        Args:
            embedding: float32 (D,), of the gallery's bundle, any length but 0.

        Raises:
            InvalidValueError: of another bundle, or without direction.
        """
        length = float(np.linalg.norm(embedding))
        if embedding.shape != self.centre.shape or not 0 < length < np.inf:
            raise InvalidValueError(
                f"the embedding is {embedding.shape} of length {length:g}, the map's are {self.centre.shape} and not "
                "zero; place scans that the gallery's bundle has encoded."
            )
        x, y = (self.axes @ (embedding / length - self.centre)).tolist()
        return float(x), float(y)


def project_gallery(gallery: Gallery, *, most: int = MOST, seed: int = 0) -> Projection:
    """Lay a gallery out in the plane.

    Args:
        gallery: open; an empty one gives a map without places.
        most: scans on the map, at most.
        seed: of the sample, where there are more.
    """
    state = gallery.state()
    entries, total = gallery.sample(most, seed=seed), gallery.count()
    dimension = gallery.dimension
    embeddings = np.array([entry.embedding for entry in entries]).reshape(len(entries), dimension)
    unit = unit_rows(embeddings).astype(np.float64)
    centre = unit.mean(axis=0) if len(unit) else np.zeros(dimension)
    spread = (unit - centre).T @ (unit - centre)
    values, vectors = np.linalg.eigh(spread)
    axes = np.stack([_signed(vectors[:, -1]), _signed(vectors[:, -2])])
    whole = float(values.sum())
    shares = (float(values[-1] / whole), float(values[-2] / whole)) if whole > 0 else (0.0, 0.0)
    return Projection(
        gallery_state=state,
        entries=entries,
        places=((unit - centre) @ axes.T).astype(np.float32),
        total=total,
        explained=shares,
        centre=centre.astype(np.float32),
        axes=axes.astype(np.float32),
    )


def _signed(axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """An axis has no sign of its own: its largest number is made positive, so that the map never flips."""
    flipped: NDArray[np.float64] = axis * np.sign(axis[np.argmax(np.abs(axis))])
    return flipped
