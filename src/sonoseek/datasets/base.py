"""The protocol of a dataset, and the card that describes one before it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from sonoseek.core import Case, CaseRecord


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file that a dataset's publisher offers.

    Attributes:
        url: https.
        file_name: under which it is stored.
        checksum: "sha256:…" or "md5:…" in hex digits, or None where none is recorded.
        size: bytes, which a download may not exceed; or None where not known.
        unpack: whether it is a zip archive to unpack.
    """

    url: str
    file_name: str
    checksum: str | None = None
    size: int | None = None
    unpack: bool = True


@dataclass(frozen=True, kw_only=True)
class DatasetCard:
    """What a user should know before using a dataset.

    Attributes:
        name: in the table of datasets.
        title: for people.
        licence: as its source states it.
        citation: the paper to cite wherever figures or a model made from it appear.
        url: of the page that publishes it; empty for one's own archive.
        classes: which of `PATHOLOGIES` it holds.
        count: scans in the published release, or None.
        note: limits and known defects that change how figures are to be read.
        sources: files to download; empty where there is nothing to.
    """

    name: str
    title: str
    licence: str
    citation: str
    url: str
    classes: tuple[str, ...]
    count: int | None = None
    note: str = ""
    sources: tuple[Source, ...] = ()


@runtime_checkable
class Dataset(Protocol):
    """Cases with a reference standard, listed cheaply and loaded one by one."""

    @property
    def name(self) -> str:
        """In the table of datasets."""

    @property
    def licence(self) -> str:
        """As the source states it."""

    @property
    def citation(self) -> str:
        """The paper to cite."""

    def records(self) -> tuple[CaseRecord, ...]:
        """Every case, without pixels, in a stable order. A damaged scan among them does not matter here.

        Raises:
            DatasetError: the tables that come with the scans do not read.
        """

    def load(self, case_id: str, *, masks: bool = True) -> Case:
        """One case with its pixels and its lesion mask.

        Args:
            case_id: of `records`.
            masks: read the lesion masks too; False leaves them unread and None, for those who must not see them anyway.

        Raises:
            NotFoundError: no such case.
            ScanReadError: its scan cannot be read.
            DatasetError: its scan is not there, or its mask does not read or does not fit.
        """

    def fingerprint(self, case_id: str) -> str:
        """64 hex digits that change when the case's files or its record do; reads no pixels.

        Raises:
            NotFoundError: no such case.
        """


@runtime_checkable
class HasOfficialFolds(Protocol):
    """A dataset whose authors published a cross-validation."""

    def official_test_folds(self, folds: int) -> Mapping[str, int]:
        """case_id → the fold, 1 … `folds`, in which it is tested.

        Raises:
            SplitError: no such number of folds was published.
        """
