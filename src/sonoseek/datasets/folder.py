"""One's own scans, sorted into one sub-folder per class."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

from sonoseek.core import PATHOLOGIES, CaseRecord, DatasetError
from sonoseek.datasets.base import DatasetCard
from sonoseek.datasets.case_files import CaseFiles, FileDataset, with_masks

log = logging.getLogger(__name__)
SCAN_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm", ".dicom"})
"""Listed without a look inside, so that a damaged one is refused by name when it is loaded, not left out in silence."""
NO_SCANS = frozenset({".txt", ".csv", ".xlsx", ".json", ".xml", ".md", ".pdf", ".zip", ".db", ".ini"})


class FolderDataset(FileDataset):
    """`normal/`, `benign/`, `malignant/` (any of them, in any case of letters), each with scans, DICOM included.

    A file called like a scan with `_mask`, `_mask_1`, … is that scan's lesion mask, as in BUSI.
    """

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
                yield CaseFiles(record=record, scan=scan, masks=masks)


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
            if folder.name.lower() in PATHOLOGIES and folder.is_dir():
                yield folder.name.lower(), folder


def _scan_files(folder: Path) -> list[Path]:
    """Files that are, or should be, scans; a file of unknown suffix must look like one."""
    from sonoseek.io import is_scan_file  # pixels are read late: listing and describing stay light

    taken, left = [], []
    for path in folder.iterdir():
        if path.name.startswith(".") or not path.is_file():
            left += [path.name] if path.is_dir() else []
        elif path.suffix.lower() in SCAN_SUFFIXES or (path.suffix.lower() not in NO_SCANS and is_scan_file(path)):
            taken.append(path)
        else:
            left.append(path.name)
    if left:
        log.warning("folder: %d entries of %s are no scans: %s", len(left), folder.name, ", ".join(sorted(left)[:5]))
    return taken
