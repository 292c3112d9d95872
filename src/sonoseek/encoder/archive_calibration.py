"""A calibration that was fitted on an archive's own cases: its file, read strictly, and the bundle that it makes.

With an archive's calibration the probabilities are softmax(logits / temperature + class_bias). The network, its
embeddings and its heatmaps stay as they are.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import date, datetime

import msgspec

from sonoseek.core import BundleMismatchError, CalibrationSource, GalleryError
from sonoseek.encoder.manifest import calibration_faults, check_format, check_json
from sonoseek.encoder.values import Bundle, frozen_points

FORMAT = 1
"""Version of the file. A reader refuses every other."""
LARGEST_FILE = 1 << 20
"""Bytes. A calibration has some 5 kB."""


class Figure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A figure on the archive's cases, with its 95 % interval over patients; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


class FigurePair(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A figure with the bundle's calibration, and with the archive's on cases that it was not fitted on."""

    before: Figure
    after: Figure


class ArchiveCalibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is fitted on an archive's cases, and what it gave there.

    Attributes:
        format: `FORMAT`.
        sonoseek: version of the package that fitted it.
        bundle_id: whose logits it is for.
        gallery_id, gallery_state: of the archive, when it was fitted.
        created: UTC.
        cases, scans, patients: that were fitted on, 1 or more; `patients` counts what stays together: patients, or
            groups where no patient is named.
        class_cases: class → cases.
        left_out: reason → scans that were not used.
        temperature: positive; the logits are divided by it.
        class_bias: of each class of the bundle; added after the division.
        abstain_below, conformal, operating_points: as in a bundle's manifest.
        bundle_points: operating points that the archive had too few cases for.
        figures: name → before and after, cross-validated.
        log_loss_change: after less before; negative: better.
        improved_by: what makes it better than the bundle's calibration beyond chance: "log_loss", or the operating
            point whose sensitivity the bundle misses on this archive; "": nothing does, and it was stored by force.
        digest: sha256 over all the above; "" before it is written.
    """

    format: int = FORMAT
    sonoseek: str
    bundle_id: str
    gallery_id: str
    gallery_state: str
    created: datetime
    cases: int
    scans: int
    patients: int
    class_cases: dict[str, int]
    left_out: dict[str, int]
    temperature: float
    class_bias: dict[str, float]
    abstain_below: float
    conformal: dict[str, float]
    operating_points: dict[str, dict[str, float]]
    bundle_points: list[str]
    figures: dict[str, FigurePair]
    log_loss_change: Figure
    improved_by: str
    digest: str = ""

    @property
    def fitted(self) -> date:
        """The day of the fit, UTC."""
        return self.created.date()


def encode_calibration(calibration: ArchiveCalibration) -> bytes:
    """The content of its file: indented JSON with its digest, ending in a newline."""
    signed = msgspec.structs.replace(calibration, digest=_digest(calibration))
    return msgspec.json.format(msgspec.json.encode(signed), indent=1) + b"\n"


def decode_calibration(content: bytes, *, where: str) -> ArchiveCalibration:
    """Read and check the file.

    Args:
        content: of the file.
        where: its path, for messages.

    Raises:
        GalleryError: not JSON, another format, a key missing or unknown, another content than was written, numbers
            that no fit gives.
    """
    remedy = (
        "Run `sonoseek calibrate` on the gallery again, remove the file with `sonoseek calibrate --remove`, or go "
        "without it with --no-calibration."
    )
    check_json(content, where=where, largest=LARGEST_FILE, remedy=remedy, error=GalleryError)
    try:
        check_format(content, FORMAT, where=where, remedy=remedy, error=GalleryError)
        calibration = msgspec.json.decode(content, type=ArchiveCalibration)
    except msgspec.DecodeError as error:
        raise GalleryError(f"{where} does not read as a calibration: {error}. {remedy}") from error
    if calibration.digest != _digest(calibration):
        raise GalleryError(f"{where} is not what was written: its digest differs, so no number in it counts. {remedy}")
    if faults := _faults(calibration):
        raise GalleryError(f"{where}: {faults[0]}. {remedy}")
    return calibration


def calibrated(bundle: Bundle, calibration: ArchiveCalibration) -> Bundle:
    """The bundle with an archive's temperature, biases and thresholds in the place of its own; its id stays.

    Raises:
        BundleMismatchError: it was fitted to another bundle's logits.
    """
    if calibration.bundle_id != bundle.bundle_id or set(calibration.class_bias) != set(bundle.classes):
        raise BundleMismatchError(
            f"the calibration was fitted for bundle {calibration.bundle_id!r} with the classes "
            f"{', '.join(calibration.class_bias)}; this is {bundle.bundle_id!r} with {', '.join(bundle.classes)}. "
            "Run `sonoseek calibrate` again."
        )
    return replace(
        bundle,
        temperature=calibration.temperature,
        class_bias=tuple(calibration.class_bias[name] for name in bundle.classes),
        abstain_below=calibration.abstain_below,
        conformal_quantile=calibration.conformal["quantile"],
        conformal_level=calibration.conformal["level"],
        operating_points=frozen_points(calibration.operating_points),
        calibration=CalibrationSource(
            cases=calibration.cases, fitted=calibration.fitted, bundle_points=tuple(calibration.bundle_points)
        ),
    )


def _digest(calibration: ArchiveCalibration) -> str:
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(calibration, digest=""))).hexdigest()


def _faults(calibration: ArchiveCalibration) -> list[str]:
    """What no fit gives."""
    checks = (
        (min(calibration.cases, calibration.scans, calibration.patients) > 0, "it counts no case, scan or patient"),
        (
            0 < calibration.conformal.get("level", -1.0) < 1,
            f"conformal is {calibration.conformal}; it must hold a 'level' in 0 … 1",
        ),
        (
            set(calibration.bundle_points) <= set(calibration.operating_points),
            f"bundle_points are {calibration.bundle_points}; each must be an operating point",
        ),
    )
    biases = tuple(calibration.class_bias.values())
    return [message for holds, message in checks if not holds] + calibration_faults(
        calibration, class_bias=biases, classes=len(biases)
    )
