"""`sonoseek pacs retry`: let what failed begin anew."""

from __future__ import annotations

from contextlib import closing

import typer

from sonoseek.apps.cli.pacs.listen import Settings
from sonoseek.core import require_extra


def retry(settings: Settings) -> None:
    """Put failed studies, failed results and alarms back; a running listener goes on with them at once."""
    require_extra("pacs")
    from sonoseek.pacs.journal import Journal
    from sonoseek.pacs.rules import load_config
    from sonoseek.pacs.service import wake_service

    config = load_config(settings)
    with closing(Journal(config.state, create=False)) as journal:
        count = journal.retry()
    running = wake_service(config.state)
    typer.echo(f"{count} put back" + ("" if running or not count else "; they are done when `pacs listen` runs"))
