"""A bundle: the one artefact in which training and searching meet."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import BundleError, InvalidValueError, Settings
from sonoseek.encoder.ensemble import decode_ensemble, join
from sonoseek.encoder.manifest import LARGEST_JSON, OODPart, TrainingScansPart, decode_manifest
from sonoseek.encoder.seen import TrainingScans, rows_of
from sonoseek.encoder.values import (
    DUPLICATE_THRESHOLD,
    ENSEMBLE_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    Bundle,
    OODModel,
    frozen_points,
)
from sonoseek.preprocessing import PreprocessingRecipe

LARGEST_MODEL = (1 << 31) - 1
"""Bytes of `model.onnx`: the most that its format holds. Those that ship have 6 and 17 megabytes."""
BUNDLES = Path(__file__).parent.parent / "bundles"
SHIPPED = ("accurate", "fast")
"""Names of the bundles that ship with the package, the default first."""
DEFAULT_BUNDLE = BUNDLES / SHIPPED[0]
FAST_BUNDLE = BUNDLES / "fast"
"""For large archives and slow machines. It is trained on phantoms too, so the demo uses it."""


def bundle_folder(path: Path | str | None = None) -> Path:
    """The folder that a user means.

    Args:
        path: a folder, or the name of a bundle that ships, where no bundle lies in a folder of that name; None: what
            `SONOSEEK_BUNDLE` names, else the default.
    """
    choice = path if path is not None else Settings.from_environment().bundle
    if choice is None:
        return DEFAULT_BUNDLE
    return BUNDLES / str(choice) if str(choice) in SHIPPED and not is_bundle(Path(choice)) else Path(choice)


def shipped_bundle(bundle_id: str) -> Path | None:
    """The folder of the bundle that ships under this id; None: there is none, or `SONOSEEK_BUNDLE` names another.

    A gallery names the bundle that filled it: where that one ships, nobody need name it again.
    """
    if Settings.from_environment().bundle is not None:
        return None
    for name in SHIPPED:
        if load_bundle(BUNDLES / name).bundle_id == bundle_id:
            return BUNDLES / name
    return None


def is_shipped(folder: Path) -> bool:
    """Whether a folder is that of a bundle which ships, not a copy of it."""
    return folder.resolve() in {(BUNDLES / name).resolve() for name in SHIPPED}


def is_bundle(folder: Path) -> bool:
    """Whether a folder holds a bundle's manifest, or an ensemble's; `load_bundle` checks whether it is sound."""
    return (folder / MANIFEST_FILE).is_file() or (folder / ENSEMBLE_FILE).is_file()


def load_bundle(path: Path | str | None = None) -> Bundle:
    """Read a bundle folder and check it against its own hashes.

    A folder with `ensemble.json` is read with all its members, and the bundle that comes back joins them.

    Args:
        path: the folder, or a shipped bundle's name, as `bundle_folder` takes it.

    Raises:
        BundleError: a file is missing, damaged, contradicts the manifest, or is of an unknown format; members that do
            not belong together.
    """
    folder = bundle_folder(path)
    if not (folder / ENSEMBLE_FILE).is_file():
        return _load_single(folder)
    if (folder / MANIFEST_FILE).exists():
        raise BundleError(
            f"{folder} holds {ENSEMBLE_FILE} and {MANIFEST_FILE}; a folder is an ensemble or one bundle. Take one of "
            "the two away."
        )
    content = _read(folder, ENSEMBLE_FILE)
    manifest = decode_ensemble(content, where=str(folder / ENSEMBLE_FILE))
    return join(folder, content, manifest, [_load_single(folder / member.folder) for member in manifest.members])


def _load_single(folder: Path) -> Bundle:
    with opened_file(folder, MODEL_FILE, largest=LARGEST_MODEL) as file:
        digest = hashlib.file_digest(file, "sha256")
    content = _read(folder, MANIFEST_FILE)
    manifest = decode_manifest(content, where=str(folder / MANIFEST_FILE))
    sha256 = digest.hexdigest()
    if sha256 != manifest.model_sha256:
        raise BundleError(
            f"{folder / MODEL_FILE} has sha256 {sha256[:12]}…; {MANIFEST_FILE} says {manifest.model_sha256[:12]}…. "
            "Model and manifest must come from one export: copy the bundle again."
        )
    try:
        recipe = PreprocessingRecipe.from_dict(manifest.preprocessing)
    except (InvalidValueError, TypeError) as error:
        raise BundleError(f"{folder / MANIFEST_FILE}: the preprocessing recipe does not read: {error}") from error
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
        conformal_level=manifest.conformal.get("level", 0.9),
        operating_points=frozen_points(manifest.operating_points),
        training=MappingProxyType(manifest.training),
        embedding_dim=manifest.embedding_dim,
        grid=manifest.grid,
        fine_grid=manifest.fine_grid or manifest.grid,
        ood=None if manifest.ood is None else _ood(manifest.ood, dim=manifest.embedding_dim),
        training_scans=None if manifest.training_scans is None else _training_scans(manifest.training_scans),
        reads_marks=manifest.reads_marks,
        class_bias=tuple(manifest.class_bias),
        duplicate_threshold=DUPLICATE_THRESHOLD
        if manifest.duplicate_threshold is None
        else manifest.duplicate_threshold,
    )


def _ood(part: OODPart, *, dim: int) -> OODModel:
    return OODModel(
        mean=np.frombuffer(part.mean, "<f4").astype(np.float32),
        components=np.frombuffer(part.components, "<f4").astype(np.float32).reshape(-1, dim),
        variances=np.array(part.variances),
        residual_variance=part.residual_variance,
        threshold=part.threshold,
        level=part.level,
    )


def _training_scans(part: TrainingScansPart) -> TrainingScans:
    return TrainingScans(
        sha256=rows_of(part.sha256), hashes=rows_of(part.hashes), counts=MappingProxyType(dict(part.counts))
    )


@contextmanager
def opened_file(folder: Path, name: str, *, largest: int) -> Iterator[BufferedReader]:
    """A file of a bundle, open for reading, once it is known to be an ordinary one of a size that is read.

    Raises:
        BundleError: it is not there, no ordinary file, or larger than `largest` bytes.
    """
    path = folder / name
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(
                f"{path} is no ordinary file but a {_kind(status.st_mode)}; a bundle's files are copied, not piped. "
                "Copy the bundle into a folder."
            )
        if status.st_size > largest:
            raise BundleError(
                f"{path} has {status.st_size:,} bytes; at most {largest:,} are read. Export or copy the bundle again."
            )
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise BundleError(
            f"no readable {name} in {folder} ({error.strerror or error}); a bundle is a folder with {MODEL_FILE} and "
            f"{MANIFEST_FILE}, or with {ENSEMBLE_FILE} and its members. Give such a folder, or none for the bundle "
            "that ships."
        ) from error


def _read(folder: Path, name: str) -> bytes:
    with opened_file(folder, name, largest=LARGEST_JSON) as file:
        return file.read(LARGEST_JSON + 1)


def _kind(mode: int) -> str:
    return {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}.get(stat.S_IFMT(mode), "device")


def _frozen(numbers: list[Any]) -> NDArray[np.float32]:
    array = np.array(numbers, dtype=np.float32)
    array.flags.writeable = False
    return array
