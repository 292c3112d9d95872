"""Features of a network that has never seen an ultrasound scan, and a logistic regression on them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import NotFoundError, Scan
from sonoseek.encoder import to_input
from sonoseek.encoder.runtime import open_session
from sonoseek.evaluate.systems.linear import LinearSystem
from sonoseek.preprocessing import preprocess


def frozen(model: Path, *, backbone: str, cache: Path | None = None) -> LinearSystem:
    """The system.

    Args:
        model: an ONNX file, float32 (n, 1, 224, 224) in 0 … 1 → (n, D): the mean of a backbone's map over its cells.
        backbone: its name.
        cache: as in `LinearSystem`.

    Raises:
        NotFoundError: no such file.
    """
    if not model.is_file():
        raise NotFoundError(
            f"no features at {model}; export them from start weights first (--system frozen-{backbone})."
        )
    session = open_session(str(model), threads=1)  # scans run side by side

    def describe(scan: Scan) -> NDArray[np.float32]:
        canvas = np.maximum(to_input(preprocess(scan)), 0.0)[np.newaxis]
        features: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: canvas})[0][0]
        return features

    return LinearSystem(
        describe,
        name=f"frozen-{backbone}",
        title=f"frozen {backbone} + regression",
        description=f"Mean feature map of {backbone} with ImageNet's weights, preprocessed scan; logistic regression.",
        identity=hashlib.sha256(model.read_bytes()).hexdigest()[:16],
        standardise=False,
        cache=cache,
    )
