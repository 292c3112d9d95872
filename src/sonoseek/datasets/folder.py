"""One's own scans, sorted into one sub-folder per class."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from sonoseek.core import PATHOLOGIES, CaseRecord, DatasetError
from sonoseek.datasets.base import DatasetCard
from sonoseek.datasets.case_files import CaseFiles, FileDataset, with_masks
from sonoseek.datasets.file_names import is_system_file

log = logging.getLogger(__name__)
SCAN_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm", ".dicom"})
"""Listed without a look inside, so that a damaged one is refused by name when it is loaded, not left out in silence."""
NO_SCANS = frozenset({".txt", ".csv", ".xlsx", ".json", ".xml", ".md", ".pdf", ".zip", ".db", ".ini"})


class FolderDataset(FileDataset):
    """`normal/`, `benign/`, `malignant/` (any of them, in any case of letters), each with scans, DICOM included.

    A file called like a scan with `_mask`, `_mask_1`, … is that scan's lesion mask, as in BUSI. Scans in other folders,
    in deeper ones, or beside the class folders are `left_out`.
    """

    own_archive = True
    card: ClassVar[DatasetCard] = DatasetCard(
        name="folder",
        title="a folder of one's own, one sub-folder per class",
        licence="the archive's own",
        citation="",
        url="",
        classes=PATHOLOGIES,
        note="No patients are known unless DICOM files name them, so scans of one patient may cross a split; "
        "a manifest says who belongs together.",
    )

    def _find(self, root: Path) -> Path:
        if not any(_class_folders(root)):
            raise DatasetError(
                f"no folder dataset: looked for sub-folders called {', '.join(PATHOLOGIES)} in {root}"
                f"{'' if root.is_dir() else ', which is no folder'}. Sort the scans into them, one folder per class."
            )
        return root

    @cached_property
    def left_out(self) -> Mapping[str, str]:
        """Scans that lie beside the class folders, or in folders within them → why they are not listed."""
        found: dict[str, str] = {}
        classes = {folder: pathology for pathology, folder in _class_folders(self.root)}
        for place in sorted(self.root.iterdir()):
            if place in classes:
                for inner in sorted(place.iterdir()):
                    if inner.is_dir() and (count := _scans_below(inner)):
                        found[f"{place.name}/{inner.name}/"] = (
                            f"{count} scans lie a folder deeper; scans are taken from {place.name}/ itself. Move them "
                            "up, or list them in a manifest."
                        )
            elif place.is_dir() and (count := _scans_below(place)):
                found[f"{place.name}/"] = (
                    f"{count} scans in a folder that names no class; classes are {', '.join(PATHOLOGIES)}. Rename the "
                    "folder, or leave it out on purpose by moving it away."
                )
            elif _is_scan(place):
                found[place.name] = "a scan beside the class folders; move it into the folder of its class."
        return found

    def _list(self) -> Iterable[CaseFiles]:
        for pathology, folder in _class_folders(self.root):
            scans = _scan_files(folder)
            if unnamed := [scan.name for scan in scans if not _is_utf8(scan.name)]:
                raise DatasetError(
                    f"the names of {len(unnamed)} files in {folder.name} are no UTF-8, and name no case: "
                    f"{unnamed[0]!a}. Rename them."
                )
            for scan, masks in with_masks(scans):
                record = CaseRecord(
                    case_id=f"{folder.name}/{scan.name}", dataset=self.name, pathology=pathology, licence=self.licence
                )
                yield CaseFiles(record=record, scan=scan, masks=masks, named_by_file=True)


def _is_utf8(name: str) -> bool:
    """False for a file's name in another encoding, of which Python keeps bytes that no database or JSON can take."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _class_folders(root: Path) -> Iterator[tuple[str, Path]]:
    if root.is_dir():
        for folder in sorted(root.iterdir()):
            if (pathology := folder.name.strip().lower()) in PATHOLOGIES and folder.is_dir():
                yield pathology, folder


def _scan_files(folder: Path) -> list[Path]:
    """Files that are, or should be, scans; a file of unknown suffix must look like one."""
    taken, others = [], []
    for path in folder.iterdir():
        if _is_scan(path):
            taken.append(path)
        elif not path.name.startswith("."):
            others.append(path.name)
    if others:
        names = ", ".join(sorted(others)[:5])
        log.warning("folder: %d entries of %s are no scans: %s", len(others), folder.name, names)
    return taken


def _is_scan(path: Path) -> bool:
    from sonoseek.io import is_scan_file  # pixels are read late: listing and describing stay light

    if is_system_file(path) or not path.is_file():
        return False
    suffix = path.suffix.lower()
    return suffix in SCAN_SUFFIXES or (suffix not in NO_SCANS and is_scan_file(path))


def _scans_below(folder: Path, depth: int = 3) -> int:
    """Scans in a folder and those within it; system folders hold none."""
    if is_system_file(folder):
        return 0
    inner = list(folder.iterdir())
    below = sum(_scans_below(place, depth - 1) for place in inner if place.is_dir()) if depth else 0
    return below + sum(_is_scan(place) for place in inner)
