"""Writing an ensemble: its members' folders and `ensemble.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sonoseek.core import DISCLAIMER, BundleError, InvalidValueError
from sonoseek.core.files import write_atomically
from sonoseek.core.version import __version__
from sonoseek.encoder.bundle import load_bundle
from sonoseek.encoder.ensemble import FORMAT, check_members, decode_ensemble
from sonoseek.encoder.manifest import Manifest, decode_manifest
from sonoseek.encoder.values import CARD_FILE, ENSEMBLE_FILE, MANIFEST_FILE, MODEL_FILE


def write_ensemble(
    folder: Path,
    members: Sequence[Path],
    *,
    name: str,
    version: str,
    norms: Sequence[float],
    weights: Sequence[float] | None = None,
    temperature: float = 1.0,
    abstain_below: float | None = None,
    conformal: Mapping[str, float] | None = None,
    operating_points: Mapping[str, Mapping[str, float]] | None = None,
    class_bias: Sequence[float] = (),
    training: Mapping[str, Any] | None = None,
    licences: Mapping[str, str] | None = None,
) -> Path:
    """Copy bundles into one folder and write how they are joined.

    What is left out of the calibration is the mean of the members'. That is a stand-in, not a measurement: the mean of
    several networks is right more often than one, and surer or less sure than each of them.

    Args:
        folder: made; must not exist, or be empty.
        members: folders of single bundles with the same classes and the same preprocessing, at least two.
        name: of the ensemble.
        version: of the ensemble.
        norms: typical length of each member's embeddings, of `typical_norm`; each is divided by its own.
        weights: of the members in the logits, ≥ 0; None: all alike.
        temperature: on top of the members' own.
        abstain_below: as in `Manifest`; None: the mean of the members'.
        conformal: the same.
        operating_points: the same.
        class_bias: of each class, on top of the members' own; (): zeros.
        training: added to that of the members.
        licences: as in `Manifest`; None: all of the members'.

    Returns:
        `folder`.

    Raises:
        InvalidValueError: the folder is not empty; not as many norms or weights as members.
        BundleError: a member is damaged, or they do not belong together.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InvalidValueError(f"{folder} is not empty; an ensemble is written into a new folder. Name another.")
    weights = [1.0] * len(members) if weights is None else weights
    for what, numbers in (("norms", norms), ("weights", weights)):
        if len(numbers) != len(members):
            raise InvalidValueError(f"{len(numbers)} {what} for {len(members)} members; give one for each.")
    bundles = [load_bundle(member) for member in members]
    if bundles:
        check_members(bundles)
    manifests = [
        decode_manifest((member / MANIFEST_FILE).read_bytes(), where=str(member / MANIFEST_FILE)) for member in members
    ]
    entries = [
        {"folder": f"member-{number}", "bundle_id": bundle.bundle_id, "norm": float(norm), "weight": float(weight)}
        for number, (bundle, norm, weight) in enumerate(zip(bundles, norms, weights, strict=True), start=1)
    ]
    points = _mean_points(manifests) if operating_points is None else operating_points
    calibration = {
        "abstain_below": _mean([m.abstain_below for m in manifests]) if abstain_below is None else abstain_below,
        "conformal": _mean_conformal(manifests) if conformal is None else dict(conformal),
        "operating_points": {name: dict(point) for name, point in points.items()},
    }
    stands_in = abstain_below is None or conformal is None or operating_points is None
    content = {
        "format": FORMAT,
        "name": name,
        "version": version,
        "sonoseek": __version__,
        "members": entries,
        "temperature": temperature,
        **calibration,
        **({"class_bias": list(class_bias)} if class_bias else {}),
        "training": {**_origin(manifests, stands_in=stands_in), **(training or {})},
        "licences": _licences(manifests) if licences is None else dict(licences),
    }
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    decode_ensemble(text.encode(), where=ENSEMBLE_FILE)
    for entry, member in zip(entries, members, strict=True):
        target = folder / str(entry["folder"])
        target.mkdir(parents=True)
        for file in (MODEL_FILE, MANIFEST_FILE, CARD_FILE):
            if (member / file).is_file():
                (target / file).write_bytes((member / file).read_bytes())
    (folder / CARD_FILE).write_text(_card(content, manifests), encoding="utf-8")
    write_atomically(folder / ENSEMBLE_FILE, text)  # last: until it is there, the folder is no ensemble
    load_bundle(folder)
    return folder


def _mean(numbers: Sequence[float]) -> float:
    return float(sum(numbers) / max(1, len(numbers)))


def _mean_of_each(tables: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of every number that all of them give."""
    common = set.intersection(*(set(each) for each in tables)) if tables else set()
    return {key: _mean([each[key] for each in tables]) for key in sorted(common)}


def _mean_conformal(manifests: Sequence[Manifest]) -> dict[str, float]:
    levels = sorted({manifest.conformal.get("level", 0.9) for manifest in manifests})
    if len(levels) > 1:
        raise BundleError(
            f"the members' conformal levels are {levels}; a mean of their quantiles would hold at none. Give the "
            "ensemble's own, fitted on validation scans."
        )
    return _mean_of_each([manifest.conformal for manifest in manifests])


def _mean_points(manifests: Sequence[Manifest]) -> dict[str, dict[str, float]]:
    tables = [manifest.operating_points for manifest in manifests]
    common = set.intersection(*(set(each) for each in tables)) if tables else set()
    return {name: _mean_of_each([each[name] for each in tables]) for name in sorted(common)}


def _origin(manifests: Sequence[Manifest], *, stands_in: bool) -> dict[str, Any]:
    """Where the ensemble comes from, in the keys of a bundle's own `training`."""
    datasets: dict[str, Any] = {}
    for manifest in manifests:
        for dataset in manifest.training.get("datasets", []):
            datasets.setdefault(str(dataset.get("name")), dataset)
    return {
        "datasets": list(datasets.values()),
        "protocol": f"The mean of {len(manifests)} networks; each member's own card says how it was trained.",
        "calibrated_on": "mean of the members' calibrations" if stands_in else "given by its maker",
    }


def _licences(manifests: Sequence[Manifest]) -> dict[str, str]:
    """All of the members'; where they differ on one thing, all of their texts."""
    texts_of: dict[str, list[str]] = {}
    for manifest in manifests:
        for what, text in manifest.licences.items():
            if text not in texts_of.setdefault(what, []):
                texts_of[what].append(text)
    return {what: "; ".join(texts) for what, texts in texts_of.items()}


def _card(content: Mapping[str, Any], manifests: Sequence[Manifest]) -> str:
    lines = [
        f"- `{entry['folder']}`: {manifest.name} {manifest.version} (`{entry['bundle_id']}`), weight "
        f"{entry['weight']:g}, embeddings divided by {entry['norm']:.4g}; [its card]({entry['folder']}/{CARD_FILE})"
        for entry, manifest in zip(content["members"], manifests, strict=True)
    ]
    training = content["training"]
    sections = [
        f"# {content['name']} {content['version']}",
        f"**{DISCLAIMER[0].upper()}{DISCLAIMER[1:]}.**",
        "## What it is",
        f"An ensemble of {len(lines)} bundles behind one interface. Its embedding is theirs, one after the other, each "
        "divided by its typical norm; its logits are the weighted mean of theirs, each over its own temperature. Both "
        "are linear in the members' outputs, so its heatmaps are as exact as theirs. It takes as long as all of them.",
        "\n".join(lines),
        "## Calibration",
        f"Temperature {content['temperature']:.3f} on top of the members' own; no label below a probability of "
        f"{content['abstain_below']:.3f}; conformal quantile {content['conformal']['quantile']:.3f}. Origin: "
        f"{training['calibrated_on']}.",
        *([f"Norms: {training['norms']}."] if "norms" in training else []),
        "## Data",
        f"{training['protocol']} What any member has learnt from, the ensemble has.",
        *_left_out(training.get("hospitals_left_out", {})),
        "## Limits",
        "Those of its members, whose cards say where they fail. It was not made for screening, for a second reading, "
        "for triage, or for a decision on a patient outside of a study.",
        "## Licences",
        "\n".join(f"- {what}: {text}" for what, text in sorted(content["licences"].items())),
    ]
    return "\n\n".join(sections) + "\n"


def _left_out(figures: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """The section on hospitals left out: hospital → figure → value and the ends of its interval."""
    if not figures:
        return []
    names = list(next(iter(figures.values())))
    heads = [name.replace("_at_", " at the others' threshold of ").replace("_", " ") for name in names]
    rows = [
        f"| {hospital} | " + " | ".join("{:.3f} ({:.3f}–{:.3f})".format(*each[name]) for name in names) + " |"
        for hospital, each in figures.items()
    ]
    return [
        "## Figures in hospitals left out",
        "Ensembles of networks of the members' recipes, which had not seen the hospital. "
        "Malignant against benign; the accuracy at the threshold of best accuracy in the other hospitals. This "
        "ensemble's own networks have learnt from all of them.",
        "\n".join([f"| hospital | {' | '.join(heads)} |", "|---" * (len(names) + 1) + "|", *rows]),
    ]
