"""Conditions of a `where` as SQL: fixed words and question marks; what the user wrote travels as parameters only."""

from __future__ import annotations

import sqlite3

from sonoseek.core import DESCRIPTORS
from sonoseek.gallery.filter.grammar import All, Condition, Node, Not, balanced, parse_where

_OF_SCANS = ("laterality", "view")
"""Fields that `scans s` has; `cases c` has the others, under the same names."""
_CONTAINS = "sonoseek_contains"

Parameters = tuple[str | float, ...]


def compile_where(text: str) -> tuple[str, Parameters]:
    """A filter as an SQL condition over `cases c` and `scans s`, and its parameters in order.

    The condition is true, false or null, as the language's conditions are true, false or unknown. Connections that run
    it need `install_functions`.

    Raises:
        WhereError: it does not parse.
    """
    return _compile(parse_where(text))


def _compile(node: Node) -> tuple[str, Parameters]:
    if isinstance(node, Condition):
        return _condition(node)
    if isinstance(node, Not):
        inner, parameters = _compile(node.part)
        return f"(NOT {inner})", parameters
    compiled = [_compile(part) for part in node.parts]
    sql = balanced([sql for sql, _ in compiled], " AND " if isinstance(node, All) else " OR ")
    return sql, tuple(value for _, values in compiled for value in values)


def _condition(condition: Condition) -> tuple[str, Parameters]:
    if condition.column in DESCRIPTORS:
        return _described(condition)
    column = f'{"s" if condition.column in _OF_SCANS else "c"}."{condition.column}"'
    match condition.operator:
        case "is null":
            return f"({column} IS NULL)", ()
        case "is not null":
            return f"({column} IS NOT NULL)", ()
        case "contains":
            return f"{_CONTAINS}({column}, ?)", condition.values
        case "in" | "not in" if not condition.values:  # SQL's own IN () forgets that unknown is unknown
            return f"({column} <> {column})", ()
        case "in" | "not in":
            marks = ", ".join("?" * len(condition.values))
            word = "IN" if condition.operator == "in" else "NOT IN"
            return f"({column} {word} ({marks}))", condition.values
        case "=" | "!=" | "<" | "<=" | ">" | ">=":
            return f"({column} {condition.operator} ?)", condition.values
    raise ValueError(f"the operator {condition.operator!r} has no SQL; list it in where_sql.py.")


_WORDS_OF = """SELECT d.value ->> 1 FROM json_each(c.descriptors) d WHERE d.value ->> 0 = ?"""
"""The words of one feature; none where the case is not described for it."""


def _described(condition: Condition) -> tuple[str, Parameters]:
    """A condition over a descriptor: true when any of its words passes, unknown where there is none.

    "!=" and "not in" are true when no word equals the value.
    """
    feature = condition.column
    known = f"EXISTS ({_WORDS_OF})"
    if condition.operator in ("is null", "is not null"):
        return f"({'' if condition.operator == 'is not null' else 'NOT '}{known})", (feature,)
    word = "d.value ->> 1"
    marks = ", ".join("?" * len(condition.values))
    test = f"{_CONTAINS}({word}, ?)" if condition.operator == "contains" else f"{word} IN ({marks})"
    negated = condition.operator in ("!=", "not in")
    values = tuple(value.casefold() if isinstance(value, str) else value for value in condition.values)
    any_word = f"EXISTS ({_WORDS_OF} AND {test})"
    return (
        f"(CASE WHEN {known} THEN {'NOT ' if negated else ''}{any_word} END)",
        (feature, feature, *values),
    )


def install_functions(connection: sqlite3.Connection) -> None:
    """Teach a connection the function that `contains` compiles to: SQLite's own LIKE ignores case for ASCII only."""
    connection.create_function(_CONTAINS, 2, _contains, deterministic=True)


def _contains(value: str | None, sought: str) -> bool | None:
    return None if value is None else sought in value.casefold()
