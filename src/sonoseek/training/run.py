"""A run: prepare, fit, calibrate, export. Recipe and data in, run folder with figures and bundle out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from safetensors.torch import save_file

from sonoseek.core import InvalidValueError
from sonoseek.datasets import Dataset
from sonoseek.encoder import load_bundle
from sonoseek.evaluate.protocols import Round
from sonoseek.training.across_folds import out_of_fold, summarise, summary_of
from sonoseek.training.batches import PlainBatches, TrainingBatches
from sonoseek.training.building import as_served, serving_device, start_network
from sonoseek.training.bundle_metadata import bundle_metadata
from sonoseek.training.calibrate import ExportedModel, fit_calibration, read_split, write_predictions
from sonoseek.training.distributed import accelerator_of, first_process_first, is_first, join_processes
from sonoseek.training.export import COMPARED, export_bundle, onnx_bytes
from sonoseek.training.heatmap_sheet import DRAWN, take_examples
from sonoseek.training.module import TrainingModule
from sonoseek.training.options import CPU, USUAL, Machine, Upkeep
from sonoseek.training.prepare import PreparedSet, open_choice, prepare
from sonoseek.training.provenance import command_shown, describe_call, note_call, write_json
from sonoseek.training.recipe import Recipe
from sonoseek.training.run_folder import (
    BUNDLE_FOLDER,
    METRICS_FILE,
    PREDICTIONS_FILE,
    RECIPE_FILE,
    WEIGHTS_FILE,
    finished_already,
    run_record,
)
from sonoseek.training.splits import Split, given_sets, split_sets
from sonoseek.training.teachers import Teachers
from sonoseek.training.trainer import fit

log = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    *,
    data_root: Path | None,
    run_dir: Path,
    weights_root: Path | None = None,
    fold: int | None = None,
    resume: bool = False,
    cache: Path | None = None,
    cross_validation: Path | None = None,
    round_: Round | None = None,
    datasets: Mapping[str, Dataset] | None = None,
    teachers: Sequence[Path] = (),
    progress_bar: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    machine: Machine = CPU,
    upkeep: Upkeep = USUAL,
) -> Path:
    """Train, calibrate, score and export.

    Args:
        recipe: what to do.
        data_root: folder with the datasets' folders; may be None where a recipe needs phantoms only.
        run_dir: made if need be; holds the resolved recipe, checkpoints, `metrics.json`, `network.safetensors` and
            `bundle/`.
        weights_root: folder with the start weights; None: `weights` beside `data_root`.
        fold: 0 … folds − 1: tested on, once, at the very end; None: nothing is held out but the validation part.
        resume: go on where an earlier call was stopped; one that had finished is returned as it is.
        cache: folder for preprocessed scans; None: `prepared` in `run_dir`. It holds scans: keep it out of any
            repository.
        cross_validation: folder that `train_folds` left: its figures are quoted in the card, and its out-of-fold
            predictions, far more than a validation part holds, calibrate the bundle. It should be of the same recipe;
            where it is not, the card says so.
        round_: of an evaluation's protocol: it says who learns and who validates, and its test side is not read here.
        datasets: open already, by name; others are opened as the recipe says.
        teachers: bundles whose predictions are targets beside the labels, as `recipe.teacher` says.
        progress_bar: Lightning's bar on the terminal, with the minutes left.
        on_progress: (done, total) training steps.
        machine: where to compute. In several processes each calls this alike; the first one writes.
        upkeep: checkpoints within an epoch, curves and pictures of them.

    Returns:
        The bundle's folder.

    Raises:
        TrainingError: the run diverged; its last good checkpoint stays.
        InvalidValueError: `fold` and `cross_validation` together; `run_dir` holds another run, or this one and `resume`
            is False; the recipe cannot be met.
        NotFoundError: dataset, network or start weights that are not there.
        DatasetError, SplitError, BundleError: as the packages below raise them.
    """
    began = time.monotonic()
    if fold is not None and cross_validation is not None:
        raise InvalidValueError(
            f"fold is {fold} and cross_validation is {cross_validation}: the folds' predictions hold this fold's test "
            "labels. Leave one of the two out."
        )
    machine = join_processes(machine)
    call = describe_call(machine, upkeep, seed=recipe.seed)
    record = run_record(recipe, fold=fold, round_=round_)
    bundle = run_dir / BUNDLE_FOLDER
    with first_process_first():
        if finished_already(run_dir, record, resume=resume or not is_first()):
            return bundle
        # what is missing is reported before the folder is taken
        given = datasets or {}
        opened = [
            given[choice.name] if choice.name in given else open_choice(choice, data_root=data_root)
            for choice in recipe.datasets
        ]
        network = start_network(
            recipe, weights_root=weights_root or (data_root / ".." / "weights" if data_root is not None else None)
        )
        distilled = Teachers(teachers, recipe, unseen=round_.test if round_ else {}) if teachers else None
        if is_first():
            run_dir.mkdir(parents=True, exist_ok=True)
            write_json(run_dir / RECIPE_FILE, record)
            note_call(run_dir, call)
        own = recipe.preprocessing_recipe
        read = own if distilled is None else distilled.preprocessing
        of_recipe = {
            each: [prepare(dataset, recipe=each, cache=cache or run_dir / "prepared") for dataset in opened]
            for each in {own, read}
        }
        sets = of_recipe[own]

    def split_of(sets: Sequence[PreparedSet]) -> Split:
        return split_sets(recipe, sets, fold=fold) if round_ is None else given_sets(recipe, sets, round_)

    split = split_of(sets)
    prepared = time.monotonic()
    batches = TrainingBatches(
        split_of(of_recipe[read]).train, recipe, side=None if distilled is None else read.canvas_size
    )
    module = TrainingModule(network, recipe, steps=len(batches) * recipe.optimiser.epochs, teachers=distilled)
    folded = [part for part in split.validation if part.choice.folded]
    epochs = fit(
        module,
        batches,
        PlainBatches(folded, batch=32),
        run_dir=run_dir,
        progress_bar=progress_bar,
        on_progress=on_progress,
        machine=machine,
        upkeep=upkeep,
        examples=take_examples(folded, count=DRAWN) if upkeep.tensorboard else None,
    )
    if not is_first():
        return bundle
    seconds = {"prepare": round(prepared - began, 1), "fit": round(time.monotonic() - prepared, 1)}
    trained = module.trained_network()
    save_file({name: tensor.contiguous() for name, tensor in trained.state_dict().items()}, run_dir / WEIGHTS_FILE)
    served = as_served(trained, recipe)
    model = onnx_bytes(served, canvas_size=recipe.preprocessing_recipe.canvas_size)
    device = serving_device(accelerator_of(machine))
    outputs = read_split(ExportedModel(model) if device.type == "cpu" else served.to(device), split)
    write_predictions(run_dir / PREDICTIONS_FILE, outputs)
    fitted = fit_calibration(
        outputs, out_of_fold=out_of_fold(cross_validation, folds=recipe.folds) if cross_validation else None
    )
    export_bundle(
        served.cpu(),
        folder=bundle,
        metadata=bundle_metadata(
            recipe,
            split,
            fitted,
            fold=fold,
            round_=round_,
            cross_validation=summary_of(cross_validation),
            teachers=[load_bundle(path).bundle_id for path in teachers],
        ),
        model=model,
        canvases=take_examples(folded, count=COMPARED).canvases.numpy(),
        command=command_shown(call["command"]),
    )
    calibration = fitted.calibration
    metrics = {
        "recipe": recipe.name,
        "fold": fold,
        "figures": fitted.figures,
        "calibration": {"temperature": calibration.temperature, "abstain_below": calibration.abstain_below},
        "onnx_vs_torch": load_bundle(bundle).training["onnx_vs_torch"],
        "epochs": epochs,
        "seconds": seconds,
        "refused": {item.name: item.refused for item in sets if item.refused},
    }
    write_json(run_dir / METRICS_FILE, metrics)
    return bundle


def train_folds(
    recipe: Recipe,
    *,
    data_root: Path | None,
    run_dir: Path,
    weights_root: Path | None = None,
    resume: bool = False,
    progress_bar: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    machine: Machine = CPU,
    upkeep: Upkeep = USUAL,
) -> tuple[Path, ...]:
    """Run every fold, each in its own folder `fold-0` … of `run_dir`, then gather the figures in `summary.json`.

    Args:
        recipe: as for `train`.
        data_root: as for `train`.
        run_dir: of all folds together.
        weights_root: as for `train`.
        resume: take finished folds as they are and go on with the one that was stopped.
        progress_bar: as for `train`.
        on_progress: (done, total) training steps, over all folds.
        machine: as for `train`.
        upkeep: as for `train`.

    Returns:
        The folds' bundles.
    """
    bundles = []
    for fold in range(recipe.folds):
        log.info("fold %d of %d", fold + 1, recipe.folds)

        def advance(done: int, total: int, before: int = fold) -> None:
            if on_progress is not None:
                on_progress(before * total + done, recipe.folds * total)

        bundle = train(
            recipe,
            data_root=data_root,
            run_dir=run_dir / f"fold-{fold}",
            weights_root=weights_root,
            fold=fold,
            resume=resume,
            cache=run_dir / "prepared",
            progress_bar=progress_bar,
            on_progress=advance,
            machine=machine,
            upkeep=upkeep,
        )
        bundles.append(bundle)
    if is_first():
        summarise(run_dir, folds=recipe.folds)
    return tuple(bundles)
