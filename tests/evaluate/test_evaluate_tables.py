"""Tables of results: there and back, byte for byte; others' rows stay; what a cell may not hold is said."""

import bz2
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoseek.core import PATHOLOGIES, ResultsError
from sonoseek.evaluate.explaining.rows import MapRow, OutlineRow, PairRow
from sonoseek.evaluate.files import ABOUT, ROUNDS, ROWS, place_about, place_results, read_about
from sonoseek.evaluate.rows import CaseRow, RoundRow, ScanRow, Search, SystemResults
from sonoseek.evaluate.tables import (
    columns,
    locked,
    place_rows,
    read_json,
    read_systems,
    read_table,
    write_json,
    write_table,
)

SHARES = st.floats(0, 1, width=32)


def row(scan: str = "a", **values: object) -> ScanRow:
    base = {"seed": 0, "fold": 0, "side": "test", "scan": scan, "group": scan, "label": "benign"}
    return ScanRow(**(base | {"normal": 0.25, "benign": 0.5, "malignant": 0.25} | values))  # type: ignore[arg-type]


def round_row(**values: object) -> RoundRow:
    base = dict.fromkeys(columns(RoundRow)[:-7], 0) | {"leaking_share": 0.0, "dropped": 0, "identity": "x"}
    return RoundRow(**(base | values))  # type: ignore[arg-type]


def lines(path: Path) -> list[str]:
    return bz2.decompress(path.read_bytes()).decode().splitlines()


def rewrite(path: Path, old: str, new: str) -> None:
    text = "\n".join(lines(path)) + "\n"
    assert old in text
    path.write_bytes(bz2.compress(text.replace(old, new, 1).encode()))


def test_a_struct_in_a_row_takes_columns_of_its_own(tmp_path: Path) -> None:
    found = Search(gallery=9, relevant=3, average_precision=0.5, r_precision=1 / 3, matches=("b, 1", 'c "2"'))
    rows = [row(search=found), row("b", condition="blur", relevant_of_5=3), row("ü", own_archive=found)]
    write_table(tmp_path / "t", ScanRow, rows)
    heading, first, *_ = lines(tmp_path / "t")
    assert heading == ",".join(columns(ScanRow))
    assert "search_average_precision" in heading
    assert "own_archive_matches" in heading
    assert first == '0,0,test,,a,a,benign,0.25,0.5,0.25,-1,9,3,0.5,0.33333334,,,"b, 1|c ""2""",,,,,,,'
    back = read_table(tmp_path / "t", ScanRow)
    assert [each.scan for each in back] == ["a", "b", "ü"]
    assert back[0].search is not None
    assert back[0].search.matches == found.matches
    assert math.isnan(back[0].search.ndcg)
    assert back[0].own_archive is None
    assert back[1].search is None
    assert (back[1].condition, back[1].relevant_of_5) == ("blur", 3)
    assert back[2].own_archive is not None


@settings(deadline=None)  # a busy machine must not fail this
@given(SHARES, SHARES, st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])))
def test_the_same_float32_comes_back_and_the_same_bytes(tmp_path_factory, one, other, scan) -> None:
    path = tmp_path_factory.mktemp("float") / "t"
    write_table(path, ScanRow, [row(scan, normal=one, benign=other)])
    (back,) = read_table(path, ScanRow)
    assert (np.float32(back.normal), np.float32(back.benign), back.scan) == (np.float32(one), np.float32(other), scan)
    before = path.read_bytes()
    write_table(path, ScanRow, [back])
    assert path.read_bytes() == before


def test_numbers_stay_as_they_were_written(tmp_path: Path) -> None:
    texts = ["0.12345", "0.719577", "1e-05", "0.1", "1", "0", "0.99999"]
    write_table(tmp_path / "t", ScanRow, [row(f"s{text}", normal=float(text)) for text in texts])
    assert [line.split(",")[7] for line in lines(tmp_path / "t")[1:]] == texts
    assert [each.normal for each in read_table(tmp_path / "t", ScanRow)] == [float(text) for text in texts]


@pytest.mark.parametrize("kind", [CaseRow, RoundRow, MapRow, PairRow, OutlineRow])
def test_an_empty_table_of_every_kind_is_read(kind: type[msgspec.Struct], tmp_path: Path) -> None:
    write_table(tmp_path / "t", kind, [])
    assert read_table(tmp_path / "t", kind) == []
    assert len(lines(tmp_path / "t")[0].split(",")) == len(columns(kind))


def test_classes_are_those_of_the_core() -> None:
    assert set(PATHOLOGIES) < set(columns(ScanRow))
    assert [name.removeprefix("gallery_") for name in columns(RoundRow) if name.startswith("gallery_")] == list(
        PATHOLOGIES
    )


def test_a_system_takes_the_place_of_its_own_rows_alone(tmp_path: Path) -> None:
    path = tmp_path / "t"
    for name in ("b", "a", "c"):
        place_rows(path, ScanRow, [row(f"{name}1"), row(f"{name}2")], system=name)
    rewrite(path, "c1,c1,benign,0.25,0.5", "c1,c1,benign,0.250,0.50")  # of another writer: not ours to change
    place_rows(path, ScanRow, [row("b3")], system="b")
    assert [line.split(",")[0] for line in lines(path)] == ["system", "a", "a", "b", "c", "c"]
    assert "c,0,0,test,,c1,c1,benign,0.250,0.50," in "\n".join(lines(path))
    found = read_systems(path, ScanRow)
    assert {name: [each.scan for each in rows] for name, rows in found.items()} == {
        "a": ["a1", "a2"],
        "b": ["b3"],
        "c": ["c1", "c2"],
    }
    again = path.read_bytes()
    place_rows(path, ScanRow, found["a"], system="a")
    assert b"0.250" in bz2.decompress(path.read_bytes())
    assert path.read_bytes() == again


def test_runs_that_end_at_once_lose_no_rows(tmp_path: Path) -> None:
    names = [f"system-{number:02d}" for number in range(12)]

    def place(name: str) -> None:
        rows = tuple(row(f"{name} {number}") for number in range(200))
        with locked(tmp_path / "p"):
            place_results(tmp_path / "p", SystemResults(rows=rows, rounds=(round_row(),)), system=name)
            place_about(tmp_path / "p", protocol={"name": "p"}, name=name, about={"made": name})

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(place, names))
    assert list(read_about(tmp_path / "p")["systems"]) == names
    assert list(read_systems(tmp_path / "p" / ROUNDS, RoundRow)) == names
    found = read_systems(tmp_path / "p" / ROWS, ScanRow)
    assert {name: len(rows) for name, rows in found.items()} == dict.fromkeys(names, 200)


SPOILED = {
    "NaN": ("a,a,benign,0.25", "a,a,benign,nan", r"line 2: normal is 'nan'; expected `float` >= 0"),
    "infinity": ("0.5,0.25", "inf,0.25", r"line 2: benign is 'inf'; expected `float` <= 1"),
    "words": ("0.5,0.25", "often,0.25", r"line 2: benign is 'often'; expected `float`"),
    "a seed in words": ("0,0,test", "first,0,test", r"line 2: seed is 'first'; expected `int`"),
    "a fold below zero": ("0,0,test", "0,-1,test", r"line 2: fold is '-1'; expected `int` >= 0"),
    "another side": ("0,0,test", "0,0,train", r"line 2: side is 'train'; expected `str` matching"),
    "an unknown class": ("a,benign", "a,cyst", r"line 2: label is 'cyst'"),
    "no number": ("a,a,benign,0.25", "a,a,benign,", r"line 2: normal is ''; expected `float`"),
    "AP above 1": ("9,3,0.5", "9,3,1.2", r"line 2: search_average_precision is '1.2'"),
    "no AP": ("9,3,0.5", "9,3,", r"line 2: search: object missing required field `average_precision`"),
    "a cell more": ("0,0,test", "0,0,0,test", r"line 2 has 26 cells, not 25"),
    "another column": ("malignant", "cancer", r"has the columns \['seed'.*they must be"),
    "an open quotation": ("0,0,test,,a", '0,0,test,,"a', "no readable t"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_cell_that_does_not_hold_what_it_must_is_named(name: str, tmp_path: Path) -> None:
    old, new, why = SPOILED[name]
    found = Search(gallery=9, relevant=3, average_precision=0.5, r_precision=0.5)
    write_table(tmp_path / "t", ScanRow, [row(search=found)])
    rewrite(tmp_path / "t", old, new)
    with pytest.raises(ResultsError, match=why) as caught:
        read_table(tmp_path / "t", ScanRow)
    assert str(tmp_path / "t") in str(caught.value) or name == "an open quotation"
    assert "Evaluate again" in str(caught.value)


@pytest.mark.parametrize(
    "content", [None, b"", b"\xff\xfe\x00", bz2.compress(b"seed\n" * 9_000)[:-9], bz2.compress(b"")]
)
def test_what_is_no_table_is_said(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "t.csv.bz2").write_bytes(content)
    with pytest.raises(ResultsError, match=r"no readable t\.csv\.bz2 in"):
        read_table(tmp_path / "t.csv.bz2", ScanRow)
    if content is not None:
        with pytest.raises(ResultsError, match=r"no readable t\.csv\.bz2 in"):
            place_rows(tmp_path / "t.csv.bz2", ScanRow, [row()], system="a")
        assert (tmp_path / "t.csv.bz2").read_bytes() == content  # nothing is lost


def test_json_has_a_line_for_each_key_down_to_its_depth(tmp_path: Path) -> None:
    content = {"a": {"b": {"c": [1, None]}, "d": {}}, "e": [{"f": 0.1}, {"g": "ü"}], "h": []}
    write_json(tmp_path / "t.json", content)
    assert read_json(tmp_path / "t.json") == content
    assert (tmp_path / "t.json").read_text().splitlines()[1:4] == ['"a": {', '"b": {"c":[1,null]},', '"d": {}']
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "t.json", {"a": math.nan})
    assert read_json(tmp_path / "t.json") == content
    with pytest.raises(ResultsError, match="lacks 'protocol'"):
        write_json(tmp_path / ABOUT, {}), read_about(tmp_path)
