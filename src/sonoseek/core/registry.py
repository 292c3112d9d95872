"""A table of names whose code is imported only when asked for."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

from sonoseek.core.errors import MissingExtraError, NotFoundError


class LazyTable(Mapping[str, str]):
    """Names → "module:attribute"; a folder's table of methods.

    Listing the names imports nothing. `load` imports one module.
    """

    def __init__(self, kind: str, entries: Mapping[str, str], *, extra: str | None = None) -> None:
        """Make a table.

        Args:
            kind: what the names name, in error messages ("dataset").
            entries: name → "package.module:attribute".
            extra: the extra of sonoseek that brings what these modules import, if any.
        """
        self._kind = kind
        self._entries = MappingProxyType(dict(entries))
        self._extra = extra

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
        if name not in self._entries:
            near = difflib.get_close_matches(name, self._entries, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise NotFoundError(f"no {self._kind} is called {name!r}; there are: {', '.join(self._entries)}.{hint}")
        module, _, attribute = self._entries[name].partition(":")
        try:
            return getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            if self._extra is None or (error.name or "").startswith("sonoseek"):
                raise
            raise MissingExtraError.for_package(error.name or "?", extra=self._extra) from error
