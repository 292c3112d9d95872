"""The first step of a run: scans of a dataset, preprocessed once and cached; training reads each of them many times."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.core import PATHOLOGIES, CaseRecord, DatasetError, InvalidValueError, ScanReadError
from sonoseek.core.files import PRIVATE, make_private_folder, open_atomically
from sonoseek.datasets import DATASETS, Dataset, open_dataset
from sonoseek.encoder.seen import hash_bytes
from sonoseek.preprocessing import PreprocessedScan, PreprocessingRecipe, preprocess
from sonoseek.training.recipe import DatasetChoice

log = logging.getLogger(__name__)
LAYOUT = 3
"""Of the cached arrays; older ones are made anew."""
SAMPLES = 6
"""Scans of a cached set that are preprocessed again to see that the preprocessing has not changed since."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedSet:
    """A dataset as arrays, one row per scan.

    Attributes:
        name: of the dataset.
        records: of its cases, those without a readable scan included.
        case_ids: (n,) of each row.
        canvases: uint8 (n, S, S), 0 in padding.
        contents: int32 (n, 4): top, left, bottom, right of the scan on the canvas, half-open.
        labels: int64 (n,), index into `PATHOLOGIES`.
        lesions: uint8 (n, S, S), 255 where a lesion was drawn; all 0 where none was, or where nobody has drawn.
        drawn: bool (n,): whether `lesions` says what the scan holds. A normal scan holds no lesion.
        scan_ids: (n,) sha256 of each scan's pixels, before preprocessing.
        hashes: (n,) perceptual hashes of each scan in hex digits, as `encoder.seen.hash_bytes` gives them.
        content_hash: 64 hex digits over canvases, contents and labels.
        citation, licence: of the dataset.
        refused: case_id → why it could not be read.
    """

    name: str
    records: tuple[CaseRecord, ...]
    case_ids: NDArray[np.str_]
    canvases: NDArray[np.uint8]
    contents: NDArray[np.int32]
    labels: NDArray[np.int64]
    lesions: NDArray[np.uint8]
    drawn: NDArray[np.bool_]
    scan_ids: NDArray[np.str_]
    hashes: NDArray[np.str_]
    content_hash: str
    citation: str
    licence: str
    refused: dict[str, str]

    def rows(self, case_ids: tuple[str, ...]) -> NDArray[np.int64]:
        """Rows of these cases, in order of the rows."""
        return np.flatnonzero(np.isin(self.case_ids, case_ids)).astype(np.int64)


def open_choice(choice: DatasetChoice, *, data_root: Path | None) -> Dataset:
    """Open the dataset that a recipe names; its root is absolute, or in the folder with the datasets.

    Raises:
        NotFoundError, InvalidValueError, DatasetError: as `open_dataset`.
    """
    if choice.name == "phantom":
        phantom: Dataset = DATASETS.load("phantom")(count=choice.count, seed=choice.seed)
        return phantom
    root = Path(choice.root or choice.name).expanduser()
    if not root.is_absolute() and data_root is None:
        raise InvalidValueError(
            f"no folder with datasets is named, and {choice.name!r} is looked for in it, at {str(root)!r}. Name the "
            "folder (--data, SONOSEEK_DATA), or give the dataset an absolute root in the recipe."
        )
    return open_dataset(choice.name, root if data_root is None else data_root / root)


def prepare(
    dataset: Dataset,
    *,
    recipe: PreprocessingRecipe,
    cache: Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> PreparedSet:
    """Preprocess every scan, or take what an earlier run cached under the same key.

    Args:
        dataset: to read.
        recipe: of the preprocessing.
        cache: folder for the arrays, one file per dataset and key; keep it out of the repository: it holds scans.
        on_progress: (done, total) scans.

    Raises:
        DatasetError: not one scan could be read.
    """
    records = dataset.records()
    file = cache / f"{dataset.name}-{_key(dataset, records, recipe)}.npz"
    cached = _load(file, dataset, records) if file.is_file() else None
    if cached is not None and _still_valid(cached, dataset, recipe):
        return cached
    made = _preprocess_all(dataset, records, recipe, on_progress)
    make_private_folder(cache)
    with open_atomically(file, mode=PRIVATE) as stream:
        np.savez(
            stream,
            **{name: getattr(made, name) for name in _Preprocessed._fields if name != "lesions"},
            lesions=np.packbits(made.lesions > 0),
            refused=np.frombuffer(json.dumps(made.refused).encode(), dtype=np.uint8),
        )
    return made


def _key(dataset: Dataset, records: tuple[CaseRecord, ...], recipe: PreprocessingRecipe) -> str:
    digest = hashlib.sha256(json.dumps([LAYOUT, recipe.to_dict()], sort_keys=True).encode())
    for record in records:
        digest.update(f"{record.case_id}\0{record.pathology}\0{dataset.fingerprint(record.case_id)}\n".encode())
    return digest.hexdigest()[:16]


def _preprocess_all(
    dataset: Dataset,
    records: tuple[CaseRecord, ...],
    recipe: PreprocessingRecipe,
    on_progress: Callable[[int, int], None] | None,
) -> PreparedSet:
    rows: list[_Preprocessed] = []
    refused: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        jobs = pool.map(lambda record: _preprocess_case(dataset, record, recipe), records)
        for done, (record, scans_or_reason) in enumerate(zip(records, jobs, strict=True), start=1):
            if isinstance(scans_or_reason, str):
                refused[record.case_id] = scans_or_reason
                log.warning("%s: %s is left out: %s", dataset.name, record.case_id, scans_or_reason)
            else:
                rows += scans_or_reason
            if on_progress is not None:
                on_progress(done, len(records))
    if not rows:
        raise DatasetError(f"{dataset.name}: none of {len(records)} cases could be read. Check its folder.")
    columns = zip(_Preprocessed._fields, map(np.array, zip(*rows, strict=True)), strict=True)
    return _assemble(dataset, records, dict(columns), refused=refused)


class _Preprocessed(NamedTuple):
    """One scan: a row of each array of `PreparedSet`."""

    case_ids: str
    canvases: NDArray[np.uint8]
    contents: NDArray[np.int32]
    labels: np.int64
    lesions: NDArray[np.uint8]
    drawn: bool
    scan_ids: str
    hashes: str


def _preprocess_case(dataset: Dataset, record: CaseRecord, recipe: PreprocessingRecipe) -> list[_Preprocessed] | str:
    """Each scan of a case, or why there is none."""
    try:
        case = dataset.load(record.case_id, masks=True)
    except (ScanReadError, DatasetError) as error:
        return str(error)
    results = []
    for scan, mask in zip(case.scans, case.lesion_masks, strict=True):
        preprocessed = preprocess(scan, recipe)
        box = preprocessed.content
        normal = record.pathology == "normal"
        results.append(
            _Preprocessed(
                case_ids=record.case_id,
                canvases=preprocessed.canvas,
                contents=np.array((box.top, box.left, box.bottom, box.right), dtype=np.int32),
                labels=np.int64(PATHOLOGIES.index(record.pathology)),
                lesions=lesion_on_canvas(None if normal else mask, preprocessed),
                drawn=normal or (mask is not None and bool(mask.any())),
                scan_ids=scan.scan_id,
                hashes=hash_bytes(scan).hex(),
            )
        )
    return results


def lesion_on_canvas(mask: NDArray[np.bool_] | None, preprocessed: PreprocessedScan) -> NDArray[np.uint8]:
    """A lesion mask where preprocessing has put its pixels.

    Args:
        mask: bool (H, W) on the scan's grid, or None.
        preprocessed: of the same scan.

    Returns:
        uint8 (S, S), 255 in the lesion.
    """
    canvas = np.zeros_like(preprocessed.canvas)
    if mask is None:
        return canvas
    crop, place = preprocessed.mapping.crop, preprocessed.content
    inside = mask[int(crop.top) : int(crop.bottom), int(crop.left) : int(crop.right)].astype(np.uint8) * 255
    small = cv2.resize(inside, (int(place.width), int(place.height)), interpolation=cv2.INTER_AREA)
    canvas[int(place.top) : int(place.bottom), int(place.left) : int(place.right)] = np.where(small >= 128, 255, 0)
    return canvas


def _load(file: Path, dataset: Dataset, records: tuple[CaseRecord, ...]) -> PreparedSet | None:
    try:
        # the stream is ours to close: numpy leaves it open where the archive is damaged
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            columns = {name: arrays[name] for name in _Preprocessed._fields}
            refused = json.loads(arrays["refused"].tobytes())
        shape = columns["canvases"].shape
        bits = np.unpackbits(columns["lesions"], count=int(np.prod(shape)))
        columns["lesions"] = bits.reshape(shape) * np.uint8(255)
        return _assemble(dataset, records, columns, refused=refused)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        log.warning("%s does not read (%s); the scans are preprocessed again", file.name, error)
        return None


def _still_valid(cached: PreparedSet, dataset: Dataset, recipe: PreprocessingRecipe) -> bool:
    """Whether today's preprocessing gives yesterday's canvases, on a few scans spread over the set."""
    by_id = {record.case_id: record for record in cached.records}
    for row in np.linspace(0, len(cached.labels) - 1, SAMPLES).astype(int):
        case_id = str(cached.case_ids[row])
        scans_or_reason = _preprocess_case(dataset, by_id[case_id], recipe)
        if isinstance(scans_or_reason, str) or not any(
            np.array_equal(cached.canvases[row], each.canvases) for each in scans_or_reason
        ):
            log.warning(
                "%s: the preprocessing has changed since they were cached; the scans are preprocessed again",
                cached.name,
            )
            return False
    return True


def _assemble(
    dataset: Dataset, records: tuple[CaseRecord, ...], columns: Mapping[str, NDArray[Any]], *, refused: dict[str, str]
) -> PreparedSet:
    digest = hashlib.sha256()
    for name in ("canvases", "contents", "labels"):
        digest.update(np.ascontiguousarray(columns[name]).data)
    return PreparedSet(
        name=dataset.name,
        records=records,
        content_hash=digest.hexdigest(),
        citation=dataset.citation,
        licence=dataset.licence,
        refused=refused,
        **columns,
    )
