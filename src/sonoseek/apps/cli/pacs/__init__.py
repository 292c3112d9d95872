"""`sonoseek pacs`: the verbs beside a PACS, one module each."""

from sonoseek.apps.cli.pacs.main import app

__all__ = ["app"]
