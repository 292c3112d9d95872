"""How the command line shows progress, tables and refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SHOWN_REFUSALS = 20
LOG_WIDTH = 160


@contextmanager
def progress_bar(title: str, *, unit: str = "scans") -> Iterator[Callable[[int, int], None]]:
    """Draw a bar on stderr with count, rate and time left; yields the `on_progress` callable that feeds it."""
    from rich.console import Console

    with _progress(unit, console=Console(stderr=True), refresh_per_second=5) as bar:
        task = bar.add_task(title, total=None)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield advance


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Bars for work in several pieces, each with count and time left; yields a callable (what, done, total).

    Where stderr is no terminal, each piece is printed once when it is finished.
    """
    from rich.console import Console

    console = Console(stderr=True)
    with _progress(console=console, refresh_per_second=4, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}
        printed: set[str] = set()

        def advance(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)
            if done >= total:
                bar.update(tasks[what], visible=len(tasks) < 2)
                if not console.is_terminal and what not in printed:
                    printed.add(what)
                    typer.echo(f"{what}: {done} of {total}", err=True)

        yield advance


def _progress(*units: str, **options: Any) -> Progress:
    from rich import progress

    return progress.Progress(
        progress.TextColumn("[bold]{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        *map(progress.TextColumn, units),
        progress.TimeElapsedColumn(),
        progress.TextColumn("· left"),
        progress.TimeRemainingColumn(),
        **options,
    )


def table(headings: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None) -> None:
    """Print a table on stdout; plain text where stdout is no terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", show_header=any(headings))
    for heading in headings:
        drawn.add_column(heading, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(str(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=LOG_WIDTH)  # a log or a pipe has no width of its own
    console.print(drawn)


def warnings(texts: Sequence[str]) -> None:
    """Print warnings, on stderr."""
    for text in texts:
        typer.echo(f"warning: {text}", err=True)


def refusals(refused: Sequence[tuple[str, str]]) -> None:
    """List what was refused and why, on stderr."""
    if not refused:
        return
    typer.echo(f"{len(refused)} refused:", err=True)
    for source, reason in refused[:SHOWN_REFUSALS]:
        typer.echo(f"  {source}: {reason}", err=True)
    if len(refused) > SHOWN_REFUSALS:
        typer.echo(f"  … and {len(refused) - SHOWN_REFUSALS} more", err=True)
