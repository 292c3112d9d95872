"""Which scans show the same picture again: by their pixels, whatever the groups are."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sonoseek.core import SonoseekError
from sonoseek.core.files import write_atomically
from sonoseek.datasets import Dataset
from sonoseek.datasets.audit.duplicates import Subject, find_duplicates
from sonoseek.datasets.audit.features import fingerprint
from sonoseek.evaluate.protocols.base import Key, true_records

FORMAT = 1
Pair = tuple[Key, Key]


def near_duplicates(
    datasets: Mapping[str, Dataset], *, cache: Path, on_progress: Callable[[int, int], None] | None = None
) -> tuple[Pair, ...]:
    """Compare all scans of all datasets with each other, or read the result of an earlier run on the same files.

    Duplicates and near-duplicates count (shifted, cropped, rescaled, mirrored, marked, re-saved); neighbouring frames
    of one sweep do not. Takes about 60 ms a scan and core; unreadable cases are skipped: reading them later raises.

    Args:
        datasets: name → dataset.
        cache: folder for the findings; they hold names, no pixels.
        on_progress: (steps done, steps in all).

    Returns:
        Pairs of (dataset, case_id), each sorted, without repeats.
    """
    file = cache / f"near-duplicates-{_key(datasets)}.json"
    if file.is_file():
        stored = json.loads(file.read_text(encoding="utf-8"))
        return tuple(((a, b), (c, d)) for a, b, c, d in stored["pairs"])
    progress = on_progress or (lambda *_: None)
    keys = [(name, r.case_id) for name, dataset in datasets.items() for r in dataset.records()]
    steps = 2 * len(keys)
    with ThreadPoolExecutor(os.cpu_count() or 1) as executor:
        subjects: list[Subject] = []

        def look(number: int) -> list[Subject]:
            name, case_id = keys[number]
            try:
                scans = datasets[name].load(case_id, masks=False).scans
            except (SonoseekError, OSError):
                return []
            return [
                Subject(case_id=str(number), scan=i, scan_id=scan.scan_id, fingerprint=fingerprint(scan.pixels))
                for i, scan in enumerate(scans)
            ]

        for done, seen in enumerate(executor.map(look, range(len(keys))), start=1):
            subjects += seen
            progress(done, steps)

        def compared(done: int, total: int) -> None:
            progress(len(keys) + len(keys) * done // max(1, total), steps)

        copies, _ = find_duplicates(subjects, executor=executor, on_progress=compared)
    progress(steps, steps)
    copied = [(keys[int(pair.a)], keys[int(pair.b)]) for pair in copies]
    pairs = sorted({(min(pair), max(pair)) for pair in copied})
    cache.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps({"pairs": [[*a, *b] for a, b in pairs]}) + "\n")
    return tuple(pairs)


def _key(datasets: Mapping[str, Dataset]) -> str:
    digest = hashlib.sha256(f"{FORMAT}\n".encode())
    for name, dataset in sorted(datasets.items()):
        for record in true_records(dataset):
            digest.update(f"{name}\0{record.case_id}\0{dataset.fingerprint(record.case_id)}\n".encode())
    return digest.hexdigest()[:16]
