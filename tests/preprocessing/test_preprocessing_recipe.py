"""The recipe that a bundle freezes."""

from __future__ import annotations

import pytest

from sonoseek.core import InvalidValueError
from sonoseek.preprocessing import PreprocessingRecipe


def test_a_recipe_survives_its_dictionary():
    recipe = PreprocessingRecipe(canvas_size=128, marks=False, contrast="clahe")
    assert PreprocessingRecipe.from_dict(recipe.to_dict()) == recipe
    assert recipe.to_dict() == {
        "version": 2,
        "canvas_size": 128,
        "borders": True,
        "marks": False,
        "contrast": "clahe",
    }


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"colour": True}, "colour"),
        ({"version": 1}, "version"),
        ({"version": "2"}, "version"),
        ({"canvas_size": 0}, "canvas_size"),
        ({"canvas_size": 224.0}, "canvas_size"),
        ({"canvas_size": True}, "canvas_size"),
        ({"borders": 1}, "borders"),
        ({"marks": "yes"}, "marks"),
        ({"contrast": "gamma"}, "contrast"),
        ({"contrast": []}, "contrast"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_name(change, word):
    with pytest.raises(InvalidValueError, match=word):
        PreprocessingRecipe.from_dict({**PreprocessingRecipe().to_dict(), **change})


def test_a_stored_recipe_without_version_is_refused():
    with pytest.raises(InvalidValueError, match="version"):
        PreprocessingRecipe.from_dict({"canvas_size": 224})
