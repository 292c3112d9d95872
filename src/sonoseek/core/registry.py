"""A table of names whose code is imported on first use."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from types import MappingProxyType
from typing import Any

from sonoseek.core.errors import NotFoundError
from sonoseek.core.extras import from_extra


class LazyTable(Mapping[str, str]):
    """Names → "module:attribute"; a folder's table of methods.

    Listing the names imports nothing. `load` imports one module.
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, str],
        *,
        extra: str | None = None,
        families: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Make a table.

        Args:
            kind: what the names name, in error messages ("dataset").
            entries: name → "package.module:attribute".
            extra: the extra of sonoseek that brings what these modules import, if any.
            families: prefix ("timm:") → "package.module:attribute", for names that another package keeps the list of.
                They are not listed; what `load` returns takes the rest of the name as its first argument by itself.
        """
        self._kind = kind
        self._entries = MappingProxyType(dict(entries))
        self._extra = extra
        self._families = MappingProxyType(dict(families))

    def __getitem__(self, name: str) -> str:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def load(self, name: str) -> Any:
        """Import and return what `name` stands for.

        Raises:
            NotFoundError: no such name; the message lists the names and the nearest one.
            MissingExtraError: the module needs a package that is not installed.
        """
        for prefix, place in self._families.items():
            if name.startswith(prefix) and name != prefix:
                return partial(self._imported(place), name.removeprefix(prefix))
        if name not in self._entries:
            near = difflib.get_close_matches(name, self._entries, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            known = [*self._entries, *(f"{prefix}…" for prefix in self._families)]
            raise NotFoundError(f"no {self._kind} is called {name!r}; there are: {', '.join(known)}.{hint}")
        return self._imported(self._entries[name])

    def _imported(self, place: str) -> Any:
        module, _, attribute = place.partition(":")
        with from_extra(self._extra) if self._extra else nullcontext():
            return getattr(import_module(module), attribute)
