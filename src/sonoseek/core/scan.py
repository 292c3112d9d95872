"""One greyscale ultrasound picture."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sonoseek.core.errors import InvalidValueError

Laterality = Literal["left", "right"]
MIN_SIDE = 8
"""Pixels. Below this no scan is a scan."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scan:
    """One B-mode picture, depth downwards.

    Attributes:
        pixels: uint8 (H, W), 0 black … 255 white, read-only.
        spacing_mm: (row, column) distance of pixel centres in millimetres, or None where the file does not state it.
        patient_id: a pseudonym, or None.
        patient_placeholder: what stood in the place of a patient id and names nobody ("ANONYMOUS"), or None.
        laterality: the breast, or None.
        view: which picture of the lesion or of the breast this is, as its archive names it ("left", "radial"), or None.
        source: where the scan came from, for people (a file name, an archive's name).
        frame: which picture of a file that holds several it is, 0-based: 0 ≤ frame < frames; None for a file of one.
        frames: how many pictures that file holds; None for a file of one, or where it is not known.
        scan_id: sha256 over shape and pixels, 64 hex digits: two scans are the same scan when their pixels are.
    """

    pixels: NDArray[np.uint8]
    spacing_mm: tuple[float, float] | None = None
    patient_id: str | None = None
    laterality: Laterality | None = None
    view: str | None = None
    source: str = ""
    frame: int | None = None
    frames: int | None = None
    patient_placeholder: str | None = None
    scan_id: str = field(init=False)

    def __post_init__(self) -> None:
        pixels: Any = self.pixels  # callers without a type checker give anything
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 2:
            given = f"{getattr(pixels, 'dtype', type(pixels).__name__)} {getattr(pixels, 'shape', '')}"
            raise InvalidValueError(
                f"pixels are {given}; a Scan holds uint8 (H, W). Convert colour to grey and 16 bit to 8, "
                "or let sonoseek.read_scan do it."
            )
        if min(pixels.shape) < MIN_SIDE:
            raise InvalidValueError(
                f"pixels have shape {pixels.shape}; a scan has at least {MIN_SIDE} pixels a side. Give the whole one."
            )
        if self.spacing_mm is not None and not all(np.isfinite(s) and s > 0 for s in self.spacing_mm):
            raise InvalidValueError(
                f"spacing_mm is {self.spacing_mm}; both numbers must be positive millimetres. Pass None where unknown."
            )
        if self.laterality not in (None, "left", "right"):
            raise InvalidValueError(f"laterality is {self.laterality!r}; it must be 'left', 'right' or None.")
        if self.frames is not None and not (self.frame is not None and 0 <= self.frame < self.frames):
            raise InvalidValueError(
                f"frame is {self.frame} of {self.frames} frames; it must be 0 … frames - 1. Give both, or frame alone "
                "where the count is not known."
            )
        if self.frame is not None and self.frame < 0:
            raise InvalidValueError(f"frame is {self.frame}; it must be 0 or more. Count frames from 0.")
        if pixels.flags.writeable or not pixels.flags.c_contiguous:
            pixels = np.array(pixels, order="C")
            pixels.flags.writeable = False
            object.__setattr__(self, "pixels", pixels)
        digest = hashlib.sha256(repr(pixels.shape).encode())
        digest.update(pixels.data)
        object.__setattr__(self, "scan_id", digest.hexdigest())

    @classmethod
    def archived(cls, pixels: NDArray[np.uint8], *, scan_id: str, **known: Any) -> Scan:
        """A picture that stands for a scan whose own pixels are elsewhere, as an archive keeps it.

        Args:
            pixels: uint8 (H, W), of the scan's own shape.
            scan_id: of the scan itself; the picture's pixels are not the ones it was made from.
            known: other fields of the scan.

        Raises:
            InvalidValueError: as for any scan.
        """
        scan = cls(pixels=pixels, **known)
        object.__setattr__(scan, "scan_id", scan_id)
        return scan

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        height, width = self.pixels.shape
        return height, width

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scan) and self.scan_id == other.scan_id

    def __hash__(self) -> int:
        return hash(self.scan_id)
