import sys
from pathlib import Path

import pytest

from sonoseek.core import InvalidValueError, LazyTable, MissingExtraError, NotFoundError, Settings


def test_settings_come_from_the_environment_given() -> None:
    settings = Settings.from_environment({"SONOSEEK_DATA": "x/y", "SONOSEEK_THREADS": "3", "SONOSEEK_BUNDLE": ""})
    assert settings.data == Path("x/y")
    assert settings.threads == 3
    assert settings.bundle is None
    assert Settings.from_environment({}) == Settings()


@pytest.mark.parametrize(
    "environment",
    [{"SONOSEEK_THREADS": "many"}, {"SONOSEEK_THREADS": "-1"}, {"SONOSEEK_READ_TIMEOUT_S": "0"}],
)
def test_a_setting_out_of_rule_is_named(environment: dict[str, str]) -> None:
    with pytest.raises(InvalidValueError, match=r"threads|THREADS|limits"):
        Settings.from_environment(environment)


def test_table_lists_without_importing_and_loads_one() -> None:
    table = LazyTable("colour", {"red": "colorsys:rgb_to_hsv", "blue": "no_such_module_at_all:x"})
    assert list(table) == ["red", "blue"]
    assert len(table) == 2
    assert table["red"].startswith("colorsys")
    sys.modules.pop("colorsys", None)
    assert "colorsys" not in sys.modules
    assert callable(table.load("red"))


def test_unknown_name_lists_names_and_guesses() -> None:
    with pytest.raises(NotFoundError, match="Did you mean 'hybrid'"):
        LazyTable("network", {"hybrid": "a:b"}).load("hybird")


def test_a_family_is_not_listed_and_takes_the_rest_of_the_name() -> None:
    table = LazyTable(
        "number", {"pi": "math:pi"}, extra="sums", families={"from:": "builtins:int", "gone:": "nowhere:x"}
    )
    assert list(table) == ["pi"]
    assert table.load("from:42")() == 42
    with pytest.raises(NotFoundError, match=r"there are: pi, from:…, gone:…\."):
        table.load("from:")
    with pytest.raises(MissingExtraError, match=r"\.\[sums\]"):
        table.load("gone:1")


def test_missing_package_names_the_extra() -> None:
    table = LazyTable("network", {"hybrid": "no_such_module_at_all:x"}, extra="train")
    with pytest.raises(MissingExtraError, match=r"\.\[train\]"):
        table.load("hybrid")
    with pytest.raises(ModuleNotFoundError):
        LazyTable("network", {"hybrid": "no_such_module_at_all:x"}).load("hybrid")
