"""Tables that a DICOM file stores: modality, VOI and palette look-up tables, rescale and window. Runs in the child."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from sonoseek.core import ScanReadError
from sonoseek.io.dicom.header import Header

_CHANNELS = ("Red", "Green", "Blue")


def modality_values(stored: NDArray[np.integer], header: Header) -> tuple[NDArray[np.float64], float | None]:
    """Samples through the modality LUT, else through slope and intercept (PS3.3 C.11.1).

    A slope that is 0, empty or no number is void: 1.

    Returns:
        The values; and the largest value that the LUT may give, None without a LUT.
    """
    if item := _first_item(header.dataset, "ModalityLUTSequence"):
        first, table, bits = _table(item, "Modality LUT", header)
        return _looked_up(stored.astype(np.float64), first, table), max((1 << bits) - 1, float(table.max()))
    intercept = _first(header.dataset, "RescaleIntercept")
    values = stored.astype(np.float64) * rescale_slope(header.dataset)
    return (values + intercept if math.isfinite(intercept) else values), None


def rescale_slope(dataset: Dataset) -> float:
    """RescaleSlope, or 1 where it is void."""
    slope = _first(dataset, "RescaleSlope")
    return slope if math.isfinite(slope) and slope != 0.0 else 1.0


def voi_share(values: NDArray[np.float64], header: Header) -> NDArray[np.float64] | None:
    """What the first stored VOI LUT or window makes of each value, as a share of white; None where none is stored.

    PS3.3 C.11.2.
    """
    dataset = header.dataset
    if item := _first_item(dataset, "VOILUTSequence"):
        first, table, bits = _table(item, "VOI LUT", header)
        return _looked_up(values, first, table) / max((1 << bits) - 1, float(table.max()))
    centre, width = _first(dataset, "WindowCenter"), _first(dataset, "WindowWidth")
    shape = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
    if not (math.isfinite(centre) and math.isfinite(width)) or width < (1 if shape == "LINEAR" else 1e-9):
        return None
    offset = values - centre
    if shape == "SIGMOID":
        return np.asarray(1.0 / (1.0 + np.exp(np.clip(-4.0 * offset / width, -700.0, 700.0))))
    if shape == "LINEAR_EXACT":
        return offset / width + 0.5
    return (offset + 0.5) / max(width - 1.0, 1e-9) + 0.5


def palette_luma(stored: NDArray[np.integer], header: Header) -> NDArray[np.uint8]:
    """Luma of each sample's palette entry (PS3.3 C.7.6.3.1.5).

    Raises:
        ScanReadError: a table is missing or too short.
    """
    dataset = header.dataset
    if dataset.get("SegmentedRedPaletteColorLookupTableData"):
        colours = np.asarray(apply_color_lut(stored.reshape(1, -1), dataset))[0, :, :3]
    else:
        tables = [_palette(dataset, channel, header) for channel in _CHANNELS]
        values = stored.astype(np.float64)
        colours = np.stack([_looked_up(values, *table) for table in tables], axis=-1).astype(np.int64)
    if colours.max() > 255:  # entries of 16 bits; some writers put 8-bit values in them
        colours = colours >> 8
    return np.asarray(np.rint(colours.astype(np.float64) @ np.array([0.299, 0.587, 0.114])), np.uint8)


def _palette(dataset: Dataset, channel: str, header: Header) -> tuple[int, NDArray[np.float64]]:
    descriptor = dataset.get(f"{channel}PaletteColorLookupTableDescriptor")
    data = dataset.get(f"{channel}PaletteColorLookupTableData")
    return _parsed(descriptor, data, f"{channel} palette", header)[:2]


def _table(item: Dataset, name: str, header: Header) -> tuple[int, NDArray[np.float64], int]:
    return _parsed(item.get("LUTDescriptor"), item.get("LUTData"), name, header)


def _parsed(descriptor: object, data: object, name: str, header: Header) -> tuple[int, NDArray[np.float64], int]:
    """(first value mapped, entries, bits of an entry) of a table whose entries have 8 or 16 bits each."""
    count, first, bits = _descriptor(descriptor, name, header)
    entries: NDArray[np.float64] | None = None
    if isinstance(data, bytes) and data:
        wide = 2 * count <= len(data)
        kind = f"{header.order}u2" if wide else "u1"
        entries = np.frombuffer(data[: len(data) // 2 * 2] if wide else data, kind).astype(np.float64)
    elif isinstance(data, (int, Iterable)) and not isinstance(data, (str, bytes)):
        words = np.asarray([data] if isinstance(data, int) else list(data), np.uint16)
        packed = len(words) < count <= 2 * len(words)  # two entries of 8 bits a word
        entries = (words.astype("<u2").view("u1") if packed else words).astype(np.float64)
    if entries is None or len(entries) < count:
        raise ScanReadError(
            f"its {name} announces {count} entries and holds {0 if entries is None else len(entries)}; the header is "
            "damaged. Fetch it again, or remove the table."
        )
    return first, entries[:count], bits


def _descriptor(value: object, name: str, header: Header) -> tuple[int, int, int]:
    """Entries, first value mapped, bits an entry. 0 entries stands for 65536. PS3.3 C.11.1.1.1."""
    try:
        numbers = struct.unpack(f"{header.order}3H", value) if isinstance(value, bytes) else tuple(value)  # type: ignore[arg-type]
        count, first, bits = (int(number) for number in numbers)
    except (TypeError, ValueError, struct.error):
        count = first = bits = 0
    if not (-(1 << 15) <= count < 1 << 16 and 1 <= bits <= 16):
        raise ScanReadError(
            f"the descriptor of its {name} is {str(value)[:40]}; it must be three numbers: entries, first value, bits. "
            "The header is damaged: fetch it again, or remove the table."
        )
    count &= 0xFFFF  # where the descriptor was written as signed
    if header.signed and first > 0x7FFF:
        first -= 1 << 16
    return count or 1 << 16, first, bits


def _looked_up(values: NDArray[np.float64], first: int, table: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = table[np.clip(np.rint(values) - first, 0, len(table) - 1).astype(np.int64)]
    return found


def _first_item(dataset: Dataset, keyword: str) -> Dataset | None:
    items = dataset.get(keyword)
    return items[0] if isinstance(items, Iterable) and items and isinstance(items[0], Dataset) else None  # type: ignore[index]


def _first(dataset: Dataset, keyword: str) -> float:
    """The first number of an element; NaN where it is missing or no number."""
    try:
        value = dataset.get(keyword)
        return float(value if isinstance(value, (str, int, float)) else value[0])
    except (TypeError, ValueError, IndexError):
        return math.nan
