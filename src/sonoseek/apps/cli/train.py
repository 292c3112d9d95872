"""`sonoseek train` and `sonoseek export`: from a recipe to a bundle (needs the extra `train`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sonoseek.core import InvalidValueError, Settings


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, recipes/*.toml.")],
    run: Annotated[Path, typer.Option(help="Folder of the run: settings, checkpoints, figures, bundle.")],
    data: Annotated[Path | None, typer.Option(help="Folder with the datasets; SONOSEEK_DATA by default.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Folder with start weights; SONOSEEK_WEIGHTS by default.")
    ] = None,
    folds: Annotated[
        str | None, typer.Option(help="`all`, or one number from 0: train on the rest of the folds.")
    ] = None,
    folds_from: Annotated[
        Path | None, typer.Option(help="Run of all folds whose out-of-fold predictions calibrate the bundle.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue where the run was stopped.")] = False,
) -> None:
    """Train by a recipe and export the bundle. Every epoch is kept; a stopped run continues with --resume."""
    from sonoseek.training import load_recipe, train_folds
    from sonoseek.training import train as train_one

    settings = Settings.from_environment()
    loaded = load_recipe(recipe)
    root, weights = data or settings.data, weights or settings.weights
    if folds == "all":
        bundles = train_folds(
            loaded, data_root=root, weights_root=weights, run_dir=run, resume=resume, progress_bar=True
        )
        typer.echo("\n".join(f"bundle: {bundle}" for bundle in bundles))
        return
    if folds is not None and not folds.isdigit():
        raise InvalidValueError(f"--folds is {folds!r}; it must be `all` or a fold's number from 0.")
    fold = int(folds) if folds is not None else None
    bundle = train_one(
        loaded,
        data_root=root,
        weights_root=weights,
        run_dir=run,
        fold=fold,
        resume=resume,
        cross_validation=folds_from,
        progress_bar=True,
    )
    typer.echo(f"bundle: {bundle}")


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the bundle.")],
) -> None:
    """Write a run's bundle anew: model.onnx, bundle.json and MODEL_CARD.md."""
    from sonoseek.training import export_run

    typer.echo(f"bundle: {export_run(run, out)}")
