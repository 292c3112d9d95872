"""Recipes: strict, with a hint at what was meant."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from sonoseek.core import InvalidValueError, NotFoundError
from sonoseek.networks.two_readings import TwoReadings
from sonoseek.training.building import as_served, build_network
from sonoseek.training.recipe import load_recipe, parse_recipe, recipe_digest, recipe_from_dict, recipe_to_dict

RECIPES = Path(__file__).parents[2] / "recipes"
SMALL = 'name = "x"\n[[datasets]]\nname = "phantom"\n'


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.toml")), ids=lambda file: file.stem)
def test_every_recipe_of_the_repository_reads(file):
    recipe = load_recipe(file)
    assert recipe.datasets
    assert recipe.preprocessing_recipe.canvas_size % 16 == 0
    for text in (file.read_text(),):
        assert "/work" not in text
        assert "/home" not in text


def test_what_is_left_out_takes_its_default_and_is_written_out():
    recipe = parse_recipe(SMALL)
    written = json.loads(json.dumps(recipe_to_dict(recipe)))
    assert written["optimiser"]["epochs"] == recipe.optimiser.epochs
    assert written["augmentation"]["mirror"] == 0.5
    assert written["datasets"][0]["classes"] == ["normal", "benign", "malignant"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SMALL + "epocs = 3\n", "epocs"),
        ('nam = "x"\n' + SMALL, "Did you mean 'name'"),
        (SMALL + "[optimiser]\nepocs = 3\n", r"'optimiser\.epocs'.*Did you mean 'epochs'"),
        (SMALL + "[augmentation]\nflip_vertical = 0.5\n", r"'augmentation\.flip_vertical'"),
        (SMALL + 'rooot = "a"\n', r"'datasets\.rooot'.*'root'"),
        (SMALL + "[optimiser]\nepochs = 3.5\n", "epochs"),
        (SMALL + '[optimiser]\nepochs = "3"\n', "epochs"),
        (SMALL + "[optimiser]\nepochs = 0\n", "epochs"),
        (SMALL + "[augmentation]\nrotate = 90.0\n", "rows are depth"),
        (SMALL + "[augmentation]\nblur = -0.1\n", "negative"),
        (SMALL + "[preprocessing]\ncanvas = 3\n", "canvas"),
        ('name = "x"\n', "datasets"),
        ('name = "x"\ndatasets = []\n', "datasets"),
        (SMALL + "folded = false\n", "folded"),
        (SMALL + 'classes = ["benign"]\n', "classes"),
        (SMALL + 'classes = ["benign", "sick"]\n', "sick|classes"),
        ('name = "a/b"\n[[datasets]]\nname = "phantom"\n', "hyphens"),
        (SMALL + SMALL.partition("\n")[2], "twice"),
        ("name = ", "TOML"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused(text, said):
    with pytest.raises(InvalidValueError, match=said):
        parse_recipe(text)


def test_a_missing_recipe_is_said(tmp_path):
    with pytest.raises(NotFoundError, match="recipe"):
        load_recipe(tmp_path / "none.toml")


def test_a_recipe_may_be_another_but_for_what_it_says(tmp_path):
    (tmp_path / "base.toml").write_text(SMALL + "[loss]\nsupervised = 0.4\ninstance = 0.1\n")
    (tmp_path / "own.toml").write_text('extends = "base.toml"\nname = "own"\n[loss]\nsupervised = 0.0\n')
    base, own = load_recipe(tmp_path / "base.toml"), load_recipe(tmp_path / "own.toml")
    assert own.name == "own"
    assert (own.loss.supervised, own.loss.instance) == (0.0, base.loss.instance)
    assert own.datasets == base.datasets
    (tmp_path / "lost.toml").write_text('extends = "nowhere.toml"\nname = "own"\n')
    with pytest.raises(NotFoundError, match=r"nowhere\.toml"):
        load_recipe(tmp_path / "lost.toml")
    (tmp_path / "round.toml").write_text('extends = "round.toml"\nname = "own"\n')
    with pytest.raises(InvalidValueError, match="none that extends this one"):
        load_recipe(tmp_path / "round.toml")
    with pytest.raises(InvalidValueError, match="beside it"):
        parse_recipe('extends = "base.toml"\nname = "own"\n')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[loss]\nlesion = 1.0\n", "set network to one of outline, lesion_pooling"),
        ("[loss]\narchive_balance = 1.5\n", "archive_balance"),
        ("[augmentation]\nshrink = 0.6\n", "shrink"),
        ("[augmentation]\ncurve = 1.5\n", "curve"),
        ("[augmentation]\ngrain = 0.5\n", "grain"),
        ("[optimiser]\nviews = 1\n", "set views = 2 or instance = 0"),
        ("[optimiser]\nviews = 3\n", "must be 1 or 2"),
        ("[augmentation]\nresolution = 0.7\n", "augmentation.resolution is 0.7; it must lie in 0 … 0.5"),
        ("[loss]\nconflicts = 'forget'\n", "forget"),
        ("[teacher]\nweight = 1.5\n", "must lie in 0 … 1"),
        ("[augmentation]\nclose_up = -0.5\n", "must not be negative"),
        ("share = 0.0\n", "datasets.share is 0.0; it must be positive"),
        ("[optimiser]\nbatch = 1\n", "optimiser.batch is 1; it must be at least 2"),
        ("[optimiser]\nwarmup = 1.0\n", "optimiser.warmup is 1.0; it must lie in 0 … 1, without 1"),
    ],
)
def test_switches_that_contradict_each_other_are_refused(text, message):
    with pytest.raises(InvalidValueError, match=message):
        parse_recipe(SMALL + text)


def test_a_close_up_is_for_the_network_that_estimates_a_lesion():
    with pytest.raises(InvalidValueError, match="close_up is for the network 'lesion_pooling', not 'hybrid'"):
        parse_recipe("close_up = true\n" + SMALL)
    recipe = parse_recipe('close_up = true\nnetwork = "lesion_pooling"\nbackbone = "tiny"\n' + SMALL)
    served = as_served(build_network(recipe), recipe)
    assert isinstance(served, TwoReadings)
    assert (served.stride, served.fine_stride) == (32, 8)
    assert not isinstance(as_served(build_network(recipe), replace(recipe, close_up=False)), TwoReadings)


def test_a_recipe_of_an_older_run_reads_and_keeps_its_digest():
    recipe = load_recipe(RECIPES / "tiny.toml")
    plain = json.loads(json.dumps(recipe_to_dict(recipe)))
    older = {("cleaning" if key == "preprocessing" else key): value for key, value in plain.items()}
    assert recipe_from_dict(older) == recipe_from_dict(plain) == recipe
    assert recipe_digest(plain) == recipe_digest(older) == "6e0c14880a3d27ea"
