"""The layout of `bundle.json`, read strictly: an unknown key or a missing one is an error, not a surprise later."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from sonoseek.core import PATHOLOGIES, BundleError, SonoseekError
from sonoseek.encoder.perceptual_hash import BYTES
from sonoseek.encoder.perceptual_hash import FORMAT as HASH_FORMAT
from sonoseek.encoder.seen import DIGEST

FORMAT = 2
"""Version of the layout. Format 1 is read too; a reader refuses every other."""
RECIPE_KEYS = {"cleaning": "preprocessing"}
"""Keys of a training recipe, old name → name."""
FORMAT_1_KEYS: Mapping[tuple[str, ...], Mapping[str, str]] = {
    (): {
        "cleaning": "preprocessing",
        "same_scan": "duplicate_threshold",
        "cells": "grid",
        "fine_cells": "fine_grid",
        "novelty": "ood",
    },
    ("ood",): {"centre": "mean", "directions": "components", "rest": "residual_variance", "scans": "counts"},
    ("training", "recipe"): RECIPE_KEYS,
}
"""Where a key of format 1 has another name in format 2: table → old name → name. Values are the same in both."""


LARGEST_JSON = 16 << 20
"""Bytes of a manifest. Those that ship have half a megabyte."""
DEEPEST_JSON = 32
"""Brackets within each other; a manifest has some seven."""
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)


def check_json(content: bytes, *, where: str, largest: int, remedy: str, error: type[SonoseekError]) -> None:
    """Refuse JSON that is too large, too deeply nested or no UTF-8, before it is decoded.

    Args:
        content: of the file.
        where: the path, for messages.
        largest: bytes.
        remedy: for messages, a sentence.
        error: what is raised.
    """
    if len(content) > largest:
        raise error(f"{where} has more than {largest:,} bytes, the most that is read. {remedy}")
    marks = np.frombuffer(_TEXT.sub(b"", content), np.uint8)
    opened = np.isin(marks, (ord("["), ord("{"))).astype(np.int32) - np.isin(marks, (ord("]"), ord("}")))
    if (depth := int(np.cumsum(opened, dtype=np.int32).max(initial=0))) > DEEPEST_JSON:
        raise error(f"{where} nests {depth:,} deep; at most {DEEPEST_JSON} levels are read. {remedy}")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as damage:
        raise error(f"{where} is no UTF-8 ({damage.reason} at byte {damage.start}), as JSON is. {remedy}") from damage


class OODPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The key "ood": fields as in `values.OODModel`, arrays as base64 of little-endian float32, row by row.

    `counts` gives the scans that were fitted on: "training", "validation".
    """

    mean: bytes
    components: bytes
    variances: list[float]
    residual_variance: float
    threshold: float
    level: float
    counts: dict[str, int]


class TrainingScansPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The key "training_scans": fields as in `seen.TrainingScans`, arrays as base64, row by row.

    `format` is that of the perceptual hash.
    """

    format: int
    sha256: bytes
    hashes: bytes
    counts: dict[str, int]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything in a bundle but the network itself.

    Attributes:
        format: `FORMAT`.
        name, version: of the bundle.
        sonoseek: version of the package that wrote it.
        model_sha256: of `model.onnx`.
        classes: in the order of the logits, and of `PATHOLOGIES`.
        preprocessing: the preprocessing recipe that the network was trained behind.
        embedding_dim: D.
        grid: (h, w) of the evidence map.
        fine_grid: (f·h, g·w) of the spatial weights, whole multiples of `grid`; None where the network has none.
        head_weight: (C, D), exact float32. head_bias: (C,).
        temperature: the logits are divided by it before the softmax.
        abstain_below: largest probability under which no label is given.
        conformal: "level" (share of cases whose class lies in the set), "quantile" (of the score 1 − p).
        operating_points: name → threshold and what it was measured to give.
        training: data names, counts, content hash, protocol, figures, origin of the start weights.
        licences: of the bundle and of what it was made from.
        ood: the out-of-distribution model; None: out-of-distribution scans are not recognised.
        duplicate_threshold: cosine from which on two scans are near-duplicates; None: `values.DUPLICATE_THRESHOLD`.
        training_scans: sha256 and perceptual hashes of every training scan; None: whether a scan was among them is
            not known.
        class_bias: of each class, added to logits / temperature before the softmax; empty: zeros.
        reads_marks: whether the network takes a reader's mark of the lesion as a second input.
    """

    format: int
    name: str
    version: str
    sonoseek: str
    model_sha256: str
    classes: list[str]
    preprocessing: dict[str, Any]
    embedding_dim: int
    grid: tuple[int, int]
    head_weight: list[list[float]]
    head_bias: list[float]
    temperature: float
    abstain_below: float
    conformal: dict[str, float]
    operating_points: dict[str, dict[str, float]]
    training: dict[str, Any]
    licences: dict[str, str]
    ood: OODPart | None = None
    duplicate_threshold: float | None = None
    fine_grid: tuple[int, int] | None = None
    training_scans: TrainingScansPart | None = None
    reads_marks: bool = False
    class_bias: list[float] = []


class _FormatOnly(msgspec.Struct):
    format: int


def check_format(
    content: bytes, wanted: int, *, where: str, remedy: str, error: type[SonoseekError] = BundleError
) -> None:
    """Refuse a file of another format before its keys are read.

    Args:
        content: JSON with a key "format".
        wanted: the format that this version reads.
        where: the path, for messages.
        remedy: for an older file, a sentence.
        error: what is raised for another format.

    Raises:
        msgspec.DecodeError: no such JSON.
    """
    stored_format = msgspec.json.decode(content, type=_FormatOnly).format
    if stored_format != wanted:
        remedy = "Update sonoseek." if stored_format > wanted else remedy
        raise error(f"{where} has format {stored_format}; this sonoseek reads format {wanted}. {remedy}")


MOST_BIAS = 20.0
"""Of a class, in logits: beyond it the class would be as good as shut, or the only one."""
POINT = ("threshold", "sensitivity", "specificity")


class _Calibration(Protocol):
    """The numbers that turn logits into a prediction, in each of the files that hold them; as in `Manifest`."""

    @property
    def temperature(self) -> float: ...
    @property
    def abstain_below(self) -> float: ...
    @property
    def conformal(self) -> Mapping[str, float]: ...
    @property
    def operating_points(self) -> Mapping[str, Mapping[str, float]]: ...


def calibration_faults(of: _Calibration, *, class_bias: Sequence[float], classes: int) -> list[str]:
    """What cannot be in the numbers that turn logits into a prediction of one of `classes` classes."""
    checks = (
        (math.isfinite(of.temperature) and of.temperature > 0, f"temperature is {of.temperature}; it must be positive"),
        (0 <= of.abstain_below <= 1, f"abstain_below is {of.abstain_below}; it must lie in 0 … 1"),
        (
            0 <= of.conformal.get("quantile", -1.0) <= 1,
            f"conformal is {of.conformal}; it must hold a 'quantile' in 0 … 1",
        ),
        *(
            (
                set(point) == set(POINT) and all(0 <= value <= 1 + 1e-9 for value in point.values()),
                f"operating point {name!r} is {dict(point)}; it must hold {', '.join(POINT)}, each in 0 … 1",
            )
            for name, point in of.operating_points.items()
        ),
        (
            len(class_bias) in (0, classes)
            and all(math.isfinite(each) and abs(each) <= MOST_BIAS for each in class_bias),
            f"class_bias is {list(class_bias)}; it must hold {classes} numbers within ±{MOST_BIAS:g}, or none",
        ),
    )
    return [message for holds, message in checks if not holds]


def decode_manifest(content: bytes, *, where: str) -> Manifest:
    """Read and check `bundle.json`, of this format or of format 1.

    Args:
        content: of the file.
        where: the path, for messages.

    Raises:
        BundleError: not JSON, another format, a key missing or unknown, numbers that contradict each other.
    """
    try:
        manifest = msgspec.convert(manifest_dict(content, where=where), Manifest)
    except msgspec.DecodeError as error:
        raise BundleError(f"{where} does not read as a bundle: {error}. Export or copy the bundle again.") from error
    for wrong in _contradictions(manifest):
        raise BundleError(f"{where}: {wrong}. Export the bundle again.")
    return manifest


def manifest_dict(content: bytes, *, where: str) -> dict[str, Any]:
    """The keys and values of `bundle.json`, under the names of this format.

    Args:
        content: of the file, of this format or of format 1.
        where: the path, for messages.

    Raises:
        BundleError: another format.
        msgspec.DecodeError: no such JSON.
    """
    check_json(content, where=where, largest=LARGEST_JSON, remedy="Export or copy the bundle again.", error=BundleError)
    manifest: dict[str, Any] = msgspec.json.decode(content, type=dict[str, Any])
    if manifest.get("format") == 1:
        for path, names in FORMAT_1_KEYS.items():
            table: Any = manifest
            for key in path:
                table = table.get(key) if isinstance(table, dict) else None
            if isinstance(table, dict):
                renamed = renamed_keys(table, names)
                table.clear()
                table.update(renamed)
        return {**manifest, "format": FORMAT}
    check_format(content, FORMAT, where=where, remedy="Export the bundle again.")
    return manifest


def renamed_keys(table: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A copy of `table` in its order, with the keys in `names` under their new names."""
    return {names.get(key, key): value for key, value in table.items()}


def _contradictions(manifest: Manifest) -> list[str]:
    """What no correct export contains."""
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
        (
            manifest.fine_grid is None
            or all(
                cells > 0 and fine > 0 and fine % cells == 0
                for fine, cells in zip(manifest.fine_grid, manifest.grid, strict=True)
            ),
            f"fine_grid is {manifest.fine_grid}; it must be a whole multiple of the grid {manifest.grid}",
        ),
        (dim > 0 and min(manifest.grid) > 0, f"embedding_dim {dim} and grid {manifest.grid} must be positive"),
        (
            manifest.duplicate_threshold is None or -1 <= manifest.duplicate_threshold <= 1,
            f"duplicate_threshold is {manifest.duplicate_threshold}; it is a cosine, −1 … 1",
        ),
    )
    return [
        *(message for holds, message in checks if not holds),
        *calibration_faults(manifest, class_bias=manifest.class_bias, classes=len(classes)),
        *([] if manifest.ood is None else _ood_faults(manifest.ood, dim=dim)),
        *([] if manifest.training_scans is None else _training_scans_faults(manifest.training_scans)),
    ]


def _training_scans_faults(part: TrainingScansPart) -> list[str]:
    """What no correct export contains."""
    if part.format != HASH_FORMAT:
        return [f"training_scans: the perceptual hash has format {part.format}; this sonoseek compares {HASH_FORMAT}"]
    scans, counted = len(part.sha256) // DIGEST, sum(part.counts.values())
    checks = (
        (
            len(part.sha256) % DIGEST == 0 and len(part.hashes) % BYTES == 0,
            f"training_scans: sha256 has {len(part.sha256)} bytes and hashes {len(part.hashes)}; both are rows of "
            f"{DIGEST}",
        ),
        (
            len(part.hashes) // BYTES <= 2 * scans,
            f"training_scans: {len(part.hashes) // BYTES} hashes for {scans} scans",
        ),
        (
            min(part.counts.values(), default=1) > 0 and scans <= counted and (scans > 0 or counted == 0),
            f"training_scans: counts are {part.counts} for {scans} distinct scans",
        ),
    )
    return [message for holds, message in checks if not holds]


def _ood_faults(part: OODPart, *, dim: int) -> list[str]:
    """What no correct fit gives."""
    count = len(part.variances)
    checks = (
        (len(part.mean) == 4 * dim, f"ood: mean has {len(part.mean)} bytes, not 4 × {dim}"),
        (
            0 < count <= dim and len(part.components) == 4 * count * dim,
            f"ood: components have {len(part.components)} bytes for {count} variances, not 4 × {count} × {dim}",
        ),
        (
            (len(part.mean) + len(part.components)) % 4 == 0
            and bool(np.isfinite(np.frombuffer(part.mean + part.components, "<f4")).all()),
            "ood: mean and components must be finite float32 numbers",
        ),
        (
            all(math.isfinite(each) and each > 0 for each in (*part.variances, part.residual_variance, part.threshold)),
            "ood: variances, residual_variance and threshold must be positive",
        ),
        (0 < part.level <= 1, f"ood: level is {part.level}; it must lie in 0 … 1"),
    )
    return [message for holds, message in checks if not holds]
