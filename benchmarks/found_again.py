"""Is a scan found again after it was turned, mirrored or saved anew? Share at rank 1, exclusions off.

    .venv/bin/python benchmarks/found_again.py GALLERY --dataset busi --data $SONOSEEK_DATA/busi

A scan counts as found when the best match is itself or a member of its group (a copy of it is as good).
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np

from sonoseek import Scan, open_dataset, open_engine


def turned(pixels: np.ndarray) -> np.ndarray:
    """By 5 degrees about the middle, black where nothing was."""
    height, width = pixels.shape
    return cv2.warpAffine(pixels, cv2.getRotationMatrix2D((width / 2, height / 2), 5, 1), (width, height))


def saved(pixels: np.ndarray) -> np.ndarray:
    """As JPEG of quality 60."""
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_GRAYSCALE)


CHANGES = {"turned by 5°": turned, "mirrored": lambda pixels: pixels[:, ::-1].copy(), "JPEG, quality 60": saved}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gallery")
    parser.add_argument("--dataset", default="busi")
    parser.add_argument("--data")
    parser.add_argument("--every", type=int, default=4, help="ask every n-th case")
    given = parser.parse_args()
    dataset = open_dataset(given.dataset, given.data)
    records = dataset.records()[:: given.every]
    hits = dict.fromkeys(CHANGES, 0)
    with open_engine(given.gallery) as engine:
        for record in records:
            pixels = dataset.load(record.case_id, masks=False).scans[0].pixels
            for name, change in CHANGES.items():
                best = engine.query(Scan(pixels=change(pixels)), k=1, include_same=True).matches[0]
                hits[name] += best.case_id == record.case_id or (best.group is not None and best.group == record.group)
    for name, found in hits.items():
        print(f"{name}: {found} of {len(records)} at rank 1 ({found / len(records):.3f})")


if __name__ == "__main__":
    main()
