"""The command `sonoseek pacs`: collects its verbs."""

from __future__ import annotations

import typer

from sonoseek.apps.cli.pacs import check, find, importing

app = typer.Typer(
    help="Beside a PACS: receive studies, query them, send the results back; fetch an archive.", no_args_is_help=True
)
app.command("find")(find.find)
app.command("import")(importing.import_archive)
app.command("check")(check.check)
