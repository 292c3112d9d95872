"""The archive that taught us that one scan may belong to two cases."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from sonoseek.core import CaseRecord, Scan
from sonoseek.gallery import GalleryEntry, create_gallery, encode_picture

FOLDER = Path(os.environ.get("SONOSEEK_DATA", "")) / "busi" / "Dataset_BUSI_with_GT"

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(
        not os.environ.get("SONOSEEK_DATA") or not FOLDER.is_dir(), reason="SONOSEEK_DATA has no busi folder"
    ),
]


def test_all_780_scans_of_busi_are_kept_the_shared_one_twice(tmp_path):
    entries = []
    for file in sorted(FOLDER.glob("*/*.png")):
        if "_mask" in file.name:
            continue
        scan = Scan(pixels=cv2.imread(str(file), cv2.IMREAD_GRAYSCALE))
        entries.append(
            GalleryEntry(
                record=CaseRecord(case_id=file.stem, dataset="busi", pathology=file.parent.name),
                scan_id=scan.scan_id,
                embedding=cv2.resize(scan.pixels, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32).ravel(),
                picture=encode_picture(scan.pixels),
                scan_shape=scan.shape,
            )
        )
    shared = next(entry for entry in entries if entry.record.case_id == "benign (433)")
    with create_gallery(tmp_path / "busi", bundle_id="b", dimension=256) as gallery:
        assert gallery.add(entries).added == 780
        assert gallery.add(entries).unchanged == 780
        assert gallery.info().by_label == {"benign": 437, "malignant": 210, "normal": 133}
        first = gallery.search(shared.embedding, k=2).matches
        assert [match.case_id for match in first] == ["benign (433)", "malignant (145)"]
        assert first[0].similarity == first[1].similarity
        exclude = gallery.exclusion_for(shared.scan_id)
        others = gallery.search(shared.embedding, k=780, exclude=exclude, pictures=False).matches
        assert len(others) == 778
        assert not {"benign (433)", "malignant (145)"} & {match.case_id for match in others}
        assert gallery.verify() == ()
