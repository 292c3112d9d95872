"""PatientID → its hash, the same for one patient however a file spells its character set. Runs in the child."""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Set

from pydicom import config
from pydicom.charset import decode_bytes, python_encoding
from pydicom.dataset import Dataset

DELIMITERS = frozenset({0x09, 0x0A, 0x0C, 0x0D})
"""Control characters that reset a code extension. PS3.5 6.1.2.5.3."""
_CODECS = {re.sub(r"[^A-Z0-9]", "", name.upper()): codec for name, codec in python_encoding.items() if name}
_ASCII = ("ISOIR6", "ISO2022IR6", "")


def patient_text(dataset: Dataset) -> str | bytes:
    """PatientID as text, or its bytes where the character set that the file names cannot be theirs.

    A character set counts whatever its capitals, spaces and signs ("iso-ir 100"). Bytes beyond ASCII without a
    character set are taken for UTF-8 if they can be, else for Latin-1. Text is composed (Unicode NFC).
    """
    raw = dataset.get_item("PatientID").value if "PatientID" in dataset else b""
    if not isinstance(raw, bytes):  # a sequence or a number in its place
        return str(raw or "").strip()
    raw = raw.strip(b"\0 ")
    text = decoded(raw, encodings_of(dataset))
    return raw if text is None else unicodedata.normalize("NFC", text).strip("\0 ")


def unkeyed_pseudonym(text: str | bytes) -> str:
    """Give "p-" and 16 hex digits of the sha256 of the text in UTF-8, or of the bytes as they are.

    It goes to the parent, which makes the pseudonym of it (`sonoseek.core.site_key.keyed`); it is stored nowhere.
    """
    return "p-" + hashlib.sha256(text if isinstance(text, bytes) else text.encode("utf-8")).hexdigest()[:16]


def encodings_of(dataset: Dataset) -> list[str | None]:
    """Python's codecs of the character sets that the data set names; [""] where it names none, None of unknown ones."""
    return [_codec(name) for name in character_sets(dataset)]


def decoded(raw: bytes, encodings: list[str | None], *, delimiters: Set[int] = DELIMITERS) -> str | None:
    """None where `raw` is no text of these encodings; `delimiters` are the bytes that reset a code extension."""
    if encodings == [""]:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw.decode("latin-1")
    if None in encodings:
        return None
    codecs_named = [encoding or "ascii" for encoding in encodings]
    mode = config.settings.reading_validation_mode
    config.settings.reading_validation_mode = config.RAISE
    try:
        return decode_bytes(raw, codecs_named, set(delimiters))
    except (ValueError, LookupError):  # ValueError: an escape sequence that no standard lists
        return _in_any(raw, codecs_named[1:])
    finally:
        config.settings.reading_validation_mode = mode


def _in_any(raw: bytes, names: list[str]) -> str | None:
    """By the first extension that can be: some writers leave out the escape sequence that switches to it."""
    for name in names:
        with contextlib.suppress(UnicodeError, LookupError):
            return raw.decode(name)
    return None


def character_sets(dataset: Dataset) -> list[str]:
    """Values of SpecificCharacterSet, [""] where there is none."""
    value = dataset.get("SpecificCharacterSet")
    names = [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    return [str(name or "") for name in names] or [""]


def _codec(name: str) -> str | None:
    """Python's codec of a DICOM character set; "" of ASCII, None of an unknown one."""
    plain = re.sub(r"[^A-Z0-9]", "", name.upper())
    if plain in _ASCII:
        return ""
    if plain in _CODECS:
        return _CODECS[plain]
    try:
        return codecs.lookup(name.strip()).name
    except (LookupError, ValueError):
        return None
