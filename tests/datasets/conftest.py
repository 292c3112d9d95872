"""Fake datasets in their published layouts, for every test of this folder."""

from collections.abc import Callable, Mapping
from pathlib import Path

import fake_datasets
import pytest
from download_server import busi_zip, server

__all__ = ["busi_zip", "fake_roots", "make_fake", "server"]


@pytest.fixture(scope="session")
def fake_roots(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Name of a dataset → root of a fake one. Do not write into them: see `make_fake`."""
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in fake_datasets.MAKERS.items()}


@pytest.fixture
def make_fake(tmp_path: Path) -> Callable[[str], Path]:
    """A fake dataset of one's own, to be broken."""
    return lambda name: fake_datasets.MAKERS[name](tmp_path / name)
