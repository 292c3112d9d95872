"""A folder indexed into the gallery; a build that was stopped continues from what the gallery already has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from sonoseek.batch.files import check_inside
from sonoseek.batch.job import Job
from sonoseek.batch.store import JobStore
from sonoseek.core import Case, DatasetError, InvalidValueError
from sonoseek.datasets import Dataset
from sonoseek.datasets.folder import FolderDataset
from sonoseek.datasets.manifest import ManifestDataset
from sonoseek.encoder import Encoder
from sonoseek.gallery import open_gallery
from sonoseek.indexing.build import build_index

MANIFEST = "manifest.csv"
"""A table of this name at the top of a folder has the metadata of its scans."""


class StoppedError(Exception):
    """A user stopped the job."""


class NamedFolder(FolderDataset):
    """A folder dataset under a given name, so that cases of two folders never replace each other.

    A case behind a link that leads out of the folder is refused.
    """

    def __init__(self, root: Path, *, name: str) -> None:
        self._name = name
        super().__init__(root)

    @property
    def name(self) -> str:
        """As the user named it."""
        return self._name

    def load(self, case_id: str, *, masks: bool = True) -> Case:
        """See `Dataset.load`."""
        item = self.files(case_id)
        for path in (item.scan, *item.masks):
            check_inside(path, self.root)
        return super().load(case_id, masks=masks)


class NamedManifest(ManifestDataset):
    """A manifest whose rows, where they name no dataset, belong to a dataset of a given name."""

    def __init__(self, table: Path, *, name: str) -> None:
        self._name = name
        super().__init__(table)

    @property
    def name(self) -> str:
        """As the user named it."""
        return self._name


def index_folder(
    store: JobStore,
    job: Job,
    encoder: Encoder,
    *,
    gallery: str,
    folder: Path,
    stopped: Callable[[], bool],
    existing: Collection[str] = (),
) -> Mapping[str, Any]:
    """Index the folder's cases into the gallery under the job's title.

    Args:
        store: receives the progress, and a row for each refused case.
        job: of kind "index".
        encoder: of the gallery's bundle.
        gallery: where it lies.
        folder: with one sub-folder per class, or a `manifest.csv`.
        stopped: called as the build goes on; true ends it.
        existing: datasets that may not be written; a `manifest.csv` may name others than the job's title.

    Returns:
        How many scans were added, updated, found unchanged and refused, how many the gallery holds now, and warnings
        about patient ids.

    Raises:
        DatasetError, GalleryError, TemporaryError: as `build_index`.
        InvalidValueError: a case belongs to an existing dataset; nothing was written.
        StoppedError: a user stopped it; what was finished is kept.
    """
    source = open_source(folder, name=job.title)
    for name in dict.fromkeys(record.dataset for record in source.records()):
        check_new(name, existing)

    def on_progress(done: int, total: int) -> None:
        store.change(job.job_id, done=done, total=total)
        if stopped():
            raise StoppedError

    with open_gallery(gallery, mode="w") as target:
        result = build_index(source, target, encoder, on_progress=on_progress, workers=1)
        total = target.count()
    for refusal in result.refused:
        store.add_row(job.job_id, refusal.source, outcome={}, refused=refusal.reason.replace(f"{folder}/", ""))
    store.change(job.job_id, done=len(source.records()), refused=len(result.refused))
    return {
        "added": result.added,
        "updated": result.updated,
        "unchanged": result.unchanged,
        "refused": len(result.refused),
        "scans": total,
        "warnings": list(result.warnings),
    }


def check_name(name: str) -> None:
    """Check a dataset's name; best before the files are sent.

    Raises:
        InvalidValueError: a name that a case's "dataset/case" could not be distinguished from.
    """
    if "/" in name:
        raise InvalidValueError(
            f"the name is {name!r}; it stands before the slash of DATASET/CASE and holds none. Name it without."
        )


def check_new(name: str, datasets: Collection[str]) -> None:
    """Check that the archive has no dataset of this name.

    Raises:
        InvalidValueError: it has one: new cases of the same name would replace the old ones.
    """
    if name in datasets:
        raise InvalidValueError(
            f"the archive has a dataset called {name!r} already, whose cases would be replaced by cases of the same "
            "name; choose another name, or say extend."
        )


def open_source(folder: Path, *, name: str) -> Dataset:
    """The folder as a dataset: by its `manifest.csv` if it has one, else by its sub-folders.

    Raises:
        DatasetError: neither is there, or the table is invalid, or it names a file outside the folder.
        InvalidValueError: a name that a case's "dataset/case" could not be distinguished from.
    """
    check_name(name)
    table = folder / MANIFEST
    if not table.is_file():
        return NamedFolder(folder, name=name)
    check_inside(table, folder)
    manifest, inside = NamedManifest(table, name=name), folder.resolve()
    for record in manifest.records():
        item = manifest.files(record.case_id)
        for path in (item.scan, *item.masks):
            if not path.resolve().is_relative_to(inside):  # an uploaded table must not read other files of this machine
                raise DatasetError(
                    f"{MANIFEST} names {str(path)!r}, which lies outside its folder; put the file into the folder."
                )
    return manifest
