"""A finished run's bundle, copied out; with what an evaluation measured and where it fails written into its card."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError, safe_open

from sonoseek.core import BundleError, InvalidValueError, NotFoundError
from sonoseek.core.files import write_atomically
from sonoseek.encoder import load_bundle
from sonoseek.encoder.manifest import manifest_dict
from sonoseek.encoder.values import CARD_FILE, MANIFEST_FILE, MODEL_FILE
from sonoseek.evaluate.files import read_system
from sonoseek.evaluate.hospitals import travelling_calibration
from sonoseek.training.card_failures import failures_section, find_failures
from sonoseek.training.card_results import read_card_results, results_section
from sonoseek.training.export import manifest_json
from sonoseek.training.model_card import model_card
from sonoseek.training.provenance import command_of
from sonoseek.training.recipe import recipe_digest
from sonoseek.training.run_folder import BUNDLE_FOLDER, METRICS_FILE, WEIGHTS_FILE

_NOT_WEIGHTS = ("running_mean", "running_var", "num_batches_tracked")
"""Ends of names in a network's file that are state, not weights."""


def export_run(
    run_dir: Path,
    out: Path,
    *,
    results: Path | None = None,
    system: str | None = None,
    calibrate_on: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Copy a finished run's bundle to `out`, checked as it is opened there.

    Args:
        run_dir: of `train`.
        out: made if need be; an older bundle in it is replaced.
        results: folder that `evaluate` wrote: the card is written anew, with the figures of every protocol and with
            failures on phantoms. Model and manifest, and so the bundle's id, stay as they are.
        system: whose results; None: the one that is called as the run's recipe.
        calibrate_on: a protocol of `results` that leaves hospitals out, such as "leave-one-hospital-out": temperature,
            abstention, conformal quantile and operating points are fitted on what the system's networks predicted in
            hospitals that they had not seen, since that is where a bundle is used. Model stays, manifest and id change.
        on_progress: (done, total) phantoms.

    Raises:
        NotFoundError: the run has not finished; no results, or none of that system.
        InvalidValueError: `system` or `calibrate_on` without `results`; results of one class alone.
        ResultsError: the results do not read.
        BundleError: the bundle, or the run's network, is damaged.
    """
    if not (run_dir / METRICS_FILE).is_file():
        raise NotFoundError(f"{run_dir} holds no finished run; train it, or go on with resume=True, first.")
    if results is None and (wanted := system or calibrate_on) is not None:
        raise InvalidValueError(
            f"{wanted!r} is wanted, and no folder of results is named in which to look for it. Name one, such as "
            "docs/results (--results)."
        )
    source = run_dir / BUNDLE_FOLDER
    if calibrate_on is not None and out.resolve() == source.resolve():
        raise InvalidValueError(
            f"{out} is the run's own bundle, whose calibration is the start of this one; it must stay. Give another "
            "folder."
        )
    with TemporaryDirectory() as folder:  # what fails leaves nothing behind
        made = Path(folder)
        for name in (MODEL_FILE, MANIFEST_FILE, CARD_FILE):
            shutil.copyfile(source / name, made / name)
        if results is not None:
            if calibrate_on is not None:
                write_atomically(made / MANIFEST_FILE, _calibrated(source, results / calibrate_on, system=system))
            card = _completed_card(run_dir, made, results, system=system, on_progress=on_progress)
            (made / CARD_FILE).write_text(card, encoding="utf-8")
        load_bundle(made)
        out.mkdir(parents=True, exist_ok=True)
        for name in (MODEL_FILE, MANIFEST_FILE, CARD_FILE):
            write_atomically(out / name, (made / name).read_bytes())
    load_bundle(out)
    return out


def _calibrated(bundle: Path, protocol: Path, *, system: str | None) -> bytes:
    """The bundle's manifest, calibrated on hospitals left out; see `evaluate.hospitals.travelling_calibration`."""
    trained = manifest_dict((bundle / MANIFEST_FILE).read_bytes(), where=str(bundle / MANIFEST_FILE))
    name = system or trained["training"]["recipe"]["name"]
    scored = read_system(protocol, name)
    rows = scored.predictions
    fitted = travelling_calibration(rows, scored.validation)
    manifest = {
        **trained,
        "temperature": trained["temperature"] * fitted.temperature,
        "abstain_below": fitted.abstain_below,
        "conformal": fitted.conformal,
        "operating_points": fitted.operating_points,
        **({"class_bias": list(fitted.class_bias)} if fitted.class_bias else {}),
    }
    manifest["training"] = {
        **trained["training"],
        "calibrated_on": f"scans of hospitals left out ({protocol.name}, {len(rows)} predictions)",
        "temperature_of_validation_part": trained["temperature"],
    }
    return manifest_json(manifest)


def _completed_card(
    run_dir: Path,
    made: Path,
    results: Path,
    *,
    system: str | None,
    on_progress: Callable[[int, int], None] | None,
) -> str:
    """The card with everything that training could not know."""
    bundle = load_bundle(made)
    manifest = manifest_dict((bundle.path / MANIFEST_FILE).read_bytes(), where=str(bundle.path / MANIFEST_FILE))
    recipe: Mapping[str, Any] = bundle.training.get("recipe", {})
    measured = read_card_results(results, system=system or recipe.get("name", bundle.name))
    known = {
        recipe_digest(recipe): (
            "this bundle's recipe, trained anew on the training side of each round: none of those networks had seen a "
            "scan that it predicted, and none of them is this bundle's"
        ),
        bundle.bundle_id: "this very bundle",
    }
    return model_card(
        manifest,
        parameters=_parameters(run_dir / WEIGHTS_FILE),
        command=command_of(run_dir),
        measured=results_section(measured, identities=known),
        failures=failures_section(find_failures(bundle.path, on_progress=on_progress)),
    )


def _parameters(path: Path) -> int:
    """Number of weights in a network's file, without reading them."""
    try:
        with safe_open(path, framework="numpy") as file:
            names = [name for name in file.keys() if not name.endswith(_NOT_WEIGHTS)]  # noqa: SIM118 - no mapping
            return sum(math.prod(file.get_slice(name).get_shape()) for name in names)
    except (OSError, SafetensorError) as error:
        raise BundleError(
            f"{path} does not read as a network's weights ({error}). Train again, or copy the run again."
        ) from error
