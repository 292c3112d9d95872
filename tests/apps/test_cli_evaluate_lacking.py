"""`evaluate` and `train` say what they lack before they read or score anything."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from sonoseek.core import MissingExtraError
from sonoseek.evaluate.systems import bundle as bundle_system  # now: imported under `reads_nothing`, it would stay so

RECIPE = str(Path(__file__).parents[2] / "recipes" / "tiny.toml")
EXTERNAL = ("evaluate", "--protocol", "external", "--test-on", "manifest=archive.csv")


@pytest.fixture
def reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to be in; opening a dataset or a bundle fails the test."""
    monkeypatch.chdir(tmp_path)

    def too_late(*arguments: Any, **options: Any) -> None:
        raise AssertionError("data was read before what is missing was said")

    monkeypatch.setattr("sonoseek.datasets.open_dataset", too_late)
    monkeypatch.setattr("sonoseek.encoder.load_bundle", too_late)
    monkeypatch.setattr(bundle_system, "load_bundle", too_late)


@pytest.mark.usefixtures("reads_nothing")
@pytest.mark.parametrize("module", ["sklearn", "scipy", "skimage", "matplotlib"])
@pytest.mark.parametrize("command", [(*EXTERNAL, "--bundle", "default"), ("evaluate", "--rescore", "results")])
def test_evaluate_says_at_its_start_what_it_lacks(
    command: tuple[str, ...], module: str, sonoseek_here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    ended = sonoseek_here(*command)
    assert ended.returncode == 2
    assert 'pip install ".[evaluate]"' in ended.stderr


@pytest.mark.usefixtures("reads_nothing")
@pytest.mark.parametrize("system", [RECIPE, "frozen-squeezenet"])
def test_a_recipe_needs_the_extra_train_first(system: str, sonoseek_here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # which is used when a trained network is exported
    ended = sonoseek_here(*EXTERNAL, "--system", system)
    assert ended.returncode == 2
    assert 'pip install ".[train]"' in ended.stderr
    assert "'onnxscript'" in ended.stderr


@pytest.mark.usefixtures("reads_nothing")
@pytest.mark.parametrize(("module", "extra"), [("onnxscript", "train"), ("sklearn", "evaluate")])
def test_train_says_it_too(module: str, extra: str, sonoseek_here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    ended = sonoseek_here("train", RECIPE, "--run", "run")
    assert ended.returncode == 2
    assert f'pip install ".[{extra}]"' in ended.stderr
    assert not Path("run").exists()


def test_a_name_that_is_no_system_is_said_rather_than_an_extra(
    sonoseek_here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    ended = sonoseek_here("evaluate", "--protocol", "busi-grouped", "--system", "no-such")
    assert "no system is called 'no-such'" in ended.stderr


def test_from_python_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sonoseek.evaluate import evaluate, open_context, rescore

    monkeypatch.setitem(sys.modules, "sklearn", None)
    anything: Any = object()
    for call in (
        lambda: open_context(anything, data_root=tmp_path, cache=tmp_path / "cache"),
        lambda: evaluate(anything, anything, runs=tmp_path / "runs", out=tmp_path / "out"),
        lambda: rescore(tmp_path),
    ):
        with pytest.raises(MissingExtraError, match="evaluate"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_a_peer_without_scans_to_learn_from_is_refused_before_any_is_read(
    archive: Path, sonoseek_here: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SONOSEEK_DATA", raising=False)
    test_on = f"folder={archive}"
    ended = sonoseek_here(
        "evaluate", "--protocol", "external", "--test-on", test_on, "--bundle", "default", "--system", "nearest-pixels"
    )
    assert ended.returncode == 2
    assert "'nearest-pixels' needs training scans, and there are none" in ended.stderr
    assert "--train-on" in ended.stderr
