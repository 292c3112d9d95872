"""Is a changed copy of an archived scan found, and is the reader warned of it? And is another scan ever taken for one?

    python benchmarks/duplicate_retrieval.py GALLERY --dataset busi --data $SONOSEEK_DATA/busi --every 6

Three tables, in Markdown:

1. Copies. Every n-th scan is changed and searched for, with nothing left out. A copy counts as found when the best
   match is the scan itself or a member of its group (a duplicate of it is as good). Two signs of a copy are counted:
   the cosine of the best match reaches the bundle's `duplicate_threshold`, and the pictures agree (`find_copy`).
2. Other scans. Every scan of the dataset, unchanged; itself, its patient and its group are left out. Every sign of a
   copy is a false alarm here. The time that `find_copy` takes is of one thread.
3. Other scans of the same patient, all pairs, where the dataset names patients: the pictures alone are compared,
   whatever the cosine. A sign of a copy is a false alarm, unless the dataset holds a scan twice.

With `--bundle` (a fold's, and a gallery that it filled) only scans that the bundle has never seen are asked.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from sonoseek import Scan, SearchEngine, load_bundle, open_dataset, open_engine
from sonoseek.core import CaseRecord, Match
from sonoseek.datasets import Dataset
from sonoseek.engine.near_duplicates import LOOKED_AT, LOWEST_COSINE, find_copy
from sonoseek.gallery import encode_picture

K = 5


def turned(degrees: float) -> Callable[[np.ndarray], np.ndarray]:
    """About the middle, black where nothing was."""

    def change(pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
        return cv2.warpAffine(pixels, turn, (width, height))

    return change


def saved(pixels: np.ndarray) -> np.ndarray:
    """As JPEG of quality 60."""
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_GRAYSCALE)


def halved(pixels: np.ndarray) -> np.ndarray:
    """To half its size."""
    return cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def cropped_around(pixels: np.ndarray) -> np.ndarray:
    """By a twelfth of its height and width, half of it on each side."""
    top, left = (round(side / 24) for side in pixels.shape)
    return pixels[top:-top, left:-left].copy()


def cropped_at_a_corner(pixels: np.ndarray) -> np.ndarray:
    """By a twelfth of its height and width, at the top and on the left."""
    top, left = (round(side / 12) for side in pixels.shape)
    return pixels[top:, left:].copy()


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG, quality 60": saved,
    "half size": halved,
    "mirrored": lambda pixels: pixels[:, ::-1].copy(),
    "turned by 2°": turned(2),
    "turned by 5°": turned(5),
    "turned by 10°": turned(10),
    "cropped by a twelfth, around": cropped_around,
    "cropped by a twelfth, at a corner": cropped_at_a_corner,
}


def search(engine: SearchEngine, scan: Scan, *, leave_out: bool) -> tuple[Match, ...]:
    """The best matches, with their pictures; `leave_out`: none of the scan, its patient and its group."""
    assert engine.gallery is not None
    own = engine.gallery.exclusion_for(scan.scan_id, patient_id=scan.patient_id) if leave_out else None
    return engine.gallery.search(engine.read(scan).embedding, k=K, exclude=own, novelty=False).matches


def copies(engine: SearchEngine, dataset: Dataset, records: Sequence[CaseRecord]) -> None:
    found, near, seen, warned = (dict.fromkeys(CHANGES, 0) for _ in range(4))
    for record in records:
        pixels = dataset.load(record.case_id, masks=False).scans[0].pixels
        for name, change in CHANGES.items():
            scan = Scan(pixels=change(pixels))
            matches = search(engine, scan, leave_out=False)
            best, rank = matches[0], find_copy(scan, matches)
            found[name] += best.case_id == record.case_id or (best.group is not None and best.group == record.group)
            near[name] += best.similarity >= engine.bundle.duplicate_threshold
            seen[name] += rank is not None
            warned[name] += rank is not None or best.similarity >= engine.bundle.duplicate_threshold
    near_title = f"cosine ≥ {engine.bundle.duplicate_threshold:.3f}"
    print(f"\n| copy of {len(records)} scans | rank 1 | {near_title} | pictures agree | either |")
    print("|---|---|---|---|---|")
    for name in CHANGES:
        print(f"| {name} | {found[name]} | {near[name]} | {seen[name]} | {warned[name]} |")


def others(engine: SearchEngine, dataset: Dataset, records: Sequence[CaseRecord]) -> None:
    pairs, near, seconds, alarms = 0, 0, [], []
    for record in records:
        scan = dataset.load(record.case_id, masks=False).scans[0]
        matches = search(engine, scan, leave_out=True)
        started = time.thread_time()
        rank = find_copy(scan, matches)
        seconds.append(time.thread_time() - started)
        pairs += sum(match.similarity >= LOWEST_COSINE for match in matches[:LOOKED_AT])
        near += bool(matches) and matches[0].similarity >= engine.bundle.duplicate_threshold
        if rank is not None:
            alarms.append(f"{record.case_id} = {matches[rank - 1].case_id}")
    mean, high = np.mean(seconds) * 1e3, np.percentile(seconds, 95) * 1e3
    print(f"\n| other scans, {len(records)} questions | |\n|---|---|")
    print(f"| pairs of pictures compared | {pairs} |")
    print(f"| pictures agree | {len(alarms)}{' (' + ', '.join(alarms) + ')' if alarms else ''} |")
    print(f"| best match with a cosine ≥ {engine.bundle.duplicate_threshold:.3f} | {near} |")
    print(f"| milliseconds a question: mean, 95th percentile | {mean:.1f}, {high:.1f} |")


def same_patient(dataset: Dataset, records: Sequence[CaseRecord]) -> None:
    patients: dict[str, list[CaseRecord]] = defaultdict(list)
    for record in records:
        if record.patient_id is not None:
            patients[record.patient_id].append(record)
    pairs, alarms = 0, []
    for theirs in patients.values():
        scans = {r.case_id: dataset.load(r.case_id, masks=False).scans[0] for r in theirs} if len(theirs) > 1 else {}
        for one, other in itertools.combinations(scans, 2):
            match = Match(
                rank=1,
                case_id=other,
                scan_id=scans[other].scan_id,
                similarity=1.0,  # so that the pictures are looked at
                label="benign",
                dataset=dataset.name,
                picture=encode_picture(scans[other].pixels),
            )
            pairs += 1
            if find_copy(scans[one], [match]) is not None:
                alarms.append(f"{one} = {other}")
    print("\n| different scans of one patient | |\n|---|---|")
    print(f"| pairs of pictures compared | {pairs} |")
    print(f"| pictures agree | {len(alarms)}{' (' + ', '.join(alarms) + ')' if alarms else ''} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gallery")
    parser.add_argument("--dataset", default="busi")
    parser.add_argument("--data")
    parser.add_argument("--every", type=int, default=6, help="change every n-th scan; 0: no copies, other scans alone")
    parser.add_argument("--bundle", type=Path, help="of a fold; only cases that it has not learnt from are asked")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    dataset = open_dataset(given.dataset, given.data)
    learnt = set(load_bundle(given.bundle).training["cases"].get(dataset.name, ())) if given.bundle else set()
    records = tuple(record for record in dataset.records() if record.case_id not in learnt)
    with open_engine(given.gallery, bundle=given.bundle, threads=1) as engine:
        if given.every:
            copies(engine, dataset, records[:: given.every])
        others(engine, dataset, records)
    if any(record.patient_id is not None for record in records):
        same_patient(dataset, records)


if __name__ == "__main__":
    main()
