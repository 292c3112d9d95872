"""DICOM unique identifiers: their rule, and file names that no sender chooses."""

from __future__ import annotations

import hashlib
import re

US_IMAGES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.6.1",  # Ultrasound Image Storage
        "1.2.840.10008.5.1.4.1.1.3.1",  # Ultrasound Multi-frame Image Storage
        "1.2.840.10008.5.1.4.1.1.6",  # the same two, retired in 1993 and still sent
        "1.2.840.10008.5.1.4.1.1.3",
    }
)
"""SOP classes of ultrasound pictures. PS3.4 B.5."""
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*", re.ASCII)


def is_uid(value: str) -> bool:
    """Whether a UID keeps the rule of PS3.5 9.1: "1.2.840.10008.1.1"; "../../x", "1.02" and "" do not.

    1 … 64 characters; numbers without leading zeros, with dots between.
    """
    return len(value) <= 64 and _UID.fullmatch(value) is not None


def file_name(text: str) -> str:
    """Name of the file of an object: a hash of what it is known by, so that no sender names a file."""
    return f"{hashlib.sha256(text.encode()).hexdigest()}.dcm"
