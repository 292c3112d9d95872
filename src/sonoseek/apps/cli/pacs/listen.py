"""`sonoseek pacs listen`: receive, query, send, until it is stopped."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from sonoseek.core import InvalidValueError, require_extra

Settings = Annotated[
    Path, typer.Argument(help="The file of settings, TOML: see docs/how-to/pacs.md.", metavar="SETTINGS")
]


def listen(settings: Settings) -> None:
    """Receive studies, query each, send the results; until SIGTERM or Ctrl-C.

    Every state is in the journal: a process that was killed goes on where it was.
    """
    require_extra("pacs")
    from sonoseek.pacs.query import check_engine
    from sonoseek.pacs.rules import load_config
    from sonoseek.pacs.service import Service

    config = load_config(settings)
    if not config.rules or not config.senders:
        raise InvalidValueError(
            f"{settings}: there {'are no [[rules]]' if not config.rules else 'are no [[senders]]'}; nothing could be "
            "received. Add at least one of each."
        )
    check_engine(config)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # what matters of it is in our own messages
    logging.getLogger("highdicom").setLevel(logging.WARNING)
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        del number, frame
        ended.set()

    before = {each: signal.signal(each, end) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        with Service(config) as service:
            typer.echo(f"listening as {config.listener.ae_title} on {config.listener.address}:{service.listener.port}")
            ended.wait()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
