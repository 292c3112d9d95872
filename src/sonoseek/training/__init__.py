"""Training: from a recipe to a bundle. Needs torch: `pip install ".[train]"`.

    recipe = load_recipe("recipes/hybrid.toml")
    train(recipe, data_root=Path("data"), run_dir=Path("runs/first"))      # → runs/first/bundle
    train_folds(recipe, data_root=Path("data"), run_dir=Path("runs/folds")) # → runs/folds/summary.json

Importing this package imports no torch; the first call does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lazy_loader

from sonoseek.core import from_extra

FROZEN = tuple(f"frozen-{name}" for name in ("squeezenet", "mobilenet-v2", "resnet50-v2"))
"""Systems of the benchmark: backbones with ImageNet's weights and nothing trained but a regression."""

_load, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "recipe": ["Recipe", "load_recipe"],
        "run": ["train", "train_folds"],
        "across_folds": ["summarise"],
        "run_export": ["export_run"],
        "frozen": ["frozen_system"],
        "systems": ["RecipeSystem"],
        "options": ["Machine", "Upkeep", "DivergenceRule"],
        "distributed": ["is_first"],
    },
)
__all__ += ["FROZEN"]

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
    with from_extra("train"):
        return _load(name)
