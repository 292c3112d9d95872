"""Figures of one system under one protocol, as SVG files beside its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sonoseek.core import PATHOLOGIES, MissingExtraError
from sonoseek.evaluate import metrics
from sonoseek.evaluate.arrays import MALIGNANT, Block, blocks, learnt_classes
from sonoseek.evaluate.rows import CaseRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sonoseek.evaluate.rescoring import ScoredSystem

SIZE = (3.6, 3.2)
INK, ACCENT, QUIET = "#1b2733", "#b45309", "#94a3b8"
SERIES = ("#b45309", "#0f766e", "#6d28d9", "#1d4ed8", "#be123c")
"""Told apart in grey and by colour-blind readers as well; seeds are drawn in them."""
NAMES = ("confusion", "roc", "reliability", "risk-coverage", "precision-at-k")


def draw_figures(system: ScoredSystem, cases: Mapping[str, CaseRow]) -> list[Path]:
    """Draw confusion, ROC, reliability, risk–coverage and precision@k; each file is replaced in one step.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    learnt = learnt_classes(system.results.rounds)
    seeds = {seed: block.take(learnt[block.truth]) for seed, block in blocks(system.results, cases).items()}
    drawings: dict[str, Any] = {
        "confusion": _confusion,
        "roc": _roc,
        "reliability": _reliability,
        "risk-coverage": _risk_coverage,
    }
    if system.results.retrieval:
        drawings["precision-at-k"] = _precision_at_k
    written = []
    for name, draw in drawings.items():
        path = system.folder / f"{name}.svg"
        with axes(path, size=SIZE) as ax:
            draw(ax, seeds)
        written.append(path)
    return written


@contextmanager
def axes(path: Path, *, size: tuple[float, float]) -> Iterator[Axes]:
    """Axes to draw on; saved as SVG that is the same for the same drawing."""
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_package("matplotlib", extra="evaluate") from error
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "sonoseek",
        "font.family": "sans-serif",
        "font.size": 8,
        "axes.edgecolor": QUIET,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "text.color": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        yield figure.add_subplot()
        part = path.with_suffix(".part.svg")
        figure.savefig(part, metadata={"Date": None, "Creator": "sonoseek"})
        part.replace(path)


def _confusion(ax: Axes, seeds: Mapping[int, Block]) -> None:
    counts = np.zeros((len(PATHOLOGIES), len(PATHOLOGIES)))
    for block in seeds.values():
        ones = np.ones((1, len(block.truth)))
        said = block.probabilities.argmax(axis=1)
        counts += metrics.confusion(said, block.truth, ones, classes=len(PATHOLOGIES))[0] / len(seeds)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    ax.imshow(shares, cmap="YlOrBr", vmin=0, vmax=1)
    for row in range(len(PATHOLOGIES)):
        for column in range(len(PATHOLOGIES)):
            colour = "white" if shares[row, column] > 0.6 else INK
            text = f"{counts[row, column]:.0f}\n{100 * shares[row, column]:.0f} %"
            ax.text(column, row, text, ha="center", va="center", color=colour)
    ax.set_xticks(range(len(PATHOLOGIES)), PATHOLOGIES)
    ax.set_yticks(range(len(PATHOLOGIES)), PATHOLOGIES, rotation=90, va="center")
    ax.set_xlabel("predicted")
    ax.set_ylabel("reference standard")


def _roc(ax: Axes, seeds: Mapping[int, Block]) -> None:
    from sklearn.metrics import roc_curve

    ax.plot([0, 1], [0, 1], color=QUIET, linestyle=":", linewidth=1)
    for colour, (seed, block) in zip(_colours(), seeds.items(), strict=False):
        positive = block.truth == MALIGNANT
        if 0 < positive.sum() < len(positive):
            false, true, _ = roc_curve(positive, block.probabilities[:, MALIGNANT])
            area = metrics.auroc(block.probabilities[:, MALIGNANT], positive, np.ones((1, len(positive))))[0]
            ax.plot(false.round(4), true.round(4), color=colour, linewidth=1.3, label=f"seed {seed}: {area:.3f}")
    ax.set_xlabel("1 − specificity")
    ax.set_ylabel("sensitivity, malignant against the rest")
    if ax.get_legend_handles_labels()[0]:  # none where the scans are all malignant, or none is
        ax.legend(frameon=False, loc="lower right", title="AUROC")


def _reliability(ax: Axes, seeds: Mapping[int, Block]) -> None:
    ax.plot([0, 1], [0, 1], color=QUIET, linestyle=":", linewidth=1)
    for colour, (seed, block) in zip(_colours(), seeds.items(), strict=False):
        top = block.probabilities.max(axis=1)
        correct = block.probabilities.argmax(axis=1) == block.truth
        said, right, count = metrics.reliability(top, correct)
        ax.plot(said, right, color=colour, linewidth=1, marker="o", markersize=3, label=f"seed {seed}")
        ax.bar(
            (np.arange(metrics.ECE_BINS) + 0.5) / metrics.ECE_BINS,
            count / count.sum(),
            width=0.9 / metrics.ECE_BINS / len(seeds),
            color=colour,
            alpha=0.25,
        )
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_xlabel("probability of the likeliest class")
    ax.set_ylabel("share that is right (bars: share of scans)")


def _risk_coverage(ax: Axes, seeds: Mapping[int, Block]) -> None:
    for colour, (seed, block) in zip(_colours(), seeds.items(), strict=False):
        top = block.probabilities.max(axis=1)
        correct = block.probabilities.argmax(axis=1) == block.truth
        coverage, risk = metrics.risk_coverage(top, correct, np.ones((1, len(top))))
        ax.plot(coverage[0].round(4), risk[0].round(4), color=colour, linewidth=1.3, label=f"seed {seed}")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, None)
    ax.set_xlabel("share of scans answered, surest first")
    ax.set_ylabel("share of answers that are wrong")


def _precision_at_k(ax: Axes, seeds: Mapping[int, Block]) -> None:
    for colour, (seed, block) in zip(_colours(), seeds.items(), strict=False):
        ks = sorted(int(name.partition("@")[2]) for name in block.searches if name.startswith("precision@"))
        values = [float(np.mean(block.searches[f"precision@{k}"])) for k in ks]
        chance = [float(np.nanmean(block.chance[f"precision@{k}"])) for k in ks]
        ax.plot(ks, values, color=colour, linewidth=1.3, marker="o", markersize=3, label=f"seed {seed}")
        ax.plot(ks, chance, color=QUIET, linestyle=":", linewidth=1)
    ax.set_ylim(0, 1)
    ax.set_xlabel("k")
    ax.set_ylabel("precision@k (dotted: chance)")


def _colours() -> Iterator[str]:
    while True:
        yield from SERIES
