"""Several bundles joined into one: `ensemble.json`, read strictly, and the bundle that it makes of its members.

The joined embedding is the members' embeddings one after the other, each times a constant; the joined logits are the
weighted mean of the members' logits, each divided by its member's temperature. Both are linear in the members'
outputs, so the identities of one bundle hold for all: logits linear in the embedding, embedding = mean of the evidence.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sonoseek.core import PATHOLOGIES, BundleError
from sonoseek.encoder.manifest import LARGEST_JSON, calibration_faults, check_format, check_json
from sonoseek.encoder.seen import TrainingScans, union
from sonoseek.encoder.values import ENSEMBLE_FILE, Bundle, Member, frozen_points
from sonoseek.preprocessing import PreprocessingRecipe

FORMAT = 1
"""Version of the layout of `ensemble.json`. A reader refuses every other."""


class MemberEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One member.

    Attributes:
        folder: beside `ensemble.json`, relative, within its folder.
        bundle_id: of the bundle there.
        norm: typical length of its embeddings; they are divided by it.
        weight: ≥ 0, share in the logits after division by the sum of all weights.
    """

    folder: str
    bundle_id: str
    norm: float
    weight: float = 1.0


class EnsembleManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything in an ensemble but its members; the fields that `Manifest` has too mean the same.

    Attributes:
        format: `FORMAT`.
        name, version: of the ensemble.
        sonoseek: version of the package that wrote it.
        members: at least two, in the order in which their embeddings are joined.
        temperature: on top of the members' own, by which their logits are divided before they are averaged.
        abstain_below, conformal, operating_points, class_bias: as in `Manifest`, of the ensemble.
        training: as in `Manifest`. The cases that were learnt from are those of the members and need not stand here.
        licences: of the ensemble and of what it was made from.
    """

    format: int
    name: str
    version: str
    sonoseek: str
    members: list[MemberEntry]
    temperature: float
    abstain_below: float
    conformal: dict[str, float]
    operating_points: dict[str, dict[str, float]]
    training: dict[str, Any]
    licences: dict[str, str]
    class_bias: list[float] = []


def decode_ensemble(content: bytes, *, where: str) -> EnsembleManifest:
    """Read and check `ensemble.json`; its members are not read.

    Args:
        content: of the file.
        where: the path, for messages.

    Raises:
        BundleError: not JSON, another format, a key missing or unknown, numbers or folders that cannot be.
    """
    check_json(content, where=where, largest=LARGEST_JSON, remedy="Write or copy it again.", error=BundleError)
    try:
        check_format(content, FORMAT, where=where, remedy="Write the ensemble again.")
        manifest = msgspec.json.decode(content, type=EnsembleManifest)
    except msgspec.DecodeError as error:
        raise BundleError(f"{where} does not read as an ensemble: {error}. Write or copy it again.") from error
    for wrong in _faults(manifest):
        raise BundleError(f"{where}: {wrong}. Write the ensemble again.")
    return manifest


def _faults(manifest: EnsembleManifest) -> list[str]:
    """What contradicts itself."""
    members = manifest.members
    faults = []
    if len(members) < 2:
        faults.append(f"it has {len(members)} members; an ensemble has at least 2")
    for member in members:
        path = PurePosixPath(member.folder)
        if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in member.folder or ":" in member.folder:
            faults.append(f"a member's folder is {member.folder!r}; it must be relative and lie within the ensemble's")
        if not (math.isfinite(member.norm) and member.norm > 0):
            faults.append(f"the norm of {member.bundle_id} is {member.norm}; it must be positive")
        if not (math.isfinite(member.weight) and member.weight >= 0):
            faults.append(f"the weight of {member.bundle_id} is {member.weight}; it must be 0 or more")
    for name in ("folder", "bundle_id"):
        names = [getattr(member, name) for member in members]
        if twice := sorted({each for each in names if names.count(each) > 1}):
            faults.append(f"{name} {twice[0]!r} is listed twice; a member that should count more has a larger weight")
    if members and not sum(member.weight for member in members) > 0:
        faults.append("all weights are 0; at least one must be positive")
    return faults + calibration_faults(manifest, class_bias=manifest.class_bias, classes=len(PATHOLOGIES))


def join(folder: Path, content: bytes, manifest: EnsembleManifest, bundles: Sequence[Bundle]) -> Bundle:
    """Make the joint bundle.

    Args:
        folder: of the ensemble.
        content: of `ensemble.json`.
        manifest: read from it.
        bundles: its members, in its order.

    Raises:
        BundleError: another bundle lies in a member's folder; members differ in classes, or in preprocessing but for
            the size of the canvas.
    """
    for entry, bundle in zip(manifest.members, bundles, strict=True):
        if bundle.bundle_id != entry.bundle_id:
            raise BundleError(
                f"{folder / entry.folder} holds bundle {bundle.bundle_id!r}; {ENSEMBLE_FILE} says "
                f"{entry.bundle_id!r}. Copy the member again, or write the ensemble again."
            )
    check_members(bundles)
    members = tuple(Member(bundle=b, scale=1.0 / e.norm) for e, b in zip(manifest.members, bundles, strict=True))
    weight, bias = _joined_head(members, [entry.weight for entry in manifest.members])
    digest = hashlib.sha256(content)
    for bundle in bundles:
        digest.update(bundle.bundle_id.encode())
    return Bundle(
        path=folder,
        name=manifest.name,
        version=manifest.version,
        bundle_id=f"{manifest.name}-{digest.hexdigest()[:12]}",
        classes=bundles[0].classes,
        recipe=_finest_recipe(bundles),
        temperature=manifest.temperature,
        class_bias=tuple(manifest.class_bias),
        head_weight=weight,
        head_bias=bias,
        abstain_below=manifest.abstain_below,
        conformal_quantile=manifest.conformal["quantile"],
        conformal_level=manifest.conformal.get("level", 0.9),
        operating_points=frozen_points(manifest.operating_points),
        training=MappingProxyType(_training(manifest.training, bundles)),
        embedding_dim=weight.shape[1],
        grid=common_grid(bundles),
        fine_grid=common_fine_grid(bundles),
        members=members,
        reads_marks=any(bundle.reads_marks for bundle in bundles),
        training_scans=_training_scans(bundles),
        duplicate_threshold=float(np.mean([bundle.duplicate_threshold for bundle in bundles])),
    )


def check_members(bundles: Sequence[Bundle]) -> None:
    """Check that bundles can be joined.

    Raises:
        BundleError: they differ in classes, or in preprocessing but for the size of the canvas; one is an ensemble.
    """
    first = bundles[0]
    finest = _finest_recipe(bundles)
    for bundle in bundles:
        if bundle.members:
            raise BundleError(
                f"member {bundle.bundle_id!r} is an ensemble itself; members are single bundles. Name its "
                f"{len(bundle.members)} members instead."
            )
        if bundle.classes != first.classes:
            raise BundleError(
                f"member {bundle.bundle_id!r} has the classes {', '.join(bundle.classes)}, {first.bundle_id!r} has "
                f"{', '.join(first.classes)}; all members must have the same. Leave one of the two out."
            )
        if replace(bundle.recipe, canvas_size=finest.canvas_size) != finest:
            raise BundleError(
                f"member {bundle.bundle_id!r} reads scans preprocessed by {bundle.recipe}, {first.bundle_id!r} by "
                f"{first.recipe}; preprocessing runs once, so all members must share it, but for the canvas_size. "
                "Train one anew behind the other's, or leave it out."
            )


def _finest_recipe(bundles: Sequence[Bundle]) -> PreprocessingRecipe:
    """The preprocessing with the largest canvas; members that read smaller ones get it reduced."""
    return max((bundle.recipe for bundle in bundles), key=lambda recipe: recipe.canvas_size)


def common_grid(bundles: Sequence[Bundle]) -> tuple[int, int]:
    """(h, w) of the joined evidence map: that of the finest member; others are distributed over it by area."""
    rows, columns = (max(bundle.grid[axis] for bundle in bundles) for axis in (0, 1))
    return rows, columns


def common_fine_grid(bundles: Sequence[Bundle]) -> tuple[int, int]:
    """(f·h, g·w) of the joined spatial weights: the finest member's, in whole multiples of the joined grid."""
    rows, columns = (
        cells * max(1, max(bundle.fine_grid[axis] for bundle in bundles) // cells)
        for axis, cells in enumerate(common_grid(bundles))
    )
    return rows, columns


def _joined_head(
    members: Sequence[Member], weights: Sequence[float]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """float32 (C, ΣD) and (C,): the weighted mean of the members' heads, over their temperatures and scales."""
    shares = np.asarray(weights) / np.sum(weights)
    blocks, bias = [], np.zeros(len(members[0].bundle.classes))
    for member, share in zip(members, shares, strict=True):
        factor = share / member.bundle.temperature
        blocks.append(member.bundle.head_weight.astype(np.float64) * (factor / member.scale))
        bias += member.bundle.head_bias.astype(np.float64) * factor
        if member.bundle.class_bias:
            bias += share * np.array(member.bundle.class_bias)
    joined = np.concatenate(blocks, axis=1).astype(np.float32), bias.astype(np.float32)
    for array in joined:
        array.flags.writeable = False
    return joined


def _training_scans(bundles: Sequence[Bundle]) -> TrainingScans | None:
    """All that any member learnt from; None where one does not list them, for the reason that `_training` gives."""
    known = [bundle.training_scans for bundle in bundles if bundle.training_scans is not None]
    return union(known) if len(known) == len(bundles) else None


def _training(own: Mapping[str, Any], bundles: Sequence[Bundle]) -> dict[str, Any]:
    """What the ensemble was trained on: all that any member was, whatever its own file says.

    Where one member does not list its cases, the ensemble lists none: a partial list would seem complete.
    """
    listed = [bundle.training.get("cases") for bundle in bundles]
    training = {name: value for name, value in own.items() if name != "cases"}
    if all(listed):
        cases: dict[str, set[str]] = {}
        for each in (*listed, own.get("cases", {})):
            for dataset, names in each.items():
                cases.setdefault(dataset, set()).update(names)
        training["cases"] = {dataset: sorted(names) for dataset, names in cases.items()}
    return training
