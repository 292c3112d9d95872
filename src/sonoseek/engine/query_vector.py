"""The query vector: of one scan or several views of a lesion, of a region of it, moved by liked and disliked matches.

Every query is one direction in the embedding space, linear in each view's evidence,

    q = Σ_views ē / (|ē| views) + LIKED · mean(liked) − DISLIKED · mean(disliked)

with ē the mean of a view's evidence over its cells (of a region, each cell weighted by how much of its evidence lies
inside), and liked and disliked unit embeddings. So the cosine between q and a match splits exactly into the cells of
the views and a part that no pixel carries, the examples'.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Box, Explanation, InvalidValueError
from sonoseek.core.arrays import unit_rows
from sonoseek.engine.encoded_scan import EncodedScan, named_box
from sonoseek.explain import cell_weights, query_evidence

LIKED = 0.75
"""Weight of what was liked, that of the query being 1 (Rocchio's; Manning, Raghavan, Schütze, Introduction to
Information Retrieval, 2008, section 9.1.1)."""
DISLIKED = 0.15
"""Weight of what was disliked; the same source."""


@dataclass(frozen=True, kw_only=True, eq=False)
class QueryVector:
    """One direction, and its parts.

    Attributes:
        views: the views; at least one.
        region: on the first view's pixels, or None.
        embedding: float32 (D,), the direction, of length 1; all zero where there is none.
        shares: of each view, float64 (f·h, g·w): the share of each fine cell inside the region, 0 … 1; None: all.
        gains: of each view: its mean evidence times this is its part of the direction.
        plain: whether the direction is that of one whole scan, as archived ones are: only then is novelty its own.
        moved: whether a region, or liked and disliked matches, moved it from that of the whole scans.
    """

    views: tuple[EncodedScan, ...]
    region: Box | None
    embedding: NDArray[np.float32]
    shares: tuple[NDArray[np.float64] | None, ...]
    gains: tuple[float, ...]
    plain: bool
    moved: bool

    def explain(self, view: int, other: NDArray[np.floating], *, target: str) -> Explanation:
        """The cosine with a match on one view's pixels; what other views and examples add to it is the bias."""
        encoded = self.views[view]
        if self.plain:
            return encoded.explain_cosine(other, target=target)
        return query_evidence(
            encoded.evidence,
            other,
            direction=self.embedding,
            gain=self.gains[view],
            share=self.shares[view],
            mapping=encoded.mapping,
            target=target,
            spatial_weights=encoded.spatial_weights,
        )


def build_query(
    views: Sequence[EncodedScan],
    *,
    region: Box | None = None,
    liked: Sequence[NDArray[np.float32]] = (),
    disliked: Sequence[NDArray[np.float32]] = (),
) -> QueryVector:
    """Build the query vector.

    Args:
        views: the views.
        region: a box on the only view's pixels; its evidence alone is searched with. None: all of it.
        liked: embeddings (D,) of matches to move towards.
        disliked: of matches to move away from.

    Raises:
        InvalidValueError: no view; a region of several views; one that lies outside the scan, or holds no evidence.
    """
    if not views:
        raise InvalidValueError("no scan is given; a query has one view at least.")
    if region is not None and len(views) > 1:
        raise InvalidValueError(
            f"a region and {len(views)} views are given; a region is of one scan. Query with that scan alone."
        )
    shares: list[NDArray[np.float64] | None] = []
    means: list[NDArray[np.float64]] = []
    for encoded in views:
        share = None if region is None else _share(encoded, region)
        shares.append(share)
        if share is None:
            means.append(encoded.embedding.astype(np.float64))
        else:
            weights = cell_weights(
                share, encoded.spatial_weights, grid_shape=(encoded.evidence.shape[1], encoded.evidence.shape[2])
            )
            means.append((encoded.evidence * weights).mean(axis=(1, 2), dtype=np.float64))
    if region is not None and not means[0].any():
        raise InvalidValueError(f"{_named(region)} holds no evidence; draw it over the lesion, or leave it out.")
    gains = [1.0 / (len(means) * length) if (length := float(np.linalg.norm(mean))) > 0 else 0.0 for mean in means]
    total = np.sum([gain * mean for gain, mean in zip(gains, means, strict=True)], axis=0)
    for weight, examples in ((LIKED, liked), (-DISLIKED, disliked)):
        if examples:
            total = total + weight * unit_rows(np.stack(examples)).mean(axis=0)
    length = float(np.linalg.norm(total))
    moved = region is not None or bool(liked) or bool(disliked)
    return QueryVector(
        views=tuple(views),
        region=region,
        embedding=(total / (length or 1.0)).astype(np.float32),
        shares=tuple(shares),
        gains=tuple(gain / (length or 1.0) for gain in gains),
        plain=len(views) == 1 and not moved,
        moved=moved,
    )


def _share(encoded: EncodedScan, region: Box) -> NDArray[np.float64]:
    """How much of each fine cell lies inside a box on the scan, 0 … 1."""
    height, width = encoded.scan.shape
    if region.bottom <= 0 or region.right <= 0 or region.top >= height or region.left >= width:
        raise InvalidValueError(
            f"{_named(region)} lies outside the scan of {height} × {width} pixels; give it in the scan's own pixels."
        )
    box, crop = encoded.mapping.box_to_canvas(region), encoded.mapping.crop
    # Cells at the rim reach into the padding: a region that reaches the rim has all of them.
    top = 0.0 if region.top <= crop.top else box.top
    left = 0.0 if region.left <= crop.left else box.left
    bottom = math.inf if region.bottom >= crop.bottom else box.bottom
    right = math.inf if region.right >= crop.right else box.right
    rows, columns = encoded.spatial_weights.shape
    side = encoded.mapping.canvas_size

    def covered(first: float, last: float, count: int) -> NDArray[np.float64]:
        edges = np.linspace(0, side, count + 1)
        inside = np.minimum(edges[1:], last) - np.maximum(edges[:-1], first)
        return np.clip(inside * count / side, 0.0, 1.0)

    share = np.outer(covered(top, bottom, rows), covered(left, right, columns))
    if not share.any():
        raise InvalidValueError(
            f"{_named(region)} lies outside what the network sees of the scan; draw it inside the ultrasound picture."
        )
    return share


def _named(region: Box) -> str:
    return named_box("region", region)
