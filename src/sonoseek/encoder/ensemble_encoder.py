"""The networks of an ensemble behind the interface of one, and the door to both kinds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import InvalidValueError, Scan
from sonoseek.encoder.bundle import load_bundle
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

        A member with fewer cells has each of them repeated, which leaves its mean as it is.

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
            output, scale, (own_rows, own_columns) = (
                encoder.encode(canvases, marks=None if any_reads_marks and not encoder.bundle.reads_marks else marks),
                np.float32(member.scale),
                encoder.bundle.grid,
            )
            embeddings.append(output.embedding * scale)
            evidence = output.evidence * scale
            evidences.append(evidence.repeat(rows // own_rows, axis=2).repeat(columns // own_columns, axis=3))
            weights.append(_on_common_grid(output.spatial_weights, self._bundle))
        embedding = np.concatenate(embeddings, axis=1)
        return Encoding(
            logits=embedding @ self._bundle.head_weight.T + self._bundle.head_bias,
            embedding=embedding,
            evidence=np.concatenate(evidences, axis=1),
            spatial_weights=np.mean(weights, axis=0, dtype=np.float32),
        )


def _on_common_grid(weights: NDArray[np.float32], joint: Bundle) -> NDArray[np.float32]:
    """A member's spatial weights on the ensemble's fine grid, of mean 1, so that every member counts the same."""
    fine_rows, fine_columns = joint.fine_grid
    _, own_rows, own_columns = weights.shape
    if own_rows > fine_rows or own_columns > fine_columns:  # too many to join: the ensemble has no spatial weights
        return np.ones((len(weights), fine_rows, fine_columns), np.float32)
    finer = weights.repeat(fine_rows // own_rows, axis=1).repeat(fine_columns // own_columns, axis=2)
    finer = finer / np.maximum(finer.mean(axis=(1, 2), keepdims=True), np.float32(1e-9))
    return np.asarray(finer, np.float32)


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
