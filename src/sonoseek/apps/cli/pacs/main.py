"""The command `sonoseek pacs`: collects its verbs."""

from __future__ import annotations

import typer

from sonoseek.apps.cli.pacs import check, find, importing, listen, retry, send, status

app = typer.Typer(
    help="Beside a PACS: receive studies, query them, send the results back; fetch an archive.", no_args_is_help=True
)
app.command("listen")(listen.listen)
app.command("status")(status.status)
app.command("send")(send.send)
app.command("retry")(retry.retry)
app.command("find")(find.find)
app.command("import")(importing.import_archive)
app.command("check")(check.check)
