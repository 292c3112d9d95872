"""The layout of `bundle.json`, read strictly: an unknown key or a missing one is an error, not a surprise later."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from sonoseek.core import PATHOLOGIES, BundleError

FORMAT = 1
"""Version of the layout. A reader refuses every other."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything in a bundle but the network itself.

    Attributes:
        format: `FORMAT`.
        name, version: of the bundle.
        sonoseek: version of the package that wrote it.
        model_sha256: of `model.onnx`.
        classes: in the order of the logits, and of `PATHOLOGIES`.
        cleaning: the cleaning recipe that the network was trained behind.
        embedding_dim: D.
        cells: (h, w) of the evidence map.
        head_weight: (C, D), exact float32. head_bias: (C,).
        temperature: the logits are divided by it before the softmax.
        abstain_below: largest probability under which no label is given.
        conformal: "level" (share of cases whose class lies in the set), "quantile" (of the score 1 − p).
        operating_points: name → threshold and what it was measured to give.
        training: data names, counts, content hash, protocol, figures, origin of the start weights.
        licences: of the bundle and of what it was made from.
    """

    format: int
    name: str
    version: str
    sonoseek: str
    model_sha256: str
    classes: list[str]
    cleaning: dict[str, Any]
    embedding_dim: int
    cells: tuple[int, int]
    head_weight: list[list[float]]
    head_bias: list[float]
    temperature: float
    abstain_below: float
    conformal: dict[str, float]
    operating_points: dict[str, dict[str, float]]
    training: dict[str, Any]
    licences: dict[str, str]


class _FormatOnly(msgspec.Struct):
    format: int


def decode_manifest(content: bytes, *, where: str) -> Manifest:
    """Read and check `bundle.json`.

    Args:
        content: of the file.
        where: the path, for messages.

    Raises:
        BundleError: not JSON, another format, a key missing or unknown, numbers that contradict each other.
    """
    try:
        found = msgspec.json.decode(content, type=_FormatOnly).format
        if found != FORMAT:
            raise BundleError(
                f"{where} has format {found}; this sonoseek reads format {FORMAT}. "
                f"{'Update sonoseek' if found > FORMAT else 'Export the bundle again'}."
            )
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.DecodeError as error:
        raise BundleError(f"{where} does not read as a bundle: {error}. Export or copy the bundle again.") from error
    for wrong in _contradictions(manifest):
        raise BundleError(f"{where}: {wrong}. Export the bundle again.")
    return manifest


def _contradictions(manifest: Manifest) -> list[str]:
    """What no honest exporter writes."""
    classes, dim = manifest.classes, manifest.embedding_dim
    known = [name for name in PATHOLOGIES if name in classes]
    checks = (
        (
            len(classes) >= 2 and classes == known,
            f"classes are {classes}; they must be of {PATHOLOGIES}, in that order",
        ),
        (
            len(manifest.head_weight) == len(classes) and all(len(row) == dim for row in manifest.head_weight),
            f"head_weight is not {len(classes)} × {dim}",
        ),
        (
            len(manifest.head_bias) == len(classes),
            f"head_bias has {len(manifest.head_bias)} numbers, not {len(classes)}",
        ),
        (dim > 0 and min(manifest.cells) > 0, f"embedding_dim {dim} and cells {manifest.cells} must be positive"),
        (
            math.isfinite(manifest.temperature) and manifest.temperature > 0,
            f"temperature is {manifest.temperature}; it must be positive",
        ),
        (0 <= manifest.abstain_below <= 1, f"abstain_below is {manifest.abstain_below}; it must lie in 0 … 1"),
        (
            0 <= manifest.conformal.get("quantile", -1.0) <= 1,
            f"conformal is {manifest.conformal}; it must hold a 'quantile' in 0 … 1",
        ),
    )
    return [message for holds, message in checks if not holds]
