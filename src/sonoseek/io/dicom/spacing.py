"""Distance of pixel centres, from what a DICOM header says. Runs in the child."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pydicom.dataset import Dataset

CENTIMETRES = 3
"""PhysicalUnitsXDirection (0018,6024), PhysicalUnitsYDirection (0018,6026): 3 is cm. PS3.3 C.8.5.5.1.15."""
TWO_DIMENSIONAL = 1
"""RegionSpatialFormat (0018,6012): 1 is 2D; 2 and 3 are M-mode and spectral, whose axes are times. C.8.5.5.1.1."""
TISSUE = 1
COLOUR_FLOW = 2
"""RegionDataType (0018,6014): 1 is tissue (B-mode), 2 is colour flow. C.8.5.5.1.2."""
PLAUSIBLE_MM = (0.005, 2.0)
"""A breast scan has 0.02 … 1 mm; this leaves some room on either side."""


def spacing_mm(dataset: Dataset, frame: int = 0) -> tuple[float, float] | None:
    """(row, column) distance of pixel centres of a frame in millimetres, or None.

    The source is SequenceOfUltrasoundRegions (0018,6011): the 2D region whose units are centimetres in both directions.
    Of several, tissue goes before colour flow (whose box lies in the same B-mode picture), then the largest. Its deltas
    are in cm, and signed (a direction): |delta| × 10 is millimetres. Failing that PixelSpacing (0028,0030), which is in
    mm, row distance first; failing that the PixelSpacing of the frame's or the shared Pixel Measures (0028,9110), as
    enhanced objects have it. ImagerPixelSpacing (0018,1164) is that of a detector, not of the body: it is never used.
    What lies outside `PLAUSIBLE_MM` is taken as unknown: the header must have meant another unit.
    """
    regions = _items(dataset, "SequenceOfUltrasoundRegions")
    usable = [found for region in regions if (found := _region(region)) is not None]
    if usable:
        _, _, row, column = max(usable, key=lambda found: found[:2])
        return row, column
    for source in (dataset, *_pixel_measures(dataset, frame)):
        row, column = _numbers(source, "PixelSpacing", 2)
        if _plausible(row, column):
            return row, column
    return None


def _pixel_measures(dataset: Dataset, frame: int) -> Iterable[Dataset]:
    """Of the frame, then of all frames. PS3.3 C.7.6.16.2.1."""
    for groups, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        for group in _items(dataset, groups)[index : index + 1]:
            yield from _items(group, "PixelMeasuresSequence")[:1]


def _region(region: Dataset) -> tuple[bool, float, float, float] | None:
    """(tissue, area in pixels, row mm, column mm) of a region that measures the body, else None."""
    kind = _number(region, "RegionDataType")
    units = (_number(region, "PhysicalUnitsXDirection"), _number(region, "PhysicalUnitsYDirection"))
    if _number(region, "RegionSpatialFormat") != TWO_DIMENSIONAL or kind not in (TISSUE, COLOUR_FLOW):
        return None
    row = abs(_number(region, "PhysicalDeltaY")) * 10.0
    column = abs(_number(region, "PhysicalDeltaX")) * 10.0
    if units != (CENTIMETRES, CENTIMETRES) or not _plausible(row, column):
        return None
    width = _number(region, "RegionLocationMaxX1") - _number(region, "RegionLocationMinX0")
    height = _number(region, "RegionLocationMaxY1") - _number(region, "RegionLocationMinY0")
    area = width * height if _positive(width, height) else 0.0
    return kind == TISSUE, area, row, column


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    found = dataset.get(keyword)
    return [item for item in found if isinstance(item, Dataset)] if isinstance(found, Iterable) else []


def _positive(*values: float) -> bool:
    return all(math.isfinite(value) and value > 0 for value in values)


def _plausible(*values: float) -> bool:
    return all(PLAUSIBLE_MM[0] <= value <= PLAUSIBLE_MM[1] for value in values)


def _number(dataset: Dataset, keyword: str) -> float:
    return _numbers(dataset, keyword, 1)[0]


def _numbers(dataset: Dataset, keyword: str, count: int) -> list[float]:
    """`count` numbers of an element; NaN where it is missing, short or no number: one bad element spoils no scan."""
    try:
        value = dataset.get(keyword)
        given = [value] if isinstance(value, (int, float, str)) or not isinstance(value, Iterable) else list(value)
        numbers = [float(item) for item in given]
    except (TypeError, ValueError):
        return [math.nan] * count
    return numbers if len(numbers) == count else [math.nan] * count
