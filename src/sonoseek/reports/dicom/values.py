"""Inputs of a DICOM result beside the report, and the result."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from sonoseek.core import InvalidValueError


@dataclass(frozen=True, kw_only=True)
class QueriedFrame:
    """A frame of the study that was queried, with its likelihood.

    Attributes:
        sop_instance_uid: of the image.
        frame: as DICOM counts, from 1; 1 of an image that has no frames.
        malignant: likelihood of malignancy, 0 … 1.
    """

    sop_instance_uid: str
    frame: int
    malignant: float

    def __post_init__(self) -> None:
        if self.frame < 1 or not 0.0 <= self.malignant <= 1.0:
            raise InvalidValueError(
                f"frame is {self.frame} and malignant {self.malignant}; DICOM counts frames from 1, and a likelihood "
                "lies in 0 … 1. Add 1 to a 0-based frame."
            )


@dataclass(frozen=True, kw_only=True)
class Verification:
    """A reader's decision on a result.

    Attributes:
        observer_name: of the reader, as DICOM writes names: "Curie^Marie".
        organisation: the reader's.
        when: with a time zone.
        accepted: whether the reader accepts the result as it is.
        corrected_class: the class that the reader states instead, or None.
    """

    observer_name: str
    organisation: str
    when: datetime
    accepted: bool
    corrected_class: str | None = None

    def __post_init__(self) -> None:
        if not self.observer_name.strip() or not self.organisation.strip():
            raise InvalidValueError(
                f"observer_name is {self.observer_name!r} and organisation {self.organisation!r}; a verified document "
                "names both (PS3.3 C.17.2). Give them."
            )
        if self.when.tzinfo is None:
            raise InvalidValueError("when has no time zone; pass datetime.now(timezone.utc).")

    @property
    def verifies(self) -> bool:
        """Whether the document is verified: the reader accepted the result, or stated another class."""
        return self.accepted or self.corrected_class is not None


@dataclass(frozen=True, kw_only=True)
class DicomResult:
    """One DICOM object.

    Attributes:
        kind: of `KINDS`.
        sop_class_uid, sop_instance_uid, series_instance_uid, study_instance_uid: of the object.
        content: a whole file (PS3.10), explicit little endian.
    """

    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    content: bytes = field(repr=False)
