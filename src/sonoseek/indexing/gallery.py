"""One call from a dataset to a gallery: open the dataset, choose the bundle, make or continue the gallery, fill it."""

from __future__ import annotations

from pathlib import Path

from sonoseek.core import DatasetError, InvalidValueError, SonoseekError
from sonoseek.datasets import DATASETS, Dataset, open_dataset
from sonoseek.encoder import load_bundle, open_encoder, shipped_bundle
from sonoseek.gallery import open_gallery
from sonoseek.gallery.fresh import gallery_to_fill
from sonoseek.indexing.build import BuildResult, Progress, build_index
from sonoseek.indexing.case_ids import CaseIds

__all__ = ["build_gallery", "filling_bundle"]


def build_gallery(
    dataset: Dataset | Path | str,
    location: Path | str,
    *,
    data: Path | str | None = None,
    bundle: Path | str | None = None,
    workers: int = 0,
    ray: str | None = None,
    on_progress: Progress | None = None,
    case_ids: CaseIds = "opaque",
) -> BuildResult:
    """Encode every scan of a dataset and store it in a gallery.

    A build that was stopped continues when it is called again. Cases that have not changed are skipped.

    Args:
        dataset: a folder with one sub-folder per class; a CSV table (manifest); the name of a dataset, with `data`; or
            an open `Dataset`. See `sonoseek.datasets.DATASETS` for the names.
        location: of the gallery: a folder, a `.db` file or "milvus://HOST:PORT/NAME". Made where there is none.
        data: where the named dataset lies; None for "phantom".
        bundle: folder of a bundle, "accurate" or "fast"; None: the shipped bundle that filled the gallery, else the
            default.
        workers: threads, or processes on Ray; 0: one per core.
        ray: encode on this Ray cluster: "HOST:PORT", "auto" or "local"; None: in this process.
        on_progress: called with (cases done, cases in all).
        case_ids: what a case of one's own archive is called: "opaque", or by the "names" of its files, which may name
            patients. Which file an opaque case is, says a private table beside the gallery.

    Returns:
        Counts of scans added, updated and unchanged; refused cases with reasons; warnings. If no scan of a new gallery
        could be encoded, there is no gallery afterwards.

    Raises:
        NotFoundError: no dataset has this name.
        DatasetError: the data do not have the dataset's layout, or list no scan.
        BundleMismatchError: another bundle filled the gallery.
        InvalidValueError: a Ray build of a `Dataset` object: its machines open the dataset by name.
        GalleryError, TemporaryError: the gallery cannot be written; what was written before stays.
    """
    if isinstance(dataset, str | Path):
        name, root = _named(dataset, data)
        source = open_dataset(name, root)
    elif ray is not None or data is not None:
        raise InvalidValueError(
            f"the dataset {dataset.name!r} is open already; `data` and `ray` need a dataset's name. Give the name."
        )
    else:
        name, root, source = dataset.name, None, dataset
    if not source.records():  # which also reads the tables: a wrong one is refused before a gallery is made
        raise DatasetError(
            f"{root or name} lists no scan; a gallery is built from one at least. "
            f"`sonoseek data check {name} --data …` says what is found there."
        )
    chosen = bundle or filling_bundle(location)
    network = load_bundle(chosen)
    with gallery_to_fill(
        location,
        bundle_id=network.bundle_id,
        dimension=network.embedding_dim,
        duplicate_threshold=network.duplicate_threshold,
    ) as gallery:
        if ray is None:
            encoder = open_encoder(network, threads=1)  # the workers share it: two of them use two cores
            result = build_index(source, gallery, encoder, on_progress=on_progress, workers=workers, case_ids=case_ids)
        else:
            from sonoseek.indexing.ray import build_index_on_ray

            result = build_index_on_ray(
                name, root, gallery, chosen, address=ray, workers=workers, on_progress=on_progress, case_ids=case_ids
            )
        gallery.refresh()  # now, rather than during the first query
    return result


def filling_bundle(location: Path | str) -> Path | None:
    """Folder of the shipped bundle that filled a gallery; None for a new gallery, or one of another bundle."""
    try:
        with open_gallery(location) as gallery:
            return shipped_bundle(gallery.bundle_id)
    except SonoseekError:  # there is none yet, or the build refuses it with a message of its own
        return None


def _named(dataset: str | Path, data: Path | str | None) -> tuple[str, Path | str | None]:
    """A dataset's name and root from what a caller gives."""
    if isinstance(dataset, str) and (data is not None or dataset in DATASETS):
        return dataset, data
    return ("manifest" if Path(dataset).suffix.lower() == ".csv" else "folder"), dataset
