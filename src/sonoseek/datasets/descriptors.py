"""What readers write of a mass, in the words of the BI-RADS ultrasound lexicon.

Source: ACR BI-RADS Atlas, 5th edition (2013), ultrasound; "halo" is of the 4th edition and still in tables.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from sonoseek.core import DESCRIPTORS
from sonoseek.datasets.fields import is_empty

log = logging.getLogger(__name__)

WORDS: Mapping[str, tuple[str, ...]] = {
    "shape": ("oval", "round", "irregular"),
    "orientation": ("parallel", "not parallel"),
    "margin": ("circumscribed", "indistinct", "angular", "microlobulated", "spiculated", "not circumscribed"),
    "echogenicity": ("anechoic", "hyperechoic", "complex cystic and solid", "hypoechoic", "isoechoic", "heterogeneous"),
    "posterior": ("no posterior features", "enhancement", "shadowing", "combined pattern"),
    "halo": ("halo", "no halo"),
    "calcifications": ("no calcifications", "in a mass", "outside of a mass", "intraductal", "indefinable"),
}
"""Feature → its words.

"indefinable" calcifications are BrEaST's own. What its table holds was read in
public code that encodes the table's values, not in the table itself; every value listed there is known here.
"""

_SAID: Mapping[str, Mapping[str, str]] = {
    "orientation": {
        "taller than wide": "not parallel",
        "wider than tall": "parallel",
        "vertical": "not parallel",
        "non parallel": "not parallel",
    },
    "echogenicity": {
        "complex cystic/solid": "complex cystic and solid",
        "complex": "complex cystic and solid",
        "cystic/solid": "complex cystic and solid",
    },
    "posterior": {
        "no": "no posterior features",
        "none": "no posterior features",
        "acoustic shadowing": "shadowing",
        "acoustic enhancement": "enhancement",
        "combined": "combined pattern",
    },
    "halo": {"yes": "halo", "no": "no halo", "present": "halo", "absent": "no halo"},
    "calcifications": {
        "no": "no calcifications",
        "none": "no calcifications",
        "yes": "indefinable",
        "in mass": "in a mass",
        "outside a mass": "outside of a mass",
    },
}
"""What archives write → the lexicon's word."""
_PARTS = re.compile(r"[&;+,]|\s[-–—]\s")
"""Between several words of one feature: "not circumscribed - angular&microlobulated"; spreadsheets lengthen dashes."""
_WHOLE = "not circumscribed"


def parse_descriptors(cells: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """(feature, word) pairs from a row's cells.

    A word that the lexicon does not have stays as the archive wrote it, in lower case, and is logged once: a
    new release of a table must not stop its reading.

    Args:
        cells: feature of `DESCRIPTORS` → what the archive wrote; empty cells and "not applicable" are left out.

    Returns:
        In the order of `DESCRIPTORS`; several pairs where a feature has several words. "not circumscribed" is left
        out where a nearer word (indistinct, angular, …) is there.
    """
    found: list[tuple[str, str]] = []
    for feature in DESCRIPTORS:
        text = cells.get(feature, "")
        if text.strip().lower() not in _SAID.get(feature, {}) and is_empty(text):
            continue
        words = list(dict.fromkeys(_words(feature, text)))
        if len(words) > 1 and _WHOLE in words:
            words.remove(_WHOLE)
        found += [(feature, word) for word in words]
    return tuple(found)


def _words(feature: str, text: str) -> Iterable[str]:
    whole = _word(feature, text)
    if whole in WORDS[feature]:
        yield whole
        return
    for part in _PARTS.split(text):
        word = _word(feature, part)
        if not word:
            continue
        if word not in WORDS[feature]:
            _warn(feature, word)
        yield word


def _word(feature: str, text: str) -> str:
    plain = re.sub(r"[\s_]+|(?<=\w)-(?=\w)", " ", text.strip().lower())
    return _SAID.get(feature, {}).get(plain, plain)


@lru_cache(maxsize=256)
def _warn(feature: str, word: str) -> None:
    """Once per word."""
    log.warning("%s is described as %r, which is no word of the lexicon; it stays as it is", feature, word)
