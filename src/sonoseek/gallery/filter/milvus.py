"""Conditions of a `where` as a Milvus expression.

Milvus 2.3 has neither NULL nor a search inside texts. Texts are kept with a "=" before them, unknown ones as "";
unknown numbers as `UNKNOWN_NUMBER`. An expression is true or false, never unknown. So a condition is compiled twice:
what makes it true, and what makes it false. `not` is moved down to the comparisons, where the two differ by unknown
values. `contains` is resolved among the stored values.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import date

from sonoseek.core import DESCRIPTORS
from sonoseek.gallery.filter.grammar import All, Condition, Node, Not, balanced, parse_where

UNKNOWN_NUMBER = -1e9
"""Age, and days, of whom neither is known."""
EVERYTHING = 'key != ""'
NOTHING = 'key == ""'

_NUMBERS = ("age_years", "acquired")
_OPPOSITE = {"=": "!=", "!=": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}

Values = Callable[[str], Iterable[str]]
"""Field → the texts that occur in it, unknown left out; "descriptors" → "feature=word"."""


def compile_expression(text: str, values: Values) -> str:
    """A filter as an expression over the collection's fields.

    Args:
        text: in the language of `sonoseek.gallery.filter.grammar`.
        values: looks up the values of a field, for `contains`.

    Raises:
        WhereError: it does not parse.
    """
    return _compile(parse_where(text), values, wanted=True)


def quoted(text: str) -> str:
    """A text as a literal that nothing in it can end."""
    # Milvus unquotes as Go does, which knows every escape of JSON but that of the slash.
    return json.dumps(text, ensure_ascii=False)


def listed(texts: Iterable[str]) -> str:
    """Texts as a list."""
    return "[" + ", ".join(map(quoted, texts)) + "]"


def among(field: str, texts: Iterable[str]) -> str:
    """That a field holds one of these."""
    items = list(texts)
    return f"{field} in {listed(items)}" if items else NOTHING


def _compile(node: Node, values: Values, *, wanted: bool) -> str:
    if isinstance(node, Condition):
        return _condition(node, values, wanted=wanted)
    if isinstance(node, Not):
        return _compile(node.part, values, wanted=not wanted)
    word = " and " if isinstance(node, All) == wanted else " or "
    return balanced([_compile(part, values, wanted=wanted) for part in node.parts], word)


def _condition(condition: Condition, values: Values, *, wanted: bool) -> str:
    if condition.column in DESCRIPTORS:
        return _described(condition, values, wanted=wanted)
    if condition.column in _NUMBERS:
        return _number(condition, wanted=wanted)
    field, operator = "case_group" if condition.column == "group" else condition.column, condition.operator
    if operator in ("is null", "is not null"):
        return f'{field} {"==" if (operator == "is null") == wanted else "!="} ""'
    texts = [str(value) for value in condition.values]
    if operator == "contains":
        texts = [value for value in values(field) if texts[0] in value.casefold()]
    inside = operator in ("=", "in", "contains")
    if inside == wanted:
        return among(field, ["=" + text for text in texts])
    return f'({field} != "" and not ({among(field, ["=" + text for text in texts])}))'


def _number(condition: Condition, *, wanted: bool) -> str:
    field, operator = condition.column, condition.operator
    known = f"{field} > {UNKNOWN_NUMBER / 2:.1f}"
    if operator in ("is null", "is not null"):
        return known if (operator == "is not null") == wanted else f"{field} < {UNKNOWN_NUMBER / 2:.1f}"
    numbers = [
        value if isinstance(value, float) else days(date.fromisoformat(str(value))) for value in condition.values
    ]
    if operator in ("in", "not in"):
        inside = balanced([f"{field} == {number!r}" for number in numbers], " or ")
        return f"({known} and {'' if (operator == 'in') == wanted else 'not '}({inside}))"
    sign = operator if wanted else _OPPOSITE[operator]
    return f"({known} and {field} {'==' if sign == '=' else sign} {numbers[0]!r})"


def _described(condition: Condition, values: Values, *, wanted: bool) -> str:
    feature, operator = condition.column, condition.operator
    known = f"array_contains(descriptors, {quoted(feature + '=')})"
    if operator in ("is null", "is not null"):
        return known if (operator == "is not null") == wanted else f"(not {known})"
    texts = [str(value).casefold() for value in condition.values]
    if operator == "contains":
        pairs = [value.partition("=") for value in values("descriptors")]
        texts = [word for name, _, word in pairs if name == feature and word and texts[0] in word.casefold()]
    told_of = [f"array_contains(descriptors, {quoted(f'{feature}={text}')})" for text in texts]
    any_word = balanced(told_of, " or ") if told_of else NOTHING
    inside = operator in ("=", "in", "contains")
    return f"({known} and {'' if inside == wanted else 'not '}({any_word}))"


def days(day: date) -> float:
    """A date as a number that sorts as dates do."""
    return float(day.toordinal())
