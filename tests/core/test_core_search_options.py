"""The options of a search: their defaults, their one check, and options and keywords together."""

from dataclasses import FrozenInstanceError, fields

import pytest

from sonoseek.core import Box, InvalidValueError, SearchKeywords, SearchOptions


def test_options_refuse_a_negative_k() -> None:
    with pytest.raises(InvalidValueError, match="k is -1; it is the number of matches wanted, 0 or more"):
        SearchOptions(k=-1)
    assert SearchOptions(k=0).k == 0


def test_options_are_frozen_and_turn_any_iterable_into_a_tuple() -> None:
    options = SearchOptions(liked=["a", "b"], disliked=iter(["c"]))  # type: ignore[arg-type]
    assert (options.liked, options.disliked) == (("a", "b"), ("c",))
    with pytest.raises(FrozenInstanceError):
        options.k = 3  # type: ignore[misc]


def test_keywords_replace_fields_of_the_options() -> None:
    region = Box(top=0, left=0, bottom=2, right=2)
    given = SearchOptions(k=3, where="birads = '5'", region=region)
    assert SearchOptions.of(given, {"k": 7}) == SearchOptions(k=7, where="birads = '5'", region=region)
    assert SearchOptions.of(given, {}) == given
    assert SearchOptions.of(None, {}) == SearchOptions()
    with pytest.raises(InvalidValueError, match="k is -2"):
        SearchOptions.of(given, {"k": -2})
    with pytest.raises(TypeError, match="unknown"):
        SearchOptions.of(None, {"unknown": 1})  # type: ignore[typeddict-unknown-key]


def test_every_option_is_a_keyword() -> None:
    assert list(SearchKeywords.__annotations__) == [field.name for field in fields(SearchOptions)]


@pytest.mark.parametrize(
    ("options", "independent"),
    [
        (SearchOptions(), True),
        (SearchOptions(per_patient=False), False),
        (SearchOptions(deduplicate=False), False),
    ],
)
def test_matches_are_independent_where_both_rules_hold(options: SearchOptions, independent: bool) -> None:
    assert options.independent is independent
