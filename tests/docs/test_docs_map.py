"""The picture of the packages and its figures are what the imports say."""

import sys

from commands import ROOT

sys.path.insert(0, str(ROOT / "docs" / "images"))
import package_map


def test_picture_and_figures_follow_from_the_imports() -> None:
    drawn = package_map.read_map()
    assert not drawn.cycles, "modules import each other; move what both need into one that neither imports"
    assert not drawn.upward
    remedy = "the imports have changed; run `make map`"
    assert package_map.PICTURE.read_text("utf-8") == package_map.picture(drawn), remedy
    page = package_map.PAGE.read_text("utf-8").splitlines()
    for row in package_map.table(drawn).splitlines():
        assert "largest" in row or row in page, remedy  # the largest package's share moves with every commit


def test_a_longer_way_replaces_an_arrow() -> None:
    assert package_map.reduced({("a", "b"), ("b", "c"), ("a", "c")}) == {("a", "b"), ("b", "c")}


def test_modules_that_import_each_other_are_one_component() -> None:
    parts = package_map.components([("a", "b"), ("b", "a"), ("b", "c")])
    assert sorted(map(sorted, parts)) == [["a", "b"], ["c"]]
