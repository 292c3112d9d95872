"""A bundle's calibration fitted anew where the preprocessing has changed and the network has not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sonoseek.core import BundleError
from sonoseek.core.files import write_atomically
from sonoseek.encoder.bundle import load_bundle
from sonoseek.encoder.manifest import manifest_dict
from sonoseek.encoder.values import CARD_FILE, MANIFEST_FILE, MODEL_FILE
from sonoseek.preprocessing import PreprocessingRecipe
from sonoseek.preprocessing.recipe import RECIPE_VERSION
from sonoseek.training.calibrate import ExportedModel, fit_calibration, read_split
from sonoseek.training.export import manifest_json
from sonoseek.training.model_card import model_card
from sonoseek.training.prepare import open_choice, prepare
from sonoseek.training.recipe import recipe_from_dict
from sonoseek.training.splits import Split, split_sets

REFITTED_SECTIONS = ("Figures of the training", "Calibration")
"""Of the card; the others do not depend on the preprocessing."""


def refit_bundle(folder: Path, *, data_root: Path, cache: Path) -> None:
    """Set a bundle to today's preprocessing and fit on its own parts what depends on it; the network stays as it is.

    The recipe in the bundle says who was trained on and who was kept for validation, so the parts are the same as in
    the training. Fitted anew: temperature, abstention, conformal quantile and operating points (validation part), the
    out-of-distribution model and the duplicate threshold (both parts), the validation figures, and the hashes of the
    prepared scans. All other keys of `bundle.json` stay, `onnx_vs_torch` among them: it is a property of the network.

    Args:
        folder: of a bundle without a test fold, changed in place.
        data_root: folder with the datasets' folders.
        cache: folder for prepared scans; keep it out of any repository.

    Raises:
        BundleError: a bundle of a fold or of a protocol's round, or one whose parts this data does not give again.
        NotFoundError, DatasetError: data that is not there.
    """
    path = folder / MANIFEST_FILE
    manifest = manifest_dict(path.read_bytes(), where=str(path))
    training = manifest["training"]
    if training["fold"] is not None or training["round"] is not None or training["calibrated_on"] != "validation part":
        raise BundleError(
            f"{folder} was calibrated on {training['calibrated_on']} (fold {training['fold']}); only a bundle that was "
            "calibrated on its own validation part can be refitted. Train it again."
        )
    recipe = recipe_from_dict(training["recipe"])
    manifest["preprocessing"] = {**manifest["preprocessing"], "version": RECIPE_VERSION}
    preprocessing = PreprocessingRecipe.from_dict(manifest["preprocessing"])
    sets = [
        prepare(open_choice(choice, data_root=data_root), recipe=preprocessing, cache=cache)
        for choice in recipe.datasets
    ]
    split = split_sets(recipe, sets, fold=None)
    _check_parts(split, training["datasets"], folder=folder)
    write_atomically(path, manifest_json(manifest))  # a bundle of an older version does not open
    load_bundle(folder)
    fitted = fit_calibration(read_split(ExportedModel((folder / MODEL_FILE).read_bytes()), split))
    manifest.update(
        temperature=fitted.calibration.temperature,
        abstain_below=fitted.calibration.abstain_below,
        conformal=fitted.calibration.conformal,
        operating_points=fitted.calibration.operating_points,
        ood=fitted.ood,
        duplicate_threshold=fitted.duplicate_threshold,
    )
    for dataset, figures in fitted.figures["validation"].items():
        training["figures"].update({f"{dataset}, validation: {name}": value for name, value in figures.items()})
    for entry, part in zip(training["datasets"], split.train, strict=True):
        entry["content_hash"] = part.source.content_hash
    write_atomically(path, manifest_json(manifest))
    load_bundle(folder)
    card = folder / CARD_FILE
    card.write_text(refitted_card(card.read_text(encoding="utf-8"), model_card(manifest, parameters=0)), "utf-8")


def refitted_card(old: str, new: str) -> str:
    """The old card with the sections of the new one that the preprocessing changes."""
    for title in REFITTED_SECTIONS:
        pattern = re.compile(rf"^## {title}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
        section = pattern.search(new)
        if section is None or not pattern.search(old):
            raise BundleError(f"the model card has no section {title!r}. Export the bundle again.")
        replacement = section.group().rstrip() + "\n\n"
        old = pattern.sub(lambda _, text=replacement: text, old)  # type: ignore[misc]
    return old.rstrip() + "\n"


def _check_parts(split: Split, entries: Sequence[dict[str, Any]], *, folder: Path) -> None:
    """Refuse data that does not part as the training's did."""
    for entry, train, validation in zip(entries, split.train, split.validation, strict=True):
        for key, part in (("counts", train), ("validation_counts", validation)):
            if part.counts() != entry[key]:
                raise BundleError(
                    f"{entry['name']} gives {part.counts()} as {key}; {folder} was made with {entry[key]}. "
                    "Give the data that the bundle was trained on."
                )
