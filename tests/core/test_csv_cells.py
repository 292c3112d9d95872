"""Cells of CSV files that people open in a spreadsheet."""

import csv
import io

import pytest

from sonoseek.core.csv_cells import csv_cell


@pytest.mark.parametrize(
    "text",
    [
        *("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", " a.png"),
        *("\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20a", "\u00a0=1", "\u3000=1", "\u200b=1", "\ufeff=1"),
    ],
)
def test_what_a_spreadsheet_could_take_for_a_formula_gets_an_apostrophe(text):
    assert csv_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["a.png", "a=b", "Zyste – links", "", "'=1", 1, -0.5, True, "頁.png"])
def test_everything_else_stays_as_it_is(value):
    assert csv_cell(value) == value


def test_none_is_an_empty_cell_and_an_apostrophe_survives_the_format():
    assert csv_cell(None) == ""
    text = io.StringIO()
    csv.writer(text).writerow([csv_cell('=A1,"b"')])
    assert next(csv.reader(io.StringIO(text.getvalue()))) == ['\'=A1,"b"']
