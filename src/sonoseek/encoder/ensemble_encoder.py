"""The networks of an ensemble behind the interface of one, and the door to both kinds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import InvalidValueError, Scan
from sonoseek.encoder.bundle import load_bundle
from sonoseek.encoder.canvas_input import reduce_input
from sonoseek.encoder.onnx_encoder import Encoder, Encoding, OnnxEncoder, encode_scan
from sonoseek.encoder.values import Bundle


class EnsembleEncoder(Encoder):
    """The members' networks, one after the other. Safe for several threads at once."""

    def __init__(self, bundle: Bundle, *, threads: int = 0) -> None:
        """Open every member's model.

        Args:
            bundle: of an ensemble.
            threads: cores to use; 0: all.

        Raises:
            BundleError: as `OnnxEncoder`, for any member.
        """
        self._bundle = bundle
        self._encoders = [OnnxEncoder(member.bundle, threads=threads) for member in bundle.members]

    @property
    def bundle(self) -> Bundle:
        """The bundle that joins the members."""
        return self._bundle

    def encode(self, canvases: NDArray[np.float32], *, marks: NDArray[np.float32] | None = None) -> Encoding:
        """Run the networks and join their outputs.

        A member with a smaller canvas reads it reduced. One with fewer cells has them distributed over the joint cells
        by area, which leaves its mean as it is.

        Args:
            canvases: as for `OnnxEncoder.encode`.
            marks: as there; for the members that read them.

        Raises:
            InvalidValueError: another type, shape or range, or not finite; marks where no member reads them.
        """
        rows, columns = self._bundle.grid
        embeddings, evidences, weights = [], [], []
        any_reads_marks = self._bundle.reads_marks
        for encoder, member in zip(self._encoders, self._bundle.members, strict=True):
            own = encoder.bundle
            output = encoder.encode(
                reduce_input(canvases, own.recipe.canvas_size),
                marks=None if any_reads_marks and not own.reads_marks else marks,
            )
            scale = np.float32(member.scale)
            embeddings.append(output.embedding * scale)
            evidences.append(by_area(output.evidence * scale, (rows, columns)))
            finer = by_area(output.spatial_weights, self._bundle.fine_grid)
            weights.append(finer / np.maximum(finer.mean(axis=(1, 2), keepdims=True), np.float32(1e-9)))
        embedding = np.concatenate(embeddings, axis=1)
        return Encoding(
            logits=embedding @ self._bundle.head_weight.T + self._bundle.head_bias,
            embedding=embedding,
            evidence=np.concatenate(evidences, axis=1),
            spatial_weights=np.mean(weights, axis=0, dtype=np.float32),
        )


def by_area(values: NDArray[np.float32], cells: tuple[int, int]) -> NDArray[np.float32]:
    """A map on another grid over the same square: each cell is the mean of what it covers, so the mean is kept.

    Args:
        values: float32 (…, h, w).
        cells: (H, W) of the result.

    Returns:
        float32 (…, H, W); `values` itself where the grids are the same.
    """
    if values.shape[-2:] == cells:
        return values
    down, across = (_shares(of, to) for of, to in zip(values.shape[-2:], cells, strict=True))
    return np.asarray(down @ values @ across.T, np.float32)


def _shares(of: int, to: int) -> NDArray[np.float32]:
    """(to, of): how much of each of `to` cells each of `of` cells over the same length covers; rows have the sum 1."""
    edges, others = np.linspace(0, 1, to + 1), np.linspace(0, 1, of + 1)
    low = np.maximum(edges[:-1, None], others[None, :-1])
    high = np.minimum(edges[1:, None], others[None, 1:])
    return np.asarray(np.maximum(high - low, 0) * to, np.float32)


def open_encoder(bundle: Bundle | Path | str | None = None, *, threads: int = 0) -> Encoder:
    """Open a bundle's network, or those of an ensemble.

    Args:
        bundle: a bundle, its folder, or None for the one that ships (or that `SONOSEEK_BUNDLE` names).
        threads: cores to use; 0: all.

    Raises:
        BundleError: as `load_bundle` and `OnnxEncoder`.
    """
    loaded = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
    return EnsembleEncoder(loaded, threads=threads) if loaded.members else OnnxEncoder(loaded, threads=threads)


def typical_norm(encoder: Encoder, scans: Sequence[Scan]) -> float:
    """Median length of the embeddings of some scans, by which an ensemble divides this encoder's.

    Args:
        encoder: of the future member.
        scans: at least one; any that the network was made for will do, since only ratios between members matter.

    Raises:
        InvalidValueError: no scan, or no embedding with a direction.
    """
    norms = [float(np.linalg.norm(encode_scan(encoder, scan)[1].embedding)) for scan in scans]
    norm = float(np.median(norms)) if norms else 0.0
    if not norm > 0:
        raise InvalidValueError(
            f"the embeddings of {len(scans)} scans by {encoder.bundle.bundle_id!r} have the typical norm {norm}; it "
            "must be positive. Give scans of the kind that the network was trained on."
        )
    return norm
