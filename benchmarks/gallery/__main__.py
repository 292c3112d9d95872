"""Galleries of synthetic embeddings: writing, searching, filters and memory, beside other engines.

python -m benchmarks.gallery --rows 10000 --rows 100000
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.gallery.report import summary
from benchmarks.gallery.run import bench_gallery
from sonoseek.apps.cli.show import progress_bars, table


def main(
    rows: Annotated[list[int], typer.Option(min=1, help="How many scans; may be given several times.")],
    dims: Annotated[int, typer.Option(min=2, help="Numbers per embedding.")] = 256,
    queries: Annotated[int, typer.Option(min=1, help="How many queries.")] = 100,
    peers: Annotated[bool, typer.Option(help="Measure other engines too, those that are installed.")] = True,
    out: Annotated[Path, typer.Option(help="Folder of gallery.json, gallery.md and gallery.svg.")] = Path(
        "docs/results"
    ),
    seed: Annotated[int, typer.Option(help="Of the synthetic archive.")] = 0,
    again: Annotated[bool, typer.Option("--again", help="Measure what is finished again.")] = False,
) -> None:
    """Time galleries of synthetic embeddings: writing, searching, filters, memory; beside other engines."""
    with progress_bars() as on_progress:
        data = bench_gallery(
            rows, out, dims=dims, queries=queries, peers=peers, seed=seed, again=again, on_progress=on_progress
        )
    table(*summary(data, rows), title=f"written to {out / 'gallery.md'}")


if __name__ == "__main__":
    typer.run(main)
