"""The language of `where`: what it means, what it refuses, and that it never becomes anything but parameters."""

import dataclasses
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sonoseek.core import BIRADS_CATEGORIES, PATHOLOGIES, WhereError
from sonoseek.gallery import Gallery, GalleryEntry, create_gallery
from sonoseek.gallery.filter.grammar import DEEPEST, LONGEST, parse_where
from sonoseek.gallery.filter.sql import compile_where

ORDER = ["0", "1", "2", "3", "4", "4A", "4B", "4C", "5", "6"]
"""Written out, so that a change of the order in core is noticed here."""
TEXTS = [
    "GE Logiq 7",
    "GE",
    "it's",
    'a "b"',
    "back\\slash",
    "100 %",
    "ÄRZTE Ü",
    "ärzte ü",
    "'; DROP TABLE scans; --",
    "",
]


@pytest.fixture(scope="module")
def entries(make_entry) -> list[GalleryEntry]:
    """Two hundred entries with every value of every column, unknown ones among them."""
    rng = np.random.default_rng(7)

    def pick(values: list[Any]) -> Any:
        return values[rng.integers(len(values))]

    made = []
    for number in range(200):
        entry = make_entry(
            number,
            dataset=pick(["busi", "busbra"]),
            pathology=pick(list(PATHOLOGIES)),
            birads=pick([*ORDER, None, None]),
            device=pick([*TEXTS, None]),
            histology=pick([*TEXTS, None]),
            age_years=pick([None, 0.0, 39.5, 40.0, 41.0, 90.0]),
            acquired=pick([None, date(2014, 12, 31), date(2015, 1, 1), date(2020, 2, 29)]),
            patient_id=pick([None, "0012", "12", "p"]),
            group=pick([None, "1", "2"]),
        )
        made.append(
            dataclasses.replace(
                entry, laterality=pick([None, "left", "right"]), view=pick(["left", "single", *TEXTS, None])
            )
        )
    return made


@pytest.fixture(scope="module")
def gallery(entries, tmp_path_factory):
    with create_gallery(tmp_path_factory.mktemp("where") / "g.db", bundle_id="b", dimension=24) as made:
        made.add(entries)
        yield made


@pytest.fixture(scope="module")
def find(gallery, entries) -> Callable[[str], set[str]]:
    """The cases that a filter lets through."""
    query = entries[0].embedding

    def passing(where: str) -> set[str]:
        found = gallery.search(query, k=len(entries), where=where, novelty=False, pictures=False)
        return {match.case_id for match in found.matches}

    return passing


# A second reading of the language: conditions as plain values, evaluated in Python with three-valued logic.

FIELDS: dict[str, Callable[[GalleryEntry], Any]] = {
    "label": lambda e: e.record.pathology,
    "pathology": lambda e: e.record.pathology,
    "birads": lambda e: e.record.birads,
    "device": lambda e: e.record.device,
    "histology": lambda e: e.record.histology,
    "age": lambda e: e.record.age_years,
    "dataset": lambda e: e.record.dataset,
    "date": lambda e: e.record.acquired and e.record.acquired.isoformat(),
    "acquired": lambda e: e.record.acquired and e.record.acquired.isoformat(),
    "laterality": lambda e: e.laterality,
    "view": lambda e: e.view,
    "patient": lambda e: e.record.patient_id,
    "group": lambda e: e.record.group,
    "case": lambda e: e.record.case_id,
}
VALUES: dict[str, list[Any]] = {
    "label": list(PATHOLOGIES),
    "pathology": list(PATHOLOGIES),
    "birads": ORDER,
    "device": TEXTS,
    "histology": TEXTS,
    "age": [-1, 0, 39.5, 40, 41.0, 1e9],
    "dataset": ["busi", "busbra", "else"],
    "date": ["2014-12-31", "2015-01-01", "2016-01-01"],
    "acquired": ["2014-12-31", "2015-01-01", "2016-01-01"],
    "laterality": ["left", "right"],
    "view": ["left", "right", "single", *TEXTS],
    "patient": ["0012", "12", "p"],
    "group": ["1", "2", "3"],
    "case": ["case 0001", "case 0150", "nobody"],
}
ORDERED = {"birads", "age", "date", "acquired"}


def compare(operator: str, found: Any, wanted: Any) -> bool:
    return {
        "=": found == wanted,
        "!=": found != wanted,
        "<": found < wanted,
        "<=": found <= wanted,
        ">": found > wanted,
        ">=": found >= wanted,
    }[operator]


def evaluate(node: tuple, entry: GalleryEntry) -> bool | None:
    """True, False, or None for unknown."""
    kind, *rest = node
    if kind == "not":
        inner = evaluate(rest[0], entry)
        return None if inner is None else not inner
    if kind in ("and", "or"):
        parts = [evaluate(part, entry) for part in rest[0]]
        decisive = kind == "or"
        return decisive if decisive in parts else None if None in parts else not decisive
    column, operator, wanted = rest
    found = FIELDS[column](entry)
    if operator in ("is null", "is not null"):
        return (found is None) == (operator == "is null")
    if found is None:
        return None
    if operator in ("in", "not in"):
        return (found in wanted) == (operator == "in")
    if operator in ("contains", "like", "not contains", "not like"):
        return (wanted.casefold() in found.casefold()) == (not operator.startswith("not"))
    if column == "birads":
        return compare(operator, ORDER.index(found), ORDER.index(wanted))
    return compare(operator, found, wanted)


@st.composite
def conditions(draw) -> tuple:
    column = draw(st.sampled_from(sorted(FIELDS)))
    operators = ["=", "!=", "in", "not in", "is null", "is not null"]
    operators += ["<", "<=", ">", ">="] if column in ORDERED else []
    operators += ["contains", "not contains", "like", "not like"] if column in ("device", "histology", "birads") else []
    operator = draw(st.sampled_from(operators))
    values = st.sampled_from(VALUES[column])
    if operator.endswith("null"):
        return ("compare", column, operator, None)
    if operator.endswith("in"):
        return ("compare", column, operator, draw(st.lists(values, min_size=1, max_size=3)))
    if operator.endswith("like"):
        values = values.filter(lambda text: "%" not in text)
    return ("compare", column, operator, draw(values))


nodes = st.recursive(
    conditions(),
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=6,
)


def written(node: tuple, draw: Callable[[Any], Any]) -> str:
    """A node as a person might write it."""

    def cased(word: str) -> str:
        return draw(st.sampled_from([word, word.upper(), word.title()]))

    kind, *rest = node
    if kind == "not":
        return f"{cased('not')} ({written(rest[0], draw)})"
    if kind in ("and", "or"):
        return f" {cased(kind)} ".join(f"({written(part, draw)})" for part in rest[0])
    column, operator, wanted = rest
    if operator.endswith("null"):
        return f"{cased(column)}  {cased(operator)}"
    if operator.endswith("in"):
        return f"{column} {cased(operator)} ({' , '.join(value_written(value, column, draw) for value in wanted)})"
    gap = " " if operator[-1].isalpha() else draw(st.sampled_from(["", " ", "\n\t"]))
    return f"{column}{gap}{operator}{gap}{value_written(wanted, column, draw)}"


def value_written(value: Any, column: str, draw: Callable[[Any], Any]) -> str:
    if column == "age":
        return repr(value)
    bare = column in ("date", "acquired", "birads") or (column in ("group", "patient") and value.isdigit())
    if bare and draw(st.booleans()):
        return value
    quote = draw(st.sampled_from("'\""))
    if draw(st.booleans()):
        return quote + value.replace("\\", "\\\\").replace(quote, quote + quote) + quote
    return quote + value.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(node=nodes, data=st.data())
def test_sql_and_python_agree_on_every_filter(find, entries, node, data):
    where = written(node, data.draw)
    expected = {entry.record.case_id for entry in entries if evaluate(node, entry) is True}
    assert find(where) == expected, where


# Never anything but parameters

SAFE = re.compile(r'[a-z_\s."()?,<>=!]|AND|OR|NOT|IN|IS|NULL', re.ASCII)


@settings(max_examples=300, deadline=None)
@given(st.text())
@example("'; DROP TABLE scans; --")
@example("device = 'x'; DROP TABLE scans; --'")
@example("device = 'x' OR 1=1")
@example("device = 'x\\'; DELETE FROM scans; --'")
@example("device = 'a\x00b'")
@example("device = '\ud800'")
@example("(" * 5000)
def test_any_text_is_a_filter_or_a_where_error(gallery, entries, text):
    with suppress(WhereError):
        gallery.search(entries[0].embedding, k=1, where=text, novelty=False, pictures=False)
    assert gallery.count() == len(entries)


@settings(max_examples=300, deadline=None)
@given(st.text(), st.sampled_from(["device", "histology", "view", "dataset", "patient", "group", "case"]))
@example("'; DROP TABLE scans; --", "device")
@example("\\", "device")
@example("x') OR ('1'='1", "case")
def test_values_travel_as_parameters_only(gallery, entries, text, column):
    quoted = "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    sql, parameters = compile_where(
        f"{column} = {quoted} or {column} in ({quoted}, 'b') or not {column} contains {quoted}"
    )
    assert parameters == (text, text, "b", text.casefold())
    assert sql.count("?") == 4
    assert SAFE.sub("", sql) == ""
    where = f"{column} = {quoted}"
    found = gallery.search(entries[0].embedding, k=200, where=where, novelty=False, pictures=False).matches
    assert len(found) == sum(FIELDS[column](entry) == text for entry in entries)


# What it means, in examples that the documentation gives


def test_birads_is_in_clinical_order(find, entries):
    assert list(BIRADS_CATEGORIES) == ORDER

    def categories(where: str) -> set[str | None]:
        found = find(where)
        return {entry.record.birads for entry in entries if entry.record.case_id in found}

    assert categories("birads >= '4A'") == {"4A", "4B", "4C", "5", "6"}
    assert categories("birads >= 4") == {"4", "4A", "4B", "4C", "5", "6"}
    assert categories("birads > 4b") == {"4C", "5", "6"}
    assert categories("birads < '4'") == {"0", "1", "2", "3"}
    assert categories("birads <= 4") == {"0", "1", "2", "3", "4"}
    assert categories("birads = 4") == {"4"}
    assert categories("birads contains '4'") == {"4", "4A", "4B", "4C"}
    assert categories("birads < 0") == categories("birads > 6") == set()
    assert categories("not birads < 0") == set(ORDER)
    assert categories("birads is null") == {None}


def test_unknown_values_match_neither_a_comparison_nor_its_opposite(find, entries):
    unknown = {entry.record.case_id for entry in entries if entry.record.device is None}
    everything = {entry.record.case_id for entry in entries}
    assert unknown
    for where in ("device = 'GE'", "device in ('GE', 'x')", "device contains ''"):
        assert not find(where) & unknown
        assert not find(f"not {where}") & unknown
        assert find(where) | find(f"not {where}") | unknown == everything
    assert find("device != 'GE'") == find("not device = 'GE'")
    assert find("device is null") == unknown
    assert find("device = 'GE' or dataset contains ''") == everything


def test_not_binds_tighter_than_and_and_tighter_than_or(find):
    one, two, three = "label = 'benign'", "age < 40", "dataset = 'busi'"
    assert find(f"{one} or {two} and {three}") == find(one) | (find(two) & find(three))
    assert find(f"not {one} and {two}") == find(f"(not {one}) and {two}")
    assert find(f"({one} or {two}) and {three}") == (find(one) | find(two)) & find(three)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("LABEL = 'Malignant'", "pathology = 'malignant'"),
        ("birads >= '4a'", "birads >= 4A"),
        ("acquired >= 2015-01-01", 'date >= "2015-01-01"'),
        ("age == 40", "age = 4e1"),
        ("age <> 40", "age != 40.0"),
        ("patient = 0012", "patient = '0012'"),
        ("device LIKE 'logiq'", "device contains 'LOGIQ'"),
        ("device not like 'ärzte'", "NOT device contains 'ÄRZTE'"),
        ("device = 'it''s'", "device = 'it\\'s'"),
        ('device = "it\'s"', "device = 'it\\'s'"),
        ("  label='benign'\nand(age<40)", "label = 'benign' and age < 40"),
    ],
)
def test_two_ways_to_write_the_same(find, one, other):
    assert parse_where(one) == parse_where(other)
    assert find(one) == find(other)


# Errors


@pytest.mark.parametrize(
    ("where", "position", "said"),
    [
        ("brads = 4", 1, "Did you mean 'birads'"),
        ("label = 'benign' and pathologie = 'x'", 22, "Did you mean 'pathology'"),
        ("label = 'malignat'", 9, "Did you mean 'malignant'"),
        ("birads = '4D'", 10, "4A, 4B, 4C"),
        ("birads = 4.0", 10, "4A, 4B, 4C"),
        ("label < 'benign'", 7, "no order"),
        ("age = '40'", 7, "number of years"),
        ("age contains '4'", 14, "< <= = >= >"),
        ("date > 2020-13-01", 8, "YYYY-MM-DD"),
        ("date > 'yesterday'", 8, "YYYY-MM-DD"),
        ("device like '%GE%'", 13, "no wildcards"),
        ("laterality = 'both'", 14, "left, right"),
        ("birads >=", 10, "a quoted text"),
        ("label = benign", 9, "a quoted text"),
        ("label 'benign'", 7, "a comparison"),
        ("label = 'benign' age < 4", 18, "and, or, the end"),
        ("(label = 'benign'", 18, "Allowed here: ')'."),
        ("label in ()", 11, "a quoted text"),
        ("device = 'x", 10, "no closing quote"),
        ("label = 'benign'; drop table scans", 17, "cannot read ';'"),
        ("", 1, "empty"),
        ("   ", 4, "empty"),
    ],
)
def test_errors_point_at_the_place_and_say_what_is_allowed(where, position, said):
    with pytest.raises(WhereError) as caught:
        parse_where(where)
    message, line, caret = str(caught.value).split("\n")
    assert f"character {position}:" in message
    assert said in message
    assert line[4:] == where
    assert caret == " " * (4 + position - 1) + "^"


def test_the_caret_stands_in_the_line_at_fault():
    with pytest.raises(WhereError) as caught:
        parse_where("label = 'benign'\nand brads = 4")
    assert str(caught.value).split("\n")[1:] == ["    and brads = 4", "        ^"]
    with pytest.raises(WhereError) as caught:
        parse_where("label = 'benign' or " * 50 + "brads = 4")
    line, caret = str(caught.value).split("\n")[1:]
    assert line[caret.index("^") :] == "brads = 4"


def test_filters_that_would_exhaust_the_machine_are_refused():
    with pytest.raises(WhereError, match=f"at most {LONGEST}"):
        parse_where("age < 1 or " * LONGEST)
    with pytest.raises(WhereError, match=f"{DEEPEST} levels"):
        parse_where("not " * (DEEPEST + 2) + "age < 1")
    with pytest.raises(WhereError, match="must be text"):
        parse_where(4)  # type: ignore[arg-type]


def test_a_long_flat_filter_runs(find, entries):
    where = " or ".join(f"case = 'case {number:04d}'" for number in range(0, 200, 1))
    assert find(where) == {entry.record.case_id for entry in entries}
    longest = "age<1or " * (LONGEST // 8 - 1) + "age<1"
    assert find(longest) == {entry.record.case_id for entry in entries if entry.record.age_years == 0}
    listed = ", ".join(f"'case {number:04d}'" for number in range(200))
    assert find(f"case in ({listed})") == {entry.record.case_id for entry in entries}


def test_the_same_filter_follows_the_gallery(make_entry, tmp_path):
    with create_gallery(tmp_path / "g", bundle_id="b", dimension=24) as made:
        found: Gallery = made
        query = make_entry(0).embedding
        for number in range(4):
            found.add([make_entry(number, pathology="benign")])
            assert len(found.search(query, where="label = 'benign'").matches) == number + 1
