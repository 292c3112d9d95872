"""One name in its spellings: with and without accents, capitals, signs, and with umlauts as two letters."""

from __future__ import annotations

import unicodedata

_UMLAUTS = (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("ß", "ss"), ("å", "aa"), ("ø", "oe"), ("æ", "ae"))
SHORTEST = 3
"""Letters of a word that is looked for in a text."""


def plain(text: str) -> str:
    """Letters and digits alone, small, without accents: "Müller, A." becomes "mullera"."""
    split = unicodedata.normalize("NFKD", text).casefold()
    return "".join(letter for letter in split if letter.isalnum())


def spellings(word: str) -> frozenset[str]:
    """A word, `plain`, and with umlauts as scanners without them write them: "muller" and "mueller".

    Those of less than `SHORTEST` letters are left out.
    """
    small = unicodedata.normalize("NFC", word).casefold()
    for letter, instead in _UMLAUTS:
        small = small.replace(letter, instead)
    return frozenset(each for each in (plain(word), plain(small)) if len(each) >= SHORTEST)
