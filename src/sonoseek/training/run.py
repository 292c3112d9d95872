"""A run: recipe and data in, run folder with figures and bundle out."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from sonoseek.core import InvalidValueError
from sonoseek.datasets import Dataset
from sonoseek.encoder import load_bundle
from sonoseek.evaluate.calibrate import Calibration, calibrate
from sonoseek.evaluate.ood import FEWEST, fit_duplicate_threshold, fit_ood
from sonoseek.evaluate.protocols import Round
from sonoseek.networks.evidence import EvidenceNetwork
from sonoseek.networks.start_weights import load_start_weights, start_weights_path
from sonoseek.training.across_folds import (
    METRICS_FILE,
    PREDICTIONS_FILE,
    RECIPE_FILE,
    out_of_fold,
    stored_recipe,
    summarise,
    summary_of,
)
from sonoseek.training.batches import PlainBatches, TrainingBatches
from sonoseek.training.building import as_served, build_network, serving_device
from sonoseek.training.bundle_metadata import bundle_facts
from sonoseek.training.distributed import accelerator_of, first_goes_first, is_first, meet
from sonoseek.training.export import COMPARED, export_bundle, onnx_bytes
from sonoseek.training.figures import ExportedModel, Reader, precision_at, read_parts, verdict_figures
from sonoseek.training.heatmap_sheet import DRAWN, take_examples
from sonoseek.training.module import TrainingModule, close_unlearnt
from sonoseek.training.options import CPU, USUAL, Machine, Upkeep
from sonoseek.training.prepare import open_choice, prepare
from sonoseek.training.provenance import command_shown, describe_call, note_call, write_json
from sonoseek.training.recipe import Recipe, recipe_to_dict
from sonoseek.training.run_export import BUNDLE_FOLDER, WEIGHTS_FILE
from sonoseek.training.splits import Part, Split, given_sets, split_sets
from sonoseek.training.teachers import Teachers
from sonoseek.training.trainer import fit

log = logging.getLogger(__name__)
Embeddings = NDArray[np.float32]


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
        teachers: bundles whose word is learnt beside the labels, as `recipe.teacher` says.
        progress_bar: Lightning's bar on the terminal, with the minutes left.
        on_progress: (done, total) training steps.
        machine: where to compute. In several processes each calls this alike; the first one writes.
        upkeep: checkpoints within an epoch, curves and pictures of them.

    Returns:
        The bundle's folder.

    Raises:
        TrainingError: the run diverged; its last good checkpoint is kept.
        InvalidValueError: `fold` and `cross_validation` together; `run_dir` holds another run, or this one and `resume`
            is False; the recipe cannot be met.
        NotFoundError: dataset, network or start weights that are not there.
        DatasetError, SplitError, BundleError: as the rooms below raise them.
    """
    began = time.monotonic()
    if fold is not None and cross_validation is not None:
        raise InvalidValueError(
            f"fold is {fold} and cross_validation is {cross_validation}: the folds' predictions hold this fold's test "
            "labels. Leave one of the two out."
        )
    machine = meet(machine)
    call = describe_call(machine, upkeep, seed=recipe.seed)
    given = datasets or {}
    with first_goes_first():
        if _already(run_dir, recipe, fold=fold, round_=round_, resume=resume or not is_first()):
            return run_dir / BUNDLE_FOLDER
        # what is missing is said before the folder is taken
        opened = [
            given[choice.name] if choice.name in given else open_choice(choice, data_root=data_root)
            for choice in recipe.datasets
        ]
        network = _started(
            recipe, weights_root=weights_root or (data_root / ".." / "weights" if data_root is not None else None)
        )
        taught = Teachers(teachers, recipe, unseen=round_.test if round_ else {}) if teachers else None
        if is_first():
            run_dir.mkdir(parents=True, exist_ok=True)
            write_json(run_dir / RECIPE_FILE, _asked(recipe, fold=fold, round_=round_))
            note_call(run_dir, call)
        sets = [
            prepare(dataset, recipe=recipe.preprocessing_recipe, cache=cache or run_dir / "prepared")
            for dataset in opened
        ]
    split = split_sets(recipe, sets, fold=fold) if round_ is None else given_sets(recipe, sets, round_)
    prepared = time.monotonic()
    batches = TrainingBatches(split.train, recipe)
    module = TrainingModule(
        network,
        recipe,
        steps=len(batches) * recipe.optimiser.epochs,
        teachers=taught,
    )
    calibrators = [part for part in split.validation if part.choice.folded]
    epochs = fit(
        module,
        batches,
        PlainBatches(calibrators, batch=32),
        run_dir=run_dir,
        progress_bar=progress_bar,
        on_progress=on_progress,
        machine=machine,
        upkeep=upkeep,
        examples=take_examples(calibrators, count=DRAWN) if upkeep.tensorboard else None,
    )
    if not is_first():
        return run_dir / BUNDLE_FOLDER
    fitted = time.monotonic()
    kept = module.kept
    if not isinstance(kept, EvidenceNetwork):
        raise InvalidValueError(
            f"the network is a {type(kept).__name__}; it cannot be exported. Choose one of the table."
        )
    kept.eval()
    close_unlearnt(kept, module.known)
    save_file({name: tensor.contiguous() for name, tensor in kept.state_dict().items()}, run_dir / WEIGHTS_FILE)
    served = as_served(kept, recipe)
    model = onnx_bytes(served, canvas_size=recipe.preprocessing_recipe.canvas_size)
    device = serving_device(accelerator_of(machine))
    reader = ExportedModel(model) if device.type == "cpu" else served.to(device)
    logits, _, labels = read_parts(reader, calibrators)
    if cross_validation is not None:
        logits, labels = out_of_fold(cross_validation, folds=recipe.folds)
    calibration = calibrate(logits, labels)
    learnt = [read_parts(reader, [part])[1] for part in split.train]
    figures = _figures(reader, split, calibration, learnt=learnt, run_dir=run_dir)
    facts = bundle_facts(
        recipe,
        split,
        calibration,
        fold=fold,
        round_=round_,
        figures=figures,
        cross_validation=summary_of(cross_validation),
        teachers=[load_bundle(path).bundle_id for path in teachers],
        **fit_borders(split, learnt, read_parts(reader, split.validation)[1]),
    )
    real = take_examples(calibrators, count=COMPARED).canvases.numpy()
    bundle = export_bundle(
        served.cpu(),
        folder=run_dir / BUNDLE_FOLDER,
        facts=facts,
        model=model,
        canvases=real,
        command=command_shown(call["command"]),
    )
    metrics = {
        "recipe": recipe.name,
        "fold": fold,
        "figures": figures,
        "calibration": {"temperature": calibration.temperature, "abstain_below": calibration.abstain_below},
        "onnx_vs_torch": load_bundle(bundle).training["onnx_vs_torch"],
        "epochs": epochs,
        "seconds": {"prepare": round(prepared - began, 1), "fit": round(fitted - prepared, 1)},
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


def is_finished(run_dir: Path, recipe: Recipe, *, round_: Round) -> bool:
    """Whether a folder holds the finished run of this recipe for this round of a protocol."""
    file = run_dir / RECIPE_FILE
    if not (file.is_file() and (run_dir / METRICS_FILE).is_file()):
        return False
    return stored_recipe(run_dir) == _asked(recipe, fold=None, round_=round_)


def _asked(recipe: Recipe, *, fold: int | None, round_: Round | None) -> dict[str, Any]:
    """What a run's `recipe.json` says, as JSON gives it back."""
    asked = {**recipe_to_dict(recipe), "fold": fold}
    if round_ is not None:
        asked["round"] = {"label": round_.label, "digest": round_.digest}
    plain: dict[str, Any] = json.loads(json.dumps(asked))
    return plain


def _already(run_dir: Path, recipe: Recipe, *, fold: int | None, round_: Round | None, resume: bool) -> bool:
    """Whether the folder holds this very run, finished; one that it may not take is refused."""
    file = run_dir / RECIPE_FILE
    asked = _asked(recipe, fold=fold, round_=round_)
    if file.is_file():
        if stored_recipe(run_dir) != asked:
            raise InvalidValueError(
                f"{run_dir} holds a run of another recipe, fold or round; one folder holds one run. Give another "
                "folder, or move that one away."
            )
        if not resume:
            raise InvalidValueError(
                f"{run_dir} already holds this run; pass resume=True (--resume) to go on, or give another folder."
            )
        return (run_dir / METRICS_FILE).is_file()
    return False


def _started(recipe: Recipe, *, weights_root: Path | None) -> EvidenceNetwork:
    network = build_network(recipe)
    if recipe.start.weights != "random":
        path = start_weights_path(recipe.start.weights, root=weights_root)
        weights = load_start_weights(path, sha256=recipe.start.sha256)
        if any(key.startswith("backbone.") for key in weights):
            _take_over(network, weights, path)
        else:
            load = getattr(network.backbone, "load_start")  # noqa: B009 - every backbone of the table has it
            load(weights)
        if recipe.start.frozen:
            freeze = getattr(network.backbone, "freeze")  # noqa: B009 - the recipe allows it for those that have it
            freeze(recipe.start.frozen)
    return network


def _take_over(network: EvidenceNetwork, weights: Mapping[str, Tensor], path: Path) -> None:
    """Start from all of another run's network, its `network.safetensors`, but for parts that are left out here."""
    left_out = {name for name, part in vars(network).items() if part is None} | {
        name for name, part in network._modules.items() if part is None
    }
    try:
        network.load_state_dict({key: value for key, value in weights.items() if key.split(".")[0] not in left_out})
    except RuntimeError as error:
        raise InvalidValueError(
            f"{path} holds another network than the recipe's ({error}). Give both recipes the same network, backbone "
            "and embedding_dim."
        ) from error


def _figures(
    reader: Reader, split: Split, calibration: Calibration, *, learnt: Sequence[Embeddings], run_dir: Path
) -> dict[str, dict[str, dict[str, float]]]:
    """Side → dataset → figures. The test side is read here, once; `learnt` are the training parts' embeddings."""
    found: dict[str, dict[str, dict[str, float]]] = {"validation": {}, "test": {}}
    tested: list[dict[str, Any]] = []
    for train_part, validation, test, embedded in zip(split.train, split.validation, split.test, learnt, strict=True):
        gallery, gallery_labels = embedded, train_part.labels
        for side, part in (("validation", validation), ("test", test)):
            if not len(part):
                continue
            logits, embeddings, labels = read_parts(reader, [part])
            if side == "test":
                gallery = np.concatenate([gallery, read_parts(reader, [validation])[1]])
                gallery_labels = np.concatenate([gallery_labels, validation.labels])
                tested.append({"part": part, "logits": logits, "embeddings": embeddings})
            figures = verdict_figures(
                logits,
                labels,
                temperature=calibration.temperature,
                abstain_below=calibration.abstain_below,
                quantile=calibration.conformal["quantile"],
            )
            figures["precision_at_5"] = precision_at(embeddings, labels, gallery=gallery, gallery_labels=gallery_labels)
            found[side][part.source.name] = figures
    if tested:
        _write_predictions(run_dir / PREDICTIONS_FILE, tested)
    return found


def fit_borders(split: Split, learnt: Sequence[Embeddings], held: Embeddings) -> dict[str, Any]:
    """What tells a scan unlike those of all training archives, and one that is there already; None for too few."""
    together = np.concatenate([part for part in learnt if len(part)])
    if min(len(together), len(held)) < FEWEST:
        return {"ood": None, "duplicate_threshold": None}
    groups = _numbered(split.validation)
    return {
        "ood": fit_ood(together, held),
        "duplicate_threshold": fit_duplicate_threshold(
            held,
            groups,
            gallery=np.concatenate([together, held]),
            gallery_groups=np.concatenate([_numbered(split.train), groups]),
        ),
    }


def _numbered(parts: Sequence[Part]) -> NDArray[np.int64]:
    """Group of each row, no two archives sharing a number."""
    return np.concatenate([part.groups[part.rows] * len(parts) + number for number, part in enumerate(parts)])


def _write_predictions(path: Path, tested: list[dict[str, Any]]) -> None:
    """What was said of each test scan: no pixels, so it may be kept."""
    parts: list[Part] = [item["part"] for item in tested]
    np.savez(
        path,
        case_ids=np.concatenate([part.source.case_ids[part.rows] for part in parts]),
        datasets=np.concatenate([np.full(len(part), part.source.name) for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        logits=np.concatenate([item["logits"] for item in tested]),
        embeddings=np.concatenate([item["embeddings"] for item in tested]),
    )
