"""Figures of a protocol, as values and as files."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sonoseek import __version__


@dataclass(frozen=True, kw_only=True)
class ProtocolResults:
    """What a protocol measured.

    Attributes:
        protocol, description, exclusions: of the protocol.
        folds: one dict of figures per fold.
        bundle_ids: the bundle scored on each fold.
    """

    protocol: str
    description: str
    exclusions: str
    folds: tuple[dict[str, float], ...]
    bundle_ids: tuple[str, ...]

    @property
    def summary(self) -> dict[str, tuple[float, float]]:
        """Figure → (mean, sample standard deviation) over the folds."""
        names = self.folds[0] if self.folds else {}
        columns = {name: np.array([fold[name] for fold in self.folds]) for name in names}
        return {
            name: (float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else math.nan)
            for name, values in columns.items()
        }


def write_results(results: ProtocolResults, folder: Path) -> tuple[Path, Path]:
    """Write `<protocol>.json` and `<protocol>.md` into `folder`, each replaced in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    table, values = folder / f"{results.protocol}.md", folder / f"{results.protocol}.json"
    summary = {name: {"mean": mean, "sd": sd} for name, (mean, sd) in results.summary.items()}
    content = {**asdict(results), "summary": summary, "sonoseek": __version__}
    for path, text in ((values, json.dumps(content, indent=1) + "\n"), (table, _markdown(results))):
        part = path.with_suffix(path.suffix + ".part")
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)  # noqa: PTH105  # replace is atomic
    return values, table


def _markdown(results: ProtocolResults) -> str:
    numbers = range(len(results.folds))
    lines = [
        f"# {results.protocol}",
        "",
        f"{results.description}. Left out: {results.exclusions}.",
        "",
        "| figure | mean ± sd | " + " | ".join(f"fold {i}" for i in numbers) + " |",
        "|---|---|" + "---|" * len(results.folds),
    ]
    for name, (mean, sd) in results.summary.items():
        cells = " | ".join(f"{fold[name]:.3f}" for fold in results.folds)
        lines.append(f"| {name} | {mean:.3f} ± {sd:.3f} | {cells} |")
    lines += ["", f"Bundles: {', '.join(results.bundle_ids)}. sonoseek {__version__}.", ""]
    return "\n".join(lines)
