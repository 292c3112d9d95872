"""Curves of a protocol's leading systems, as one SVG file beside its rows."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import PATHOLOGIES, from_extra
from sonoseek.core.files import write_atomically
from sonoseek.evaluate import metrics
from sonoseek.evaluate.arrays import MALIGNANT, Block, blocks, learnt_classes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sonoseek.evaluate.rescoring import ScoredProtocol, ScoredSystem

CURVES = "curves.svg"
Floats = NDArray[np.float64]
SIZE = (13.2, 3.0)
INK, ACCENT, QUIET = "#1b2733", "#b45309", "#94a3b8"
SERIES = ("#b45309", "#0f766e", "#6d28d9", "#1d4ed8", "#be123c")
"""Distinct in grey and for colour-blind readers as well; as many systems are drawn."""
STEPS = 80
"""Points of a curve at most: more cannot be distinguished at this size."""
SPARE = re.compile(r"(\d\.\d\d)\d\d+|^ +|<!-- .*? -->\n", re.MULTILINE)
"""What no reader of a drawing sees: digits of places behind the second, indentation, comments."""
STYLE = re.compile(r'style="([^"]*)"')


def draw_curves(protocol: ScoredProtocol, systems: Sequence[ScoredSystem]) -> Path:
    """Draw `curves.svg`: confusion of the first system; ROC, reliability, risk–coverage and precision@k of all.

    Args:
        protocol: that they were scored under.
        systems: one to five of its; of each, the first seed's scans of the classes that could be learnt.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    shown: dict[str, Block] = {}
    for system in systems[: len(SERIES)]:
        learnt = learnt_classes(system.results.rounds)
        by_seed = blocks(system.results, protocol.cases)
        block = by_seed[min(by_seed)]
        shown[system.metrics["system"]["title"]] = block.take(learnt[block.truth])
    drawings: list[Any] = [_confusion, _roc, _reliability, _risk_coverage]
    if any(block.searches for block in shown.values()):
        drawings.append(_precision_at_k)
    path = protocol.folder / CURVES
    with panels(path, size=SIZE, count=len(drawings)) as axes:
        for draw, ax in zip(drawings, axes, strict=True):
            draw(ax, shown)
    return path


@contextmanager
def axes(path: Path, *, size: tuple[float, float]) -> Iterator[Axes]:
    """One panel to draw on; saved as SVG that is the same for the same drawing."""
    with panels(path, size=size, count=1) as (ax,):
        yield ax


@contextmanager
def panels(path: Path, *, size: tuple[float, float], count: int) -> Iterator[Sequence[Axes]]:
    """Panels side by side to draw on; saved as SVG that is the same for the same drawing."""
    with from_extra("evaluate"):
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "sonoseek",
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
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
        yield [figure.add_subplot(1, count, 1 + number) for number in range(count)]
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": "sonoseek"})
        write_atomically(path, _styled_once(SPARE.sub(r"\1", drawn.getvalue())))


def _styled_once(svg: str) -> str:
    """The drawing with each style that it repeats as a class: a fifth less to store."""
    repeated = [style for style, count in Counter(STYLE.findall(svg)).items() if count > 1]
    names = {style: f"s{number}" for number, style in enumerate(repeated)}
    classed = STYLE.sub(lambda each: f'class="{names[each[1]]}"' if each[1] in names else each[0], svg)
    rules = "".join(f".{name}{{{style}}}" for style, name in names.items())
    return classed.replace("</style>", f"{rules}</style>", 1)


def _confusion(ax: Axes, shown: Mapping[str, Block]) -> None:
    title, block = next(iter(shown.items()))
    predicted = block.probabilities.argmax(axis=1)
    counts = metrics.confusion(predicted, block.truth, np.ones((1, len(predicted))), classes=len(PATHOLOGIES))[0]
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    ax.pcolormesh(shares, cmap="YlOrBr", vmin=0, vmax=1)
    ax.set_aspect("equal")
    ax.invert_yaxis()
    for row in range(len(PATHOLOGIES)):
        for column in range(len(PATHOLOGIES)):
            colour = "white" if shares[row, column] > 0.6 else INK
            text = f"{counts[row, column]:.0f}\n{100 * shares[row, column]:.0f} %"
            ax.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=colour)
    middles = np.arange(len(PATHOLOGIES)) + 0.5
    ax.set_xticks(middles, PATHOLOGIES)
    ax.set_yticks(middles, PATHOLOGIES, rotation=90, va="center")
    ax.set_xlabel(f"predicted by {title}")
    ax.set_ylabel("reference standard")


def _roc(ax: Axes, shown: Mapping[str, Block]) -> None:
    from sklearn.metrics import roc_curve

    ax.plot([0, 1], [0, 1], color=QUIET, linestyle=":", linewidth=1)
    for colour, (title, block) in zip(SERIES, shown.items(), strict=False):
        positive = block.truth == MALIGNANT
        if 0 < positive.sum() < len(positive):
            false, true, _ = roc_curve(positive, block.probabilities[:, MALIGNANT])
            area = metrics.auroc(block.probabilities[:, MALIGNANT], positive, np.ones((1, len(positive))))[0]
            _curve(ax, false, true, colour, f"{title}: {area:.3f}")
    ax.set_xlabel("1 − specificity")
    ax.set_ylabel("sensitivity, malignant against the rest")
    if ax.get_legend_handles_labels()[0]:  # none where the scans are all malignant, or none is
        ax.legend(frameon=False, loc="lower right", title="AUROC", fontsize=6)


def _reliability(ax: Axes, shown: Mapping[str, Block]) -> None:
    ax.plot([0, 1], [0, 1], color=QUIET, linestyle=":", linewidth=1)
    for colour, (title, block) in zip(SERIES, shown.items(), strict=False):
        top = block.probabilities.max(axis=1)
        correct = block.probabilities.argmax(axis=1) == block.truth
        predicted, right, _ = metrics.reliability(top, correct)
        ax.plot(predicted, right, color=colour, linewidth=1, marker="o", markersize=3, label=title)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_xlabel("probability of the likeliest class")
    ax.set_ylabel("share that is right")


def _risk_coverage(ax: Axes, shown: Mapping[str, Block]) -> None:
    for colour, (title, block) in zip(SERIES, shown.items(), strict=False):
        top = block.probabilities.max(axis=1)
        correct = block.probabilities.argmax(axis=1) == block.truth
        coverage, risk = metrics.risk_coverage(top, correct, np.ones((1, len(top))))
        _curve(ax, coverage[0], risk[0], colour, title)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, None)
    ax.set_xlabel("share of scans answered, surest first")
    ax.set_ylabel("share of predictions that are wrong")


def _precision_at_k(ax: Axes, shown: Mapping[str, Block]) -> None:
    for colour, (title, block) in zip(SERIES, shown.items(), strict=False):
        ks = sorted(int(name.partition("@")[2]) for name in block.searches if name.startswith("precision@"))
        values = [float(np.mean(block.searches[f"precision@{k}"])) for k in ks]
        chance = [float(np.nanmean(block.chance[f"precision@{k}"])) for k in ks]
        ax.plot(ks, values, color=colour, linewidth=1.3, marker="o", markersize=3, label=title)
        ax.plot(ks, chance, color=QUIET, linestyle=":", linewidth=1)
    ax.set_ylim(0, 1)
    ax.set_xlabel("k")
    ax.set_ylabel("precision@k (dotted: chance)")


def _curve(ax: Axes, x: Floats, y: Floats, colour: str, label: str) -> None:
    picked = np.unique(np.linspace(0, len(x) - 1, STEPS).astype(int))
    ax.plot(x[picked].round(3), y[picked].round(3), color=colour, linewidth=1.3, label=label)
