"""File names as disks and tables have them: masks in any spelling, system files, composed and split accents."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

LINE_BREAKS = re.compile("[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")
"""Whatever some program takes for the end of a line."""
_MASK = re.compile(
    r"^(?P<scan>.+?)\s*[_\s-]mask(?:[\s_-]*(?:[0-9]+|\([0-9]+\)|(?:copy|kopie|copie|copia|cópia)\b))*\s*$",
    re.IGNORECASE,
)
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin"})


def is_system_file(path: Path) -> bool:
    """Whether a file or folder is an operating system's own: `._scan.png`, `.DS_Store`, `__MACOSX`, `Thumbs.db`."""
    return path.name.startswith(".") or path.name.lower() in _SYSTEM_FILES


def masked_scan(path: Path) -> str | None:
    """The stem, `composed`, of the scan that a mask's name belongs to; None where the file is not named like a mask.

    "a_mask", "a_Mask_1_1", "a _mask", "a_mask (1)" and "a_mask - Copy" are masks of "a".
    """
    match = _MASK.match(path.stem)
    return composed(match["scan"]) if match else None


def composed(name: str) -> str:
    """The same for two spellings of one name: Unicode NFC, line breaks as spaces."""
    return LINE_BREAKS.sub(" ", unicodedata.normalize("NFC", name)).strip()


def listed_file(folder: Path, name: str) -> Path:
    """`folder / name`; where that is not there, the only file there whose name differs in accents or line breaks alone.

    macOS splits accents (NFD), tables are often written elsewhere (NFC).
    """
    path = folder / name
    if path.exists():
        return path
    wanted = composed(path.name)
    try:
        found = [other for other in path.parent.iterdir() if composed(other.name) == wanted]
    except (OSError, ValueError):
        found = []
    return found[0] if len(found) == 1 else path
