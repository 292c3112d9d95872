"""The metadata of a bundle: how it was trained, on what, and with which result."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sonoseek.core import PATHOLOGIES
from sonoseek.encoder.runtime import onnxruntime
from sonoseek.encoder.seen import TrainingScans, as_manifest_part, training_scans
from sonoseek.evaluate.protocols import Round
from sonoseek.training.calibrate import Figures, Fitted
from sonoseek.training.export import BundleMetadata
from sonoseek.training.recipe import Recipe, recipe_to_dict
from sonoseek.training.splits import Split


def bundle_metadata(
    recipe: Recipe,
    split: Split,
    fitted: Fitted,
    *,
    fold: int | None,
    round_: Round | None,
    cross_validation: Mapping[str, Any],
    teachers: Sequence[str] = (),
) -> BundleMetadata:
    """Gather manifest and card.

    Args:
        recipe: of the run.
        split: who learnt, who calibrated.
        fitted: calibration, figures and borders.
        fold: that was held out, or None.
        round_: of a protocol, whose test side was held out and not read, or None.
        cross_validation: `summary.json` of the folds, with their "recipe" beside the datasets, or empty.
        teachers: bundle ids of the networks whose predictions were targets too.
    """
    licences = {"bundle": "Apache-2.0"}
    if recipe.start.licence:
        licences["start weights"] = recipe.start.licence
    datasets = []
    for train, validation in zip(split.train, split.validation, strict=True):
        source = train.source
        datasets.append(
            {
                "name": source.name,
                "counts": train.counts(),
                "validation_counts": validation.counts(),
                "content_hash": source.content_hash,
                "citation": source.citation,
                "licence": source.licence,
            }
        )
        licences[f"data: {source.name}"] = source.licence or "not stated by its source"
    return BundleMetadata(
        name=recipe.name,
        version=recipe.version,
        classes=PATHOLOGIES,
        preprocessing=recipe.preprocessing_recipe,
        temperature=fitted.calibration.temperature,
        abstain_below=fitted.calibration.abstain_below,
        conformal=fitted.calibration.conformal,
        operating_points=fitted.calibration.operating_points,
        training={
            "datasets": datasets,
            "cases": {
                train.source.name: sorted(
                    {str(part.source.case_ids[row]) for part in (train, validation) for row in part.rows}
                )
                for train, validation in zip(split.train, split.validation, strict=True)
            },
            "start": recipe.start.origin,
            "protocol": _protocol(
                recipe,
                split,
                fold=fold,
                round_=round_,
                folds_recipe=cross_validation.get("recipe"),
                teachers=teachers,
            ),
            "figures": _flat(fitted.figures, cross_validation),
            "recipe": recipe_to_dict(recipe),
            "fold": fold,
            "round": None if round_ is None else {"label": round_.label, "digest": round_.digest},
            "calibrated_on": "out-of-fold predictions" if cross_validation else "validation part",
            "versions": {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__},
        },
        licences=licences,
        training_scans=as_manifest_part(_training_scans(split)),
        ood=fitted.ood,
        duplicate_threshold=fitted.duplicate_threshold,
    )


def _training_scans(split: Split) -> TrainingScans:
    """Of every scan that was learnt from or validated on, but for phantoms, which show no patient."""
    return training_scans(
        (part.source.name, str(part.source.scan_ids[row]), bytes.fromhex(str(part.source.hashes[row])))
        for part in (*split.train, *split.validation)
        if part.source.name != "phantom"
        for row in part.rows
    )


def _protocol(
    recipe: Recipe,
    split: Split,
    *,
    fold: int | None,
    round_: Round | None,
    folds_recipe: Mapping[str, Any] | None,
    teachers: Sequence[str],
) -> str:
    folded = ", ".join(part.source.name for part in split.train if part.choice.folded)
    lines = [
        f"{recipe.optimiser.epochs} epochs; augmentation on the training side only; groups of scans that belong "
        f"together never part. {_masks(recipe)}",
        f"{recipe.validation:.1%} of the training side ({folded}) was kept for validation.",
    ]
    if teachers:
        lines.append(
            f"Of what is learnt of the classes, {recipe.teacher.weight:.0%} is the output of other networks trained on "
            f"the same scans ({', '.join(teachers)}), the rest the reference standard."
        )
    if round_ is not None:
        tested = sum(map(len, round_.test.values()))
        lines.append(
            f"Trained for round {round_.label} of an evaluation: its {tested} test cases were held out and not read."
        )
    elif fold is not None:
        lines.append(f"Fold {fold} of {recipe.folds} was held out and read once, at the end: the test figures below.")
    elif folds_recipe is not None:
        lines.append(
            "No scan was held out from this bundle. The cross-validated figures below are those of "
            f"{folds_recipe['folds']} networks trained by {_which(folds_recipe, recipe)}, each tested on the fold that "
            "it had not seen; mean over folds ± deviation."
        )
    else:
        lines.append("No scan was held out for a test; figures on the validation part are optimistic.")
    return " ".join(lines)


def _masks(recipe: Recipe) -> str:
    if recipe.loss.lesion == 0 and recipe.loss.evidence == 0:
        return "Lesion masks were not used."
    return "Lesion masks of the training side taught where lesions lie, in the loss alone; the network reads none."


def _which(folds_recipe: Mapping[str, Any], recipe: Recipe) -> str:
    """Whether the folds were trained as the bundle was, in words; a name and a version change no network."""
    own = json.loads(json.dumps(recipe_to_dict(recipe)))
    unnamed = [{k: v for k, v in each.items() if k not in ("name", "version", "fold")} for each in (own, folds_recipe)]
    if unnamed[0] == unnamed[1]:
        return "the same recipe"
    data = " and ".join(choice["name"] for choice in folds_recipe["datasets"])
    own_data = ", ".join(choice.name for choice in recipe.datasets)
    return f"another recipe ({folds_recipe['name']!r}, on {data}; this bundle's: {own_data})"


def _flat(figures: Figures, cross_validation: Mapping[str, Any]) -> dict[str, float | str]:
    flat: dict[str, float | str] = {}
    for dataset, values in cross_validation.items():
        if dataset == "recipe":
            continue
        for name, value in values.items():
            if name != "scans":
                flat[f"{dataset}, cross-validated: {name}"] = f"{value['mean']:.3f} ± {value['deviation']:.3f}"
    for side, datasets in figures.items():
        for dataset, measured in datasets.items():
            flat.update({f"{dataset}, {side}: {name}": value for name, value in measured.items()})
    return flat
