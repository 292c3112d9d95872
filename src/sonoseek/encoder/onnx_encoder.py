"""The network through ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import BundleError, InvalidValueError, Scan
from sonoseek.encoder.bundle import is_shipped
from sonoseek.encoder.canvas_input import to_input
from sonoseek.encoder.first_run import check_first_run
from sonoseek.encoder.runtime import open_session
from sonoseek.encoder.values import Bundle
from sonoseek.preprocessing import PreprocessedScan, preprocess

INPUT = "canvas"
OUTPUTS = ("logits", "embedding", "evidence")
MARK = "mark"
"""A second input, of networks that read a lesion's close-up: where a reader marked the lesion."""
NO_MARK = -1.0
"""In all four numbers of a mark: none is given."""
SPATIAL_WEIGHTS = "within"
"""Name of a fourth output in the model's file, of networks with spatial weights; elsewhere `spatial_weights`."""
CHUNK = 32
"""Canvases per run: enough to fill the cores, few enough that the evidence of a large batch stays within memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoding:
    """The network's output for N canvases.

    Attributes:
        logits: float32 (N, C), before the temperature. Equal to embedding @ head_weight.T + head_bias.
        embedding: float32 (N, D), not normalised. Equal to the plain mean of the evidence over cells.
        evidence: float32 (N, D, h, w), signed; exactly 0 where all that a cell looks at is padding.
        spatial_weights: float32 (N, f·h, g·w), ≥ 0, relative: how the evidence of a cell is distributed within the
            cell. All 1 on the evidence grid, (N, h, w), where the network gives none.
    """

    logits: NDArray[np.float32]
    embedding: NDArray[np.float32]
    evidence: NDArray[np.float32]
    spatial_weights: NDArray[np.float32]


class Encoder(Protocol):
    """A bundle's network. An implementation gives `bundle` and `encode`; `transform` comes with the class."""

    @property
    def bundle(self) -> Bundle:
        """The bundle of the network."""
        ...

    def encode(self, canvases: NDArray[np.float32], *, marks: NDArray[np.float32] | None = None) -> Encoding:
        """float32 (N, 1, S, S), and marks (N, 4) where the bundle reads them, → `Encoding`."""
        ...

    def transform(self, scans: Sequence[Scan | Path | str]) -> NDArray[np.float32]:
        """Embed scans, as a transformer of scikit-learn does.

        Args:
            scans: N scans, or the paths of their files; they are preprocessed as the bundle's network expects.

        Returns:
            float32 (N, D), not normalised, in the order of `scans`; the similarity of two scans is the cosine of their
            rows. The same as `encode` gives, `CHUNK` scans at a time.

        Raises:
            NotFoundError, ScanReadError: as `sonoseek.io.read_scan`, for a path.
        """
        batches = [scans[start : start + CHUNK] for start in range(0, len(scans), CHUNK)]
        rows = [encode_scans(self, [_opened(scan) for scan in batch])[1].embedding for batch in batches]
        return np.concatenate(rows) if rows else np.zeros((0, self.bundle.embedding_dim), np.float32)


def encode_scans(encoder: Encoder, scans: Sequence[Scan]) -> tuple[list[PreprocessedScan], Encoding]:
    """Preprocess scans and run the network on all of them at once.

    Args:
        encoder: of a bundle, whose preprocessing recipe is used.
        scans: N, at least one.

    Returns:
        The preprocessed scans, and the `Encoding` of their N canvases in the same order.
    """
    preprocessed = [preprocess(scan, encoder.bundle.recipe) for scan in scans]
    return preprocessed, encoder.encode(np.stack([to_input(each) for each in preprocessed]))


def encode_scan(encoder: Encoder, scan: Scan) -> tuple[PreprocessedScan, Encoding]:
    """The same for one scan: its preprocessed scan, and an `Encoding` of N = 1."""
    preprocessed, encoding = encode_scans(encoder, [scan])
    return preprocessed[0], encoding


def _opened(scan: Scan | Path | str) -> Scan:
    if isinstance(scan, Scan):
        return scan
    from sonoseek.io import read_scan  # here: most encoders are given scans, and readers of files load slowly

    return read_scan(scan)


class OnnxEncoder(Encoder):
    """A bundle's network in ONNX Runtime, on CPU. Safe for several threads at once."""

    def __init__(self, bundle: Bundle, *, threads: int = 0) -> None:
        """Open the model.

        Args:
            bundle: whose model to run.
            threads: cores to use; 0: all.

        Raises:
            BundleError: ONNX Runtime refuses the file, its inputs and outputs are not a bundle's, or the first run of
                one that does not ship with the package fails or exceeds its limits.
        """
        self._bundle = bundle
        self._size = bundle.recipe.canvas_size
        self._has_spatial_weights = bundle.fine_grid != bundle.grid
        self._outputs = [*OUTPUTS, *([SPATIAL_WEIGHTS] if self._has_spatial_weights else [])]
        if not is_shipped(bundle.path):
            marks = {MARK: (1, 4)} if bundle.reads_marks else {}
            check_first_run(
                bundle.model_path, inputs={INPUT: (1, 1, self._size, self._size), **marks}, outputs=self._outputs
            )
        try:
            self._session = open_session(str(bundle.model_path), threads=threads)
        except Exception as error:  # ONNX Runtime has a dozen unrelated exception types
            raise BundleError(
                f"ONNX Runtime does not open {bundle.model_path}: {error}. Export or copy the bundle again."
            ) from error
        self._check_interface()

    @property
    def bundle(self) -> Bundle:
        """The bundle of the network."""
        return self._bundle

    def _check_interface(self) -> None:
        inputs = {item.name: list(item.shape[1:]) for item in self._session.get_inputs()}
        outputs = {item.name: list(item.shape[1:]) for item in self._session.get_outputs()}
        bundle = self._bundle
        dim, (rows, columns) = bundle.embedding_dim, bundle.grid
        shapes = ([len(bundle.classes)], [dim], [dim, rows, columns], list(bundle.fine_grid))
        wanted_outputs = dict(zip(self._outputs, shapes, strict=False))
        wanted_inputs = {INPUT: [1, self._size, self._size], **({MARK: [4]} if bundle.reads_marks else {})}
        if inputs != wanted_inputs or outputs != wanted_outputs:
            raise BundleError(
                f"{bundle.model_path} maps {inputs} to {outputs}; its manifest says {wanted_inputs} to "
                f"{wanted_outputs} (batch left out). Model and manifest must come from one export."
            )

    def encode(self, canvases: NDArray[np.float32], *, marks: NDArray[np.float32] | None = None) -> Encoding:
        """Run the network.

        Args:
            canvases: float32 (N, 1, S, S), 0 … 1, exactly −1 in padding, as `to_input` makes them; N may be 0.
            marks: float32 (N, 4), top, left, bottom, right of the lesion in canvas pixels as a reader marked it, all
                four `NO_MARK` where there is none; None: none for any. Only for bundles that read marks.

        Raises:
            InvalidValueError: another type, shape or range, or not finite; marks for a bundle that reads none.
        """
        inputs = self._inputs(canvases, marks)
        shape = (1, self._size, self._size)
        if canvases.dtype != np.float32 or canvases.ndim != 4 or canvases.shape[1:] != shape:
            raise InvalidValueError(
                f"canvases are {canvases.dtype} {canvases.shape}; bundle {self._bundle.name!r} reads float32 "
                f"(N, 1, {self._size}, {self._size}). Preprocess it with bundle.recipe and pass to_input's result."
            )
        if len(canvases) == 0:
            dim, grid = self._bundle.embedding_dim, self._bundle.grid
            shapes = ((0, len(self._bundle.classes)), (0, dim), (0, dim, *grid), (0, *self._bundle.fine_grid))
            names = (*OUTPUTS, "spatial_weights")
            return Encoding(**{n: np.zeros(s, np.float32) for n, s in zip(names, shapes, strict=True)})
        low, high = canvases.min(), canvases.max()  # NaN carries through both
        if not (low >= -1.0 and high <= 1.0):
            raise InvalidValueError(
                f"canvases hold {low} … {high}; grey values lie in 0 … 1 and padding is −1. Divide by 255, "
                "or let to_input do it."
            )
        runs = [
            self._session.run(
                self._outputs,
                {name: np.ascontiguousarray(values[start : start + CHUNK]) for name, values in inputs.items()},
            )
            for start in range(0, len(canvases), CHUNK)
        ]
        outputs = runs[0] if len(runs) == 1 else [np.concatenate(parts) for parts in zip(*runs, strict=True)]
        logits, embedding, evidence = outputs[:3]
        weights = outputs[3] if self._has_spatial_weights else np.ones((len(canvases), *self._bundle.grid), np.float32)
        return Encoding(logits=logits, embedding=embedding, evidence=evidence, spatial_weights=weights)

    def _inputs(
        self, canvases: NDArray[np.float32], marks: NDArray[np.float32] | None
    ) -> dict[str, NDArray[np.float32]]:
        """The network's inputs by name."""
        if not self._bundle.reads_marks:
            if marks is not None:
                raise InvalidValueError(
                    f"marks are given, and bundle {self._bundle.name!r} reads none. Leave the mark out, or take a "
                    "bundle that reads a lesion's close-up."
                )
            return {INPUT: canvases}
        if marks is None:
            marks = np.full((len(canvases), 4), NO_MARK, np.float32)
        if marks.dtype != np.float32 or marks.shape != (len(canvases), 4) or not np.isfinite(marks).all():
            raise InvalidValueError(
                f"marks are {marks.dtype} {marks.shape}; they must be finite float32 ({len(canvases)}, 4): top, left, "
                "bottom, right in canvas pixels."
            )
        return {INPUT: canvases, MARK: marks}
