"""Is a scan found again after it was turned, mirrored or saved anew? Share at rank 1, exclusions off.

    .venv/bin/python benchmarks/found_again.py GALLERY --dataset busi --data $SONOSEEK_DATA/busi

A scan counts as found when the best match is itself or a member of its group (a copy of it is as good). Also: how often
the report says that the archive likely holds the scan, and how often another scan is as close as that.

With `--bundle` (a fold's, and a gallery that it filled) only scans that the bundle has never seen are asked.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from sonoseek import Report, Scan, load_bundle, open_dataset, open_engine


def turned(pixels: np.ndarray) -> np.ndarray:
    """By 5 degrees about the middle, black where nothing was."""
    height, width = pixels.shape
    return cv2.warpAffine(pixels, cv2.getRotationMatrix2D((width / 2, height / 2), 5, 1), (width, height))


def saved(pixels: np.ndarray) -> np.ndarray:
    """As JPEG of quality 60."""
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_GRAYSCALE)


def halved(pixels: np.ndarray) -> np.ndarray:
    """To half its size."""
    return cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def warned(report: Report) -> bool:
    """Whether the reader is told that the archive likely holds this scan."""
    return any("under another name" in warning for warning in report.warnings)


CHANGES = {
    "turned by 5°": turned,
    "mirrored": lambda pixels: pixels[:, ::-1].copy(),
    "JPEG, quality 60": saved,
    "halved": halved,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gallery")
    parser.add_argument("--dataset", default="busi")
    parser.add_argument("--data")
    parser.add_argument("--every", type=int, default=4, help="ask every n-th case")
    parser.add_argument("--bundle", type=Path, help="of a fold; only cases that it has not learnt from are asked")
    given = parser.parse_args()
    dataset = open_dataset(given.dataset, given.data)
    learnt = set(load_bundle(given.bundle).training["cases"].get(dataset.name, ())) if given.bundle else set()
    records = tuple(record for record in dataset.records() if record.case_id not in learnt)[:: given.every]
    hits, itself, told, wrong = *(dict.fromkeys(CHANGES, 0) for _ in range(3)), 0
    with open_engine(given.gallery, bundle=given.bundle) as engine:
        for record in records:
            scan = dataset.load(record.case_id, masks=False).scans[0]
            others = engine.query(scan, k=1).matches  # the scan, its patient and its group are left out
            wrong += others[0].similarity >= engine.bundle.same_scan
            pixels = scan.pixels
            for name, change in CHANGES.items():
                report = engine.query(Scan(pixels=change(pixels)), k=1, include_same=True)
                told[name] += warned(report)
                best = report.matches[0]
                itself[name] += best.case_id == record.case_id
                hits[name] += best.case_id == record.case_id or (best.group is not None and best.group == record.group)
    for name, found in hits.items():
        exactly = f"{found} of {len(records)} at rank 1, {itself[name]} of them itself and no copy"
        print(f"{name}: {exactly}; the report warns of {told[name]}")
    print(f"best match outside its own group close enough to be taken for it: {wrong} of {len(records)}")


if __name__ == "__main__":
    main()
