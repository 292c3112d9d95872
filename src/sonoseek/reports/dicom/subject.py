"""What every kind of result needs: the report, its source, the UIDs."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, UltrasoundImageStorage

from sonoseek.core import Box, Contour, Report
from sonoseek.reports.dicom.uids import derived_uid, series_uid
from sonoseek.reports.dicom.writing import replace_class

T = TypeVar("T", bound=Dataset)
NAME = "sonoseek"
LONGEST_TEXT = 1024
"""Characters of one text; what an archive or a file name brings may be longer."""
SERIES_NUMBERS: Mapping[str, int] = {"sr": 9701, "sc": 9702, "pdf": 9703, "gsps": 9704, "seg": 9705, "seg-ohif": 9706}
"""Kind → SeriesNumber (0020,0011): behind those of any scanner."""
SERIES_DESCRIPTIONS: Mapping[str, str] = {
    "sr": "sonoseek result, research use only",
    "sc": "sonoseek evidence, research use only",
    "pdf": "sonoseek report, research use only",
    "gsps": "sonoseek outline, research use only",
    "seg": "sonoseek segmentation, research use only",
    "seg-ohif": "sonoseek segmentation for OHIF, research use only",
}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A result before it takes a form.

    Attributes:
        report: of the query.
        source: of `source_dataset`.
        identity: of `uids.identity`.
        predecessor: SOP Instance UID of the report that a verified one replaces; "": there is none.
    """

    report: Report
    source: Dataset
    identity: tuple[object, ...]
    predecessor: str

    @property
    def referenced_frames(self) -> list[int] | None:
        """The frame that was queried, as DICOM counts, from 1; None of an image that has one frame."""
        several = int(self.source.get("NumberOfFrames") or 1) > 1
        return [(self.report.scan.frame or 0) + 1] if several else None

    @property
    def device_uid(self) -> str:
        """Of the program and its bundle, as an observer."""
        return derived_uid(NAME, "device", self.report.version, self.report.bundle_id)

    def uid(self, *what: str) -> str:
        """A UID of this result."""
        return derived_uid(*self.identity, *what)

    def identification(self, kind: str) -> dict[str, Any]:
        """Keyword arguments that all of highdicom's objects take."""
        return {
            "series_instance_uid": series_uid(self.uid(kind)),
            "series_number": SERIES_NUMBERS[kind],
            "sop_instance_uid": self.uid(kind),
            "instance_number": 1,
            "series_description": SERIES_DESCRIPTIONS[kind],
            "manufacturer": NAME,
            "manufacturer_model_name": NAME,
            "software_versions": _long_string(self.report.version),
            "device_serial_number": _long_string(self.report.bundle_id),
        }

    def single_frame(self) -> Dataset:
        """The source as an image of one frame: of several frames highdicom takes those with functional groups alone."""
        image = deepcopy(self.source)
        image.SOPClassUID = UltrasoundImageStorage
        if "NumberOfFrames" in image:
            del image.NumberOfFrames
        return image

    def restored(self, made: T, *, on_frame: Sequence[str]) -> T:
        """What was made of `single_frame` with the source's own class, and with its frame in these sequences."""
        replace_class(made, former=UltrasoundImageStorage, actual=str(self.source.SOPClassUID))
        for element in made.iterall():
            if element.keyword in on_frame and self.referenced_frames:
                element.value[0].ReferencedFrameNumber = self.referenced_frames[0]
        return made

    def state_side(self, dataset: Dataset) -> None:
        """Laterality (0020,0060) of a series of breasts; empty where the side is not known. PS3.3 C.7.3.1."""
        dataset.Laterality = {"left": "L", "right": "R", None: ""}[self.report.scan.laterality]

    def unverified(self) -> Dataset:
        """The report that a verified one replaces."""
        former = Dataset()
        former.SOPClassUID = Comprehensive3DSRStorage
        former.SOPInstanceUID = self.predecessor
        former.StudyInstanceUID = self.source.StudyInstanceUID
        former.SeriesInstanceUID = series_uid(self.predecessor)
        return former

    def reference(self) -> Dataset:
        """An item that refers to the source, and to its frame: of SourceImageSequence (0008,2112) and its like."""
        item = Dataset()
        item.ReferencedSOPClassUID = self.source.SOPClassUID
        item.ReferencedSOPInstanceUID = self.source.SOPInstanceUID
        if self.referenced_frames:
            item.ReferencedFrameNumber = self.referenced_frames[0]
        return item


def polygon(contour: Contour) -> NDArray[np.float64]:
    """The outline as SCOORD and presentation states take it: float64 (n + 1, 2), (column, row), closed.

    In both, as in `Contour`, the origin is the outer corner of the first pixel, whose centre is at 0.5 (PS3.3
    C.18.6.1.2, C.10.5.1.2).
    """
    points = contour.points[:, ::-1].astype(np.float64)
    return np.concatenate([points, points[:1]])


def whole_image(report: Report) -> NDArray[np.float64]:
    """What was analysed where nothing is outlined, as `polygon`: the image, or the area that the reader drew."""
    rows, columns = report.scan.shape
    box = report.crop or Box(top=0, left=0, bottom=rows, right=columns)
    corners = [(box.left, box.top), (box.right, box.top), (box.right, box.bottom), (box.left, box.bottom)]
    return np.array([*corners, corners[0]], np.float64)


def plain(text: str) -> str:
    """Text without control characters and marks of direction, at most `LONGEST_TEXT` long, not empty."""
    spaced = (" " if sign.isspace() else sign for sign in text)
    signs = [sign for sign in spaced if unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Co", "Cn")]
    return "".join(signs).strip()[:LONGEST_TEXT] or "-"


def _long_string(text: str) -> str:
    """For the VR LO, in which a backslash separates values."""
    return plain(text).replace("\\", "/")[:64].strip()
