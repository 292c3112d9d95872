"""`sonoseek evaluate`: honest figures by a named protocol (needs the extra `evaluate`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sonoseek.core import InvalidValueError, Settings


def evaluate(
    protocol: Annotated[str, typer.Argument(help="A protocol's name, e.g. busi-grouped.")],
    runs: Annotated[Path, typer.Option(help="Folder with one bundle per fold: fold-0/bundle, fold-1/bundle …")],
    data: Annotated[Path | None, typer.Option(help="Folder with the datasets; SONOSEEK_DATA by default.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the table and the figures.")] = None,
) -> None:
    """Score bundles on the folds they have not seen, through the same engine that serves."""
    from sonoseek.apps.cli.show import progress_bar, table
    from sonoseek.evaluate import PROTOCOLS, run_protocol, write_results

    root = data or Settings.from_environment().data
    if root is None:
        raise InvalidValueError("no data folder is named; set SONOSEEK_DATA or say --data.")
    chosen = PROTOCOLS.load(protocol)()
    with progress_bar(protocol, unit="queries") as on_progress:
        results = run_protocol(chosen, data_root=root, runs=runs, on_progress=on_progress)
    rows = [
        (name, f"{mean:.3f} ± {sd:.3f}", *(f"{fold[name]:.3f}" for fold in results.folds))
        for name, (mean, sd) in results.summary.items()
    ]
    table(("", "mean ± sd", *(f"fold {i}" for i in range(len(results.folds)))), rows, title=chosen.description)
    if out:
        for path in write_results(results, out):
            typer.echo(f"written: {path}")
