"""The last steps of every object: times of the report, the source's character set, bytes."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

from pydicom.charset import convert_encodings, decode_bytes, encode_string
from pydicom.dataset import Dataset
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR, PN_DELIMS, TEXT_VR_DELIMS

_ZONE = re.compile(r"([+-])(0\d|1[0-4])([0-5]\d)")
_DATES = ("InstanceCreation", "Content", "Series", "PresentationCreation")
"""Pairs of Date and Time that say when the result was made."""
UNICODE = "ISO_IR 192"


def local_time(moment: datetime, source: Dataset) -> datetime:
    """A moment in the time zone of the source's times: TimezoneOffsetFromUTC (0008,0201), else this machine's."""
    return moment.astimezone(_zone(source))


def _zone(source: Dataset) -> timezone | None:
    stated = _ZONE.fullmatch(str(source.get("TimezoneOffsetFromUTC", "")).strip())
    if stated is None:
        return None
    offset = timedelta(hours=int(stated[2]), minutes=int(stated[3]))
    return timezone(-offset if stated[1] == "-" else offset)


def to_file(dataset: Dataset, *, source: Dataset, made: datetime, character_set: Sequence[str]) -> bytes:
    """Write an object as a file, the same bytes for the same result.

    highdicom sets the time of the call; here it becomes that of the query.

    Args:
        dataset: with its file meta information.
        source: of `source_dataset`.
        made: when the query was answered.
        character_set: of the source; ISO_IR 192 (UTF-8) is taken where it cannot encode a text of the object.
    """
    moment = local_time(made, source)
    day, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    for name in _DATES:
        if name in ("Series", "InstanceCreation") or f"{name}Date" in dataset:
            setattr(dataset, f"{name}Date", day)
            setattr(dataset, f"{name}Time", time)
    if "DateOfSecondaryCapture" in dataset:
        dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture = day, time
    for item in dataset.get("ContributingEquipmentSequence", ()):
        if item.get("ManufacturerModelName") == "highdicom":
            item.ContributionDateTime = day + time
    if _zone(source) is not None:
        dataset.TimezoneOffsetFromUTC = moment.strftime("%z")
    _set_character_set(dataset, character_set)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def replace_class(dataset: Dataset, *, former: str, actual: str) -> None:
    """Put the source's own SOP class in the place of the one that stood for it, in every reference."""
    if former == actual:
        return
    for element in dataset.iterall():
        if element.keyword == "ReferencedSOPClassUID" and element.value == former:
            element.value = actual


def _set_character_set(dataset: Dataset, wanted: Sequence[str]) -> None:
    texts = list(_texts(dataset))
    if all(text.isascii() for _, text in texts) and not any(wanted):
        if "SpecificCharacterSet" in dataset:
            del dataset.SpecificCharacterSet
    elif _can_encode(texts, wanted):
        dataset.SpecificCharacterSet = list(wanted) if len(wanted) > 1 else wanted[0]
    else:
        dataset.SpecificCharacterSet = UNICODE


def _can_encode(texts: list[tuple[str, str]], wanted: Sequence[str]) -> bool:
    """Whether each text is the same after it was written in these character sets and read again."""
    from highdicom.enum import SpecificCharacterSetValues

    known = {each.value for each in SpecificCharacterSetValues}
    if not any(wanted) or any(name and name not in known for name in wanted):
        return False
    encodings = convert_encodings(list(wanted))
    parts = [
        (part, PN_DELIMS if vr == "PN" else TEXT_VR_DELIMS)
        for vr, text in texts
        if not text.isascii()
        for part in re.split(r"[=^]" if vr == "PN" else r"\\", text)
    ]
    with contextlib.suppress(ValueError, LookupError):
        return all(
            all(any(_encodes(sign, encoding) for encoding in encodings) for sign in part)  # else pydicom warns
            and decode_bytes(encode_string(part, encodings), encodings, delimiters) == part
            for part, delimiters in parts
        )
    return False


def _encodes(sign: str, encoding: str) -> bool:
    try:
        sign.encode(encoding)
    except UnicodeError:
        return False
    return True


def _texts(dataset: Dataset) -> list[tuple[str, str]]:
    texts: list[tuple[str, str]] = []
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                texts.extend(_texts(item))
        elif element.VR in CUSTOMIZABLE_CHARSET_VR:
            values = element.value if element.VM > 1 else [element.value]
            texts.extend((str(element.VR), str(value)) for value in values if value)
    return texts
