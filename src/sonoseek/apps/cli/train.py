"""`sonoseek train` and `sonoseek export`: from a recipe to a bundle (needs the extra `train`, but for ensembles)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from sonoseek.core import InvalidValueError, Settings, require_extra

LEFT_OUT_FIGURES = ("auroc", "accuracy", "sensitivity_at_sensitivity_98")
"""Of `evaluate.hospitals.two_way`, in an ensemble's card."""
NORM_PHANTOMS, NORM_SEED = 64, 77
"""On which the members of an ensemble are weighed against one another, where nothing else is given."""


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
    teacher: Annotated[
        list[Path] | None,
        typer.Option(
            help="Bundle whose probabilities are learnt beside the labels, as the recipe's [teacher] says; repeatable."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue where the run was stopped, within an epoch too.")] = False,
    accelerator: Annotated[str, typer.Option(help="`auto` (a GPU where there is one), `cpu` or `gpu`.")] = "auto",
    devices: Annotated[
        int, typer.Option(help="Processes on this machine, a GPU each; every batch is split over all.")
    ] = 1,
    nodes: Annotated[int, typer.Option(help="Machines; more than one are started by torchrun.")] = 1,
    precision: Annotated[str, typer.Option(help="Of the layers in training: `32`, `bf16`, or `16` on a GPU.")] = "32",
    checkpoint_minutes: Annotated[
        float,
        typer.Option(help="Minutes between checkpoints within an epoch; the end of each epoch is stored as well."),
    ] = 10.0,
    checkpoint_steps: Annotated[int, typer.Option(help="The same in steps; 0: by the clock alone.")] = 0,
    log_steps: Annotated[int, typer.Option(help="Steps between rows of metrics.csv within an epoch.")] = 10,
    tensorboard: Annotated[
        bool, typer.Option(help="Write RUN/tensorboard: curves, and heatmaps of six scans per epoch.")
    ] = True,
) -> None:
    """Train by a recipe and export the bundle. A run that was stopped, or killed, continues with --resume."""
    require_extra("train")
    require_extra("evaluate")  # the bundle's thresholds and novelty are fitted with it, after the training
    # where torch's own code advises on settings that are chosen on purpose; read once, when torch is loaded
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from sonoseek.training import Machine, Upkeep, is_first, load_recipe, train_folds
    from sonoseek.training import train as train_one

    if folds not in (None, "all") and not folds.isdigit():
        raise InvalidValueError(f"--folds is {folds!r}; it must be `all` or a fold's number from 0.")
    if teacher and folds is not None:
        raise InvalidValueError(
            "--teacher and --folds: a finished bundle may have been trained on the test fold. Let `sonoseek "
            "evaluate --system RECIPE` train a teacher per fold, or leave one of the two out."
        )
    settings = Settings.from_environment()
    loaded = load_recipe(recipe)
    root, weights = data or settings.data, weights or settings.weights
    upkeep = Upkeep(
        checkpoint_minutes=checkpoint_minutes,
        checkpoint_steps=checkpoint_steps,
        log_steps=log_steps,
        tensorboard=tensorboard,
    )
    machine = Machine(accelerator=accelerator, devices=devices, nodes=nodes, precision=precision)
    if folds == "all":
        bundles = train_folds(
            loaded,
            data_root=root,
            weights_root=weights,
            run_dir=run,
            resume=resume,
            progress_bar=True,
            machine=machine,
            upkeep=upkeep,
        )
    else:
        bundle = train_one(
            loaded,
            data_root=root,
            weights_root=weights,
            run_dir=run,
            fold=None if folds is None else int(folds),
            resume=resume,
            cross_validation=folds_from,
            teachers=tuple(teacher or ()),
            progress_bar=True,
            machine=machine,
            upkeep=upkeep,
        )
        bundles = (bundle,)
    if is_first():
        typer.echo("\n".join(f"bundle: {bundle}" for bundle in bundles))


def export(
    run: Annotated[Path | None, typer.Argument(help="Folder of a finished run; none with --ensemble.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the bundle.")] = None,
    ensemble: Annotated[
        list[Path] | None, typer.Option(help="Folder of a member of an ensemble; give two or more.")
    ] = None,
    name: Annotated[str, typer.Option(help="--ensemble: its name.")] = "ensemble",
    version: Annotated[str, typer.Option(help="--ensemble: its version.")] = "1",
    weights: Annotated[
        str | None, typer.Option(help="--ensemble: weights of the members, e.g. 2,1,1; equal by default.")
    ] = None,
    norms: Annotated[
        str | None,
        typer.Option(help="--ensemble: typical length of the members' embeddings; measured on phantoms by default."),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="Folder of `evaluate`; of a RUN, its figures and failures on phantoms complete the card."),
    ] = None,
    results_of: Annotated[
        str | None, typer.Option(help="--results: system whose figures; by default the one with the recipe's name.")
    ] = None,
    calibrate_on: Annotated[
        str | None,
        typer.Option(help="--results: protocol with hospitals left out, on whose predictions calibration is fitted."),
    ] = None,
) -> None:
    """Write a run's bundle anew (model.onnx, bundle.json, MODEL_CARD.md), or an ensemble of bundles (no torch)."""
    if out is None:
        raise InvalidValueError("no folder is named to write to; give --out DIR.")
    if (run is None) == (not ensemble):
        raise InvalidValueError("name either a finished run, RUN, or the members of an ensemble, --ensemble BUNDLE … .")
    if results_of is not None and results is None:
        raise InvalidValueError(f"--results-of {results_of} needs --results DIR, the folder in which to look for it.")
    if calibrate_on is not None and results is None:
        raise InvalidValueError(f"--calibrate-on {calibrate_on} needs --results DIR, in which to look for it.")
    if run is not None:
        from sonoseek.apps.cli.show import progress_bar
        from sonoseek.training import export_run

        if results is None:
            typer.echo(f"bundle: {export_run(run, out)}")
            return
        with progress_bar("failures", unit="phantoms") as on_progress:
            export_run(run, out, results=results, system=results_of, calibrate_on=calibrate_on, on_progress=on_progress)
        typer.echo(f"bundle: {out}")
        return
    calibration: dict[str, Any] = {}
    if results is not None:
        if calibrate_on is None or results_of is None:
            raise InvalidValueError(
                "--ensemble with --results is calibrated on it, and needs --calibrate-on PROTOCOL and --results-of "
                "SYSTEM, an ensemble of the same recipes scored there; the members' cards have their own figures."
            )
        calibration = _calibration(results / calibrate_on, results_of)
    shares = None if weights is None else _numbers(weights, "--weights")
    made = _ensemble(ensemble or [], out, norms, name=name, version=version, weights=shares, calibration=calibration)
    typer.echo(f"bundle: {made}")


def _calibration(protocol: Path, system: str) -> dict[str, Any]:
    """What `write_ensemble` takes, fitted on what a system of such ensembles predicted in hospitals left out."""
    from sonoseek.evaluate.files import CASES, read_cases, read_system
    from sonoseek.evaluate.hospitals import hospital_figures, travelling_calibration

    scored = read_system(protocol, system)
    fitted = travelling_calibration(scored.predictions, scored.validation)
    figures = hospital_figures(scored, read_cases(protocol / CASES))
    return {
        "temperature": fitted.temperature,
        "abstain_below": fitted.abstain_below,
        "conformal": fitted.conformal,
        "operating_points": fitted.operating_points,
        "class_bias": fitted.class_bias,
        "training": {
            "calibrated_on": f"scans of hospitals left out ({protocol.name}, {len(scored.predictions)} predictions of "
            f"{system})",
            "hospitals_left_out": {
                hospital: {
                    name: [figures[hospital][name][end] for end in ("value", "low", "high")]
                    for name in LEFT_OUT_FIGURES
                }
                for hospital in figures
                if hospital != "worst"
            },
        },
    }


def _ensemble(
    members: list[Path],
    out: Path,
    norms: str | None,
    *,
    name: str,
    version: str,
    weights: list[float] | None,
    calibration: dict[str, Any],
) -> Path:
    from sonoseek.apps.cli.show import progress_bar
    from sonoseek.datasets.phantom import PhantomDataset
    from sonoseek.encoder import open_encoder, typical_norm, write_ensemble

    if norms is not None:
        lengths, origin = _numbers(norms, "--norms"), "given by its maker"
    else:
        archive = PhantomDataset(count=NORM_PHANTOMS, seed=NORM_SEED)
        scans = [archive.load(record.case_id, masks=False).scans[0] for record in archive.records()]
        lengths, origin = [], f"median over {NORM_PHANTOMS} phantoms of seed {NORM_SEED}; real scans may lie elsewhere"
        with progress_bar("typical norms", unit="members") as on_progress:
            for member in members:
                lengths.append(typical_norm(open_encoder(member), scans))
                on_progress(len(lengths), len(members))
        typer.echo(f"typical norms, {origin}: {', '.join(f'{norm:.4g}' for norm in lengths)}", err=True)
    return write_ensemble(
        out,
        members,
        name=name,
        version=version,
        norms=lengths,
        weights=weights,
        **{**calibration, "training": {"norms": origin, **calibration.get("training", {})}},
    )


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InvalidValueError(
            f"{option} is {text!r}; it lists one number per member with commas between: 2,1."
        ) from error
