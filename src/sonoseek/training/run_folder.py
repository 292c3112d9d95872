"""A run's folder: the files in it, and whether it holds a run already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sonoseek.core import InvalidValueError
from sonoseek.encoder.manifest import RECIPE_KEYS, renamed_keys
from sonoseek.evaluate.protocols import Round
from sonoseek.training.recipe import Recipe, recipe_to_dict

RECIPE_FILE = "recipe.json"
METRICS_FILE = "metrics.json"
PREDICTIONS_FILE = "test_predictions.npz"
WEIGHTS_FILE = "network.safetensors"
BUNDLE_FOLDER = "bundle"


def stored_recipe(run_dir: Path) -> dict[str, Any]:
    """What a run's `recipe.json` holds: its recipe, fold and round; keys of older versions have their new names."""
    return renamed_keys(json.loads((run_dir / RECIPE_FILE).read_text(encoding="utf-8")), RECIPE_KEYS)


def run_record(recipe: Recipe, *, fold: int | None, round_: Round | None) -> dict[str, Any]:
    """The content of a run's `recipe.json`, as JSON gives it back."""
    record = {**recipe_to_dict(recipe), "fold": fold}
    if round_ is not None:
        record["round"] = {"label": round_.label, "digest": round_.digest}
    plain: dict[str, Any] = json.loads(json.dumps(record))
    return plain


def is_finished(run_dir: Path, recipe: Recipe, *, round_: Round) -> bool:
    """Whether a folder holds the finished run of this recipe for this round of a protocol."""
    if not ((run_dir / RECIPE_FILE).is_file() and (run_dir / METRICS_FILE).is_file()):
        return False
    return stored_recipe(run_dir) == run_record(recipe, fold=None, round_=round_)


def finished_already(run_dir: Path, record: dict[str, Any], *, resume: bool) -> bool:
    """Whether the folder holds this very run, finished.

    Raises:
        InvalidValueError: it holds another run, or this one and `resume` is False.
    """
    if not (run_dir / RECIPE_FILE).is_file():
        return False
    if stored_recipe(run_dir) != record:
        raise InvalidValueError(
            f"{run_dir} holds a run of another recipe, fold or round; one folder holds one run. Give another "
            "folder, or move that one away."
        )
    if not resume:
        raise InvalidValueError(
            f"{run_dir} already holds this run; pass resume=True (--resume) to go on, or give another folder."
        )
    return (run_dir / METRICS_FILE).is_file()
