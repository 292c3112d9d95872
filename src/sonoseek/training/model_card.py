"""The card of a bundle, written from its manifest and from what was measured since."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sonoseek.core import DISCLAIMER, PATHOLOGIES

LATER = "`sonoseek export RUN --out DIR --results docs/results --results-of SYSTEM`"
"""What completes the card: training itself knows neither protocols nor failures."""
_ORIGINS: Mapping[str, str] = {
    "busi": "Baheya Hospital, Cairo; the archive does not say which scanner made which scan",
    "busbra": "INCA, Rio de Janeiro; GE Logiq 5, GE Logiq 7, Toshiba Aplio 300, U-Systems",
    "breast": "medical centres in Poland; the archive does not say which scanner made which scan",
    "bus-uclm": "University Hospital of Ciudad Real; Siemens ACUSON S2000",
    "bus-uc": "Ultrasound Cases, a Dutch teaching site; several scanners that are not named",
    "phantom": "drawn by code; no hospital, simulated scanners",
}
"""Archive → hospital and scanners, as its article or table gives them."""
_WAYS: Mapping[str, str] = {
    "hybrid": "CNN → GRU over rows (depth) → 1×1 convolution",
    "plain": "CNN → 1×1 convolution",
    "lesion_pooling": "CNN → 1×1 convolution, pooled by an estimated lesion probability per cell",
    "outline": "CNN → outline of the lesion → GRU over rows (depth) → 1×1 convolution",
}


def model_card(
    manifest: Mapping[str, Any], *, parameters: int, command: str = "", measured: str = "", failures: str = ""
) -> str:
    """Markdown that says what the network is and is for, how it was made and judged, and where it fails.

    Args:
        manifest: as in `bundle.json`.
        parameters: number of weights.
        command: that made the bundle; "" where it is not known.
        measured: the figures of protocols, as `results_section` writes them; "": the card says how to get them.
        failures: as `failures_section` writes them; "" likewise.
    """
    training: Mapping[str, Any] = manifest["training"]
    sections = [
        f"# {manifest['name']} {manifest['version']}",
        f"**{DISCLAIMER[0].upper()}{DISCLAIMER[1:]}.**",
        "## What it is",
        *_what(manifest, parameters=parameters),
        "## Intended use",
        _INTENDED,
        "## Not intended",
        _NOT_INTENDED,
        "## How it was made",
        *_how_made(training, command=command),
        "## Data",
        _data(training),
        "## Figures of the protocols",
        measured or f"Not here yet: {LATER} reads them from an evaluation's results and writes them into this card.",
        "## Figures of the training",
        str(training.get("protocol", "Not trained: a placeholder that shows the interface.")),
        _figures(training.get("figures", {})),
        "## Failure examples",
        failures or f"Not here yet: {LATER} looks for them and writes them into this card.",
        "## Limits",
        _limits(manifest),
        "## Calibration",
        f"Temperature {manifest['temperature']:.3f}; no label below a probability of {manifest['abstain_below']:.3f}; "
        f"conformal quantile {manifest['conformal']['quantile']:.3f} at {manifest['conformal'].get('level', 0.9):.0%}. "
        + _calibrated_on(training),
        _operating_points(manifest["operating_points"]),
        "## Licences",
        "\n".join(f"- {what}: {text}" for what, text in sorted(manifest["licences"].items())),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


_INTENDED = (
    "For researchers and for readers of breast ultrasound who take part in research: one doubtful lesion in, similar "
    "cases with their reference standard out, each with the pixels that the similarity rests on; beside them a "
    "calibrated likelihood of malignancy, or none. Also to compare retrieval systems by one protocol, to look through "
    "an archive for near-duplicates and outliers, and to teach."
)
_NOT_INTENDED = (
    "- No screening: it was not made for, nor measured on, people without a finding.\n"
    "- No second reader, no triage: no figure here comes from readers at work.\n"
    "- No decision on biopsy, treatment or follow-up, and no reassurance: it misses cancers (figures below).\n"
    "- No patient outside of a study; no Doppler, elastography, automated whole-breast scan, axilla or other organ."
)


def _what(manifest: Mapping[str, Any], *, parameters: int) -> tuple[str, ...]:
    rows, columns = manifest["grid"]
    return (
        f"A network that reads one B-mode scan of the breast: probabilities of {', '.join(manifest['classes'])}, an "
        f"embedding of {manifest['embedding_dim']} numbers for finding similar scans, and an evidence map of "
        f"{rows} × {columns} cells whose mean is the embedding. Each class logit is linear in the embedding, so a "
        "class's heatmap is an exact split of its logit, not an approximation. "
        f"{parameters:,} weights{_way(manifest['training'].get('recipe', {}))}.",
        "Input: one grey canvas of "
        f"{manifest['preprocessing']['canvas_size']} pixels a side, 0 … 1, −1 in padding, made by the recipe in "
        "`bundle.json`. Lesion masks are never an input.",
    )


def _way(recipe: Mapping[str, Any]) -> str:
    """How a canvas goes through the network, as far as the recipe says."""
    if "network" not in recipe:
        return ""
    network, backbone = recipe["network"], recipe.get("backbone", "none")
    way = _WAYS.get(network, "")
    if not recipe.get("row_context", True):
        way = way.replace(" → GRU over rows (depth)", "")
    views = "; what is served is the mean over several views of the scan" if recipe.get("many_views") else ""
    if recipe.get("close_up"):
        views = (
            "; what is served is the mean of two readings, the whole scan at half the canvas's resolution and a "
            "close-up of the lesion cut from the canvas, each with its mirror image"
        )
    return f"; network `{network}` on `{backbone}`{f': {way}' if way else ''}{views}"


def _how_made(training: Mapping[str, Any], *, command: str) -> tuple[str, ...]:
    recipe = training.get("recipe")
    if not recipe:
        return ("By no recipe.", f"Start weights: {training.get('start', 'Random.')}")
    made = (
        f"One recipe, `{recipe['name']}`, and one command. The recipe, every default spelled out, stands in "
        "`bundle.json` under `training.recipe`; the datasets' hashes, the versions of the packages and the names of "
        "all cases stand beside it."
    )
    return (
        made,
        f"    {command}" if command else "The command is not known: the run was started from Python, or is older.",
        _before(recipe, command),
        f"Start weights: {training.get('start', 'Random.')}",
    )


def _before(recipe: Mapping[str, Any], command: str) -> str:
    """What had to be there already: other runs, each with its own command."""
    words = command.replace("=", " ").split()
    runs = [words[i + 1] for i, word in enumerate(words[:-1]) if word in ("--folds-from", "--teacher")]
    weights = str(recipe.get("start", {}).get("weights", ""))
    if "/" in weights and weights.endswith("network.safetensors") and not weights.startswith("hub:"):
        runs.append(weights)
    if not runs:
        return ""
    return f"It takes up what other runs left, which are made first: {', '.join(f'`{run}`' for run in runs)}."


def _data(training: Mapping[str, Any]) -> str:
    entries = training.get("datasets", [])
    if not entries:
        return "None."
    rows = [
        "| archive | hospital and scanners | learnt from | kept for validation | licence |",
        "|---|---|---|---|---|",
    ]
    for entry in entries:
        name = entry["name"]
        cells = (
            name,
            _ORIGINS.get(name, "not known to the package"),
            _counts(entry.get("counts", {})),
            _counts(entry.get("validation_counts", {})),
            entry.get("licence") or "not stated by its source",
        )
        rows.append(f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |")
    cited = "\n".join(f"- {entry['name']}: {entry['citation']}" for entry in entries if entry.get("citation"))
    return "\n".join(rows) + (f"\n\n{cited}" if cited else "")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in PATHOLOGIES if name in counts) or "–"


def _limits(manifest: Mapping[str, Any]) -> str:
    return "\n".join(
        (
            "- Trained on few scans from few hospitals and scanners; expect a clear fall elsewhere. Publications on "
            "the same data report malignant AUROC falling from above 0.90 to about 0.75–0.85 in another hospital.",
            "- One still image: no Doppler, no elastography, no history, no second view.",
            "- BUSI has no patient ids; near-identical scans are kept together in every split, scans of one patient "
            "that look different are not known to be.",
            "- A heatmap shows what the network rests on, not where a lesion is.",
            _out_of_distribution(manifest.get("ood")),
        )
    )


def _out_of_distribution(ood: Mapping[str, Any] | None) -> str:
    if ood is None:
        return (
            "- Scans that are no B-mode breast ultrasound get a prediction too: heed the report's novelty and the "
            "abstention."
        )
    return (
        "- Scans that are no B-mode breast ultrasound mostly get no prediction: one farther from the training scans "
        f"than {ood['level']:.0%} of the validation scans is called out-of-distribution, and the report says so. "
        "Not all are: breast scans that are inverted or upside down pass about every other time, and scans of a "
        "scanner that it has not learnt from are out-of-distribution more often than others "
        "(docs/results/out-of-distribution.md)."
    )


def _calibrated_on(training: Mapping[str, Any]) -> str:
    if training.get("calibrated_on") == "out-of-fold predictions":
        return (
            "Fitted on the out-of-fold predictions of the cross-validation's networks, not on its own: where "
            "the figures of the validation part above differ from the cross-validated ones, so does calibration."
        )
    if "hospitals left out" in str(training.get("calibrated_on")):
        return (
            f"Fitted on {training['calibrated_on']}: each hospital's lesions, predicted by a network of this recipe "
            "that had learnt from the other hospitals alone. The temperature of the own validation part is multiplied "
            "by what those predictions ask for. Scans without a lesion are left out."
        )
    return "Fitted on validation scans inside the training part."


def _operating_points(points: Mapping[str, Mapping[str, float]]) -> str:
    if not points:
        return "No operating points: too few scans, or of one class alone."
    rows = [
        "Operating points, with what each gave on the very scans that it was fitted on (optimistic):",
        "",
        "| operating point | malignant from | sensitivity | specificity |",
        "|---|---|---|---|",
    ]
    for name, point in sorted(points.items()):
        cells = [f"{point[key]:.3f}" if key in point else "–" for key in ("threshold", "sensitivity", "specificity")]
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(rows)


def _figures(figures: Mapping[str, Any]) -> str:
    if not figures:
        return ""
    rows = ["| figure | value |", "|---|---|"]
    rows += [
        f"| {name} | {value:.3f} |" if isinstance(value, float) else f"| {name} | {value} |"
        for name, value in figures.items()
    ]
    return "\n".join(rows)
