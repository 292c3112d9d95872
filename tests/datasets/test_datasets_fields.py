import contextlib
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonoseek.core import BIRADS_CATEGORIES, InvalidValueError
from sonoseek.datasets import fields


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("4a", "4A"),
        ("BI-RADS 4A", "4A"),
        ("birads4b", "4B"),
        ("BIRADS: 3", "3"),
        ("BI-RADS category 5", "5"),
        ("3.0", "3"),
        (" 0 ", "0"),
        ("", None),
        ("nan", None),
        ("not applicable", None),
    ],
)
def test_birads(text, category):
    assert fields.parse_birads(text) == category


@pytest.mark.parametrize("text", ["7", "4D", "3A", "4.5", "IV", "BI-RADS", "44", "5A"])
def test_no_birads(text):
    with pytest.raises(InvalidValueError, match="birads is"):
        fields.parse_birads(text)


@given(st.sampled_from(BIRADS_CATEGORIES), st.sampled_from(["", "BI-RADS ", "BIRADS", "bi rads ", "Bi-Rads: "]))
def test_every_category_survives_every_spelling(category, prefix):
    assert fields.parse_birads(prefix + category.lower()) == category


@given(st.text("birads-04aX6 .:ä", max_size=12))
def test_any_text_is_a_category_empty_or_refused(text):
    with contextlib.suppress(InvalidValueError):  # and nothing else is raised
        assert fields.parse_birads(text) in (None, *BIRADS_CATEGORIES)


@given(st.dates(min_value=date(1950, 1, 1)), st.sampled_from(["%Y-%m-%d", "%d.%m.%Y", "%Y%m%d", "%Y-%m-%d 13:05:00"]))
def test_dates_come_back(day, layout):
    assert fields.parse_date(day.strftime(layout)) == day


@pytest.mark.parametrize(("text", "age"), [("57", 57.0), ("57,5", 57.5), ("063Y", 63.0), ("0", 0.0), ("", None)])
def test_age(text, age):
    assert fields.parse_age(text) == age


@pytest.mark.parametrize("text", ["-1", "131", "inf", "1e9", "abc"])
def test_no_age(text):
    with pytest.raises(InvalidValueError, match="age is"):
        fields.parse_age(text)


@pytest.mark.parametrize(("text", "spacing"), [("0.07", (0.07, 0.07)), ("0,08 x 0,07", (0.08, 0.07)), ("", None)])
def test_spacing(text, spacing):
    assert fields.parse_spacing(text) == spacing


@pytest.mark.parametrize("text", ["-0.1", "0", "x", "0.1x", "11", "0.1x0.1x0.1"])
def test_no_spacing(text):
    with pytest.raises(InvalidValueError, match="spacing_mm is"):
        fields.parse_spacing(text)
