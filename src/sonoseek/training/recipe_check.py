"""The keys and ranges of a recipe's file, checked before it is read, so that a message names key, value and rule."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from sonoseek.core import InvalidValueError


def check_fields(raw: Mapping[str, Any], struct: type[msgspec.Struct], *, where: str) -> None:
    """Check the keys of a file, and each number against the `msgspec.Meta` of its field.

    Args:
        raw: the file's tables.
        struct: what they are to become.
        where: the file, for messages.

    Raises:
        InvalidValueError: an unknown key (the nearest known one is named), or a number out of its range.
    """
    for path, value, hint in _checked_fields(raw, struct, where=where):
        rule = next((each for each in get_args(hint) if isinstance(each, Meta)), None)
        if rule is not None and isinstance(value, int | float) and _out_of_range(value, rule):
            raise InvalidValueError(f"{where}: {path} is {value}; {_range_text(rule)}. Correct it.")


def _checked_fields(
    raw: Mapping[str, Any], struct: Any, *, where: str, place: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """(path, value, type hint) of each key, tables inside included.

    Raises:
        InvalidValueError: `struct` has no such key.
    """
    hints = get_type_hints(struct, include_extras=True)
    for key, value in raw.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known are: {', '.join(hints)}."
            raise InvalidValueError(f"{where}: no key is called {place + key!r}.{hint}")
        yield place + key, value, hints[key]
        inner = _struct_in(hints[key])
        for item in value if isinstance(value, list) else [value]:
            if inner is not None and isinstance(item, dict):
                yield from _checked_fields(item, inner, where=where, place=f"{place}{key}.")


def _out_of_range(value: float, rule: Meta) -> bool:
    return (
        (rule.ge is not None and value < rule.ge)
        or (rule.gt is not None and value <= rule.gt)
        or (rule.le is not None and value > rule.le)
        or (rule.lt is not None and value >= rule.lt)
    )


def _range_text(rule: Meta) -> str:
    """The range in words."""
    if rule.description:
        return rule.description
    if rule.le is None and rule.lt is None:
        if rule.gt is not None:
            return "it must be positive"
        return f"it must be at least {rule.ge}" if rule.ge else "it must not be negative"
    low = rule.ge if rule.gt is None else rule.gt
    without = f", without {low}" if rule.gt is not None else f", without {rule.lt}" if rule.lt is not None else ""
    return f"it must lie in {low} … {rule.lt if rule.le is None else rule.le}{without}"


def _struct_in(hint: Any) -> Any:
    """The struct that a field holds, directly or in a tuple; None where it holds none."""
    if get_origin(hint) in (tuple, list, Union, types.UnionType):
        return next((inner for item in get_args(hint) if (inner := _struct_in(item)) is not None), None)
    return hint if isinstance(hint, type) and issubclass(hint, msgspec.Struct) else None
