"""How a scan is preprocessed: the few settings that a bundle freezes together with its network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sonoseek.core import InvalidValueError

Contrast = Literal["none", "stretch", "clahe"]
RECIPE_VERSION = 2
MIN_CANVAS, MAX_CANVAS = 16, 2048


@dataclass(frozen=True, kw_only=True)
class PreprocessingRecipe:
    """What preprocessing does to a scan. A network reads only canvases made by the recipe it was trained with.

    Attributes:
        version: of the algorithm; raised whenever the same recipe would give other pixels.
        canvas_size: side of the square canvas, pixels, 16 … 2048.
        borders: find the scan area, blank what lies outside, and crop to it; False keeps the whole picture.
        marks: find burned-in text, calipers, dotted lines and pictograms, and in-paint them.
        contrast: "none"; "stretch", a percentile stretch inside the scan area; "clahe", the stretch, then
            contrast-limited adaptive histogram equalisation.
    """

    version: int = RECIPE_VERSION
    canvas_size: int = 224
    borders: bool = True
    marks: bool = True
    contrast: Contrast = "stretch"

    def __post_init__(self) -> None:
        canvas_size: Any = self.canvas_size  # bundles are written by people too
        if self.version != RECIPE_VERSION:
            raise InvalidValueError(
                f"preprocessing recipe version is {self.version!r}; this sonoseek knows version {RECIPE_VERSION}. "
                "Install the sonoseek that the bundle was made with, or export the bundle anew."
            )
        if (
            not isinstance(canvas_size, int)
            or isinstance(canvas_size, bool)
            or not MIN_CANVAS <= canvas_size <= MAX_CANVAS
        ):
            raise InvalidValueError(
                f"canvas_size is {canvas_size!r}; it must be a whole number from {MIN_CANVAS} to {MAX_CANVAS}. "
                "Take the input side of the network, such as 224."
            )
        for name in ("borders", "marks"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise InvalidValueError(f"{name} is {value!r}; it must be True or False.")
        if self.contrast not in get_args(Contrast):
            raise InvalidValueError(
                f"contrast is {self.contrast!r}; it must be one of {', '.join(get_args(Contrast))}."
            )

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON; `from_dict` reads them back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, mapping: Mapping[str, object]) -> PreprocessingRecipe:
        """Read what `to_dict` wrote.

        Missing keys take their defaults, except the version, which a stored recipe must state.

        Raises:
            InvalidValueError: an unknown key, an unknown version, a value out of range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(map(str, set(mapping) - set(known)))
        if unknown:
            raise InvalidValueError(
                f"the preprocessing recipe has unknown keys {', '.join(unknown)}; known are {', '.join(known)}. "
                "Remove them, or install a newer sonoseek."
            )
        if "version" not in mapping:
            raise InvalidValueError(
                f"the preprocessing recipe states no version; it must. Add version={RECIPE_VERSION} if that made it."
            )
        values: dict[str, Any] = dict(mapping)
        return cls(**values)
