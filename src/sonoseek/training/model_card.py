"""The card of a bundle, written from its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sonoseek.core import DISCLAIMER


def model_card(manifest: Mapping[str, Any], *, parameters: int) -> str:
    """Markdown that says what the network is, what it was made from, how it was judged and what it is not for.

    Args:
        manifest: as in `bundle.json`.
        parameters: number of weights.
    """
    training: Mapping[str, Any] = manifest["training"]
    rows, columns = manifest["cells"]
    sections = [
        f"# {manifest['name']} {manifest['version']}",
        f"**{DISCLAIMER[0].upper()}{DISCLAIMER[1:]}.**",
        "## What it is",
        f"A network that reads one B-mode scan of the breast: a verdict over {', '.join(manifest['classes'])}, an "
        f"embedding of {manifest['embedding_dim']} numbers for finding similar scans, and an evidence map of "
        f"{rows} × {columns} cells whose mean is the embedding. Each class logit is linear in the embedding, so a "
        "class's heatmap is an exact split of its logit, not an approximation. "
        f"{parameters:,} weights; CNN → GRU over rows (depth) → 1×1 convolution.",
        "Input: one grey canvas of "
        f"{manifest['cleaning']['canvas_size']} pixels a side, 0 … 1, −1 in padding, made by the cleaning recipe in "
        "`bundle.json`. Lesion masks are never an input.",
        "## Start weights",
        str(training.get("start", "Random.")),
        "## Data",
        _data(training),
        "## Protocol and figures",
        str(training.get("protocol", "Not trained: a placeholder that shows the interface.")),
        _figures(training.get("figures", {})),
        "## Limits",
        "- Trained on few scans from few hospitals and scanners; expect a clear fall elsewhere. Publications on the "
        "same data report malignant AUROC falling from above 0.90 to about 0.75–0.85 in another hospital.\n"
        "- One still image: no Doppler, no elastography, no history, no second view.\n"
        "- BUSI has no patient ids; near-identical scans are kept together in every split, scans of one patient that "
        "look different are not known to be.\n"
        "- A heatmap shows what the network rests on, not where a lesion is.\n"
        "- Scans that are no B-mode breast ultrasound get a verdict too: heed the novelty and the abstention.",
        "## Calibration",
        f"Temperature {manifest['temperature']:.3f}; no label below a probability of {manifest['abstain_below']:.3f}; "
        f"conformal quantile {manifest['conformal']['quantile']:.3f} at {manifest['conformal'].get('level', 0.9):.0%}. "
        + _calibrated_on(training),
        "## Licences",
        "\n".join(f"- {what}: {text}" for what, text in sorted(manifest["licences"].items())),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _data(training: Mapping[str, Any]) -> str:
    lines = []
    for entry in training.get("datasets", []):
        counts = ", ".join(f"{count} {name}" for name, count in entry.get("counts", {}).items())
        lines.append(f"- {entry['name']}: {counts}. {entry.get('citation', '')}".rstrip())
    return "\n".join(lines) or "None."


def _calibrated_on(training: Mapping[str, Any]) -> str:
    if training.get("calibrated_on") == "out-of-fold predictions":
        return (
            "Fitted on the out-of-fold predictions of the cross-validation's networks, not on its own: where "
            "the figures of the validation part above differ from the cross-validated ones, so does calibration."
        )
    return "Fitted on validation scans inside the training part."


def _figures(figures: Mapping[str, Any]) -> str:
    if not figures:
        return ""
    rows = ["| figure | value |", "|---|---|"]
    rows += [
        f"| {name} | {value:.3f} |" if isinstance(value, float) else f"| {name} | {value} |"
        for name, value in figures.items()
    ]
    return "\n".join(rows)
