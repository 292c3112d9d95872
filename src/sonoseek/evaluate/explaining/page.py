"""The table and the figures of one measured system: `table.md` and two SVG files in its own folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sonoseek.core.files import write_atomically
from sonoseek.evaluate.explaining.rows import OWN
from sonoseek.evaluate.explaining.summary import SIZES, figure_of
from sonoseek.evaluate.figures import ACCENT, INK, QUIET, SERIES, axes
from sonoseek.evaluate.page_parts import p_in_words
from sonoseek.evaluate.seen import in_words

TABLE = "table.md"
TITLES = {
    "class_evidence": "class evidence (ours)",
    "pair_evidence": "pair evidence (ours)",
    "grad-cam": "Grad-CAM",
    "hirescam": "HiResCAM",
    "integrated-gradients": "integrated gradients",
    "occlusion": "occlusion",
    "rise": "RISE",
    "sbsm": "SBSM",
    "centre": "centre Gaussian (baseline)",
    "random": "random map (baseline)",
}
COLUMNS = (
    ("inside", "in lesion ↑"),
    ("with_shadow", "in lesion + shadow ↑"),
    ("pointing", "pointing ↑"),
    ("iou", "IoU ↑"),
    ("insertion", "insertion ↑"),
    ("deletion", "deletion ↓"),
    ("road", "ROAD ↓"),
    ("randomised", "random network ↓"),
    ("other_class", "other class ↓"),
)


def write_explanation_page(folder: Path, content: Mapping[str, Any]) -> Path:
    """Write `table.md`, `methods.svg` and `sizes.svg` of one folder of results.

    Args:
        folder: for them, made if need be.
        content: what `rescore_explanations` gives of the system.
    """
    lines = [
        f"# Heatmaps of {content['system']['title']}, {content['protocol']['title']}",
        "",
        f"Mean over scans, 95 % interval by drawing groups. `{content['made']['command']}`",
        *(["", f"{in_words(seen)}."] if (seen := content["made"].get("seen_in_training")) else []),
        "",
        *_maps(content, "prediction", "The prediction's map: the likeliest class, right or wrong"),
        *_maps(content, "truth", "The reference class's map"),
        *_against(content),
        *_by(content),
        *_pairs(content),
        *_rest(content),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path = write_atomically(folder / TABLE, "\n".join(lines))
    _draw_methods(folder, content)
    _draw_sizes(folder, content)
    return path


def cell(figure: Mapping[str, Any] | None, *, digits: int = 3) -> str:
    """A figure with its interval, "0.652 [0.630, 0.674]"; "–" for none."""
    if figure is None:
        return "–"
    return f"{figure['mean']:.{digits}f} [{figure['low']:.{digits}f}, {figure['high']:.{digits}f}]"


def _maps(content: Mapping[str, Any], target: str, title: str) -> list[str]:
    methods = content["maps"].get(target)
    if not methods:
        return []
    shown = [(key, head) for key, head in COLUMNS if any(key in figures for figures in methods.values())]
    lines = [f"## {title}", "", f"| method | {' | '.join(head for _, head in shown)} | cost |"]
    lines.append(f"|---|{'---|' * (len(shown) + 1)}")
    for method, figures in methods.items():
        cells = " | ".join(cell(figures.get(key)) for key, _ in shown)
        lines.append(f"| {TITLES.get(method, method)} | {cells} | {_cost(content, method)} |")
    own = methods.get(OWN, {})
    counts = [figure["n"] for figure in (own.get("inside"), own.get("insertion")) if figure]
    on = f"On {counts[0]} scans with a lesion" if counts else ""
    return [
        *lines,
        "",
        on + (f"; insertion and what stands right of it on {counts[1]} scans." if len(counts) > 1 else "."),
        "",
    ]


def _cost(content: Mapping[str, Any], method: str) -> str:
    ratio = content["cost"].get("class_and_10_pairs" if method == OWN else method)
    return "–" if ratio is None else f"{ratio:.2f} ×" if ratio < 10 else f"{ratio:.0f} ×"


def _against(content: Mapping[str, Any]) -> list[str]:
    differences = {method: figures for method, figures in content["against"].items() if figures}
    if not differences:
        return []
    names = [
        key
        for key in ("inside", "pointing", "iou", "insertion", "deletion", "road")
        if any(key in f for f in differences.values())
    ]
    lines = [
        "## Ours minus theirs, on the same scans",
        "",
        f"| against | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
    ]
    for method, figures in differences.items():
        cells = " | ".join(_difference(figures.get(key)) for key in names)
        lines.append(f"| {TITLES.get(method, method)} | {cells} |")
    return [*lines, ""]


def _difference(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "–"
    return f"{figure['difference']:+.3f}, p {p_in_words(figure['p'])}{'' if figure['better'] else ' (worse)'}"


def _by(content: Mapping[str, Any]) -> list[str]:
    own = figure_of(content, "maps", "prediction", OWN)
    if own is None:
        return []
    low, high = content["size_limits"]
    lines = [
        f"## Ours, by class{', archive' if 'by_dataset' in own else ''} and lesion size",
        "",
        f"Small: under {low * 100:.1f} % of the scan; large: over {high * 100:.1f} %.",
        "",
        "| | n | in lesion | pointing | IoU | insertion | deletion |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in ("by_label", "by_dataset", "by_size"):
        for name, figures in own.get(kind, {}).items():
            n = next((figures[key]["n"] for key in ("inside", "insertion") if key in figures), 0)
            cells = " | ".join(cell(figures.get(key)) for key in ("inside", "pointing", "iou", "insertion", "deletion"))
            if n:
                lines.append(f"| {name} | {n} | {cells} |")
    return [*lines, ""]


def _pairs(content: Mapping[str, Any]) -> list[str]:
    if not content["pairs"]:
        return []
    lines = [
        "## Pairs: the similarity's fall when a tenth of the cells goes",
        "",
        "| side | method | by the map | by chance | ratio |",
        "|---|---|---|---|---|",
    ]
    for side, methods in content["pairs"].items():
        for method, figures in methods.items():
            lines.append(
                f"| {side} | {TITLES.get(method, method)} | {cell(figures['chosen'])} | {cell(figures['random'])} | "
                f"{cell(figures['ratio'], digits=1)} |"
            )
    return [*lines, ""]


def _rest(content: Mapping[str, Any]) -> list[str]:
    own = figure_of(content, "maps", "prediction", OWN) or {}
    lines = ["## Exactness, stability, cost, outline", ""]
    for key, what in (("class", "pixels + bias − logit"), ("pair", "pixels − cosine")):
        worst = content["exactness"].get(key)
        if worst is not None:
            lines.append(f"- largest |{what}|: {worst:.1e}")
    for key, what in (("shifted", "shifted by six pixels"), ("gained", "10 % brighter")):
        if own.get(key):
            lines.append(f"- correlation with the map of the scan {what}: {cell(own[key])}")
    if cost := content["cost"]:
        lines.append(
            f"- prediction and ten pairs over a plain run ({cost['plain_ms']:.1f} ms): "
            f"{cost['class_and_10_pairs']:.2f} × on the network's cells, "
            f"{cost['class_and_10_pairs_on_pixels']:.2f} × with all eleven drawn on the scan's pixels"
        )
    if outline := content["outlines"]:
        errors = {key: f"{outline[key]['median_error'] * 100:.0f} %" for key in ("longest", "shortest", "area")}
        lines.append(
            f"- outline, an estimate: drawn on {outline['drawn']} of {outline['n']} scans; Dice with the mask "
            f"{cell(outline.get('dice'))}; median error of the longest diameter {errors['longest']}, of the shortest "
            f"{errors['shortest']}, of the area {errors['area']}; taller-than-wide as in the mask in "
            f"{outline['taller']['mean'] * 100:.0f} %"
        )
    return [*lines, ""]


def _draw_methods(folder: Path, content: Mapping[str, Any]) -> None:
    """Share inside, pointing and IoU of every method, with intervals."""
    methods = content["maps"]["prediction"]
    names = [name for name in methods if "inside" in methods[name]]
    if not names:
        return
    with axes(folder / "methods.svg", size=(6.4, 0.42 * len(names) + 1.0)) as ax:
        for offset, (key, title) in enumerate(
            (("inside", "evidence in the lesion"), ("pointing", "pointing game"), ("iou", "IoU"))
        ):
            places = [row + 0.24 * (offset - 1) for row in range(len(names))]
            values = [methods[name][key]["mean"] for name in names]
            errors = [
                [value - methods[name][key]["low"] for name, value in zip(names, values, strict=True)],
                [methods[name][key]["high"] - value for name, value in zip(names, values, strict=True)],
            ]
            ax.barh(
                places,
                values,
                height=0.22,
                color=SERIES[offset],
                label=title,
                xerr=errors,
                error_kw={"elinewidth": 0.7, "ecolor": INK},
            )
        ax.set_yticks(range(len(names)), [TITLES.get(name, name) for name in names])
        ax.invert_yaxis()
        ax.set_xlim(0, 1)
        ax.legend(frameon=False, loc="lower right", fontsize=7)


def _draw_sizes(folder: Path, content: Mapping[str, Any]) -> None:
    """Share inside over lesion size, ours and the peers'."""
    methods = content["maps"]["prediction"]
    names = [name for name in methods if any("inside" in figures for figures in methods[name]["by_size"].values())]
    if not names:
        return
    ends: dict[str, float] = {}
    with axes(folder / "sizes.svg", size=(4.2, 3.0)) as ax:
        for name in names:
            values = [figure_of(methods[name]["by_size"], size, "inside") for size in SIZES]
            ys = [float("nan") if value is None else value["mean"] for value in values]
            own = name == OWN
            ax.plot(
                range(len(SIZES)),
                ys,
                marker="o",
                markersize=3,
                linewidth=2 if own else 1,
                color=ACCENT if own else QUIET,
            )
            ends[name] = ys[-1]
        for name, height in _apart(ends).items():
            ax.text(len(SIZES) - 1 + 0.06, height, TITLES.get(name, name), fontsize=6, va="center", color=INK)
        ax.set_xticks(range(len(SIZES)), [f"{size} lesions" for size in SIZES])
        ax.set_xlim(-0.2, len(SIZES) + 0.4)
        ax.set_ylim(0, 1)
        ax.set_ylabel("evidence in the lesion")


def _apart(heights: Mapping[str, float]) -> dict[str, float]:
    """Heights of labels, moved up where they would overlap the one below."""
    placed: dict[str, float] = {}
    last = -1.0
    for name, height in sorted(heights.items(), key=lambda item: item[1]):
        last = placed[name] = max(height, last + 0.035)
    return placed
