"""The cases of a gallery that its bundle's calibration may be refitted on, and which stay together.

What stays together is a group: scans that share a case, a patient or a group of the archive, or whose cosine marks
them as near-duplicates (`Bundle.duplicate_threshold`), directly or through others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Scan
from sonoseek.core.arrays import unit_rows
from sonoseek.encoder import Bundle, SeenScan, TrainingScans, ood_score
from sonoseek.evaluate.seen import learnt_from
from sonoseek.gallery import Gallery, GalleryEntry, decode_picture

MOST_SCANS = 10_000
"""Scans that are used; of larger galleries so many are drawn at random. More would change no figure by 0.01."""
_CHUNK = 256
"""Scans whose pictures are in memory at a time, and rows of a block of cosines."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class ArchiveCases:
    """Scans of an archive with their reference labels, and the logits of the network.

    Attributes:
        logits: float64 (n, C), before any temperature.
        labels: int64 (n,), index into the bundle's classes.
        groups: int64 (n,), 0 … G − 1: scans that stay together.
        cases: int64 (n,), one number per case.
        left_out: reason → scans that were not used; only reasons that occur.
        state: `Gallery.state` when they were read.
    """

    logits: NDArray[np.float64]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    cases: NDArray[np.int64]
    left_out: Mapping[str, int]
    state: str

    def count(self, which: NDArray[np.bool_] | None = None) -> int:
        """Distinct cases, of all scans or of those that `which`, bool (n,), marks."""
        return len(np.unique(self.cases if which is None else self.cases[which]))

    def count_groups(self, which: NDArray[np.bool_] | None = None) -> int:
        """Distinct groups, as in `count`."""
        return len(np.unique(self.groups if which is None else self.groups[which]))


def collect_cases(gallery: Gallery, bundle: Bundle, *, on_progress: Progress | None = None) -> ArchiveCases:
    """Read the cases that a calibration may be fitted on; the network is not run.

    Scans are left out under the first reason that holds. "trained_on": the bundle was trained on the scan, by its name,
    its pixels or the perceptual hash of the stored picture. "related": another scan of its group was. "other_class":
    the label is no class of the bundle. "out_of_distribution": the scan has no prediction.

    Args:
        gallery: filled by `bundle`.
        bundle: with its own calibration.
        on_progress: (scans checked, scans in all).

    Raises:
        BundleMismatchError: another bundle filled the gallery.
        SplitError: the bundle does not carry the hashes that show whether it was trained on a scan.
        GalleryError: the gallery, or a stored picture, is damaged.
    """
    gallery.check_bundle(bundle.bundle_id)
    state = gallery.state()
    entries = gallery.sample(MOST_SCANS)
    embeddings = np.array([entry.embedding for entry in entries], np.float32).reshape(-1, bundle.embedding_dim)
    groups = group_scans(entries, embeddings, duplicate_threshold=bundle.duplicate_threshold)
    trained_on = _trained_on(gallery, bundle, entries, on_progress=on_progress)
    related = np.isin(groups, groups[trained_on])
    known = np.array([entry.record.pathology in bundle.classes for entry in entries], np.bool_)
    unlike = np.array([(ood_score(bundle, each) or 0.0) > 1 for each in embeddings], np.bool_)
    reasons = {"trained_on": trained_on, "related": related, "other_class": ~known, "out_of_distribution": unlike}
    used = np.ones(len(entries), np.bool_)
    left_out = {}
    for reason, holds in reasons.items():
        if count := int((used & holds).sum()):
            left_out[reason] = count
        used &= ~holds
    used_entries = [entry for entry, keep in zip(entries, used, strict=True) if keep]
    logits = embeddings[used].astype(np.float64) @ bundle.head_weight.T.astype(np.float64) + bundle.head_bias
    return ArchiveCases(
        logits=logits,
        labels=np.array([bundle.classes.index(entry.record.pathology) for entry in used_entries], np.int64),
        groups=_numbered(groups[used].tolist()),
        cases=_numbered([(entry.record.dataset, entry.record.case_id) for entry in used_entries]),
        left_out=left_out,
        state=state,
    )


def group_scans(
    entries: Sequence[GalleryEntry], embeddings: NDArray[np.float32], *, duplicate_threshold: float
) -> NDArray[np.int64]:
    """Number the groups of scans that stay together.

    Args:
        entries: n of them.
        embeddings: (n, D), of the entries.
        duplicate_threshold: cosine from which on two scans are likely one.

    Returns:
        int64 (n,), equal where two scans stay together.
    """
    parent = list(range(len(entries)))

    def find(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    first: dict[tuple[str, str, str], int] = {}
    for number, entry in enumerate(entries):
        record = entry.record
        named = (("case", record.case_id), ("patient", record.patient_id), ("group", record.group))
        for kind, name in named:
            if name is not None:
                parent[find(number)] = find(first.setdefault((kind, record.dataset, name), number))
    unit = unit_rows(embeddings)
    for start in range(0, len(unit), _CHUNK):
        rows, columns = np.nonzero(unit[start : start + _CHUNK] @ unit.T >= duplicate_threshold)
        for row, column in zip((rows + start).tolist(), columns.tolist(), strict=True):
            if row < column:
                parent[find(row)] = find(column)
    return np.array([find(number) for number in range(len(entries))], np.int64)


def _trained_on(
    gallery: Gallery, bundle: Bundle, entries: Sequence[GalleryEntry], *, on_progress: Progress | None
) -> NDArray[np.bool_]:
    """Which scans the bundle was trained on; without a stored picture, by name and pixels alone."""
    trained_on = np.zeros(len(entries), np.bool_)
    for start in range(0, len(entries), _CHUNK):
        chunk = entries[start : start + _CHUNK]
        pictured = gallery.entries(scan_ids=[entry.scan_id for entry in chunk], evidence=False)
        pictures = {each.scan_id: each.picture for each in pictured if each.picture is not None}
        for number, entry in enumerate(chunk, start=start):
            find = partial(_find, entry=entry, picture=pictures.get(entry.scan_id))
            trained_on[number] = learnt_from(bundle, (entry.record.dataset, entry.record.case_id), find) is not None
        if on_progress is not None:
            on_progress(min(start + _CHUNK, len(entries)), len(entries))
    return trained_on


def _find(known: TrainingScans, *, entry: GalleryEntry, picture: bytes | None) -> SeenScan | None:
    """Look an archived scan up by its pixels' hash and by its stored picture."""
    if picture is None:
        return SeenScan(exact=True, distance=0) if known.holds(entry.scan_id) else None
    return known.find(Scan.archived(decode_picture(picture, shape=entry.scan_shape), scan_id=entry.scan_id))


def _numbered(names: Sequence[object]) -> NDArray[np.int64]:
    """0 … for each distinct name, in the order of first occurrence."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)
