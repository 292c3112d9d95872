"""The language of `where`: parsed into conditions, never pasted into a database's language.

    birads >= '4A' and device = 'GE Logiq 7'
    label in ('benign', 'malignant') and not histology contains 'phyllodes'
    age < 40 and acquired >= 2015-01-01 and patient is not null

Columns: label (or pathology), birads, device, age, dataset, date (or acquired), histology, laterality, view, patient,
group, case. Comparisons: = != < <= > >=, in (…), not in (…), contains and like (the text anywhere, upper and lower case
alike; no wildcards), is null, is not null. They are joined by and, or, not and parentheses; not binds tighter than and,
and tighter than or. Words of the language and names of columns may be in capitals. Text stands in single or double
quotes; a quote inside is doubled or follows a backslash, a backslash is doubled. Dates are written YYYY-MM-DD, and 4A,
4B and 4C may be written, with quotes or without.

Unknown values: a comparison with a value that the archive does not know is neither true nor false, so the row is left
out. This holds under `!=` and `not` as well: `not birads = '4A'` finds what `birads != '4A'` finds. The other side of
an `or` may still find the row. `is null` finds unknown values.

BI-RADS is ordered clinically, 0 < 1 < 2 < 3 < 4 < 4A < 4B < 4C < 5 < 6. A 4 without subdivision comes just before 4A.
`birads >= 4` finds it and all subdivisions, `birads = 4` finds it alone, `birads >= '4A'` does not find it. `birads
contains '4'` finds every kind of 4.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from sonoseek.core import BIRADS_CATEGORIES, DESCRIPTORS, PATHOLOGIES, WhereError

GRAMMAR = r"""
?start: any
?any: all (_OR all)*
?all: term (_AND term)*
?term: _NOT term -> negation
     | "(" any ")"
     | NAME ORDER value -> comparison
     | NAME CONTAINS value -> comparison
     | NAME _NOT CONTAINS value -> negated_comparison
     | NAME _IN "(" value ("," value)* ")" -> membership
     | NAME _NOT _IN "(" value ("," value)* ")" -> negated_membership
     | NAME _IS _NULL -> unknown
     | NAME _IS _NOT _NULL -> known
value: TEXT | NUMBER | DATE | SUBDIVIDED

_OR.2: /or\b/i
_AND.2: /and\b/i
_NOT.2: /not\b/i
_IN.2: /in\b/i
_IS.2: /is\b/i
_NULL.2: /null\b/i
CONTAINS.2: /(contains|like)\b/i
ORDER: "<=" | ">=" | "!=" | "<>" | "==" | "=" | "<" | ">"
NAME: /[^\W\d]\w*/
TEXT: /'(?:[^'\\]|\\.|'')*'/s | /"(?:[^"\\]|\\.|"")*"/s
DATE.3: /\d{4}-\d{2}-\d{2}/
SUBDIVIDED.3: /4[abc]\b/i
NUMBER.1: /[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?/i
%ignore /\s+/
"""
LONGEST = 10_000
"""Characters of a filter; longer ones are refused before they are parsed."""
DEEPEST = 50
"""Levels of parentheses and nots."""

_COLUMNS = {
    "label": "pathology",
    "pathology": "pathology",
    "birads": "birads",
    "device": "device",
    "age": "age_years",
    "dataset": "dataset",
    "date": "acquired",
    "acquired": "acquired",
    "histology": "histology",
    "laterality": "laterality",
    "view": "view",
    "patient": "patient_id",
    "group": "group",
    "case": "case_id",
    **{feature: feature for feature in DESCRIPTORS},
}
"""What a filter calls a column → the field of `CaseRecord` or `GalleryEntry` that it is."""
_CATEGORIES = {"pathology": PATHOLOGIES, "birads": BIRADS_CATEGORIES, "laterality": ("left", "right")}
_ORDERED = ("birads", "age_years", "acquired")
_NAMES = {
    "NAME": "a column",
    "ORDER": "a comparison (= != < <= > >=)",
    "CONTAINS": "contains",
    "TEXT": "a quoted text",
    "NUMBER": "a number",
    "DATE": "a date",
    "SUBDIVIDED": "4A, 4B or 4C",
    "LPAR": "'('",
    "RPAR": "')'",
    "COMMA": "','",
    "$END": "the end",
}
"""How an error message calls what the grammar expects."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison, its values checked.

    Attributes:
        column: field of `CaseRecord`, "laterality" or "view".
        operator: "=", "!=", "<", "<=", ">", ">=", "in", "not in", "contains", "is null" or "is not null". The order of
            BI-RADS has become "in"; the list may then be empty: nothing passes.
        values: floats for age_years, else text (dates as YYYY-MM-DD, what `contains` looks for case-folded).
    """

    column: str
    operator: str
    values: tuple[str | float, ...] = ()


@dataclass(frozen=True, slots=True)
class All:
    """Every part must be true."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Any:
    """At least one part must be true."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part must be false; unknown stays unknown."""

    part: Node


Node = Condition | All | Any | Not


@lru_cache(maxsize=256)
def parse_where(text: str) -> Node:
    """Read a filter.

    Raises:
        WhereError: it does not parse, names an unknown column or value, or is too long or deep; the message points at
            the place and lists what is allowed there.
    """
    if not isinstance(text, str):
        raise WhereError(f"the filter is {type(text).__name__}; it must be text, or None for no filter.")
    if len(text) > LONGEST:
        raise WhereError(f"the filter has {len(text)} characters; at most {LONGEST} are read. Shorten it.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _error(text, error.start, "half a character (a lone surrogate)", "Give whole characters.") from None
    try:
        tree = _parser().parse(text)
    except UnexpectedInput as error:
        raise _unexpected(text, error) from None
    return _Reader(text).node(tree, 0)


@lru_cache(maxsize=1)
def _parser() -> Lark:
    return Lark(GRAMMAR, parser="lalr", maybe_placeholders=False)


class _Reader:
    """Turns the parser's tree into conditions; keeps the text for error messages."""

    def __init__(self, text: str) -> None:
        self._text = text

    def node(self, tree: Tree[Token], depth: int) -> Node:
        if depth > DEEPEST:
            raise WhereError(
                f"the filter nests deeper than {DEEPEST} levels; write it flatter, for instance with in (…)."
            )
        children = tree.children
        if tree.data in ("any", "all"):
            parts = tuple(self.node(child, depth + 1) for child in children if isinstance(child, Tree))
            return Any(parts) if tree.data == "any" else All(parts)
        if tree.data == "negation":
            (child,) = children
            return Not(self.node(child, depth + 1))  # type: ignore[arg-type]  # the grammar has a tree here
        return self._comparison(tree)

    def _comparison(self, tree: Tree[Token]) -> Node:
        name, *symbols = (child for child in tree.children if isinstance(child, Token))
        values = [token for child in tree.children if isinstance(child, Tree) for token in child.children]
        return self._condition(str(tree.data), name, symbols, [token for token in values if isinstance(token, Token)])

    def _condition(self, kind: str, name: Token, symbols: list[Token], values: list[Token]) -> Node:
        column = self._column(name)
        if kind in ("unknown", "known"):
            return Condition(column, "is null" if kind == "unknown" else "is not null")
        if kind.endswith("membership"):
            literals = tuple(self._value(column, token) for token in values)
            return Condition(column, "not in" if kind.startswith("negated") else "in", literals)
        operator = symbols[0].lower()
        if operator in ("contains", "like"):
            condition = Condition(column, "contains", (self._sought(column, operator, values[0]),))
            return Not(condition) if kind.startswith("negated") else condition
        operator = {"<>": "!=", "==": "="}.get(operator, operator)
        if operator not in ("=", "!=") and column not in _ORDERED:
            raise self._error(symbols[0], f"{name} has no order", "Compare it with = != in (…) contains.")
        value = self._value(column, values[0])
        if column == "birads" and operator not in ("=", "!="):
            return Condition(column, "in", _birads_range(operator, str(value)))
        return Condition(column, operator, (value,))

    def _column(self, token: Token) -> str:
        column = _COLUMNS.get(token.lower())
        if column is None:
            near = difflib.get_close_matches(token.lower(), _COLUMNS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise self._error(token, f"no column is called {str(token)!r}", f"There are: {', '.join(_COLUMNS)}.{hint}")
        return column

    def _value(self, column: str, token: Token) -> str | float:
        """One value, of its column's type."""
        text = _unquoted(token)
        if column == "age_years":
            if token.type != "NUMBER":
                raise self._error(token, f"age is compared with {token}", "Write a number of years, without quotes.")
            return float(text)
        if column == "acquired":
            try:
                return date.fromisoformat(text).isoformat()
            except ValueError:
                raise self._error(token, f"{token} is no date", "Write it as YYYY-MM-DD.") from None
        if column in _CATEGORIES:
            known = _CATEGORIES[column]
            written = text.strip().upper() if column == "birads" else text.strip().lower()
            if written not in known:
                near = difflib.get_close_matches(written, known, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise self._error(token, f"{token} is none of the values", f"There are: {', '.join(known)}.{hint}")
            return written
        return text

    def _sought(self, column: str, operator: str, token: Token) -> str:
        if column in ("age_years", "acquired"):
            raise self._error(token, f"{operator} looks inside texts, not in numbers or dates", "Use < <= = >= >.")
        text = _unquoted(token)
        if operator == "like" and "%" in text:
            raise self._error(
                token,
                "like finds its text anywhere and knows no wildcards",
                "Leave % out; contains takes it literally.",
            )
        return text.casefold()

    def _error(self, place: Token, problem: str, remedy: str) -> WhereError:
        return _error(self._text, place.start_pos or 0, problem, remedy)


def balanced(parts: list[str], word: str) -> str:
    """Parts joined by `word` as a balanced tree: databases refuse an expression as deep as a chain is long."""
    if len(parts) == 1:
        return parts[0]
    half = len(parts) // 2
    return f"({balanced(parts[:half], word)}{word}{balanced(parts[half:], word)})"


def _birads_range(operator: str, category: str) -> tuple[str, ...]:
    """The categories on the wanted side of `category`, in clinical order."""
    at = BIRADS_CATEGORIES.index(category)
    end = {"<": at, "<=": at + 1}.get(operator)
    return BIRADS_CATEGORIES[:end] if end is not None else BIRADS_CATEGORIES[at + (operator == ">") :]


def _unquoted(token: Token) -> str:
    if token.type != "TEXT":
        return str(token)
    quote, inner = token[0], token[1:-1]
    pieces, at = [], 0
    while at < len(inner):
        if inner[at] in ("\\", quote):  # an escape, or the first of two quotes: the next character stands for itself
            at += 1
        pieces.append(inner[at])
        at += 1
    return "".join(pieces)


def _unexpected(text: str, error: UnexpectedInput) -> WhereError:
    place = len(text)
    problem = "the filter ends too early" if text.strip() else "the filter is empty"
    expected: set[str] = set(getattr(error, "accepts", ()) or getattr(error, "expected", ()))
    if isinstance(error, UnexpectedCharacters):
        place, expected = int(getattr(error, "pos_in_stream", 0)), set(error.allowed or ())
        problem = "this text has no closing quote" if text[place] in "'\"" else f"cannot read {text[place]!r} here"
    elif isinstance(error, UnexpectedToken) and error.token.type != "$END":
        place, problem = int(getattr(error, "pos_in_stream", 0)), f"did not expect {str(error.token)!r} here"
    allowed = sorted({_NAMES.get(name, name.strip("_").lower()) for name in expected})
    return _error(text, place, problem, f"Allowed here: {', '.join(allowed)}.")


def _error(text: str, place: int, problem: str, remedy: str) -> WhereError:
    """A message with the line at fault and a caret under the place."""
    start = text.rfind("\n", 0, place) + 1
    line = text[start:].split("\n", 1)[0]
    # A long line is shown around the place only; control characters would move the caret.
    first = max(0, place - start - 60)
    shown = "".join(c if c.isprintable() else " " for c in line[first : first + 120])
    caret = " " * (place - start - first) + "^"
    return WhereError(f"where, character {place + 1}: {problem}. {remedy}\n    {shown}\n    {caret}")
