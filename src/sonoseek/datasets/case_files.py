"""A dataset whose cases are files: one scan file each, and any number of mask files."""

from __future__ import annotations

import fnmatch
import hashlib
import logging
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Case, CaseRecord, DatasetError, NotFoundError, ScanReadError, Settings, SonoseekError
from sonoseek.core.scan import Laterality
from sonoseek.datasets.base import DatasetCard
from sonoseek.datasets.file_names import composed, is_system_file, masked_scan

log = logging.getLogger(__name__)
SEARCH_DEPTH = 2
"""How far below the given folder a dataset is looked for: archives unpack into one or two folders of their own."""


@dataclass(frozen=True, kw_only=True)
class CaseFiles:
    """Where a case lies, and what its table says that its scan file does not.

    Attributes:
        record: of the case.
        scan: file of the scan.
        masks: files whose union is the lesion; empty where none was drawn.
        laterality: of the breast, or None: then the file's own word stands.
        view: which picture of the lesion it is, as its archive names it, or None: then the file's own word stands.
        patient_placeholder: what its table says for a patient and names nobody, or None.
        spacing_mm: (row, column) in millimetres, or None: then the file's own word stands.
        frame: of a multi-frame file, 0-based.
        origin: where the case is listed, for error messages ("row 12 of archive.csv"), or empty.
        named_by_file: whether its case id is its file's name, which may name the patient.
    """

    record: CaseRecord
    scan: Path
    masks: tuple[Path, ...] = ()
    laterality: Laterality | None = None
    view: str | None = None
    patient_placeholder: str | None = None
    spacing_mm: tuple[float, float] | None = None
    frame: int = 0
    origin: str = ""
    named_by_file: bool = False


class FileDataset(ABC):
    """The part that datasets made of files share: listing once, loading one by one."""

    card: ClassVar[DatasetCard]
    own_archive: ClassVar[bool] = False
    """Whether its files are named by the archive that they come from, and not by a publisher."""
    known_defects: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """case_id → what is known to be wrong with it in the published release."""

    def __init__(self, root: Path | str, *, settings: Settings | None = None) -> None:
        """Find the dataset under `root`; no scan is opened.

        Raises:
            DatasetError: `root` does not hold the layout that the source publishes.
        """
        self.root = self._find(Path(root).expanduser())
        self._settings = settings

    @property
    def name(self) -> str:
        """In the table of datasets."""
        return self.card.name

    @property
    def licence(self) -> str:
        """As the source states it."""
        return self.card.licence

    @property
    def citation(self) -> str:
        """The paper to cite."""
        return self.card.citation

    @property
    def left_out(self) -> Mapping[str, str]:
        """What lies there and looks like scans, but is not listed → why."""
        return {}

    @abstractmethod
    def _find(self, root: Path) -> Path:
        """The folder (or file) that the dataset's own paths are relative to."""

    @abstractmethod
    def _list(self) -> Iterable[CaseFiles]:
        """Every case, in a stable order, without opening a scan."""

    def _read_mask(self, path: Path) -> NDArray[np.bool_]:
        """One mask file as bool (H, W)."""
        from sonoseek.io import read_mask  # pixels are read late: listing and describing stay light

        return read_mask(path)

    @cached_property
    def _cases(self) -> dict[str, CaseFiles]:
        cases: dict[str, CaseFiles] = {}
        for item in self._list():
            case_id = item.record.case_id
            if case_id in cases:
                first, second = (c.origin or c.scan.name for c in (cases[case_id], item))
                raise DatasetError(
                    f"{self.name}: case id {case_id!r} stands twice, in {first} and in {second}; "
                    "a case id is unique within its dataset. Rename one of them."
                )
            cases[case_id] = item
        return cases

    def records(self) -> tuple[CaseRecord, ...]:
        """Every case, without pixels, in a stable order; see `Dataset.records`."""
        return tuple(item.record for item in self._cases.values())

    def files(self, case_id: str) -> CaseFiles:
        """Where the case lies.

        Raises:
            NotFoundError: no such case.
        """
        try:
            return self._cases[case_id]
        except KeyError:
            raise NotFoundError(
                f"{self.name} has no case {case_id!r}; its {len(self._cases)} case ids are listed by records()."
            ) from None

    def load(self, case_id: str, *, masks: bool = True) -> Case:
        """One case with its pixels and its lesion mask; see `Dataset.load`."""
        from sonoseek.io import read_scan

        item = self.files(case_id)
        if not item.scan.is_file():
            raise DatasetError(
                f"{self._place(item)}: its scan {item.scan} is not there; each listed case has one. "
                "Put the file back or take the case out of the list."
            )
        try:
            read = read_scan(item.scan, frame=item.frame, settings=self._settings)
        except ScanReadError as error:
            raise type(error)(f"{self._place(item)}: {error}") from error
        patient_id = item.record.patient_id or read.patient_id
        scan = replace(
            read,
            patient_id=patient_id,
            patient_placeholder=None if patient_id else item.patient_placeholder or read.patient_placeholder,
            laterality=item.laterality or read.laterality,
            view=item.view or read.view,
            spacing_mm=item.spacing_mm or read.spacing_mm,
            source=f"{self.name}/{self._relative(item.scan)}",
        )
        known = vars(item.record) | {"patient_id": scan.patient_id}  # a DICOM file may know the patient
        mask = self._mask(item, shape=scan.shape) if masks else None
        return Case(**known, scans=(scan,), lesion_masks=(mask,))

    def fingerprint(self, case_id: str) -> str:
        """Changes with the case's files or record; see `Dataset.fingerprint`."""
        item = self.files(case_id)
        digest = hashlib.sha256(repr((item.record, item.laterality, item.view, item.spacing_mm, item.frame)).encode())
        for path in (item.scan, *item.masks):
            try:
                status = path.stat()
                state = f"{path.name}|{status.st_size}|{status.st_mtime_ns}"
            except OSError:
                state = f"{path.name}|missing"
            digest.update(state.encode())
        return digest.hexdigest()

    def _mask(self, item: CaseFiles, *, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        """Union of the case's mask files, or None where it has none."""
        if not item.masks:
            return None
        union = np.zeros(shape, dtype=np.bool_)
        for path in item.masks:
            try:
                part = self._read_mask(path)
            except (SonoseekError, OSError) as error:
                raise DatasetError(f"{self._place(item)}: its mask {path.name} does not read: {error}") from error
            if part.shape != shape:
                raise DatasetError(
                    f"{self._place(item)}: mask {path.name} is {part.shape[0]}×{part.shape[1]} pixels (rows × columns) "
                    f"and scan {item.scan.name} is {shape[0]}×{shape[1]}; a mask lies on its scan's own grid. "
                    "Get both files from one release, or take the mask away."
                )
            union |= part
        return union

    def _place(self, item: CaseFiles) -> str:
        place = f"{self.name}, case {item.record.case_id!r}"
        return f"{place} ({item.origin})" if item.origin else place

    def _relative(self, path: Path) -> str:
        base = self.root if self.root.is_dir() else self.root.parent
        return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name


def find_folder(root: Path, *, dataset: str, holds: Sequence[str]) -> Path:
    """The shallowest folder at or below `root` that holds all of `holds`.

    Args:
        root: what the user gave: the dataset's own folder, or one around it.
        dataset: name in the table, for the remedy.
        holds: names of files or folders; "*" in a name stands for anything.

    Raises:
        DatasetError: none does; says what was looked for, where, and the remedy.
    """
    level = [root]
    for _ in range(SEARCH_DEPTH + 1):
        for folder in level:
            if all(_holds(folder, name) for name in holds):
                return folder
        level = [child for folder in level for child in _subfolders(folder)]
    state = f"and {SEARCH_DEPTH} folders below" if root.is_dir() else "which is no folder"
    raise DatasetError(
        f"no {dataset} dataset: looked for a folder that holds {', '.join(holds)} in {root}, {state}. "
        f"Give the folder as its source unpacks it, or fetch it with: sonoseek data get {dataset}"
    )


def _holds(folder: Path, name: str) -> bool:
    if "*" not in name:
        return (folder / name).exists()
    return folder.is_dir() and any(fnmatch.fnmatchcase(child.name, name) for child in folder.iterdir())


def _subfolders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            folders = [Path(entry.path) for entry in entries if entry.is_dir()]
        return sorted(path for path in folders if not is_system_file(path))
    except OSError:
        return []


def with_masks(paths: Iterable[Path]) -> list[tuple[Path, tuple[Path, ...]]]:
    """Pair scans with their masks (`_mask`, `_Mask_1`, `_mask - Copy`, …), in natural order of the numbers in names.

    A file named like a mask whose scan is not there is left out, with a warning. System files are nothing.
    """
    scans: list[Path] = []
    masks: dict[str, list[Path]] = {}
    for path in sorted(paths, key=_natural):
        if is_system_file(path):
            continue
        scan = masked_scan(path)
        if scan is None:
            scans.append(path)
        else:
            masks.setdefault(scan, []).append(path)
    stems = {composed(path.stem) for path in scans}
    small = {stem.casefold(): stem for stem in stems}
    of_scan: dict[str, list[Path]] = {}
    lost: list[str] = []
    for stem, drawn in masks.items():
        owner = stem if stem in stems else small.get(stem.casefold())
        if owner is None:
            lost += [path.name for path in drawn]
        else:
            of_scan.setdefault(owner, []).extend(drawn)
    if lost:
        log.warning("%d masks have no scan and are left out: %s", len(lost), ", ".join(lost[:5]))
    return [(path, tuple(of_scan.get(composed(path.stem), ()))) for path in scans]


def _natural(path: Path) -> tuple[tuple[int, int | str], ...]:
    """Sort key by which "benign (2)" stands before "benign (10)"."""
    parts = re.split(r"(\d+)", path.name)
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts)
