"""Whether text that an OCR reads in a picture names the patient. OCR is an alarm only: what it misses may be there."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoseek.io.spellings import plain, spellings

Ocr = Callable[[NDArray[np.uint8]], Iterable[str]]
"""Reads the texts in a picture, uint8 (H, W)."""
WHOLE = 4
"""Letters up to which a word must stand alone: "LEE" is no part of "sleeve"."""
_ALIKE = str.maketrans("oilsbzq", "0115829")
"""Letters that OCR takes for digits."""


def found_kinds(texts: Iterable[str], words: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Which kinds of identifiers stand in texts, whatever their accents, capitals and signs: "name", "patient id".

    Args:
        texts: as an OCR read them.
        words: (kind, text), of the file's own header.
    """
    read = [text for text in texts if text.strip()]
    tokens = {_as_read(token) for text in read for token in re.split(r"[\W_]+", text)}
    runs = [_as_read(text) for text in read]
    kinds: dict[str, None] = {}
    for kind, text in words:
        for word in map(_as_read, spellings(text)):
            if word in tokens or (len(word) > WHOLE and any(word in run for run in runs)):
                kinds[kind] = None
    return tuple(kinds)


def rapid_ocr() -> Ocr | None:
    """RapidOCR, where `rapidocr_onnxruntime` is installed; None where it is not."""
    if importlib.util.find_spec("rapidocr_onnxruntime") is None:
        return None
    module: Any = importlib.import_module("rapidocr_onnxruntime")
    engine = module.RapidOCR()

    def read(pixels: NDArray[np.uint8]) -> list[str]:
        lines, _ = engine(pixels)
        return [str(line[1]) for line in lines or ()]

    return read


def _as_read(word: str) -> str:
    return plain(word).translate(_ALIKE)
