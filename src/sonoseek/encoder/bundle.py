"""A bundle: the one artefact in which training and searching meet."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoseek.cleaning import CleaningRecipe
from sonoseek.core import BundleError, InvalidValueError, Settings
from sonoseek.encoder.manifest import decode_manifest

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "bundle.json"
CARD_FILE = "MODEL_CARD.md"
DEFAULT_BUNDLE = Path(__file__).parent.parent / "bundles" / "default"
"""The bundle that ships with the package."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """What a bundle folder says; the network itself stays in its file until an encoder opens it.

    Attributes:
        path: the folder.
        name, version: as its maker named it.
        bundle_id: `<name>-<12 hex digits>` over model and manifest: galleries remember it.
        classes: in the order of the logits.
        recipe: the cleaning that scans must go through.
        temperature: the logits are divided by it before the softmax.
        head_weight: float32 (C, D). head_bias: float32 (C,). logits = embedding @ head_weight.T + head_bias.
        abstain_below: largest probability under which no label is given, 0 … 1.
        conformal_quantile: of the score 1 − p; classes with 1 − p at most this are in the prediction set.
        operating_points: name → threshold and what it was measured to give.
        training: data names, counts, hashes, protocol and figures.
        embedding_dim: D. cells: (h, w) of the evidence map.
    """

    path: Path
    name: str
    version: str
    bundle_id: str
    classes: tuple[str, ...]
    recipe: CleaningRecipe
    temperature: float
    head_weight: NDArray[np.float32]
    head_bias: NDArray[np.float32]
    abstain_below: float
    conformal_quantile: float
    operating_points: Mapping[str, Mapping[str, float]]
    training: Mapping[str, Any]
    embedding_dim: int
    cells: tuple[int, int]

    @property
    def model_path(self) -> Path:
        """Of the ONNX file."""
        return self.path / MODEL_FILE


def load_bundle(path: Path | str | None = None) -> Bundle:
    """Read a bundle folder and check it against its own hashes.

    Args:
        path: the folder; None: the one in `SONOSEEK_BUNDLE`, else the one that ships.

    Raises:
        BundleError: a file is missing, damaged, contradicts the manifest, or is of an unknown format.
    """
    if path is None:
        path = Settings.from_environment().bundle or DEFAULT_BUNDLE
    folder = Path(path)
    model, content = _read(folder, MODEL_FILE), _read(folder, MANIFEST_FILE)
    manifest = decode_manifest(content, where=str(folder / MANIFEST_FILE))
    digest = hashlib.sha256(model)
    found = digest.hexdigest()
    if found != manifest.model_sha256:
        raise BundleError(
            f"{folder / MODEL_FILE} has sha256 {found[:12]}…; {MANIFEST_FILE} says {manifest.model_sha256[:12]}…. "
            "Model and manifest must come from one export: copy the bundle again."
        )
    try:
        recipe = CleaningRecipe.from_dict(manifest.cleaning)
    except (InvalidValueError, TypeError) as error:
        raise BundleError(f"{folder / MANIFEST_FILE}: the cleaning recipe does not read: {error}") from error
    digest.update(content)
    return Bundle(
        path=folder,
        name=manifest.name,
        version=manifest.version,
        bundle_id=f"{manifest.name}-{digest.hexdigest()[:12]}",
        classes=tuple(manifest.classes),
        recipe=recipe,
        temperature=manifest.temperature,
        head_weight=_frozen(manifest.head_weight),
        head_bias=_frozen(manifest.head_bias),
        abstain_below=manifest.abstain_below,
        conformal_quantile=manifest.conformal["quantile"],
        operating_points=MappingProxyType(
            {name: MappingProxyType(point) for name, point in manifest.operating_points.items()}
        ),
        training=MappingProxyType(manifest.training),
        embedding_dim=manifest.embedding_dim,
        cells=manifest.cells,
    )


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise BundleError(
            f"no readable {name} in {folder} ({error.strerror or error}); a bundle is a folder with {MODEL_FILE} and "
            f"{MANIFEST_FILE}. Give such a folder, or none for the bundle that ships."
        ) from error


def _frozen(numbers: list[Any]) -> NDArray[np.float32]:
    array = np.array(numbers, dtype=np.float32)
    array.flags.writeable = False
    return array
