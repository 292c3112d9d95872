"""What the extras need, and that it is said before any work."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from sonoseek.core import MissingExtraError, NotFoundError, SonoseekError, from_extra, require_extra
from sonoseek.core.extras import EXTRAS

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_table_is_that_of_the_package(extra: str) -> None:
    listed = PROJECT["project"]["optional-dependencies"][extra]
    assert set(EXTRAS[extra]) == {re.split(r"[<>=]", requirement)[0] for requirement in listed}


@pytest.mark.parametrize(
    ("extra", "package", "module"), [(e, p, m) for e, each in EXTRAS.items() for p, m in each.items()]
)
def test_a_missing_package_is_named_with_its_remedy(
    extra: str, package: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"'{package}'.*pip install \"\.\[{extra}\]\"") as error:
        require_extra(extra)
    assert isinstance(error.value, SonoseekError | ImportError)


def test_all_missing_packages_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sklearn", "matplotlib"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match="packages 'scikit-learn', 'matplotlib' are not installed"):
        require_extra("evaluate")


def test_an_extra_that_there_is_none_of() -> None:
    with pytest.raises(NotFoundError, match="evaluate, pacs, train"):
        require_extra("evalute")


@pytest.mark.parametrize(
    ("extra", "module", "package"),
    [("evaluate", "skimage.feature", "scikit-image"), ("train", "torch", "torch"), ("timm", "timm", "timm")],
)
def test_an_import_that_fails_names_the_package_and_its_extra(extra: str, module: str, package: str) -> None:
    with (
        pytest.raises(MissingExtraError, match=rf"'{package}'.*pip install \"\.\[{extra}\]\""),
        from_extra(extra),
    ):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)


@pytest.mark.parametrize("error", [ModuleNotFoundError("gone", name="sonoseek.core.gone"), ImportError("broken")])
def test_only_packages_of_others_are_missing_extras(error: ImportError) -> None:
    with pytest.raises(type(error)) as raised, from_extra("train"):
        raise error
    assert raised.value is error
