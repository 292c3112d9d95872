"""The picture that a gallery keeps of a scan: without what stands around the scan, and without burned-in text."""

from __future__ import annotations

from sonoseek.core import Scan
from sonoseek.gallery import encode_picture
from sonoseek.preprocessing import PreprocessedScan, PreprocessingRecipe, preprocess
from sonoseek.preprocessing.blanking import without_annotations

_FINDS_ALL = PreprocessingRecipe()


def kept_picture(scan: Scan, preprocessed: PreprocessedScan | None = None) -> bytes:
    """The JPEG of a scan for its gallery, whatever the scan was read from; the scan's own grid stays.

    Names of patients stand in the margins of many exports, and in some scans. What preprocessing does not find stays:
    a text that is as soft or as dark as tissue.

    Args:
        scan: as it was read.
        preprocessed: of this scan, where there is one that sought scan area and annotations; None: they are sought now.
    """
    sought = preprocessed
    if sought is None or sought.annotations is None:
        sought = preprocess(scan, _FINDS_ALL)
    annotations = sought.annotations
    assert annotations is not None  # noqa: S101  # for the type checker: the recipe seeks them
    return encode_picture(without_annotations(scan.pixels, area=sought.area, annotations=annotations))
