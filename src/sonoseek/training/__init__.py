"""Training: from a recipe to a bundle. Needs torch: `pip install ".[train]"`.

    recipe = load_recipe("recipes/hybrid.toml")
    train(recipe, data_root=Path("data"), run_dir=Path("runs/first"))      # → runs/first/bundle
    train_folds(recipe, data_root=Path("data"), run_dir=Path("runs/folds")) # → runs/folds/summary.json

Importing this package imports no torch; the first call does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sonoseek.core import MissingExtraError

__all__ = [
    "Recipe",
    "load_recipe",
    "train",
    "train_folds",
    "summarise",
    "export_run",
    "FROZEN",
    "frozen_system",
    "RecipeSystem",
    "Machine",
    "Upkeep",
    "DivergenceRule",
    "is_first",
]

FROZEN = tuple(f"frozen-{name}" for name in ("squeezenet", "mobilenet-v2", "resnet50-v2"))
"""Systems of the benchmark: backbones with ImageNet's weights and nothing trained but a regression."""

_WHERE = {
    "Recipe": "sonoseek.training.recipe",
    "load_recipe": "sonoseek.training.recipe",
    "train": "sonoseek.training.run",
    "train_folds": "sonoseek.training.run",
    "summarise": "sonoseek.training.across_folds",
    "export_run": "sonoseek.training.run_export",
    "frozen_system": "sonoseek.training.frozen",
    "RecipeSystem": "sonoseek.training.systems",
    "Machine": "sonoseek.training.options",
    "Upkeep": "sonoseek.training.options",
    "DivergenceRule": "sonoseek.training.options",
    "is_first": "sonoseek.training.distributed",
}

if TYPE_CHECKING:
    from sonoseek.training.across_folds import summarise as summarise
    from sonoseek.training.distributed import is_first as is_first
    from sonoseek.training.frozen import frozen_system as frozen_system
    from sonoseek.training.options import DivergenceRule as DivergenceRule
    from sonoseek.training.options import Machine as Machine
    from sonoseek.training.options import Upkeep as Upkeep
    from sonoseek.training.recipe import Recipe as Recipe
    from sonoseek.training.recipe import load_recipe as load_recipe
    from sonoseek.training.run import train as train
    from sonoseek.training.run import train_folds as train_folds
    from sonoseek.training.run_export import export_run as export_run
    from sonoseek.training.systems import RecipeSystem as RecipeSystem


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_WHERE[name]), name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("sonoseek"):
            raise
        raise MissingExtraError.for_package(error.name or "?", extra="train") from error
