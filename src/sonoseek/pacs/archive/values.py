"""What is asked of an archive, and what it lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol, TypeVar

from sonoseek.core import InvalidValueError
from sonoseek.pacs.archive.folder import ImportFolder, parse_count, parse_day
from sonoseek.pacs.uids import is_uid

_T = TypeVar("_T")
PICTURE_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.6.1": "Ultrasound Image Storage",
    "1.2.840.10008.5.1.4.1.1.3.1": "Ultrasound Multi-frame Image Storage",
    "1.2.840.10008.5.1.4.1.1.6": "Ultrasound Image Storage (Retired)",
    "1.2.840.10008.5.1.4.1.1.3": "Ultrasound Multi-frame Image Storage (Retired)",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture Image Storage",
    "1.2.840.10008.5.1.4.1.1.7.2": "Multi-frame Grayscale Byte Secondary Capture Image Storage",
    "1.2.840.10008.5.1.4.1.1.7.4": "Multi-frame True Color Secondary Capture Image Storage",
}
"""SOP classes that are fetched: pictures that an ultrasound scanner stores. PS3.4 B.5."""
TRANSFER_SYNTAXES = (
    *("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"),  # native
    *("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"),  # JPEG
    *("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"),  # JPEG-LS
    *("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.5"),  # JPEG 2000, RLE
)
"""What `sonoseek.io` reads. Each gets a context of its own, so that an archive sends a file as it has it."""
BREAST = "BREAST"
"""BodyPartExamined (PS3.16 Annex L)."""
BREAST_WORDS = ("breast", "mamma", "brust")
"""Words of a description; they count where BodyPartExamined is empty, as it often is for ultrasound."""
_WILD = frozenset("*?\\")


@dataclass(frozen=True, kw_only=True)
class StudyQuery:
    """Which ultrasound series are wanted. All conditions hold together.

    Attributes:
        since: first study date, or None.
        until: last study date, or None.
        accession: AccessionNumber, or "".
        patient_id: PatientID, or "".
        body_part: BodyPartExamined that is wanted; "" for any.
        descriptions: where BodyPartExamined is empty, a series is wanted if the description of its study or series
            holds one of these words, in any case of letters.
    """

    since: date | None = None
    until: date | None = None
    accession: str = ""
    patient_id: str = ""
    body_part: str = BREAST
    descriptions: tuple[str, ...] = BREAST_WORDS

    def __post_init__(self) -> None:
        for name, value in (("accession", self.accession), ("patient id", self.patient_id)):
            if _WILD & set(value) or not value.isprintable():
                raise InvalidValueError(
                    f"the {name} is {value!r}; it is one, without *, ? or backslash. Give dates for many studies."
                )
        if self.since and self.until and self.since > self.until:
            raise InvalidValueError(f"the dates are {self.since} to {self.until}; the first is not after the last.")

    @property
    def dates(self) -> str:
        """StudyDate for range matching (PS3.4 C.2.2.2.5), "" for any."""
        first, last = (f"{day:%Y%m%d}" if day else "" for day in (self.since, self.until))
        return f"{first}-{last}" if first or last else ""

    def takes(self, series: SeriesRef) -> bool:
        """Whether a series meets the conditions; an archive may ignore keys that it does not support."""
        if series.modality != "US":
            return False
        if (self.accession and series.accession != self.accession) or (
            self.patient_id and series.patient_id != self.patient_id
        ):
            return False
        if series.study_date and (
            (self.since and series.study_date < self.since) or (self.until and series.study_date > self.until)
        ):
            return False
        if not self.body_part:
            return True
        if series.body_part:
            return series.body_part.casefold() == self.body_part.casefold()
        text = f"{series.study_description} {series.series_description}".casefold()
        return any(word.casefold() in text for word in self.descriptions)


@dataclass(frozen=True, kw_only=True)
class SeriesRef:
    """One series that an archive lists. It names a patient.

    `objects` is how many the archive states that it has of the series; None where it does not state it.
    """

    study_uid: str
    series_uid: str
    modality: str
    patient_id: str = ""
    accession: str = ""
    study_date: date | None = None
    body_part: str = ""
    study_description: str = ""
    series_description: str = ""
    objects: int | None = None


@dataclass(frozen=True, kw_only=True)
class InstanceRef:
    """One object of a series; `sop_class_uid` is "" where the archive does not state it."""

    sop_instance_uid: str
    sop_class_uid: str = ""

    @property
    def is_picture(self) -> bool:
        """Whether it is, or may be, a picture that is fetched."""
        return not self.sop_class_uid or self.sop_class_uid in PICTURE_CLASSES


def wanted_series(
    query: StudyQuery, studies: Iterable[_T], series_of: Callable[[str], Iterable[_T]], text: Callable[[_T, str], str]
) -> Iterator[SeriesRef]:
    """The series that meet a query, of what an archive lists.

    Args:
        query: what is wanted; an archive may ignore keys that it does not support.
        studies: as listed.
        series_of: Study Instance UID → its series, as listed.
        text: the value of an attribute by its keyword; "" where there is none.
    """
    for study in studies:
        uid = text(study, "StudyInstanceUID")
        for series in series_of(uid) if is_uid(uid) else ():
            ref = SeriesRef(
                study_uid=uid,
                series_uid=text(series, "SeriesInstanceUID"),
                modality=text(series, "Modality"),
                patient_id=text(study, "PatientID"),
                accession=text(study, "AccessionNumber"),
                study_date=parse_day(text(study, "StudyDate")),
                body_part=text(series, "BodyPartExamined"),
                study_description=text(study, "StudyDescription"),
                series_description=text(series, "SeriesDescription"),
                objects=parse_count(text(series, "NumberOfSeriesRelatedInstances")),
            )
            if is_uid(ref.series_uid) and query.takes(ref):
                yield ref


class ArchiveClient(Protocol):
    """One way to ask an archive: DIMSE or DICOMweb. A context manager; it is used by one thread."""

    def __enter__(self) -> ArchiveClient:
        """Open what is needed."""

    def __exit__(self, *_: object) -> None:
        """Close it."""

    def find_series(self, query: StudyQuery) -> Iterator[SeriesRef]:
        """Series with Modality US that meet the query.

        Raises:
            PeerError, TemporaryError: it refuses, or does not answer.
        """

    def list_instances(self, series: SeriesRef) -> Sequence[InstanceRef]:
        """The objects of a series.

        Raises:
            PeerError, TemporaryError: as `find_series`.
        """

    def fetch(self, series: SeriesRef, wanted: Sequence[str], folder: ImportFolder, *, whole: bool) -> dict[str, str]:
        """Fetch objects of a series into the folder.

        Args:
            series: of `find_series`.
            wanted: SOP Instance UIDs.
            folder: takes each file when it is complete.
            whole: `wanted` is all of the series, which may then be asked for at once.

        Returns:
            SOP Instance UID → why it was not sent; objects that arrived are in the folder.

        Raises:
            PeerError, TemporaryError: nothing more can be fetched.
            OSError: the folder cannot be written.
        """


Progress = Callable[[int, int], None]
"""Called with (series done, series in all)."""
