"""Settings: frozen, read from the environment once, passed on by hand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from sonoseek.core.errors import InvalidValueError

PREFIX = "SONOSEEK_"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What an installation may turn.

    Attributes:
        data: folder with datasets; tests marked `data` look there. `SONOSEEK_DATA`.
        weights: folder with start weights for training. `SONOSEEK_WEIGHTS`.
        bundle: folder of the bundle to use instead of the one that ships. `SONOSEEK_BUNDLE`.
        cache: folder for downloads. `SONOSEEK_CACHE`.
        threads: cores to use for the network; 0 means all. `SONOSEEK_THREADS`.
        max_megapixels: larger pictures are refused before they are decoded. `SONOSEEK_MAX_MEGAPIXELS`.
        read_timeout_s: seconds of the processor that reading one file may take; five times as many on the clock.
            `SONOSEEK_READ_TIMEOUT_S`.
        read_memory_mb: MiB that reading one file may take. `SONOSEEK_READ_MEMORY_MB`.
        site_key: file with the key of pseudonyms; None: in the user's state folder (`sonoseek.core.site_key`).
            `SONOSEEK_SITE_KEY`.
    """

    data: Path | None = None
    weights: Path | None = None
    bundle: Path | None = None
    cache: Path = Path("~/.cache/sonoseek")
    threads: int = 0
    max_megapixels: float = 64.0
    read_timeout_s: float = 2.0
    read_memory_mb: int = 512
    site_key: Path | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read `SONOSEEK_*`.

        Raises:
            InvalidValueError: a variable does not parse as its type.
        """
        source = os.environ if environment is None else environment
        given: dict[str, object] = {}
        for item in fields(cls):
            text = source.get(PREFIX + item.name.upper())
            if text is None or text == "":
                continue
            convert = {"threads": int, "read_memory_mb": int, "max_megapixels": float, "read_timeout_s": float}.get(
                item.name, Path
            )
            try:
                given[item.name] = convert(text)
            except ValueError as error:
                raise InvalidValueError(
                    f"{PREFIX}{item.name.upper()} is {text!r}; it must be {convert.__name__}. Unset it for the default."
                ) from error
        settings = cls(**given)  # type: ignore[arg-type]  # each was converted to its field's type above
        if settings.threads < 0 or min(settings.max_megapixels, settings.read_timeout_s, settings.read_memory_mb) <= 0:
            raise InvalidValueError(f"{settings}: threads must be ≥ 0 and the limits positive.")
        return settings
