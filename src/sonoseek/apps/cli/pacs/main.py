"""The command `sonoseek pacs`: collects its verbs."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="Beside a PACS: receive studies, query them, send the results back; fetch an archive.", no_args_is_help=True
)
