"""Draw the package map from the imports, and count what it shows: `make map`.

Writes docs/images/packages.svg and the table of figures between the two marks in docs/concepts/architecture.md.
The layers are those of the import contract in pyproject.toml. tests/docs holds picture and table to the imports.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "sonoseek"
PICTURE = ROOT / "docs" / "images" / "packages.svg"
PAGE = ROOT / "docs" / "concepts" / "architecture.md"
BEGIN, END = "<!-- figures: make map -->", "<!-- end of figures -->"
BEFORE = ("20", "1", "6", "20 %", "4")
"""The same figures, by this command, of the layout with `reading`, `cleaning`, `dicom` and four loose modules."""
BOX, HIGH, GAP, STEP = 132, 40, 22, 82
"""In pixels: a box's width and height, the space between boxes, and from layer to layer."""


@dataclass(frozen=True, kw_only=True)
class Map:
    """Layers from the top down, lines of code per package, and which package imports which."""

    layers: list[list[str]]
    lines: dict[str, int]
    edges: set[tuple[str, str]]
    cycles: list[set[str]]
    upward: set[tuple[str, str]]
    loose: list[str]


def read_map() -> Map:
    """From the sources and pyproject.toml."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"][0]
    layers = [[name.strip() for name in layer.split("|")] for layer in contract["layers"]]
    layers = [list(chain.from_iterable(["cli", "web"] if name == "apps" else [name] for name in row)) for row in layers]
    modules = imports(for_types=False)
    # a circle of types is one too; the package's root names everything for editors
    circles = components((a, b) for a, b in imports(for_types=True) if a != "sonoseek")
    edges = {(package(a), package(b)) for a, b in modules} - {(name, name) for name in (*chain(*layers), "")}
    depth = {name: number for number, row in enumerate(layers) for name in row}
    upward = {(a, b) for a, b in edges if a in depth and depth.get(b, -1) <= depth[a] and (a, b) != ("cli", "web")}
    return Map(
        layers=layers,
        lines={name: count(SOURCE / "apps" / name if name in ("cli", "web") else SOURCE / name) for name in depth},
        edges={(a, b) for a, b in edges if a in depth and b in depth},
        cycles=[part for part in circles if len(part) > 1],
        upward=upward,
        loose=[file.name for file in sorted(SOURCE.glob("*.py")) if not file.name.startswith("__")],
    )


def imports(*, for_types: bool) -> set[tuple[str, str]]:
    """(importing module, imported one), with or without what only a type checker imports."""
    graph = grimp.build_graph("sonoseek", exclude_type_checking_imports=not for_types, cache_dir=None)
    return {(a, b) for a in graph.modules for b in graph.find_modules_directly_imported_by(a)}


def package(module: str) -> str:
    """Of a module; "" for the package's root."""
    parts = module.split(".")[1:]
    return parts[1] if parts[:1] == ["apps"] and len(parts) > 1 else "".join(parts[:1])


def count(folder: Path) -> int:
    """Lines of Python in a folder, or in the file of that name."""
    files = folder.rglob("*.py") if folder.is_dir() else [folder.with_suffix(".py")]
    return sum(len(file.read_text("utf-8").splitlines()) for file in files)


def components(found: Iterable[tuple[str, str]]) -> list[set[str]]:
    """Strongly connected components: modules that import each other in a circle."""
    edges = set(found)
    after: dict[str, set[str]] = {}
    for a, b in edges:
        after.setdefault(a, set()).add(b)
        after.setdefault(b, set())

    def reach(start: str, forward: dict[str, set[str]]) -> set[str]:
        reached, waiting = {start}, [start]
        while waiting:
            further = forward[waiting.pop()] - reached
            reached |= further
            waiting += further
        return reached

    before: dict[str, set[str]] = {name: set() for name in after}
    for a, b in edges:
        before[b].add(a)
    left, parts = set(after), []
    while left:
        start = left.pop()
        part = reach(start, after) & reach(start, before)
        left -= part
        parts.append(part)
    return parts


def figures(drawn: Map) -> tuple[str, ...]:
    """Packages, cycles, upward imports, the largest package's share, and loose files, as text."""
    largest = max(drawn.lines, key=lambda name: drawn.lines[name])
    share = f"{100 * drawn.lines[largest] / sum(drawn.lines.values()):.0f} %"
    counts = (len(drawn.lines), len(drawn.cycles), len(drawn.upward))
    return (*map(str, counts), share, str(len(drawn.loose)))


def table(drawn: Map) -> str:
    """The figures, before and now, in Markdown."""
    largest = max(drawn.lines, key=lambda name: drawn.lines[name])
    heads = (
        "packages and loose files",
        "import cycles",
        "upward imports",
        f"largest package (`{largest}`)",
        "loose files at the root",
    )
    rows = [f"| {head} | {old} | {new} |" for head, old, new in zip(heads, BEFORE, figures(drawn), strict=True)]
    return "\n".join(["| | before | now |", "|---|---|---|", *rows])


def picture(drawn: Map) -> str:
    """The layers as SVG. An arrow that follows from others is left out."""
    widest = max(map(len, drawn.layers))
    width, height = widest * (BOX + GAP) + GAP, len(drawn.layers) * STEP + GAP
    place = {}
    for number, row in enumerate(drawn.layers):
        left = (width - len(row) * (BOX + GAP) + GAP) / 2
        place |= {name: (left + index * (BOX + GAP), GAP + number * STEP) for index, name in enumerate(row)}
    arrows = [f'<path d="{way(place[a], place[b])}" marker-end="url(#tip)"/>' for a, b in sorted(reduced(drawn.edges))]
    boxes = [
        f'<rect x="{x:.0f}" y="{y}" width="{BOX}" height="{HIGH}" rx="5"/>'
        f'<text x="{x + BOX / 2:.0f}" y="{y + 25}">{name}</text>'
        for name, (x, y) in place.items()
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
            'aria-label="The packages of sonoseek in layers; arrows are imports">',
            "<style>rect{fill:#f2f6fa;stroke:#33567a}text{font:14px sans-serif;text-anchor:middle;fill:#12283d}"
            "path{stroke:#7d93a8;fill:none}</style>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0 0L8 4L0 8z" style="fill:#7d93a8;stroke:none"/></marker></defs>',
            '<rect width="100%" height="100%" style="fill:#fff;stroke:none"/>',
            *arrows,
            *boxes,
            "</svg>\n",
        ]
    )


def way(start: tuple[float, float], end: tuple[float, float]) -> str:
    """Of an arrow between two boxes: down, or sideways within a layer."""
    if start[1] == end[1]:
        return f"M{start[0] + BOX:.0f} {start[1] + HIGH / 2:.0f}L{end[0]:.0f} {end[1] + HIGH / 2:.0f}"
    return f"M{start[0] + BOX / 2:.0f} {start[1] + HIGH}L{end[0] + BOX / 2:.0f} {end[1]}"


def reduced(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Without the edges that a longer way replaces."""
    after: dict[str, set[str]] = {}
    for a, b in edges:
        after.setdefault(a, set()).add(b)

    def below(name: str) -> set[str]:
        return set().union(*({each} | below(each) for each in after.get(name, ())))

    return {(a, b) for a, b in edges if not any(b in below(each) for each in after[a] - {b})}


def main() -> None:
    """Write the picture and the table."""
    drawn = read_map()
    if drawn.cycles or drawn.upward:
        print("cycles:", *map(sorted, drawn.cycles), "upward:", *sorted(drawn.upward))
    block = f"{BEGIN}\n{table(drawn)}\n{END}"
    page = re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: block, PAGE.read_text("utf-8"), flags=re.DOTALL)
    PAGE.write_text(page, encoding="utf-8")
    PICTURE.write_text(picture(drawn), encoding="utf-8")
    print(table(drawn))


if __name__ == "__main__":
    main()
